//! TLS to a broker or a result backend (`broker_use_ssl`, `redis_backend_use_ssl`).

use serde_json::{Map, Value};

use super::value::SettingValue;

/// TLS to a server: off, on, or on with options (`ssl_cert_reqs`, `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`).
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Ssl {
    /// As the URL says.
    #[default]
    Off,
    /// On.
    On(Map<String, Value>),
}

impl SettingValue for Ssl {
    fn expected() -> String {
        "true, false, or a mapping with ssl_cert_reqs, ssl_ca_certs, ssl_certfile, ssl_keyfile".into()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::Null => Ok(Ssl::Off),
            Value::Object(options) => Ok(Ssl::On(options.clone())),
            _ => match bool::from_json(value) {
                Ok(true) => Ok(Ssl::On(Map::new())),
                Ok(false) => Ok(Ssl::Off),
                Err(_) => Err(Self::expected()),
            },
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Ssl::Off => Value::Bool(false),
            Ssl::On(options) if options.is_empty() => Value::Bool(true),
            Ssl::On(options) => Value::Object(options.clone()),
        }
    }
}
