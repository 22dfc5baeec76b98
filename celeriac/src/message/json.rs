//! JSON as Python and kombu read and write it.

use std::io::Write;

use jiter::{Jiter, JiterError, Peek};

use super::error::{ProtocolError, shorten};
use super::typed;
use super::{Map, Value};

/// How deep lists and objects may be nested: what every recursion over values survives on a thread of 2 MiB.
pub(super) const MAX_DEPTH: usize = 256;

/// Reads a JSON text; `NaN` and the infinities are numbers, integers are exact, kombu's typed values are decoded.
///
/// # Errors
/// The text is not JSON, is nested too deep, or has a typed value that cannot be read.
pub fn loads(data: &[u8]) -> Result<Value, ProtocolError> {
    let mut reader = Reader::new(data);
    let value = reader.next_value()?;
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
        Value::BigInt(text) => write_str(text, out),
        Value::Float(number) => write_float(*number, out),
        Value::Str(text) => write_str(text, out),
        Value::List(items) => write_list(items, out),
        Value::Map(entries) => write_map(entries, out),
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
    let length = 40 - unused.len();
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

/// Appends the text as a JSON string, in ASCII.
pub fn write_str(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut start = 0;
    while let Some(length) = bytes[start..].iter().position(|byte| !is_plain(*byte)) {
        let special = start + length;
        out.extend_from_slice(&bytes[start..special]);
        start = special + write_escape(text, special, out);
    }
    out.extend_from_slice(&bytes[start..]);
    out.push(b'"');
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

/// A JSON text being read piece by piece.
pub(super) struct Reader<'a> {
    jiter: Jiter<'a>,
    data: &'a [u8],
    depth: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Reader { jiter: Jiter::new(data).with_allow_inf_nan(), data, depth: 0 }
    }

    pub(super) fn peek(&mut self) -> Result<Peek, ProtocolError> {
        self.jiter.peek().map_err(|error| not_json(self.data, &error))
    }

    /// Fails when anything but white space follows.
    pub(super) fn finish(&mut self) -> Result<(), ProtocolError> {
        self.jiter.finish().map_err(|error| not_json(self.data, &error))
    }

    /// Offset of the next byte.
    pub(super) fn index(&self) -> usize {
        self.jiter.current_index()
    }

    /// Goes into an object and gives its first key, translated by `name`; `None` when it is empty.
    pub(super) fn first_key<K>(&mut self, name: impl FnOnce(&str) -> K) -> Result<Option<K>, ProtocolError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ProtocolError::TooDeep { limit: MAX_DEPTH });
        }
        let data = self.data;
        let key = self.jiter.known_object().map_err(|error| not_json(data, &error))?.map(name);
        if key.is_none() {
            self.depth -= 1;
        }
        Ok(key)
    }

    /// The next key of the object, translated by `name`; `None` at its end.
    pub(super) fn next_key<K>(&mut self, name: impl FnOnce(&str) -> K) -> Result<Option<K>, ProtocolError> {
        let data = self.data;
        let key = self.jiter.next_key().map_err(|error| not_json(data, &error))?.map(name);
        if key.is_none() {
            self.depth -= 1;
        }
        Ok(key)
    }

    /// Goes into a list; whether it has a first element.
    pub(super) fn first_item(&mut self) -> Result<bool, ProtocolError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ProtocolError::TooDeep { limit: MAX_DEPTH });
        }
        let more = self.jiter.known_array().map_err(|error| not_json(self.data, &error))?.is_some();
        if !more {
            self.depth -= 1;
        }
        Ok(more)
    }

    /// Whether the list has another element.
    pub(super) fn next_item(&mut self) -> Result<bool, ProtocolError> {
        let more = self.jiter.array_step().map_err(|error| not_json(self.data, &error))?.is_some();
        if !more {
            self.depth -= 1;
        }
        Ok(more)
    }

    /// The text that comes next; call only after [`Peek::String`].
    pub(super) fn text(&mut self) -> Result<&str, ProtocolError> {
        let data = self.data;
        self.jiter.known_str().map_err(|error| not_json(data, &error))
    }

    pub(super) fn next_value(&mut self) -> Result<Value, ProtocolError> {
        let peek = self.peek()?;
        self.value(peek)
    }

    pub(super) fn value(&mut self, peek: Peek) -> Result<Value, ProtocolError> {
        match peek {
            Peek::String => Ok(Value::Str(self.text()?.to_owned())),
            Peek::Null => {
                self.jiter.known_null().map(|()| Value::Null).map_err(|error| not_json(self.data, &error))
            }
            Peek::True | Peek::False => {
                self.jiter.known_bool(peek).map(Value::Bool).map_err(|error| not_json(self.data, &error))
            }
            Peek::Array => self.list(),
            Peek::Object => self.object(),
            _ => self.number(peek),
        }
    }

    fn list(&mut self) -> Result<Value, ProtocolError> {
        let mut items = Vec::new();
        let mut more = self.first_item()?;
        while more {
            items.push(self.next_value()?);
            more = self.next_item()?;
        }
        Ok(Value::List(items))
    }

    fn object(&mut self) -> Result<Value, ProtocolError> {
        let mut entries = Map::new();
        let mut next = self.first_key(str::to_owned)?;
        while let Some(key) = next {
            let value = self.next_value()?;
            entries.insert(key, value);
            next = self.next_key(str::to_owned)?;
        }
        typed::read(entries)
    }

    fn number(&mut self, peek: Peek) -> Result<Value, ProtocolError> {
        let data = self.data;
        let text = self.jiter.known_number_bytes(peek).map_err(|error| not_json(data, &error))?;
        let text = std::str::from_utf8(text).map_err(|error| ProtocolError::decode("number", error))?;
        if !is_integer(text) {
            let number = match text {
                "Infinity" => f64::INFINITY,
                "-Infinity" => f64::NEG_INFINITY,
                "NaN" => f64::NAN,
                _ => text.parse().map_err(|error| ProtocolError::decode("number", error))?,
            };
            return Ok(Value::Float(number));
        }
        Ok(text.parse().map_or_else(|_| Value::BigInt(text.to_owned()), Value::Int))
    }

    /// Passes over the next value without reading what its text means.
    pub(super) fn skip(&mut self) -> Result<(), ProtocolError> {
        let peek = self.peek()?;
        match peek {
            Peek::Array => {
                let mut more = self.first_item()?;
                while more {
                    self.skip()?;
                    more = self.next_item()?;
                }
                Ok(())
            }
            Peek::Object => {
                let mut next = self.first_key(|_| ())?;
                while next.is_some() {
                    self.skip()?;
                    next = self.next_key(|_| ())?;
                }
                Ok(())
            }
            _ => self.jiter.known_skip(peek).map_err(|error| not_json(self.data, &error)),
        }
    }
}

pub(super) fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cold]
fn not_json(data: &[u8], error: &JiterError) -> ProtocolError {
    let start = &data[..data.len().min(512)];
    ProtocolError::NotJson {
        reason: error.error_type.to_string(),
        position: error.index,
        text: shorten(&format!("{:?}", String::from_utf8_lossy(start))),
    }
}
