//! Integers of any size, digit by digit.

/// Python refuses to show longer integers (`sys.int_info.default_max_str_digits`).
const MAX_DIGITS: usize = 4300;
const BASE: u64 = 1_000_000_000;

/// A number that is made by appending digits.
#[derive(Default)]
pub(super) struct Big {
    /// Digits to the base of 10^9, the lowest first.
    limbs: Vec<u64>,
}

impl Big {
    /// Appends a digit of that radix; `None` when the number becomes longer than Python shows.
    pub(super) fn push(&mut self, radix: u32, digit: u32) -> Option<()> {
        let mut carry = u64::from(digit);
        for limb in &mut self.limbs {
            let sum = *limb * u64::from(radix) + carry;
            (*limb, carry) = (sum % BASE, sum / BASE);
        }
        if carry > 0 {
            self.limbs.push(carry);
        }
        (self.limbs.len() <= MAX_DIGITS / 9 + 1).then_some(())
    }

    /// The decimal digits.
    pub(super) fn decimal(&self) -> Option<String> {
        let Some((first, rest)) = self.limbs.split_last() else { return Some("0".to_owned()) };
        let mut digits = first.to_string();
        rest.iter().rev().for_each(|limb| digits.push_str(&format!("{limb:09}")));
        (digits.len() <= MAX_DIGITS).then_some(digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_they_should() {
        let number = |text: &str, radix: u32| {
            let mut number = Big::default();
            for digit in text.chars() {
                number.push(radix, digit.to_digit(radix)?)?;
            }
            number.decimal()
        };
        assert_eq!(number("ffffffffffffffffffffffffffffffff", 16).unwrap(), u128::MAX.to_string());
        assert_eq!(number("1000000000", 10).unwrap(), "1000000000");
        assert_eq!(number("000", 8).unwrap(), "0");
        assert_eq!(number(&"9".repeat(4300), 10).unwrap(), "9".repeat(4300));
        assert_eq!(number(&"9".repeat(4301), 10), None);
    }
}
