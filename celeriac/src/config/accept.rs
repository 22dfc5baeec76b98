//! `accept_content`: the serializers that are read.

use std::ops::Deref;

use serde_json::Value;

use super::kinds::BodySerializer;
use super::value::SettingValue;

/// The serializers that are read, and the types that were named beside them and that celeriac does not read.
///
/// One list often serves Python and Rust workers, so a type such as `pickle` is no error; a worker says at its start
/// that it refuses messages of that type. At least one type must be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptContent {
    serializers: Vec<BodySerializer>,
    unknown: Vec<String>,
}

impl AcceptContent {
    /// The types that were named and that celeriac does not read.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }
}

impl Deref for AcceptContent {
    type Target = [BodySerializer];

    fn deref(&self) -> &[BodySerializer] {
        &self.serializers
    }
}

impl From<Vec<BodySerializer>> for AcceptContent {
    fn from(serializers: Vec<BodySerializer>) -> Self {
        Self { serializers, unknown: Vec::new() }
    }
}

impl SettingValue for AcceptContent {
    fn expected() -> String {
        format!("a list, comma-separated or as JSON, at least one of it: {}", BodySerializer::expected())
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        let names = Vec::<String>::from_json(value).map_err(|_| Self::expected())?;
        let (mut serializers, mut unknown) = (Vec::new(), Vec::new());
        for name in names {
            match BodySerializer::from_text(&name) {
                Ok(serializer) => serializers.push(serializer),
                Err(_) => unknown.push(name),
            }
        }
        // With none that is read, every message would be refused.
        if serializers.is_empty() { Err(Self::expected()) } else { Ok(Self { serializers, unknown }) }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Vec::<String>::from_text(text)
            .map_err(|_| Self::expected())
            .and_then(|names| Self::from_json(&names.into_iter().map(Value::String).collect()))
    }

    fn to_json(&self) -> Value {
        let known = self.serializers.iter().map(|serializer| serializer.as_str());
        known.chain(self.unknown.iter().map(String::as_str)).collect()
    }
}
