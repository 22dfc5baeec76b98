//! The in-flight lists of one worker, used in turn.

use bytes::Bytes;

/// How many in-flight lists a worker has.
pub(crate) const SLOTS: usize = 16;

/// Which lists hold messages that are neither settled nor recorded.
pub(crate) struct Slots {
    slots: [Slot; SLOTS],
}

#[derive(Default)]
struct Slot {
    /// Whether messages were moved into it since it was last deleted.
    used: bool,
    /// Whether its deletion is under way.
    closing: bool,
    unsettled: usize,
    settled: Vec<Bytes>,
}

impl Default for Slots {
    fn default() -> Self {
        Self { slots: std::array::from_fn(|_| Slot::default()) }
    }
}

impl Slots {
    /// A list that may take messages: an unused one.
    pub(crate) fn open(&mut self) -> Option<usize> {
        let slot = self.slots.iter().position(|slot| !slot.used && !slot.closing)?;
        self.slots[slot].used = true;
        Some(slot)
    }

    /// Whether few unused lists are left.
    pub(crate) fn is_scarce(&self) -> bool {
        self.slots.iter().filter(|slot| !slot.used && !slot.closing).count() < SLOTS / 4
    }

    /// Notes a message in a list.
    pub(crate) fn add(&mut self, slot: usize) {
        self.slots[slot].used = true;
        self.slots[slot].unsettled += 1;
    }

    /// Notes that a message of a list is settled or recorded.
    pub(crate) fn settle(&mut self, slot: usize, raw: Bytes) {
        let slot = &mut self.slots[slot];
        slot.unsettled = slot.unsettled.saturating_sub(1);
        slot.settled.push(raw);
    }

    /// Whether that message was settled while it stood in that list.
    pub(crate) fn is_settled(&self, slot: usize, raw: &[u8]) -> bool {
        self.slots[slot].settled.iter().any(|settled| settled[..] == *raw)
    }

    /// The lists that can be deleted: everything in them is settled or recorded.
    pub(crate) fn take_finished(&mut self) -> Vec<usize> {
        let mut finished = Vec::new();
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if slot.used && !slot.closing && slot.unsettled == 0 {
                slot.closing = true;
                finished.push(number);
            }
        }
        finished
    }

    /// Notes that lists are deleted.
    pub(crate) fn free(&mut self, numbers: &[usize]) {
        for number in numbers {
            self.slots[*number] = Slot::default();
        }
    }
}
