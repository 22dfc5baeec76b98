//! The sizes of the messages to come, as far as those that came let expect.

/// The size of a message before any has come, in bytes: the first round trip asks for few.
const UNKNOWN: usize = 256 << 10;

/// The size that the next message of a list is expected to have: about that of the largest of the last ones.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size(Option<usize>);

impl Size {
    /// The size in bytes, where none has come that of another list.
    pub(super) fn expected(self, other: Size) -> usize {
        self.0.or(other.0).unwrap_or(UNKNOWN)
    }

    /// Notes the size of a message that has come.
    pub(super) fn note(&mut self, size: usize) {
        let before = self.0.unwrap_or(size);
        self.0 = Some(size.max(before - before.saturating_sub(size).div_ceil(8)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_message_is_remembered_for_a_while() {
        let mut size = Size::default();
        assert_eq!(size.expected(Size::default()), UNKNOWN);
        assert_eq!(size.expected(Size(Some(7))), 7);
        size.note(100_000);
        size.note(1_000);
        assert!((80_000..90_000).contains(&size.expected(Size::default())));
        (0..100).for_each(|_| size.note(1_000));
        assert_eq!(size.expected(Size::default()), 1_000);
        size.note(100_000);
        assert_eq!(size.expected(Size::default()), 100_000);
    }
}
