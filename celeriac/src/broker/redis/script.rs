//! Scripts that the server runs, and reading replies.

use redis::Value;

/// Returns `EVAL` with the script's text: always found, whatever server answers.
pub(crate) fn eval(script: &str, keys: &[&String], arguments: &[&[u8]]) -> redis::Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(keys.len());
    for key in keys {
        command.arg(key.as_str());
    }
    for argument in arguments {
        command.arg(*argument);
    }
    command
}

/// Returns the bytes of a reply that is a string.
pub(crate) fn bytes(value: &Value) -> Option<&[u8]> {
    if let Value::BulkString(bytes) = value { Some(bytes) } else { None }
}

/// Returns the texts of a reply that is a list or a set.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    let (Value::Array(items) | Value::Set(items)) = value else { return Vec::new() };
    items.iter().filter_map(bytes).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}
