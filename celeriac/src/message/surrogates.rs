//! Text with lone surrogates: Python's `str` and JSON can hold it, UTF-8 cannot.
//!
//! Python makes it of file names that are not UTF-8 (`surrogateescape`), and any program that cuts text between the
//! halves of a pair does. A [`Value`](super::Value) holds such text in a variant of its own. Where celeriac keeps text
//! as a [`String`], in keys of mappings and in headers, it stands there in its *carried form*: a mark that no other text
//! begins with, then the text with each lone surrogate as `\udXXX` and each backslash doubled.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Begins the carried form.
const MARK: &str = "\u{1}lone surrogates\u{1}";

/// Text that has at least one lone surrogate.
///
/// It comes from JSON and goes into JSON as it was, as [`Value::Surrogates`](super::Value::Surrogates). It displays
/// with its surrogates as Python's `repr` shows them: `caf\udce9.txt`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Surrogates {
    /// The carried form.
    carried: String,
}

impl Surrogates {
    /// The text around lone surrogates, each with its offset in bytes, in order; there is at least one.
    pub(super) fn new(text: &str, lone: &[(usize, u16)]) -> Self {
        let mut carried = String::with_capacity(MARK.len() + text.len() + 6 * lone.len());
        carried.push_str(MARK);
        let mut done = 0;
        for (at, unit) in lone {
            push_escaped(&text[done..*at], &mut carried);
            let _ = write!(carried, "\\u{unit:04x}");
            done = *at;
        }
        push_escaped(&text[done..], &mut carried);
        Self { carried }
    }

    /// The text that these bytes of a file name, an environment variable or an argument are in Python (`os.fsdecode`);
    /// `None` when they are UTF-8, so that plain text says the same.
    pub fn from_os_bytes(bytes: &[u8]) -> Option<Self> {
        let (mut text, mut lone) = (String::new(), Vec::new());
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            lone.extend(chunk.invalid().iter().map(|byte| (text.len(), 0xdc00 | u16::from(*byte))));
        }
        (!lone.is_empty()).then(|| Self::new(&text, &lone))
    }

    /// The bytes of which Python made the text (`os.fsencode`); `None` when it has other surrogates.
    pub fn to_os_bytes(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.carried.len());
        for point in self.code_points() {
            match (char::from_u32(point), point) {
                (Some(character), _) => {
                    bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                (None, 0xdc80..=0xdcff) => bytes.push((point & 0xff) as u8),
                (None, _) => return None,
            }
        }
        Some(bytes)
    }

    /// The code points, surrogates among them.
    pub fn code_points(&self) -> impl Iterator<Item = u32> + '_ {
        let mut rest = self.carried.strip_prefix(MARK).unwrap_or_default().chars();
        std::iter::from_fn(move || {
            let next = rest.next()?;
            if next != '\\' {
                return Some(u32::from(next));
            }
            let text = rest.as_str();
            let (skipped, point) = match text.get(1..5) {
                Some(digits) if text.starts_with('u') => {
                    (4, u32::from_str_radix(digits, 16).unwrap_or(0xfffd))
                }
                _ => (0, u32::from('\\')),
            };
            rest.nth(skipped);
            Some(point)
        })
    }

    /// The carried form: what stands for the text as the key of a [`Map`](super::Map) or in a header.
    pub fn carried(&self) -> &str {
        &self.carried
    }

    pub(super) fn into_carried(self) -> String {
        self.carried
    }

    /// Appends the text as a JSON string, in ASCII.
    pub(super) fn write_json(&self, out: &mut Vec<u8>) {
        write_body(self.carried.strip_prefix(MARK).unwrap_or_default(), out);
    }
}

impl fmt::Display for Surrogates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.code_points().try_for_each(|point| match char::from_u32(point) {
            Some(character) => formatter.write_char(character),
            None => write!(formatter, "\\u{point:04x}"),
        })
    }
}

impl fmt::Debug for Surrogates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{self}\"")
    }
}

/// Text as a [`String`] can hold it.
#[derive(Debug, PartialEq)]
pub(super) enum Text<'a> {
    Plain(Cow<'a, str>),
    Surrogates(Surrogates),
}

impl<'a> Text<'a> {
    /// The text that a carried form stands for; of any other text itself.
    pub(super) fn of(text: &'a str) -> Self {
        match carried_body(text) {
            None => Text::Plain(Cow::Borrowed(text)),
            Some(body) if has_surrogate(body) => Text::Surrogates(Surrogates { carried: text.to_owned() }),
            Some(body) => Text::Plain(Cow::Owned(body.replace("\\\\", "\\"))),
        }
    }

    /// The text as a key or header holds it.
    pub(super) fn into_carried(self) -> Cow<'a, str> {
        match self {
            Text::Surrogates(text) => Cow::Owned(text.into_carried()),
            Text::Plain(text) if carried_body(&text).is_some() => {
                let mut carried = MARK.to_owned();
                push_escaped(&text, &mut carried);
                Cow::Owned(carried)
            }
            Text::Plain(text) => text,
        }
    }
}

/// Plain text as a key or header holds it.
#[inline]
pub(super) fn carried(text: String) -> String {
    if is_marked(&text) { carried_marked(text) } else { text }
}

#[cold]
fn carried_marked(text: String) -> String {
    match carried_body(&text) {
        None => text,
        Some(_) => Text::Plain(Cow::Owned(text)).into_carried().into_owned(),
    }
}

/// Whether text begins as the carried form does.
#[inline]
pub(super) fn is_marked(text: &str) -> bool {
    text.as_bytes().first() == MARK.as_bytes().first() && text.starts_with(MARK)
}

/// Whether text stands for text with lone surrogates.
pub(super) fn is_carried(text: &str) -> bool {
    carried_body(text).is_some_and(has_surrogate)
}

/// A key or header as it is shown: text with lone surrogates as Python's `repr` shows it.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    match Text::of(text) {
        Text::Plain(text) => text,
        Text::Surrogates(text) => Cow::Owned(text.to_string()),
    }
}

/// Appends a text in carried form as a JSON string; tells whether it is in that form.
pub(super) fn write_carried(text: &str, out: &mut Vec<u8>) -> bool {
    let body = carried_body(text);
    body.into_iter().for_each(|body| write_body(body, out));
    body.is_some()
}

/// The part after the mark, when all of its escapes are right.
#[inline]
fn carried_body(text: &str) -> Option<&str> {
    // Nearly all text ends here.
    if !is_marked(text) {
        return None;
    }
    let body = &text[MARK.len()..];
    pieces(body).all(|(_, escape)| escape.is_some()).then_some(body)
}

fn has_surrogate(body: &str) -> bool {
    pieces(body).any(|(_, escape)| escape.is_some_and(|escape| escape.starts_with("\\u")))
}

/// The runs of plain text, each with the escape that follows it: empty at the end, `None` when it is none.
fn pieces(body: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let mut rest = Some(body);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(start) = text.find('\\') else {
            rest = None;
            return Some((text, Some("")));
        };
        let (plain, escape) = text.split_at(start);
        let length = match escape.as_bytes() {
            [_, b'\\', ..] => 2,
            [_, b'u', b'd', b'8'..=b'9' | b'a'..=b'f', a, b, ..] if is_hex(*a) && is_hex(*b) => 6,
            _ => {
                rest = None;
                return Some((plain, None));
            }
        };
        rest = Some(&escape[length..]);
        Some((plain, Some(&escape[..length])))
    })
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// Escapes in the carried form are escapes in JSON.
fn write_body(body: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for (plain, escape) in pieces(body) {
        super::json::write_content(plain, out);
        out.extend_from_slice(escape.unwrap_or_default().as_bytes());
    }
    out.push(b'"');
}

fn push_escaped(text: &str, out: &mut String) {
    for (index, part) in text.split('\\').enumerate() {
        out.push_str(if index > 0 { "\\\\" } else { "" });
        out.push_str(part);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Value, json};
    use super::*;

    fn read(json: &str) -> Value {
        json::loads(json.as_bytes()).unwrap()
    }

    #[test]
    fn text_comes_back_as_it_was_as_value_and_as_key() {
        for text in [
            r#""\udce9""#,
            r#""caf\udce9.txt""#,
            r#""\ud83d""#,
            r#""\ud83d\ud83d\ude00\ude00 \ud83dx""#,
            r#""\\udce9\udce9\\\"\n\u00e9\u0001""#,
            r#""\u0001lone surrogates\u0001""#,
            r#""\u0001lone surrogates\u0001\\udce9""#,
            r#""\u0001lone surrogates\u0001\\\\""#,
            r#""\u0001lone surrogates\u0001\udce9\\""#,
            r#""\u0001lone surrogates\u0001\\x""#,
            r#""\u0001""#,
        ] {
            assert_eq!(json::dumps(&read(text)), text);
            let object = format!("{{{text}: {text}}}");
            assert_eq!(json::dumps(&read(&object)), object);
            let Value::Map(entries) = read(&object) else { panic!("no map") };
            let (key, value) = entries.first().unwrap();
            assert_eq!(&Value::from(key.as_str()), value, "a key is the text that it stands for");
            assert_eq!(is_carried(key), matches!(value, Value::Surrogates(_)));
        }
    }

    #[test]
    fn bytes_of_file_names_are_what_python_makes_of_them() {
        let name = Surrogates::from_os_bytes(b"caf\xe9\\\xff.txt").unwrap();
        assert_eq!(json::dumps(&Value::Surrogates(name.clone())), r#""caf\udce9\\\udcff.txt""#);
        assert_eq!(name.to_string(), r"caf\udce9\\udcff.txt");
        assert_eq!(name.to_os_bytes().unwrap(), b"caf\xe9\\\xff.txt");
        assert_eq!(Surrogates::from_os_bytes("café".as_bytes()), None);
        assert_eq!(name.code_points().nth(3), Some(0xdce9));
        let Value::Surrogates(half) = read(r#""\ud83d""#) else { panic!("plain") };
        assert_eq!(half.to_os_bytes(), None);
    }
}
