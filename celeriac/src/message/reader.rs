//! JSON read piece by piece, without a value for the whole.
//!
//! Reading envelopes is most of what a worker does per message; nothing is copied here that the text itself holds.

use std::borrow::Cow;

use super::error::{ProtocolError, shorten};
use super::typed;
use super::{Map, Value};

/// How deep lists and objects may be nested: what every recursion over values survives on a thread of 2 MiB.
pub(super) const MAX_DEPTH: usize = 256;
/// Python refuses longer integers too (`sys.int_info.default_max_str_digits`).
const MAX_INTEGER_DIGITS: usize = 4300;

/// The error is boxed, so that what is passed about all the time stays small.
pub(super) type Fallible<T> = Result<T, Box<ProtocolError>>;

impl From<Box<ProtocolError>> for ProtocolError {
    fn from(error: Box<ProtocolError>) -> Self {
        *error
    }
}

/// What kind of value comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    True,
    False,
    Number,
    Text,
    List,
    Object,
}

/// A JSON text and how far it has been read.
pub(super) struct Reader<'a> {
    text: &'a str,
    data: &'a [u8],
    index: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the beginning; fails when the text is not UTF-8.
    pub(super) fn new(data: &'a [u8]) -> Fallible<Self> {
        match std::str::from_utf8(data) {
            Ok(text) => Ok(Reader { text, data, index: 0, depth: 0 }),
            Err(error) => {
                Err(Reader { text: "", data, index: error.valid_up_to(), depth: 0 }.error("expected UTF-8"))
            }
        }
    }

    /// Offset of the next byte.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// What comes next; white space before it is passed over.
    pub(super) fn peek(&mut self) -> Fallible<Kind> {
        match self.next_byte() {
            Some(b'"') => Ok(Kind::Text),
            Some(b'n') => Ok(Kind::Null),
            Some(b't') => Ok(Kind::True),
            Some(b'f') => Ok(Kind::False),
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::List),
            Some(b'0'..=b'9' | b'-' | b'N' | b'I') => Ok(Kind::Number),
            Some(_) => Err(self.error("expected a value")),
            None => Err(self.error("expected a value, found the end")),
        }
    }

    /// Fails when anything but white space follows.
    pub(super) fn finish(&mut self) -> Fallible<()> {
        match self.next_byte() {
            None => Ok(()),
            Some(_) => Err(self.error("expected the end")),
        }
    }

    /// Reads any value.
    pub(super) fn value(&mut self) -> Fallible<Value> {
        match self.peek()? {
            Kind::Text => self.text().map(|text| Value::Str(text.into_owned())),
            Kind::Null => self.word("null").map(|()| Value::Null),
            Kind::True => self.word("true").map(|()| Value::Bool(true)),
            Kind::False => self.word("false").map(|()| Value::Bool(false)),
            Kind::Number => self.number(),
            Kind::List => {
                let mut items = Vec::new();
                self.list(|reader| {
                    items.push(reader.value()?);
                    Ok(())
                })?;
                Ok(Value::List(items))
            }
            Kind::Object => {
                let mut entries = Map::new();
                self.object(|reader, key| {
                    let value = reader.value()?;
                    entries.insert(key.into_owned(), value);
                    Ok(())
                })?;
                Ok(typed::read(entries)?)
            }
        }
    }

    /// Passes over a value without reading what its text means.
    pub(super) fn skip(&mut self) -> Fallible<()> {
        match self.peek()? {
            Kind::List => self.list(Self::skip),
            Kind::Object => self.object(|reader, _| reader.skip()),
            Kind::Text => self.text().map(drop),
            _ => self.value().map(drop),
        }
    }

    /// Reads a list, known to be one; `each` reads each element.
    pub(super) fn list(&mut self, mut each: impl FnMut(&mut Self) -> Fallible<()>) -> Fallible<()> {
        self.enter()?;
        if self.next_byte() != Some(b']') {
            loop {
                each(self)?;
                match self.next_byte() {
                    Some(b',') => self.index += 1,
                    Some(b']') => break,
                    _ => return Err(self.error("expected , or ]")),
                }
            }
        }
        self.leave();
        Ok(())
    }

    /// Reads an object, known to be one; `each` gets each key and reads its value.
    pub(super) fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, Cow<'a, str>) -> Fallible<()>,
    ) -> Fallible<()> {
        self.enter()?;
        if self.next_byte() != Some(b'}') {
            loop {
                if self.next_byte() != Some(b'"') {
                    return Err(self.error("expected a key"));
                }
                let key = self.text()?;
                if self.next_byte() != Some(b':') {
                    return Err(self.error("expected :"));
                }
                self.index += 1;
                each(self, key)?;
                match self.next_byte() {
                    Some(b',') => self.index += 1,
                    Some(b'}') => break,
                    _ => return Err(self.error("expected , or }")),
                }
            }
        }
        self.leave();
        Ok(())
    }

    /// Reads a text, known to be one.
    pub(super) fn text(&mut self) -> Fallible<Cow<'a, str>> {
        let start = self.index + 1;
        let end = plain_end(self.data, start);
        if self.data.get(end) != Some(&b'"') {
            return self.escaped_text(start, end).map(Cow::Owned);
        }
        let text = &self.text[start..end];
        self.index = end + 1;
        Ok(Cow::Borrowed(text))
    }

    fn escaped_text(&mut self, start: usize, end: usize) -> Fallible<String> {
        let mut text = self.text[start..end].to_owned();
        self.index = end;
        loop {
            match self.data.get(self.index) {
                Some(b'"') => {
                    self.index += 1;
                    return Ok(text);
                }
                Some(b'\\') => text.push(self.escape()?),
                Some(_) => return Err(self.error("expected no control character in a text")),
                None => return Err(self.error("expected the end of a text")),
            }
            let end = plain_end(self.data, self.index);
            text.push_str(&self.text[self.index..end]);
            self.index = end;
        }
    }

    /// Reads one escape; its backslash comes next.
    fn escape(&mut self) -> Fallible<char> {
        let character = match self.data.get(self.index + 1) {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(*byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(self.error("expected an escape")),
        };
        self.index += 2;
        Ok(character)
    }

    /// Reads `\uXXXX`, or two of them that make one character.
    fn unicode_escape(&mut self) -> Fallible<char> {
        let first = self.code_unit()?;
        let is_pair =
            matches!(first, 0xd800..0xdc00) && self.data.get(self.index..self.index + 2) == Some(b"\\u");
        let second = if is_pair { Some(self.code_unit()?) } else { None };
        match char::decode_utf16([first].into_iter().chain(second)).next() {
            Some(Ok(character)) => Ok(character),
            _ => Err(self.error("expected no lone surrogate in a text")),
        }
    }

    fn code_unit(&mut self) -> Fallible<u16> {
        let digits = self.data.get(self.index + 2..self.index + 6).unwrap_or_default();
        if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(self.error("expected four hexadecimal digits"));
        }
        self.index += 6;
        let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u16;
        Ok(digits.iter().fold(0, |unit, byte| unit << 4 | digit(*byte)))
    }

    fn number(&mut self) -> Fallible<Value> {
        let start = self.index;
        let negative = self.take(b'-');
        match self.data.get(self.index) {
            Some(b'I') => {
                self.word("Infinity")?;
                return Ok(Value::Float(if negative { f64::NEG_INFINITY } else { f64::INFINITY }));
            }
            Some(b'N') if !negative => return self.word("NaN").map(|()| Value::Float(f64::NAN)),
            _ => {}
        }
        let first = self.index;
        let count = self.digits()?;
        if count > 1 && self.data[first] == b'0' {
            return Err(self.error("expected no leading zero"));
        }
        let mut is_float = false;
        if self.take(b'.') {
            is_float = true;
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            is_float = true;
            if !self.take(b'-') {
                self.take(b'+');
            }
            self.digits()?;
        }
        let text = &self.text[start..self.index];
        if is_float {
            return text.parse().map(Value::Float).map_err(|_| self.error("expected a number"));
        }
        if count <= 18 {
            let number = self.data[first..self.index]
                .iter()
                .fold(0, |number, byte| number * 10 + i64::from(byte - b'0'));
            return Ok(Value::Int(if negative { -number } else { number }));
        }
        if count > MAX_INTEGER_DIGITS {
            return Err(self.error("expected an integer of at most 4300 digits"));
        }
        Ok(text.parse().map_or_else(|_| Value::BigInt(text.to_owned()), Value::Int))
    }

    fn digits(&mut self) -> Fallible<usize> {
        let start = self.index;
        while self.data.get(self.index).is_some_and(u8::is_ascii_digit) {
            self.index += 1;
        }
        if self.index == start {
            return Err(self.error("expected a digit"));
        }
        Ok(self.index - start)
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.data.get(self.index) == Some(&byte);
        self.index += usize::from(found);
        found
    }

    fn word(&mut self, word: &str) -> Fallible<()> {
        if !self.data[self.index..].starts_with(word.as_bytes()) {
            return Err(self.error("expected a value"));
        }
        self.index += word.len();
        Ok(())
    }

    /// Passes over white space.
    fn next_byte(&mut self) -> Option<u8> {
        loop {
            match self.data.get(self.index) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.index += 1,
                other => return other.copied(),
            }
        }
    }

    fn enter(&mut self) -> Fallible<()> {
        self.index += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Box::new(ProtocolError::TooDeep { limit: MAX_DEPTH }));
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.index += 1;
        self.depth -= 1;
    }

    #[cold]
    fn error(&self, reason: &str) -> Box<ProtocolError> {
        let start = &self.data[..self.data.len().min(512)];
        Box::new(ProtocolError::NotJson {
            reason: reason.to_owned(),
            position: self.index,
            text: shorten(&format!("{:?}", String::from_utf8_lossy(start))),
        })
    }
}

/// Where the run of characters that stand for themselves ends: at a quote, a backslash or a control character.
///
/// Eight bytes are looked at in one step: of each, the highest bit is set when it ends the run. A borrow between bytes
/// can set the bit of a byte only after one that ends the run, and the first is what counts.
fn plain_end(data: &[u8], mut index: usize) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let is_zero = |word: u64| word.wrapping_sub(ONES) & !word;
    while let Some(bytes) = data.get(index..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*bytes);
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = is_zero(word ^ (ONES * u64::from(b'"')));
        let backslash = is_zero(word ^ (ONES * u64::from(b'\\')));
        let ends = (control | quote | backslash) & HIGH;
        if ends != 0 {
            return index + ends.trailing_zeros() as usize / 8;
        }
        index += 8;
    }
    while data.get(index).is_some_and(|byte| !matches!(byte, ..0x20 | b'"' | b'\\')) {
        index += 1;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What serde_json makes of the text; it knows no NaN, and of numbers beyond 64 bits only floats.
    fn agrees_with_serde_json(text: &[u8]) {
        let ours = Reader::new(text).and_then(|mut reader| reader.skip().and_then(|()| reader.finish()));
        let theirs = serde_json::from_slice::<serde_json::Value>(text);
        let shown = String::from_utf8_lossy(text);
        if shown.contains("NaN") || shown.contains("Infinity") || shown.contains("-0") {
            return;
        }
        match (&ours, &theirs) {
            (Ok(()), Ok(theirs)) => {
                if let Ok(ours) = Reader::new(text).and_then(|mut reader| reader.value()) {
                    let theirs = Value::from(theirs.clone());
                    assert!(
                        ours == theirs || shown.len() > 15 || shown.contains("__type__"),
                        "{shown}: {ours:?}, {theirs:?}"
                    );
                }
            }
            (Err(_), Err(_)) => {}
            // serde_json refuses numbers beyond the largest float.
            (Ok(()), Err(error)) if error.to_string().contains("out of range") => {}
            _ => panic!("{shown}: {ours:?}, {theirs:?}"),
        }
    }

    #[test]
    fn damaged_texts_are_refused_where_serde_json_refuses_them() {
        let seed = br#" {"a": [1, -2.5e+3, 0, "x\u00e9\n\ud83d\ude00", null, true, false, {}], "": {"b": []}, "long key": "0123456789"} "#;
        agrees_with_serde_json(seed);
        let bytes = b"\"\\{}[]:, 0e.-+nutfNI/\x00\x1f\xc3\xa9\xff";
        for place in 0..seed.len() {
            agrees_with_serde_json(&seed[..place]);
            agrees_with_serde_json(&seed[place..]);
            let without: Vec<u8> = [&seed[..place], &seed[place + 1..]].concat();
            agrees_with_serde_json(&without);
            for byte in bytes {
                let mut text = seed.to_vec();
                text[place] = *byte;
                agrees_with_serde_json(&text);
                text.insert(place, *byte);
                agrees_with_serde_json(&text);
            }
        }
    }

    #[test]
    fn every_short_text_is_read_as_serde_json_reads_it() {
        let bytes = b"\"\\u01-.e+[]{}:, ";
        let mut texts = vec![Vec::new()];
        for _ in 0..4 {
            texts = texts
                .iter()
                .flat_map(|text| bytes.iter().map(move |byte| [text.as_slice(), &[*byte]].concat()))
                .collect();
            texts.iter().for_each(|text| agrees_with_serde_json(text));
        }
    }

    #[test]
    fn a_run_ends_at_the_first_special_byte_wherever_it_stands() {
        for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
            for length in 0..20 {
                let mut text = vec![b'\x80'; length];
                text.push(special);
                text.extend_from_slice(b"\"\"plain");
                assert_eq!(plain_end(&text, 0), length);
            }
        }
        assert_eq!(plain_end("\u{7f}é \u{20}!#[]^".as_bytes(), 0), "\u{7f}é \u{20}!#[]^".len());
        assert_eq!(plain_end(b"ab", 5), 5);
    }
}
