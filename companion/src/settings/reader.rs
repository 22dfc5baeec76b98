use std::collections::BTreeMap;

use celeriac_timezone::Timezone;
use log::LevelFilter;

use super::Secret;

/// Reads typed values out of named texts and collects what is wrong with them.
pub(super) struct Reader {
    vars: BTreeMap<String, String>,
    problems: Vec<String>,
}

impl Reader {
    pub(super) fn new<I, K, V>(vars: I) -> Self
    where
        I: IntoIterator<Item = (K, V)>,
        K: Into<String>,
        V: Into<String>,
    {
        let trimmed = |value: V| value.into().trim().to_owned();
        let vars = vars.into_iter().map(|(name, value)| (name.into(), trimmed(value))).collect();
        Self { vars, problems: Vec::new() }
    }

    pub(super) fn into_problems(self) -> Vec<String> {
        self.problems
    }

    /// Notes that the setting cannot be used. The text must not hold the value of a secret.
    pub(super) fn problem(&mut self, name: &str, what: &str) {
        self.problems.push(format!("{name} {what}"));
    }

    /// The value as it stands, also when it is empty.
    pub(super) fn raw(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str)
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.raw(name).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    pub(super) fn secret(&self, name: &str) -> Option<Secret> {
        self.text(name).map(Secret::new)
    }

    pub(super) fn port(&mut self, name: &str) -> Option<u16> {
        self.parsed(name, "a port between 0 and 65535, such as 8000", |value| value.parse().ok())
    }

    pub(super) fn positive(&mut self, name: &str) -> Option<u32> {
        self.parsed(name, "a whole number above 0", |value| value.parse().ok().filter(|number| *number > 0))
    }

    pub(super) fn time_zone(&mut self, name: &str) -> Option<Timezone> {
        self.parsed(name, "a name of the tz database, such as Europe/Berlin", |value| {
            value.trim_start_matches(':').parse().ok()
        })
    }

    pub(super) fn level(&mut self, name: &str) -> Option<LevelFilter> {
        self.parsed(name, "one of DEBUG, INFO, WARNING, ERROR, CRITICAL", |value| {
            match value.to_ascii_uppercase().as_str() {
                "TRACE" | "NOTSET" => Some(LevelFilter::Trace),
                "DEBUG" => Some(LevelFilter::Debug),
                "INFO" => Some(LevelFilter::Info),
                "WARNING" | "WARN" => Some(LevelFilter::Warn),
                "ERROR" | "CRITICAL" | "FATAL" => Some(LevelFilter::Error),
                _ => None,
            }
        })
    }

    pub(super) fn http_url(&mut self, name: &str) -> Option<String> {
        let url = self.parsed(name, "a URL that starts with http:// or https://", |value| {
            let parsed: reqwest::Url = value.parse().ok()?;
            matches!(parsed.scheme(), "http" | "https").then(|| value.to_owned())
        })?;
        Some(url.trim_end_matches('/').to_owned())
    }

    /// All settings that start with the prefix, the rest of their names in lower case.
    pub(super) fn flags(&mut self, prefix: &str) -> BTreeMap<String, bool> {
        let names: Vec<String> = self.vars.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        let mut flags = BTreeMap::new();
        for name in names {
            let parse = |value: &str| match value.to_ascii_lowercase().as_str() {
                "1" | "true" | "yes" | "on" => Some(true),
                "0" | "false" | "no" | "off" => Some(false),
                _ => None,
            };
            if let Some(enabled) = self.parsed(&name, "true or false", parse) {
                flags.insert(name[prefix.len()..].to_ascii_lowercase(), enabled);
            }
        }
        flags
    }

    fn parsed<T>(&mut self, name: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let value = self.text(name)?;
        let parsed = parse(&value);
        if parsed.is_none() {
            self.problem(name, &format!("is {value:?}; expected {expected}"));
        }
        parsed
    }
}
