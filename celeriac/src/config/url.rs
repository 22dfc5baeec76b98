//! URLs of brokers and result backends, printed without their passwords.

use std::fmt;
use std::net::Ipv6Addr;

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

    /// The scheme: `redis`, `rediss`, `sentinel`, ...; the whole text if there is no `://`.
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
        "a URL such as redis://host:6379/0, rediss://user:password@host:6379/0 or sentinel://host:26379"
            .into()
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
    let (scheme, rest) = split_scheme(url);
    let body = rest.split('?').next().unwrap_or(rest);
    // A password may itself hold a slash or a question mark: with an `@` later on, that one ends it.
    let Some(at) = body.rfind('@').or_else(|| rest.rfind('@')) else {
        return format!("{scheme}{}", mask_location(rest));
    };
    let (credentials, location) = (&rest[..at], mask_location(&rest[at + 1..]));
    match credentials.split_once(':') {
        Some((user, _)) => format!("{scheme}{user}:{MASK}@{location}"),
        None => format!("{scheme}{credentials}@{location}"),
    }
}

/// The scheme with its `://`, nothing if there is none, and what follows.
fn split_scheme(url: &str) -> (&str, &str) {
    let is_scheme = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    match url.find("://") {
        Some(end) if is_scheme(&url[..end]) => url.split_at(end + 3),
        _ => ("", url),
    }
}

/// Masks what may be a password of which the `@` is missing, and secret parameters.
fn mask_location(location: &str) -> String {
    let (place, query) =
        location.split_once('?').map_or((location, None), |(place, query)| (place, Some(query)));
    // Nobody knows where such a password ends.
    if let Some(colon) = place.match_indices(':').map(|(at, _)| at).find(|at| !is_before_port(place, *at)) {
        return format!("{}:{MASK}", &place[..colon]);
    }
    let Some(query) = query else { return place.to_owned() };
    let parameters = query.split('&').map(|parameter| match parameter.split_once('=') {
        Some((key, _)) if super::mask::is_secret(key) => format!("{key}={MASK}"),
        _ => parameter.to_owned(),
    });
    format!("{place}?{}", parameters.collect::<Vec<_>>().join("&"))
}

/// Whether the colon at that place belongs to an IPv6 address, or a port follows or nothing.
fn is_before_port(place: &str, colon: usize) -> bool {
    let (before, behind) = (&place[..colon], &place[colon + 1..]);
    if let (Some(open), Some(close)) = (before.rfind('['), behind.find(']'))
        && place[open + 1..colon + 1 + close].parse::<Ipv6Addr>().is_ok()
    {
        return true;
    }
    let port = behind.split(['/', ';']).next().unwrap_or(behind);
    port.is_empty() || port.parse::<u16>().is_ok()
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
            ("redis://user:secret/0", "redis://user:********"),
            ("redis://:secret/0", "redis://:********"),
            ("redis://user:se/secret?secret", "redis://user:********"),
            ("redis://user:1:secret@h:secret/0", "redis://user:********@h:********"),
            ("sentinel://a:1;b:secret/0", "sentinel://a:1;b:********"),
            ("redis://[::1]:7/0", "redis://[::1]:7/0"),
            ("redis://[a:secret]/0", "redis://[a:********"),
            (
                "redis+socket:///run/redis.sock?virtual_host=0",
                "redis+socket:///run/redis.sock?virtual_host=0",
            ),
            ("user:secret@h:6379/0", "user:********@h:6379/0"),
            ("user:secret", "user:********"),
            ("redis:/:secret/0", "redis:/:********"),
            ("user:secret://h", "user:********"),
            ("localhost:6379/0", "localhost:6379/0"),
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
