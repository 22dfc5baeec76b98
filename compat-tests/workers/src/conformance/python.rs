//! What Python's operators do with values of any type.

use celeriac::prelude::*;
use num_bigint::BigInt;

/// `x + y`.
pub(super) fn add(x: &Value, y: &Value) -> TaskResult<Value> {
    Ok(match (x, y) {
        (Value::Str(x), Value::Str(y)) => Value::Str(format!("{x}{y}")),
        (Value::List(x), Value::List(y)) => x.iter().chain(y).cloned().collect(),
        _ => match numbers(x, y, "+")? {
            Numbers::Whole(x, y) => whole(x + y),
            Numbers::Real(x, y) => Value::Float(x + y),
        },
    })
}

/// `x * y`.
pub(super) fn mul(x: &Value, y: &Value) -> TaskResult<Value> {
    Ok(match (x, y) {
        (Value::Str(text), Value::Int(times)) | (Value::Int(times), Value::Str(text)) => {
            Value::Str(text.repeat(usize::try_from(*times).unwrap_or_default()))
        }
        (Value::List(items), Value::Int(times)) | (Value::Int(times), Value::List(items)) => {
            std::iter::repeat_n(items, usize::try_from(*times).unwrap_or_default())
                .flatten()
                .cloned()
                .collect()
        }
        _ => match numbers(x, y, "*")? {
            Numbers::Whole(x, y) => whole(x * y),
            Numbers::Real(x, y) => Value::Float(x * y),
        },
    })
}

/// Two numbers that can be reckoned with.
enum Numbers {
    Whole(BigInt, BigInt),
    Real(f64, f64),
}

fn numbers(x: &Value, y: &Value, operator: &str) -> TaskResult<Numbers> {
    match (int(x), int(y)) {
        (Some(x), Some(y)) => Ok(Numbers::Whole(x, y)),
        _ if is_number(x) && is_number(y) => Ok(Numbers::Real(float(x)?, float(y)?)),
        _ => {
            let (x, y) = (x.kind(), y.kind());
            let text = format!("unsupported operand type(s) for {operator}: '{x}' and '{y}'");
            Err(TaskError::builtin("TypeError", text))
        }
    }
}

fn is_number(value: &Value) -> bool {
    matches!(value, Value::Bool(_) | Value::Int(_) | Value::BigInt(_) | Value::Float(_))
}

/// An integer of any size; a truth value is 0 or 1.
fn int(value: &Value) -> Option<BigInt> {
    match value {
        Value::Bool(flag) => Some(u8::from(*flag).into()),
        Value::Int(number) => Some((*number).into()),
        Value::BigInt(digits) => digits.parse().ok(),
        _ => None,
    }
}

/// `float(value)`.
fn float(value: &Value) -> TaskResult<f64> {
    let number = match (value, int(value)) {
        (Value::Float(number), _) => return Ok(*number),
        // The nearest, as Python takes it.
        (_, Some(number)) => number.to_string().parse().unwrap_or(f64::INFINITY),
        _ => f64::NAN,
    };
    if number.is_finite() {
        Ok(number)
    } else {
        Err(TaskError::builtin("OverflowError", "int too large to convert to float"))
    }
}

fn whole(number: BigInt) -> Value {
    match i64::try_from(&number) {
        Ok(number) => Value::Int(number),
        Err(_) => Value::BigInt(number.to_string()),
    }
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
        Value::BigInt(_) => true,
        Value::Float(number) => *number != 0.0,
        Value::Str(text) => !text.is_empty(),
        Value::List(items) => !items.is_empty(),
        Value::Map(entries) => !entries.is_empty(),
        _ => true,
    }
}
