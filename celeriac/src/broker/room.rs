//! The room that a worker has for more messages.

/// Room for so many messages, and for about so many bytes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    messages: usize,
    bytes: usize,
}

impl Room {
    /// Room for so many messages that have so many bytes together.
    pub(crate) fn new(messages: usize, bytes: usize) -> Self {
        Self { messages, bytes }
    }

    /// Returns whether there is room for none.
    pub(crate) fn is_empty(self) -> bool {
        self.messages == 0 || self.bytes == 0
    }

    /// Returns the number of messages of that size for which there is room: at least one while there is any room.
    pub(crate) fn count(self, size: usize) -> usize {
        if self.is_empty() { 0 } else { self.messages.min((self.bytes / size.max(1)).max(1)) }
    }

    /// The lesser of both, of messages and of bytes.
    pub(crate) fn at_most(self, other: Self) -> Self {
        Self { messages: self.messages.min(other.messages), bytes: self.bytes.min(other.bytes) }
    }

    /// Returns the rest when so much of it is taken.
    pub(crate) fn without(self, taken: Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(taken.messages),
            bytes: self.bytes.saturating_sub(taken.bytes),
        }
    }

    /// The half of it, rounded up.
    pub(crate) fn half(self) -> Self {
        Self { messages: self.messages.div_ceil(2), bytes: self.bytes.div_ceil(2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_larger_than_the_room_has_a_place_while_there_is_any() {
        assert_eq!(Room::new(9, 100).count(30), 3);
        assert_eq!(Room::new(2, 100).count(30), 2);
        assert_eq!(Room::new(9, 100).count(1000), 1);
        assert_eq!(Room::new(9, 100).without(Room::new(1, 1000)).count(1), 0);
        assert_eq!(Room::new(0, 100).count(1), 0);
    }
}
