//! Escapes of lone surrogates in double-quoted text, `"caf\uDCE9.txt"`: PyYAML writes and reads them, a parser whose text is
//! UTF-8 has no character for them.
//!
//! Only the parser knows which text is double-quoted. So it is given a character that stands for the `\u` of each, and that
//! occurs nowhere else; behind it the four digits stay as they are.

use std::borrow::Cow;

use super::super::Value;
use super::super::surrogates::Surrogates;

/// Characters that may stand for `\u`: nobody has given them a meaning.
const MARKS: [char; 4] = ['\u{10fffd}', '\u{10fffc}', '\u{ffffd}', '\u{ffffc}'];
/// Digits of an escape.
const DIGITS: usize = 4;

/// Replaces the `\u` of escapes that may be lone surrogates; returns what stands for it, if there are any.
///
/// Text in which all marks occur stays as it is, and the parser refuses it.
pub(super) fn hide(text: &str) -> (Cow<'_, str>, Option<char>) {
    let mut places = escapes(text).peekable();
    if places.peek().is_none() {
        return (Cow::Borrowed(text), None);
    }
    let Some(mark) = MARKS.into_iter().find(|mark| !text.contains(*mark)) else {
        return (Cow::Borrowed(text), None);
    };
    let (mut hidden, mut done) = (String::with_capacity(text.len() + 16), 0);
    for at in places {
        hidden.push_str(&text[done..at]);
        hidden.push(mark);
        done = at + 2;
    }
    hidden.push_str(&text[done..]);
    (Cow::Owned(hidden), Some(mark))
}

/// Where escapes of surrogates begin, whatever the text is in which they stand.
fn escapes(text: &str) -> impl Iterator<Item = usize> {
    text.match_indices("\\u").map(|(at, _)| at).filter(|at| {
        let before = text.as_bytes()[..*at].iter().rev().take_while(|byte| **byte == b'\\').count();
        before % 2 == 0 && surrogate(&text[at + 2..]).is_some()
    })
}

/// The surrogate whose digits the text begins with.
fn surrogate(text: &str) -> Option<u16> {
    let digits = text.get(..DIGITS).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok().filter(|unit| (0xd800..0xe000).contains(unit))
}

/// Text that is not double-quoted, as it was.
pub(super) fn literal(text: &str, mark: char) -> String {
    text.replace(mark, "\\u")
}

/// Double-quoted text, the two halves of a pair joined.
pub(super) fn quoted(text: &str, mark: char) -> Value {
    let (mut out, mut lone) = (String::with_capacity(text.len()), Vec::<(usize, u16)>::new());
    let mut pieces = text.split(mark);
    out.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let Some(unit) = surrogate(piece) else { continue };
        let pair = lone.last().filter(|(at, _)| *at == out.len()).map(|(_, high)| [*high, unit]);
        match pair.and_then(|pair| char::decode_utf16(pair).next()?.ok()) {
            Some(character) => {
                lone.pop();
                out.push(character);
            }
            None => lone.push((out.len(), unit)),
        }
        out.push_str(&piece[DIGITS..]);
    }
    if lone.is_empty() { Value::Str(out) } else { Value::Surrogates(Surrogates::new(&out, &lone)) }
}
