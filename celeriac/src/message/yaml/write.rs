//! Writing: one line of flow style, in which every text is quoted.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::error::ProtocolError;
use super::super::{Value, json};
use super::{NAME, timestamp};
use crate::stack::deeper;

/// Writes one document.
///
/// # Errors
/// YAML has no form for a value.
pub(in super::super) fn dumps(value: &Value) -> Result<String, ProtocolError> {
    let mut out = String::new();
    write(value, &mut out)?;
    out.push('\n');
    Ok(out)
}

fn write(value: &Value, out: &mut String) -> Result<(), ProtocolError> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Int(number) => {
            let _ = write!(out, "{number}");
        }
        Value::BigInt(digits) => out.push_str(digits),
        Value::Float(number) => write_float(*number, out),
        Value::Str(text) => write_text(text.chars().map(u32::from), out),
        Value::Surrogates(text) => write_text(text.code_points(), out),
        Value::List(_) | Value::Map(_) => return deeper(|| write_container(value, out)),
        Value::Bytes(bytes) => {
            let _ = write!(out, "!!binary \"{}\"", STANDARD.encode(bytes));
        }
        Value::DateTime(_) | Value::NaiveDateTime(_) | Value::Date(_) => out.push_str(&timestamp(value)),
        other => return Err(ProtocolError::encode(NAME, format!("has no form for {}", other.kind()))),
    }
    Ok(())
}

fn write_container(value: &Value, out: &mut String) -> Result<(), ProtocolError> {
    match value {
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write(item, out)?;
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (index, (key, item)) in entries.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                // A quoted key of more than 1024 characters has to be announced.
                out.push_str(if key.len() > 128 { "? " } else { "" });
                write(&Value::from(key.as_str()), out)?;
                out.push_str(": ");
                write(item, out)?;
            }
            out.push('}');
        }
        _ => {}
    }
    Ok(())
}

fn write_float(number: f64, out: &mut String) {
    if number.is_nan() {
        out.push_str(".nan");
    } else if number.is_infinite() {
        out.push_str(if number > 0.0 { ".inf" } else { "-.inf" });
    } else {
        let mut digits = Vec::with_capacity(24);
        json::write_finite(number, &mut digits);
        let text = String::from_utf8_lossy(&digits);
        match text.split_once('e') {
            Some((mantissa, exponent)) if !mantissa.contains('.') => {
                let _ = write!(out, "{mantissa}.0e{exponent}");
            }
            _ => out.push_str(&text),
        }
    }
}

/// Writes code points, lone surrogates among them, as PyYAML writes them.
fn write_text(points: impl Iterator<Item = u32>, out: &mut String) {
    out.push('"');
    for point in points {
        let _ = match (char::from_u32(point), point) {
            (Some('"'), _) => write!(out, "\\\""),
            (Some('\\'), _) => write!(out, "\\\\"),
            (Some(character @ ' '..='~'), _) => {
                out.push(character);
                Ok(())
            }
            (_, ..0x100) => write!(out, "\\x{point:02X}"),
            (_, 0x100..0x1_0000) => write!(out, "\\u{point:04X}"),
            _ => write!(out, "\\U{point:08X}"),
        };
    }
    out.push('"');
}
