//! Maps by the number of a delivery.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map whose keys are numbers that count up.
pub(crate) type BySerial<T> = HashMap<u64, T, BuildHasherDefault<SerialHasher>>;

/// Hashes numbers that count up: each goes to a place of its own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SerialHasher(u64);

impl Hasher for SerialHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // The golden ratio of 64 bits, which spreads neighbours over the upper bits too.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
