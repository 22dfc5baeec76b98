//! Settings of Celery that have only one value here, so that nobody believes in another.

use serde_json::Value;

use super::value::SettingValue;

/// The version of the task messages that are sent: 2, which all workers since Celery 4 read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentProtocol;

impl SettingValue for SentProtocol {
    fn expected() -> String {
        "2: celeriac reads messages of versions 1 and 2, and sends only version 2".into()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        if let Ok(2) = u64::from_json(value) { Ok(SentProtocol) } else { Err(Self::expected()) }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if let Ok(2) = u64::from_text(text) { Ok(SentProtocol) } else { Err(Self::expected()) }
    }

    fn to_json(&self) -> Value {
        2.into()
    }
}

/// A switch that celeriac does not have: only "off" is taken, so that nobody believes it is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlwaysOff;

impl SettingValue for AlwaysOff {
    fn expected() -> String {
        "false: celeriac always sends tasks through the broker (in tests, start a worker on a private broker)"
            .into()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        if let Ok(false) = bool::from_json(value) { Ok(AlwaysOff) } else { Err(Self::expected()) }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if let Ok(false) = bool::from_text(text) { Ok(AlwaysOff) } else { Err(Self::expected()) }
    }

    fn to_json(&self) -> Value {
        Value::Bool(false)
    }
}
