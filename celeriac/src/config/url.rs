//! URLs of brokers and result backends, printed without their passwords.

use std::fmt;

use serde_json::Value;

use super::value::SettingValue;

/// What stands for a secret, as in Celery (`celery/app/utils.py`, celery 5.7).
pub(super) const MASK: &str = "********";

/// The address of a broker or a result backend; several, separated by `;`, are alternatives.
///
/// `Display` and `Debug` mask the password; [`Url::expose`] gives the whole text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Url(String);

impl Url {
    /// Takes any text; whether a transport can use it is said when it connects.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The whole text, with the password: for connecting only, never for a log.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The scheme: `redis`, `rediss`, `sentinel`, `amqp`, `rpc`, ...; the whole text if there is no `://`.
    pub fn scheme(&self) -> &str {
        self.0.split("://").next().unwrap_or(&self.0)
    }

    /// The alternatives, each a URL of its own.
    ///
    /// Only full URLs count as alternatives: `sentinel://a:1;b:2/0` and a password with a `;` stay whole.
    pub fn alternatives(&self) -> Vec<Url> {
        let mut urls: Vec<String> = Vec::new();
        for part in self.0.split(';') {
            match urls.last_mut() {
                Some(last) if !part.contains("://") => {
                    last.push(';');
                    last.push_str(part);
                }
                _ => urls.push(part.trim().to_owned()),
            }
        }
        urls.into_iter().map(Url).collect()
    }

    /// The text with each password replaced by `********`.
    pub fn masked(&self) -> String {
        self.alternatives().iter().map(|url| mask_one(&url.0)).collect::<Vec<_>>().join(";")
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

impl From<&str> for Url {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Url {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::str::FromStr for Url {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl SettingValue for Url {
    fn expected() -> String {
        "a URL such as redis://host:6379/0, sentinel://host:26379 or amqp://user:password@host:5672//".into()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Self::from_text(text),
            Value::Array(urls) => {
                let urls: Vec<&str> = urls.iter().filter_map(Value::as_str).collect();
                Self::from_text(&urls.join(";"))
            }
            _ => Err(Self::expected()),
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let text = text.trim();
        // `rpc`, `redis` and `disabled` alone are backends in Celery.
        let bare_name = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric());
        let valid = bare_name
            || text.split_once("://").is_some_and(|(scheme, _)| {
                !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            });
        if valid { Ok(Self(text.to_owned())) } else { Err(Self::expected()) }
    }

    fn to_json(&self) -> Value {
        Value::String(self.0.clone())
    }
}

/// Masks what stands between the first colon after the scheme and the last `@` before the path; also in hosts that
/// have passwords of their own, as in `sentinel://:a@h1:1;:b@h2:2`, and `password=` in a query.
fn mask_one(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (body, query) = rest.split_once('?').map_or((rest, None), |(body, query)| (body, Some(query)));
    // A password may itself hold a slash or a question mark: with an `@` later on, that one ends it.
    if query.is_some_and(|query| query.contains('@')) && !body.contains('@') {
        return mask_authority(scheme, rest);
    }
    let masked = mask_authority(scheme, body);
    let Some(query) = query else { return masked };
    let parameters = query.split('&').map(|parameter| match parameter.split_once('=') {
        Some((key, _)) if super::mask::is_secret(key) => format!("{key}={MASK}"),
        _ => parameter.to_owned(),
    });
    format!("{masked}?{}", parameters.collect::<Vec<_>>().join("&"))
}

fn mask_authority(scheme: &str, rest: &str) -> String {
    let Some((credentials, host)) = rest.rsplit_once('@') else { return format!("{scheme}://{rest}") };
    match credentials.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:{MASK}@{host}"),
        None => format!("{scheme}://{credentials}@{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked_wherever_a_url_is_printed() {
        for (url, masked) in [
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("redis://:secret@127.0.0.1:6379/0", "redis://:********@127.0.0.1:6379/0"),
            ("amqp://guest:secret@h:5672//", "amqp://guest:********@h:5672//"),
            ("redis://:se@cr/et@h/0", "redis://:********@h/0"),
            ("redis://:se?cr;et@h/0", "redis://:********@h/0"),
            ("redis://h/0?password=secret&db=1", "redis://h/0?password=********&db=1"),
            (
                "sentinel://:secret@a:1;sentinel://:secret@b:2",
                "sentinel://:********@a:1;sentinel://:********@b:2",
            ),
            ("sentinel://:secret@a:1;:secret@b:2/0", "sentinel://:********@b:2/0"),
            ("rpc://", "rpc://"),
            ("rpc", "rpc"),
        ] {
            let url = Url::new(url);
            assert_eq!(url.to_string(), masked);
            assert!(!format!("{url:?}").contains("secret"));
        }
    }

    #[test]
    fn alternatives_are_whole_urls() {
        let urls = Url::new("sentinel://:p;w@a:1;b:2; sentinel://c:3").alternatives();
        assert_eq!(urls, [Url::new("sentinel://:p;w@a:1;b:2"), Url::new("sentinel://c:3")]);
    }

    #[test]
    fn a_text_without_scheme_is_refused() {
        assert!(Url::from_text("127.0.0.1:6379").is_err());
        assert!(Url::from_text("://host").is_err());
        assert!(Url::from_text("").is_err());
    }
}
