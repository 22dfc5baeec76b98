//! Events that wait to be published.

use std::collections::VecDeque;

use super::software::utc_offset;
use super::writer::Writer;
use crate::message::{Value, json};

/// Most events in one message (`buffer_limit` of `celery/events/dispatcher.py`).
const BATCH: usize = 24;
/// Most events that wait; the oldest give way.
const LIMIT: usize = 100_000;

/// The body of one message.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) routing_key: String,
    /// JSON: one event, or a list of them.
    pub(super) body: Vec<u8>,
    events: usize,
    /// Whether it is a list that still takes events.
    open: bool,
}

/// Bounded, in the order of their clocks.
pub(super) struct Buffer {
    parcels: VecDeque<Parcel>,
    events: usize,
    dropped: u64,
    sender: String,
    prefix: Vec<u8>,
}

impl Buffer {
    /// A buffer for the events of that node.
    pub(super) fn new(hostname: &str) -> Self {
        let mut buffer = Self {
            parcels: VecDeque::new(),
            events: 0,
            dropped: 0,
            sender: hostname.to_owned(),
            prefix: Vec::new(),
        };
        buffer.refresh();
        buffer
    }

    /// Takes note of the offset to UTC, which a change to summer time moves.
    pub(super) fn refresh(&mut self) {
        self.prefix.clear();
        self.prefix.extend_from_slice(b"{\"hostname\": ");
        json::write_str(&self.sender, &mut self.prefix);
        self.prefix.extend_from_slice(b", \"utcoffset\": ");
        json::write(&Value::Float(utc_offset()), &mut self.prefix);
        self.prefix.extend_from_slice(format!(", \"pid\": {}, \"clock\": ", std::process::id()).as_bytes());
    }

    /// Adds an event to the batch of its group; returns whether nothing waited before.
    pub(super) fn add_to_batch(
        &mut self,
        kind: &str,
        clock: u64,
        fields: impl FnOnce(&mut Writer<'_>),
    ) -> bool {
        let was_empty = self.parcels.is_empty();
        let group = group_of(kind);
        let fits = |parcel: &Parcel| parcel.open && parcel.events < BATCH && group_of_batch(parcel) == group;
        if !self.parcels.back().is_some_and(fits) {
            let (routing_key, body) = (format!("{group}.multi"), Vec::with_capacity(BATCH * 320));
            self.parcels.push_back(Parcel { routing_key, body, events: 0, open: true });
        }
        if let Some(parcel) = self.parcels.back_mut() {
            parcel.body.extend_from_slice(if parcel.events == 0 { b"[" } else { b", " });
            let mut writer = Writer::begin(&self.prefix, clock, &mut parcel.body);
            fields(&mut writer);
            writer.end(kind);
            parcel.events += 1;
            self.events += 1;
        }
        self.drop_oldest();
        was_empty
    }

    /// Adds an event that is published alone; returns whether nothing waited before.
    pub(super) fn add_alone(&mut self, kind: &str, clock: u64, fields: impl FnOnce(&mut Writer<'_>)) -> bool {
        let was_empty = self.parcels.is_empty();
        let body = self.write(kind, clock, fields);
        self.parcels.push_back(Parcel { routing_key: kind.replace('-', "."), body, events: 1, open: false });
        self.events += 1;
        self.drop_oldest();
        was_empty
    }

    /// One event as JSON.
    pub(super) fn write(&self, kind: &str, clock: u64, fields: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut body = Vec::with_capacity(512);
        let mut writer = Writer::begin(&self.prefix, clock, &mut body);
        fields(&mut writer);
        writer.end(kind);
        body
    }

    /// Takes up to that many messages, oldest first.
    pub(super) fn take(&mut self, parcels: usize) -> Vec<Parcel> {
        let count = parcels.min(self.parcels.len());
        let mut taken: Vec<Parcel> = self.parcels.drain(..count).collect();
        for parcel in &mut taken {
            self.events -= parcel.events;
            if std::mem::take(&mut parcel.open) {
                parcel.body.push(b']');
            }
        }
        taken
    }

    /// How many events wait.
    pub(super) fn len(&self) -> usize {
        self.events
    }

    /// How many events had to give way since this was asked last.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn drop_oldest(&mut self) {
        while self.events > LIMIT {
            let Some(parcel) = self.parcels.pop_front() else { return };
            self.events -= parcel.events;
            self.dropped += parcel.events as u64;
        }
    }
}

/// The part of a type before the first dash.
pub(super) fn group_of(kind: &str) -> &str {
    kind.split_once('-').map_or(kind, |(group, _)| group)
}

fn group_of_batch(parcel: &Parcel) -> &str {
    parcel.routing_key.strip_suffix(".multi").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_at_most_24_events_and_keep_their_order() {
        let mut buffer = Buffer::new("w1@host");
        for clock in 1..=30 {
            let first = buffer.add_to_batch("task-started", clock, |event| {
                event.text("uuid", "a");
            });
            assert_eq!(first, clock == 1);
        }
        buffer.add_alone("worker-heartbeat", 31, |_| {});
        buffer.add_to_batch("task-started", 32, |_| {});
        let parcels = buffer.take(10);
        let shapes: Vec<_> =
            parcels.iter().map(|parcel| (parcel.routing_key.as_str(), parcel.events)).collect();
        assert_eq!(
            shapes,
            [("task.multi", 24), ("task.multi", 6), ("worker.heartbeat", 1), ("task.multi", 1)]
        );
        let clocks: Vec<i64> = parcels
            .iter()
            .flat_map(|parcel| match json::loads(&parcel.body).unwrap() {
                Value::List(events) => events,
                event => vec![event],
            })
            .map(|event| event.get("clock").unwrap().as_i64().unwrap())
            .collect();
        assert_eq!(clocks, (1..=32).collect::<Vec<_>>());
        assert_eq!(buffer.len(), 0);
    }

    #[test]
    fn the_oldest_events_give_way_and_are_counted() {
        let mut buffer = Buffer::new("w1@host");
        for clock in 0..LIMIT as u64 + 1 {
            buffer.add_to_batch("task-started", clock, |_| {});
        }
        assert_eq!(buffer.take_dropped(), BATCH as u64);
        assert_eq!(buffer.len(), LIMIT + 1 - BATCH);
        assert!(buffer.take(1)[0].body.windows(12).any(|text| text == b"\"clock\": 24,"));
    }
}
