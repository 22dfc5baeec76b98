//! JSON read piece by piece, without a value for the whole.
//!
//! Reading envelopes is most of what a worker does per message; nothing is copied here that the text itself holds.

mod number;
mod text;

use std::borrow::Cow;

use super::error::{ProtocolError, shorten};
use super::surrogates::Text;
use super::typed;
use super::{Map, Value};
use crate::stack::deeper;

/// How deep lists and objects may be nested: arguments of 1,000 levels, and the canvas around them. What the compiler
/// derives for values, such as their `Drop`, survives it on a thread of 2 MiB; all else grows its stack.
pub(super) const MAX_DEPTH: usize = 1_200;

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
            Kind::Text => Ok(match self.plain() {
                Some(text) => Value::Str(text.to_owned()),
                None => match self.escaped()? {
                    Text::Plain(text) => Value::Str(text.into_owned()),
                    Text::Surrogates(text) => Value::Surrogates(text),
                },
            }),
            Kind::Null => self.word("null").map(|()| Value::Null),
            Kind::True => self.word("true").map(|()| Value::Bool(true)),
            Kind::False => self.word("false").map(|()| Value::Bool(false)),
            Kind::Number => self.number(),
            Kind::List => deeper(|| {
                let mut items = Vec::new();
                self.list(|reader| {
                    items.push(reader.value()?);
                    Ok(())
                })?;
                Ok(Value::List(items))
            }),
            Kind::Object => deeper(|| {
                let mut entries = Map::new();
                self.object(|reader, key| {
                    let value = reader.value()?;
                    entries.insert(key.into_owned(), value);
                    Ok(())
                })?;
                Ok(typed::read(entries)?)
            }),
        }
    }

    /// Passes over a value without reading what its text means.
    pub(super) fn skip(&mut self) -> Fallible<()> {
        match self.peek()? {
            Kind::List => deeper(|| self.list(Self::skip)),
            Kind::Object => deeper(|| self.object(|reader, _| reader.skip())),
            Kind::Text => self.text().map(drop),
            _ => self.value().map(drop),
        }
    }

    /// Passes over a value of any depth, looking only for its end.
    pub(super) fn pass_over(&mut self) -> Fallible<()> {
        let mut open = 0_usize;
        loop {
            match self.next_byte() {
                None => return Err(self.error("expected a value, found the end")),
                Some(b'"') => drop(self.text()?),
                Some(b'[' | b'{') => {
                    self.index += 1;
                    open += 1;
                }
                Some(b']' | b'}') if open > 0 => {
                    self.index += 1;
                    open -= 1;
                }
                Some(b',' | b':') if open > 0 => self.index += 1,
                Some(b']' | b'}' | b',' | b':') => return Err(self.error("expected a value")),
                Some(_) => {
                    let ends =
                        |byte: &u8| matches!(byte, b'"' | b'[' | b'{' | b']' | b'}' | b',' | b':' | ..=b' ');
                    let rest = &self.data[self.index..];
                    self.index += rest.iter().position(ends).unwrap_or(rest.len()).max(1);
                }
            }
            if open == 0 {
                return Ok(());
            }
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
            // serde_json refuses numbers beyond the largest float, and lone surrogates.
            (Ok(()), Err(error)) if error.to_string().contains("out of range") => {}
            (Ok(()), Err(_)) if has_lone_surrogate(text) => {}
            _ => panic!("{shown}: {ours:?}, {theirs:?}"),
        }
    }

    fn has_lone_surrogate(text: &[u8]) -> bool {
        let mut reader = Reader::new(text).unwrap();
        let mut found = false;
        while reader.index < text.len() {
            if text[reader.index] == b'"'
                && let Ok(value) = reader.value()
            {
                found |= matches!(value, Value::Surrogates(_));
            } else {
                reader.index += 1;
            }
        }
        found
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
}
