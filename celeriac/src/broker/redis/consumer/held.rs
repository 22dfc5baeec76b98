//! The messages that this worker holds: fetched and not settled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::broker::redis::Keys;
use crate::message::{DeliveryInfo, Properties, envelope, json};
use crate::serials::BySerial;

/// How long a message may stay in an in-flight list before it is recorded as unacknowledged.
const RECORD_AFTER: Duration = Duration::from_millis(10);

/// One held message.
pub(crate) struct Entry {
    properties: Arc<Properties>,
    pub(super) raw: Bytes,
    pub(super) queue: Arc<str>,
    /// The in-flight list that holds it, until it is recorded.
    pub(crate) slot: Option<usize>,
    fetched: Instant,
}

impl Entry {
    /// A message that came to this worker; one without properties could not be read.
    pub(super) fn new(
        raw: Bytes,
        properties: Option<Arc<Properties>>,
        queue: Arc<str>,
        slot: Option<usize>,
        fetched: Instant,
    ) -> Self {
        let properties = properties.unwrap_or_else(|| {
            Arc::new(Properties {
                delivery_tag: uuid::Uuid::new_v4().to_string(),
                delivery_info: DeliveryInfo { routing_key: queue.to_string(), ..DeliveryInfo::default() },
                ..Properties::default()
            })
        });
        Self { properties, raw, queue, slot, fetched }
    }

    pub(crate) fn tag(&self) -> &str {
        &self.properties.delivery_tag
    }

    /// The list that the message goes back to.
    pub(super) fn home(&self, keys: &Keys) -> String {
        let DeliveryInfo { exchange, routing_key, .. } = &self.properties.delivery_info;
        let queue = if exchange.is_empty() { routing_key } else { &*self.queue };
        keys.queue(queue, self.properties.priority.unwrap_or(0))
    }

    /// The id of its task, as far as it can be read.
    pub(super) fn task_id(&self) -> String {
        let id = envelope::decode(&self.raw).ok().and_then(|message| message.headers.id);
        id.unwrap_or_else(|| self.properties.correlation_id.clone().unwrap_or_default())
    }

    /// The message, marked as one that was delivered before.
    pub(super) fn redelivered(&self) -> Vec<u8> {
        envelope::mark_redelivered(&self.raw).unwrap_or_else(|_| self.raw.to_vec())
    }

    /// The value in the hash of unacknowledged messages: `[envelope, exchange, routing_key]`.
    pub(crate) fn unacked_value(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(self.raw.len() + 64);
        value.push(b'[');
        value.extend_from_slice(&self.raw);
        value.extend_from_slice(b", ");
        json::write_str(&self.properties.delivery_info.exchange, &mut value);
        value.extend_from_slice(b", ");
        json::write_str(&self.properties.delivery_info.routing_key, &mut value);
        value.push(b']');
        value
    }
}

/// All held messages, by the number of their delivery.
#[derive(Default)]
pub(super) struct Held {
    entries: BySerial<Entry>,
    /// Those in in-flight lists, in the order in which they came; some of them are settled.
    unrecorded: VecDeque<u64>,
    next_serial: u64,
}

impl Held {
    /// A number for the next delivery.
    pub(super) fn next_serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial - 1
    }

    pub(super) fn insert(&mut self, serial: u64, entry: Entry) {
        if entry.slot.is_some() {
            self.unrecorded.push_back(serial);
        }
        self.entries.insert(serial, entry);
    }

    pub(super) fn get(&self, serial: u64) -> Option<&Entry> {
        self.entries.get(&serial)
    }

    pub(super) fn remove(&mut self, serial: u64) -> Option<Entry> {
        self.entries.remove(&serial)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is in that in-flight list.
    pub(super) fn in_slot(&self, slot: usize) -> Vec<Bytes> {
        let entries = self.entries.values().filter(|entry| entry.slot == Some(slot));
        entries.map(|entry| entry.raw.clone()).collect()
    }

    /// Lets a message be recorded soon, since it will stay for long.
    pub(super) fn stays(&mut self, serial: u64) {
        if let Some(entry) = self.entries.get_mut(&serial) {
            entry.fetched = entry.fetched.checked_sub(RECORD_AFTER).unwrap_or(entry.fetched);
        }
    }

    /// When the next message is to be recorded.
    pub(super) fn record_at(&self) -> Option<Instant> {
        let oldest = self.unrecorded.front().and_then(|serial| self.entries.get(serial))?;
        Some(oldest.fetched + RECORD_AFTER)
    }

    /// The next message that has been in flight for long, or for any time if `hurry`.
    pub(super) fn next_to_record(&mut self, now: Instant, hurry: bool) -> Option<&mut Entry> {
        loop {
            let serial = *self.unrecorded.front()?;
            match self.entries.get(&serial) {
                Some(entry) if entry.slot.is_some() => {
                    if !hurry && now.saturating_duration_since(entry.fetched) < RECORD_AFTER {
                        return None;
                    }
                    self.unrecorded.pop_front();
                    return self.entries.get_mut(&serial);
                }
                _ => {
                    self.unrecorded.pop_front();
                }
            }
        }
    }

    /// The numbers of the recorded messages.
    pub(super) fn recorded_serials(&self) -> impl Iterator<Item = u64> {
        self.entries.iter().filter(|(_, entry)| entry.slot.is_none()).map(|(serial, _)| *serial)
    }

    /// The recorded messages.
    pub(super) fn recorded(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|entry| entry.slot.is_none())
    }
}
