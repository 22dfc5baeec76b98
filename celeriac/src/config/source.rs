//! Where settings come from: files, the environment, single assignments; and how they are shown.

use std::fmt;
use std::path::Path;

use serde_json::{Map, Value};

use super::environment::{environment, is_foreign};
use super::error::ConfigError;
use super::mask::{mask_settings, mask_value};
use super::nearest::nearest;
use super::setting::Input;
use super::table::{Config, settings};

/// The variable that names a settings file.
pub(super) const FILE_VARIABLE: &str = "CELERY_CONFIG_FILE";

impl Config {
    /// The defaults, then the file named by `CELERY_CONFIG_FILE`, then the environment (`CELERY_BROKER_URL`, ...).
    ///
    /// # Errors
    /// When the file cannot be read, or a setting is unknown or not valid.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::default().load(None)
    }

    /// Adds the settings file (`file`, else that of `CELERY_CONFIG_FILE`) and then the environment of the process to
    /// what the program itself has set.
    ///
    /// # Errors
    /// As [`Config::from_env`].
    pub fn load(self, file: Option<&Path>) -> Result<Self, ConfigError> {
        self.load_with(file, &environment())
    }

    pub(super) fn load_with(
        mut self,
        file: Option<&Path>,
        variables: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let named = variables.iter().find(|(name, path)| name == FILE_VARIABLE && !path.is_empty());
        if let Some(file) = file.or(named.map(|(_, path)| Path::new(path))) {
            self.merge_file(file)?;
        }
        self.merge_env(variables.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
        Ok(self)
    }

    /// Adds the settings of a TOML file.
    ///
    /// # Errors
    /// When the file cannot be read or is not TOML, or a setting is unknown or not valid.
    pub fn merge_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
        self.merge_toml(&text, &path.display().to_string())
    }

    /// Adds the settings of a TOML text; `origin` names it in errors.
    ///
    /// # Errors
    /// When the text is not TOML, or a setting is unknown or not valid.
    pub fn merge_toml(&mut self, text: &str, origin: &str) -> Result<(), ConfigError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            ConfigError::Syntax {
                origin: origin.to_owned(),
                message: format!("line {line}: {}", error.message()),
            }
        })?;
        for (name, value) in table {
            self.put(&name, &Input::Json(&from_toml(value)), &format!("file {origin}"))?;
        }
        Ok(())
    }

    /// Adds the settings among these environment variables: `CELERY_` and a setting's name in upper case.
    ///
    /// Variables of Celery's own command line (`CELERY_APP`, `CELERY_WORKER_QUEUES`, ...) and of service links are
    /// passed over; any other `CELERY_` variable must be a setting.
    ///
    /// # Errors
    /// When a setting is unknown or not valid.
    pub fn merge_env<'a>(
        &mut self,
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), ConfigError> {
        for (variable, text) in variables {
            let Some(name) = variable.strip_prefix("CELERY_") else { continue };
            let name = name.to_ascii_lowercase();
            let known = self.get(&name).is_some();
            if variable == FILE_VARIABLE || !known && is_foreign(variable, text) {
                continue;
            }
            self.put(&name, &Input::Text(text), &format!("environment variable {variable}"))?;
        }
        Ok(())
    }

    /// Sets one setting from text, as the command line does; `-` in the name counts as `_`.
    ///
    /// # Errors
    /// When the setting is unknown or the text is not valid for it.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        self.put(&name.replace('-', "_"), &Input::Text(text), "set directly")
    }

    /// Sets one setting from a JSON value.
    ///
    /// # Errors
    /// When the setting is unknown or the value is not valid for it.
    pub fn set_value(&mut self, name: &str, value: &Value) -> Result<(), ConfigError> {
        self.put(name, &Input::Json(value), "set directly")
    }

    pub(super) fn put(&mut self, name: &str, input: &Input<'_>, origin: &str) -> Result<(), ConfigError> {
        match self.assign(name, input) {
            Some((name, Ok(()))) => {
                self.given.insert(name);
                Ok(())
            }
            Some((name, Err(expected))) => Err(ConfigError::Invalid {
                name,
                origin: origin.to_owned(),
                value: shown(name, input),
                expected,
            }),
            None => Err(ConfigError::Unknown {
                name: name.to_owned(),
                origin: origin.to_owned(),
                suggestion: nearest(name, settings().iter().map(|setting| setting.name)),
            }),
        }
    }

    /// The settings as `inspect conf` shows them: those that a source gave or that differ from their default, or
    /// all; masked unless `masked` is false (then with secrets: not for logs or replies).
    pub fn to_map(&self, with_defaults: bool, masked: bool) -> Map<String, Value> {
        let mut shown = Map::new();
        for setting in settings() {
            let Some(value) = self.get(setting.name) else { continue };
            if with_defaults || self.given.contains(setting.name) || value != setting.default {
                shown.insert(setting.name.to_owned(), value);
            }
        }
        if masked { mask_settings(&shown) } else { shown }
    }

    /// Whether a source named the setting, or the program set it to something else than its default.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        let differs = || {
            settings()
                .into_iter()
                .any(|setting| setting.name == name && self.get(name) != Some(setting.default))
        };
        self.given.contains(name) || differs()
    }

    /// The time zone of schedules: `timezone`, else UTC.
    pub fn timezone_or_utc(&self) -> crate::Timezone {
        self.timezone.unwrap_or(crate::Timezone::UTC)
    }

    /// Whether late acknowledgement follows a failure.
    pub fn acks_on_failure(&self) -> bool {
        self.task_acks_on_failure.unwrap_or(self.task_acks_on_failure_or_timeout)
    }

    /// Whether late acknowledgement follows a timeout.
    pub fn acks_on_timeout(&self) -> bool {
        self.task_acks_on_timeout.unwrap_or(self.task_acks_on_failure_or_timeout)
    }

    /// Where workers consume: `broker_read_url`, else `broker_url`.
    pub fn read_url(&self) -> Option<&super::Url> {
        self.broker_read_url.as_ref().or(self.broker_url.as_ref())
    }

    /// Where tasks are published: `broker_write_url`, else `broker_url`.
    pub fn write_url(&self) -> Option<&super::Url> {
        self.broker_write_url.as_ref().or(self.broker_url.as_ref())
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Config ")?;
        f.debug_map().entries(&self.to_map(false, true)).finish_non_exhaustive()
    }
}

fn from_toml(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) if number.is_finite() => Value::from(number),
        toml::Value::Float(number) => Value::String(number.to_string()),
        toml::Value::Boolean(flag) => Value::Bool(flag),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(items) => items.into_iter().map(from_toml).collect(),
        toml::Value::Table(table) => table.into_iter().map(|(key, value)| (key, from_toml(value))).collect(),
    }
}

/// The value for an error message: masked if secret, and not longer than a line.
fn shown(name: &str, input: &Input<'_>) -> String {
    let value = match input {
        // Text that holds a mapping is masked as one.
        Input::Text(text) => serde_json::from_str(text)
            .ok()
            .filter(|value: &Value| value.is_object() || value.is_array())
            .unwrap_or_else(|| Value::from(*text)),
        Input::Json(value) => (*value).clone(),
    };
    let unreadable_mapping =
        matches!(input, Input::Text(text) if text.trim_start().starts_with(['{', '['])) && value.is_string();
    if unreadable_mapping {
        return "the text (which is not valid JSON)".into();
    }
    let text = mask_value(name, &value).to_string();
    if text.chars().count() > 100 { text.chars().take(100).chain("...".chars()).collect() } else { text }
}
