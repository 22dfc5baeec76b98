//! Numbers.

use super::super::Value;
use super::{Fallible, Reader};

/// Python refuses longer integers too (`sys.int_info.default_max_str_digits`).
const MAX_INTEGER_DIGITS: usize = 4300;

impl Reader<'_> {
    /// Reads a number, known to be one.
    pub(super) fn number(&mut self) -> Fallible<Value> {
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
}
