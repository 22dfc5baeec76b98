//! Commands that yield the user and password of a server.

use std::fmt;

use serde_json::Value;

use super::value::SettingValue;

/// A command that prints the user and password of a server: the counterpart of a `CredentialProvider` in Python.
///
/// It runs before each connection is made. It prints the password in one line, or the user in a first line and the
/// password in a second one, or a JSON object with `username` and `password`.
#[derive(Clone, PartialEq, Eq)]
pub struct CredentialCommand(Vec<String>);

impl CredentialCommand {
    /// The program and its arguments.
    pub fn words(&self) -> &[String] {
        &self.0
    }
}

/// Without the command, whose arguments may be secret.
impl fmt::Debug for CredentialCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialCommand(..)")
    }
}

impl SettingValue for CredentialCommand {
    fn expected() -> String {
        "a command that prints a password, or a user and a password: text for `sh -c`, or a list of a program and its arguments"
            .into()
    }

    fn from_json(value: &Value) -> Result<Self, String> {
        let words: Option<Vec<String>> = match value {
            Value::String(text) if !text.trim().is_empty() => {
                Some(["sh", "-c", text.as_str()].map(str::to_owned).to_vec())
            }
            Value::Array(words) => words.iter().map(|word| word.as_str().map(str::to_owned)).collect(),
            _ => None,
        };
        words.filter(|words| !words.is_empty()).map(Self).ok_or_else(Self::expected)
    }

    fn from_text(text: &str) -> Result<Self, String> {
        match text.trim_start().starts_with('[') {
            true => serde_json::from_str(text)
                .map_err(|_| Self::expected())
                .and_then(|words| Self::from_json(&words)),
            false => Self::from_json(&Value::from(text)),
        }
    }

    fn to_json(&self) -> Value {
        match self.0.as_slice() {
            [shell, flag, text] if shell == "sh" && flag == "-c" => Value::from(text.as_str()),
            words => Value::from(words),
        }
    }
}
