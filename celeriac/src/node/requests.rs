//! The requests that a worker holds.

use std::ops::Deref;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::message::{EncodedBody, Headers, Properties};
use crate::serials::BySerial;

/// Requests by the number of their delivery, and how much waits among them.
#[derive(Default)]
pub(crate) struct Requests {
    known: BySerial<Known>,
    reserved_bytes: usize,
}

/// A request that the worker holds.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Its message's headers.
    pub(crate) headers: Arc<Headers>,
    /// Its message's properties.
    pub(crate) properties: Arc<Properties>,
    /// Its message's body, still encoded.
    pub(crate) body: Arc<EncodedBody>,
    /// Its stage.
    pub(crate) stage: Stage,
    /// True once its message is acknowledged.
    pub(crate) acknowledged: bool,
    /// Ends the run of this request.
    pub(crate) terminate: tokio_util::sync::CancellationToken,
    /// The signal with which it was terminated.
    pub(crate) signum: Option<i32>,
}

/// The stage of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stage {
    /// Waits for its eta.
    Scheduled(DateTime<Utc>),
    /// Waits for a slot or for its rate limit.
    Reserved,
    /// Runs since.
    Active(DateTime<Utc>),
}

impl Requests {
    /// The bytes of the bodies of those that could run and wait for a slot or their rate limit.
    pub(crate) fn reserved_bytes(&self) -> usize {
        self.reserved_bytes
    }

    /// Adds a request.
    pub(crate) fn insert(&mut self, serial: u64, known: Known) {
        self.reserved_bytes += known.reserved_bytes();
        if let Some(before) = self.known.insert(serial, known) {
            self.reserved_bytes -= before.reserved_bytes();
        }
    }

    /// Changes a request, if it is still held.
    pub(crate) fn update(&mut self, serial: u64, change: impl FnOnce(&mut Known)) {
        if let Some(known) = self.known.get_mut(&serial) {
            self.reserved_bytes -= known.reserved_bytes();
            change(known);
            self.reserved_bytes += known.reserved_bytes();
        }
    }

    /// Removes a request that is done with.
    pub(crate) fn remove(&mut self, serial: u64) {
        if let Some(known) = self.known.remove(&serial) {
            self.reserved_bytes -= known.reserved_bytes();
        }
    }
}

impl Deref for Requests {
    type Target = BySerial<Known>;

    fn deref(&self) -> &Self::Target {
        &self.known
    }
}

impl Known {
    fn reserved_bytes(&self) -> usize {
        if self.stage == Stage::Reserved { self.body.len() } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, Parts};

    fn known(bytes: usize) -> Known {
        let message = Message { body: vec![0; bytes].into(), ..Message::default() };
        let Parts { headers, properties, body } = message.into();
        let (stage, terminate) = (Stage::Reserved, tokio_util::sync::CancellationToken::new());
        Known { headers, properties, body, stage, acknowledged: false, terminate, signum: None }
    }

    #[test]
    fn bytes_are_counted_while_a_request_could_run_and_does_not() {
        let mut requests = Requests::default();
        (0..3).for_each(|serial| requests.insert(serial, known(100)));
        assert_eq!(requests.reserved_bytes(), 300);
        requests.update(0, |known| known.stage = Stage::Scheduled(Utc::now()));
        requests.update(1, |known| known.stage = Stage::Active(Utc::now()));
        assert_eq!(requests.reserved_bytes(), 100);
        requests.update(0, |known| known.stage = Stage::Reserved);
        requests.remove(1);
        requests.remove(9);
        assert_eq!((requests.reserved_bytes(), requests.len()), (200, 2));
        (0..3).for_each(|serial| requests.remove(serial));
        assert_eq!((requests.reserved_bytes(), requests.len()), (0, 0));
    }
}
