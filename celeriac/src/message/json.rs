//! JSON as Python and kombu read and write it.

use std::io::Write;
use std::time::Duration;

use super::error::ProtocolError;
use super::reader::Reader;
use super::{Map, Value};
use super::{surrogates, typed};
use crate::stack::deeper;

/// Reads a JSON text; `NaN` and the infinities are numbers, integers are exact, kombu's typed values are decoded.
///
/// # Errors
/// The text is not JSON, is nested too deep, or has a typed value that cannot be read.
pub fn loads(data: &[u8]) -> Result<Value, ProtocolError> {
    let mut reader = Reader::new(data)?;
    let value = reader.value()?;
    reader.finish()?;
    Ok(value)
}

/// Writes the value as Python's `json.dumps` does with kombu's encoder.
pub fn dumps(value: &Value) -> String {
    let mut out = Vec::with_capacity(64);
    write(value, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Appends what [`dumps`] gives.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(number) => write_int(*number, out),
        Value::BigInt(digits) if is_integer(digits) => out.extend_from_slice(digits.as_bytes()),
        Value::BigInt(text) => write_text(text, out),
        Value::Float(number) => write_float(*number, out),
        Value::Str(text) => write_text(text, out),
        Value::Surrogates(text) => text.write_json(out),
        Value::List(items) => deeper(|| write_list(items, out)),
        Value::Map(entries) => deeper(|| write_map(entries, out)),
        _ => typed::write(value, out),
    }
}

pub(super) fn write_list(items: &[Value], out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        write(item, out);
    }
    out.push(b']');
}

pub(super) fn write_map(entries: &Map, out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        write_str(key, out);
        out.extend_from_slice(b": ");
        write(value, out);
    }
    out.push(b'}');
}

pub(super) fn write_int(number: i64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends a time in seconds, as a number with a fraction.
pub(crate) fn write_seconds(time: Duration, out: &mut Vec<u8>) {
    write_int(i64::try_from(time.as_secs()).unwrap_or(i64::MAX), out);
    out.push(b'.');
    let (mut digits, mut rest) = ([b'0'; 9], time.subsec_nanos());
    for digit in digits.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    let length = digits.iter().rposition(|digit| *digit != b'0').map_or(1, |last| last + 1);
    out.extend_from_slice(&digits[..length]);
}

/// Appends the number as Python's JSON encoder writes it.
pub(super) fn write_float(number: f64, out: &mut Vec<u8>) {
    if number.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if number.is_infinite() {
        out.extend_from_slice(if number > 0.0 { b"Infinity" } else { b"-Infinity" });
    } else {
        write_finite(number, out);
    }
}

/// Appends Python's `repr` of a finite float: the shortest digits that read back the same.
pub(super) fn write_finite(number: f64, out: &mut Vec<u8>) {
    let mut buffer = [0; 40];
    let mut unused = &mut buffer[..];
    if write!(unused, "{number:e}").is_err() {
        return;
    }
    let mut length = 40 - unused.len();
    // Of two shortest texts that are equally near, Python takes the even one; ties have many digits.
    if length > "1.23456789012345e0".len() {
        let digits = buffer[..length]
            .iter()
            .take_while(|byte| **byte != b'e')
            .filter(|byte| byte.is_ascii_digit())
            .count();
        let mut even = [0; 40];
        let mut unused = &mut even[..];
        if write!(unused, "{number:.*e}", digits.saturating_sub(1)).is_ok() {
            let even_length = 40 - unused.len();
            let text = std::str::from_utf8(&even[..even_length]).unwrap_or_default();
            if text.parse() == Ok(number) {
                (buffer, length) = (even, even_length);
            }
        }
    }
    let text = &buffer[..length];
    let mark = text.iter().position(|byte| *byte == b'e').unwrap_or(length);
    let exponent: i32 =
        std::str::from_utf8(&text[(mark + 1).min(length)..]).unwrap_or("0").parse().unwrap_or(0);
    let (sign, mantissa) =
        if text[0] == b'-' { (&text[..1], &text[1..mark]) } else { (&text[..0], &text[..mark]) };
    let fraction = mantissa.get(2..).unwrap_or_default();

    out.extend_from_slice(sign);
    match exponent {
        0..=15 => {
            let whole = exponent as usize;
            out.push(mantissa[0]);
            out.extend((0..whole).map(|place| fraction.get(place).copied().unwrap_or(b'0')));
            out.push(b'.');
            out.extend_from_slice(fraction.get(whole..).filter(|tail| !tail.is_empty()).unwrap_or(b"0"));
        }
        -4..=-1 => {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
            out.push(mantissa[0]);
            out.extend_from_slice(fraction);
        }
        _ => {
            out.extend_from_slice(mantissa);
            out.push(b'e');
            out.push(if exponent < 0 { b'-' } else { b'+' });
            if exponent.abs() < 10 {
                out.push(b'0');
            }
            write_int(exponent.abs().into(), out);
        }
    }
}

/// Appends a key or header as a JSON string, in ASCII; the form that carries lone surrogates is written as them.
pub fn write_str(text: &str, out: &mut Vec<u8>) {
    if !surrogates::write_carried(text, out) {
        write_text(text, out);
    }
}

/// Appends plain text as a JSON string, in ASCII.
fn write_text(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    write_content(text, out);
    out.push(b'"');
}

/// Appends what stands between the quotes.
pub(super) fn write_content(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let mut start = 0;
    loop {
        let special = start + plain_length(&bytes[start..]);
        out.extend_from_slice(&bytes[start..special]);
        if special == bytes.len() {
            break;
        }
        start = special + write_escape(text, special, out);
    }
}

/// How many bytes there are before the first that needs an escape.
fn plain_length(bytes: &[u8]) -> usize {
    let mut length = 0;
    for chunk in bytes.chunks(16) {
        // Without an early end, so that the compiler looks at all of them at once.
        if !chunk.iter().fold(true, |plain, byte| plain & is_plain(*byte)) {
            return length + chunk.iter().take_while(|byte| is_plain(**byte)).count();
        }
        length += chunk.len();
    }
    length
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// Appends the escape for the character at that place and tells how many bytes it took in the text.
fn write_escape(text: &str, place: usize, out: &mut Vec<u8>) -> usize {
    let short = match text.as_bytes()[place] {
        b'"' => b'"',
        b'\\' => b'\\',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            let Some(character) = text[place..].chars().next() else { return 1 };
            for unit in character.encode_utf16(&mut [0; 2]) {
                let digit = |shift: u16| b"0123456789abcdef"[usize::from(*unit >> shift & 15)];
                out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
            }
            return character.len_utf8();
        }
    };
    out.extend_from_slice(&[b'\\', short]);
    1
}

pub(super) fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}
