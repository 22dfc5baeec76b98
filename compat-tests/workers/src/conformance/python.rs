//! What Python's operators do with values of any type.

use celeriac::prelude::*;

/// `x + y`.
pub(super) fn add(x: &Value, y: &Value) -> TaskResult<Value> {
    Ok(match (x, y) {
        (Value::Int(x), Value::Int(y)) => match x.checked_add(*y) {
            Some(sum) => Value::Int(sum),
            None => Value::BigInt((i128::from(*x) + i128::from(*y)).to_string()),
        },
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            Value::Float(x.as_f64().unwrap_or_default() + y.as_f64().unwrap_or_default())
        }
        (Value::Str(x), Value::Str(y)) => Value::Str(format!("{x}{y}")),
        (Value::List(x), Value::List(y)) => x.iter().chain(y).cloned().collect(),
        _ => {
            let text = format!("unsupported operand type(s) for +: '{}' and '{}'", x.kind(), y.kind());
            return Err(TaskError::builtin("TypeError", text));
        }
    })
}

/// `sum(values)`.
pub(super) fn sum(values: &Value) -> TaskResult<Value> {
    iter(values)?.iter().try_fold(Value::Int(0), |sum, value| add(&sum, value))
}

/// `list(values)`.
pub(super) fn iter(values: &Value) -> TaskResult<Vec<Value>> {
    match values {
        Value::List(items) => Ok(items.clone()),
        Value::Map(entries) => Ok(entries.keys().map(|key| Value::from(key.as_str())).collect()),
        Value::Str(text) => Ok(text.chars().map(|letter| Value::Str(letter.to_string())).collect()),
        other => Err(TaskError::builtin("TypeError", format!("'{}' object is not iterable", other.kind()))),
    }
}

/// `bool(value)`.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Int(number) => *number != 0,
        Value::Float(number) => *number != 0.0,
        Value::Str(text) => !text.is_empty(),
        Value::List(items) => !items.is_empty(),
        Value::Map(entries) => !entries.is_empty(),
        _ => true,
    }
}
