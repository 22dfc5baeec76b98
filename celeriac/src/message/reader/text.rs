//! Texts.

use std::borrow::Cow;

use super::super::surrogates::{Surrogates, Text};
use super::{Fallible, Reader};

impl<'a> Reader<'a> {
    /// Reads a text, known to be one, as keys and headers hold it.
    pub(in super::super) fn text(&mut self) -> Fallible<Cow<'a, str>> {
        if let Some(text) = self.plain() {
            return Ok(Cow::Borrowed(text));
        }
        Ok(self.escaped()?.into_carried())
    }

    /// Reads a text, known to be one, if all of its characters stand for themselves, as in nearly every text.
    #[inline]
    pub(super) fn plain(&mut self) -> Option<&'a str> {
        let start = self.index + 1;
        let end = plain_end(self.data, start);
        if self.data.get(end) != Some(&b'"') {
            return None;
        }
        self.index = end + 1;
        Some(&self.text[start..end])
    }

    /// Reads a text, known to be one, that is not [plain](Self::plain).
    pub(super) fn escaped(&mut self) -> Fallible<Text<'a>> {
        let start = self.index + 1;
        let end = plain_end(self.data, start);
        let mut text = self.text[start..end].to_owned();
        // Lone surrogates, each with its place.
        let mut lone = Vec::new();
        self.index = end;
        loop {
            match self.data.get(self.index) {
                Some(b'"') => {
                    self.index += 1;
                    return Ok(match lone.as_slice() {
                        [] => Text::Plain(Cow::Owned(text)),
                        lone => Text::Surrogates(Surrogates::new(&text, lone)),
                    });
                }
                Some(b'\\') => match self.escape()? {
                    Ok(character) => text.push(character),
                    Err(unit) => lone.push((text.len(), unit)),
                },
                Some(_) => return Err(self.error("expected no control character in a text")),
                None => return Err(self.error("expected the end of a text")),
            }
            let end = plain_end(self.data, self.index);
            text.push_str(&self.text[self.index..end]);
            self.index = end;
        }
    }

    /// Reads one escape; its backslash comes next. `Err` is a lone surrogate.
    fn escape(&mut self) -> Fallible<Result<char, u16>> {
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
        Ok(Ok(character))
    }

    /// Reads `\uXXXX`, or two of them that make one character. `Err` is a lone surrogate.
    fn unicode_escape(&mut self) -> Fallible<Result<char, u16>> {
        let first = self.code_unit()?;
        if let Some(character) = char::from_u32(first.into()) {
            return Ok(Ok(character));
        }
        let after = self.index;
        if matches!(first, 0xd800..0xdc00) && self.data.get(after..after + 2) == Some(b"\\u") {
            let second = self.code_unit()?;
            if let Some(Ok(character)) = char::decode_utf16([first, second]).next() {
                return Ok(Ok(character));
            }
            self.index = after;
        }
        Ok(Err(first))
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
