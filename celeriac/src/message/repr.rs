//! Values as Python shows them.

use std::fmt::Write;

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Offset, Timelike};

use super::surrogates::{Surrogates, Text, shown};
use super::{Map, Value, json};
use crate::stack::deeper;

/// Longest `argsrepr` and `kwargsrepr`, in characters (`celery/app/amqp.py`, `argsrepr_maxsize`).
const MAX_LENGTH: usize = 1024;
/// Deepest level that they show (setting `task_repr_maxlevels`).
const MAX_LEVELS: usize = 3;

/// Python's `repr` of the value, in full.
pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    write_value(value, &mut out);
    out
}

/// The positional arguments as Celery's clients show them: a tuple, shortened.
pub fn repr_args(args: &[Value]) -> String {
    let mut safe = Safe::new(MAX_LENGTH, MAX_LEVELS);
    let close = if args.len() == 1 { ",)" } else { ")" };
    safe.sequence("(", close, args, 0);
    safe.out
}

/// The positional arguments as Celery shows those that are still the list that JSON made of them.
pub(crate) fn repr_list(args: &[Value]) -> String {
    let mut safe = Safe::new(MAX_LENGTH, MAX_LEVELS);
    safe.sequence("[", "]", args, 0);
    safe.out
}

/// The keyword arguments as Celery's clients show them, shortened.
pub fn repr_kwargs(kwargs: &Map) -> String {
    let mut safe = Safe::new(MAX_LENGTH, MAX_LEVELS);
    safe.mapping(kwargs, 0);
    safe.out
}

/// Celery's shortened `repr` (`celery/utils/saferepr.py`, celery 5.7): about `max_length` characters, `max_levels` deep.
pub fn saferepr(value: &Value, max_length: usize, max_levels: usize) -> String {
    let mut safe = Safe::new(max_length, max_levels);
    safe.value(value, 0);
    safe.out
}

/// Text shown within a budget: when it is spent, `, ...` follows and only the brackets that are open are closed.
struct Safe {
    out: String,
    left: isize,
    max_levels: usize,
    cut: bool,
}

impl Safe {
    fn new(max_length: usize, max_levels: usize) -> Self {
        Safe { out: String::new(), left: max_length as isize, max_levels, cut: false }
    }

    fn value(&mut self, value: &Value, level: usize) {
        if self.cut {
            return;
        }
        match value {
            Value::List(_) if level >= self.max_levels => {
                self.token("[...]");
            }
            Value::Map(_) if level >= self.max_levels => {
                self.token("{...}");
            }
            Value::List(items) => self.sequence("[", "]", items, level),
            Value::Map(entries) => self.mapping(entries, level),
            _ => {
                if self.has_room() {
                    let text = scalar(value, self.left as usize);
                    self.push(&text);
                }
            }
        }
    }

    fn sequence(&mut self, open: &str, close: &str, items: &[Value], level: usize) {
        if !self.token(open) {
            return;
        }
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.token(", ");
            }
            self.value(item, level + 1);
            if self.cut {
                break;
            }
        }
        self.close(close);
    }

    fn mapping(&mut self, entries: &Map, level: usize) {
        if !self.token("{") {
            return;
        }
        for (index, (key, value)) in entries.iter().enumerate() {
            if index > 0 {
                self.token(", ");
            }
            if self.has_room() {
                let key = quoted(&shown(key), self.left as usize);
                self.push(&key);
            }
            self.token(": ");
            self.value(value, level + 1);
            if self.cut {
                break;
            }
        }
        self.close("}");
    }

    /// Shows the text if there is room for it; whether there was.
    fn token(&mut self, text: &str) -> bool {
        let room = self.has_room();
        if room {
            self.push(text);
        }
        room
    }

    fn has_room(&mut self) -> bool {
        if !self.cut && self.left <= 0 {
            self.out.push_str(", ...");
            self.cut = true;
        }
        !self.cut
    }

    fn push(&mut self, text: &str) {
        self.out.push_str(text);
        self.left -= text.chars().count() as isize;
    }

    /// A bracket that was opened is always closed.
    fn close(&mut self, bracket: &str) {
        self.out.push_str(bracket);
        if !self.cut && self.left > 0 {
            self.left -= bracket.len() as isize;
        }
    }
}

fn scalar(value: &Value, max_length: usize) -> String {
    match value {
        Value::Str(text) => quoted(text, max_length),
        Value::Surrogates(text) => quoted(&text.to_string(), max_length),
        Value::Bytes(bytes) => {
            let (chunk, more) =
                if bytes.len() > max_length { (&bytes[..max_length], "...") } else { (&bytes[..], "") };
            match std::str::from_utf8(chunk) {
                Ok(text) => format!("b'{text}{more}'"),
                Err(_) => {
                    let hex = chunk.iter().fold(String::new(), |mut hex, byte| {
                        let _ = write!(hex, "{byte:02x}");
                        hex
                    });
                    format!("b'{hex}{more}'")
                }
            }
        }
        _ => truncated(&repr(value), max_length).into_owned(),
    }
}

/// Celery shows text between single quotes and escapes only these.
fn quoted(text: &str, max_length: usize) -> String {
    format!("'{}'", truncated(text, max_length).replace('\'', "\\'"))
}

/// `celery.utils.text.truncate`: cut at the last space before the limit.
fn truncated(text: &str, max_length: usize) -> std::borrow::Cow<'_, str> {
    if text.len() < max_length {
        return text.into();
    }
    let Some((last, _)) = text.char_indices().nth(max_length.saturating_sub(1)) else { return text.into() };
    let end = text[last..].chars().next().map_or(last, |character| last + character.len_utf8());
    let head = &text[..end];
    let head = head.rsplit_once(' ').map_or(head, |(head, _)| head);
    format!("{head}...").into()
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(number) => {
            let _ = write!(out, "{number}");
        }
        Value::BigInt(digits) => out.push_str(digits),
        Value::Float(number) => write_float(*number, out),
        Value::Str(text) => write_str(text, out),
        Value::Surrogates(text) => write_surrogates(text, out),
        Value::Bytes(bytes) => write_bytes(bytes, out),
        Value::List(_) | Value::Map(_) => deeper(|| write_container(value, out)),
        Value::DateTime(moment) => {
            write_datetime(&moment.naive_local(), out);
            write_tzinfo(moment.offset().fix().local_minus_utc(), out);
            out.push(')');
        }
        Value::NaiveDateTime(moment) => {
            write_datetime(moment, out);
            out.push(')');
        }
        Value::Date(date) => {
            out.push_str("datetime.date(");
            write_date(date, out);
            out.push(')');
        }
        Value::Time(time) => {
            out.push_str("datetime.time(");
            write_time(time, out);
            out.push(')');
        }
        Value::Decimal(digits) => {
            let _ = write!(out, "Decimal('{digits}')");
        }
        Value::Uuid(uuid) => {
            let _ = write!(out, "UUID('{uuid}')");
        }
    }
}

fn write_container(value: &Value, out: &mut String) {
    match value {
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_value(item, out);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (index, (key, item)) in entries.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_key(key, out);
                out.push_str(": ");
                write_value(item, out);
            }
            out.push('}');
        }
        _ => {}
    }
}

fn write_key(key: &str, out: &mut String) {
    match Text::of(key) {
        Text::Plain(text) => write_str(&text, out),
        Text::Surrogates(text) => write_surrogates(&text, out),
    }
}

fn write_float(number: f64, out: &mut String) {
    if number.is_nan() {
        out.push_str("nan");
    } else if number.is_infinite() {
        out.push_str(if number > 0.0 { "inf" } else { "-inf" });
    } else {
        let mut digits = Vec::with_capacity(24);
        json::write_finite(number, &mut digits);
        out.push_str(&String::from_utf8_lossy(&digits));
    }
}

fn quote(has_single: bool, has_double: bool) -> char {
    if has_single && !has_double { '"' } else { '\'' }
}

fn write_str(text: &str, out: &mut String) {
    let quote = quote(text.contains('\''), text.contains('"'));
    out.push(quote);
    text.chars().for_each(|character| write_character(character, quote, out));
    out.push(quote);
}

fn write_surrogates(text: &Surrogates, out: &mut String) {
    let has = |quote| text.code_points().any(|point| point == u32::from(quote));
    let quote = quote(has('\''), has('"'));
    out.push(quote);
    text.code_points().for_each(|point| match char::from_u32(point) {
        Some(character) => write_character(character, quote, out),
        None => {
            let _ = write!(out, "\\u{point:04x}");
        }
    });
    out.push(quote);
}

fn write_character(character: char, quote: char, out: &mut String) {
    match character {
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        _ if character == quote => {
            out.push('\\');
            out.push(quote);
        }
        ' '..='~' => out.push(character),
        _ if is_printable(character) => out.push(character),
        _ => {
            let _ = match u32::from(character) {
                code @ ..0x100 => write!(out, "\\x{code:02x}"),
                code @ 0x100..0x1_0000 => write!(out, "\\u{code:04x}"),
                code => write!(out, "\\U{code:08x}"),
            };
        }
    }
}

/// `str.isprintable` beyond ASCII. The standard library escapes the same classes of characters; the letter before it
/// keeps it from escaping combining marks too.
fn is_printable(character: char) -> bool {
    let mut pair = [0; 5];
    pair[0] = b'a';
    let length = 1 + character.encode_utf8(&mut pair[1..]).len();
    std::str::from_utf8(&pair[..length]).is_ok_and(|pair| pair.escape_debug().nth(1) != Some('\\'))
}

fn write_bytes(bytes: &[u8], out: &mut String) {
    let quote = quote(bytes.contains(&b'\''), bytes.contains(&b'"'));
    out.push('b');
    out.push(quote);
    for byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ if char::from(*byte) == quote => {
                out.push('\\');
                out.push(quote);
            }
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out.push(quote);
}

fn write_datetime(moment: &NaiveDateTime, out: &mut String) {
    out.push_str("datetime.datetime(");
    write_date(&moment.date(), out);
    out.push_str(", ");
    write_time(&moment.time(), out);
}

fn write_date(date: &NaiveDate, out: &mut String) {
    let _ = write!(out, "{}, {}, {}", date.year(), date.month(), date.day());
}

fn write_time(time: &NaiveTime, out: &mut String) {
    let micros = time.nanosecond().min(999_999_999) / 1000;
    let _ = write!(out, "{}, {}", time.hour(), time.minute());
    if time.second() != 0 || micros != 0 {
        let _ = write!(out, ", {}", time.second());
    }
    if micros != 0 {
        let _ = write!(out, ", {micros}");
    }
}

fn write_tzinfo(seconds: i32, out: &mut String) {
    let _ = match seconds {
        0 => write!(out, ", tzinfo=datetime.timezone.utc"),
        1.. => write!(out, ", tzinfo=datetime.timezone(datetime.timedelta(seconds={seconds}))"),
        _ => write!(
            out,
            ", tzinfo=datetime.timezone(datetime.timedelta(days=-1, seconds={}))",
            seconds + 86400
        ),
    };
}
