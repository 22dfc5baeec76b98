//! A settlement on its way to the server.

use std::time::{Duration, Instant};

use super::Entry;
use crate::broker::redis::batch::Commands;
use crate::broker::redis::exchange::{largest, weight};
use crate::broker::refusal::{Refusal, RefusalKind};
use crate::broker::{Batch, Disposition, Listener, Owner, Settlement};

/// How often a settlement is refused before it is given up: once may be chance.
const STRIKES: u32 = 3;
/// The same for a small one at which the connection breaks, since connections break for other reasons too.
const STRIKES_OF_SMALL: u32 = 8;
/// How many bytes in one argument are no longer small.
const SMALL: usize = 64 << 10;

/// A settlement: its message goes and its commands take effect together.
#[derive(Default)]
pub(crate) struct Part {
    /// The delivery, if it was not settled before.
    pub(super) serial: Option<u64>,
    /// The message that is done with.
    pub(crate) entry: Option<Entry>,
    /// Commands that take effect together with it.
    pub(crate) commands: Commands,
    /// Whether the commands only put the message somewhere else.
    pub(crate) moves: bool,
    /// Whether the last command puts the message somewhere else and acknowledges it.
    pub(in crate::broker::redis) acknowledges_itself: bool,
    /// Where its last command puts the message, if results belong to it.
    pub(super) disposition: Option<Box<Disposition>>,
    pub(crate) answers: Option<Listener>,
    pub(super) owner: Option<Owner>,
    /// The refused settlement for which this one stands in.
    pub(crate) replaces: Option<u64>,
    pub(super) strikes: Option<Box<Strikes>>,
}

/// What a settlement has been through that was refused.
pub(super) struct Strikes {
    pub(super) since: Instant,
    pub(super) count: u32,
    /// How often it went back to waiting, since nothing that stands in for it was taken either.
    pub(super) rounds: u32,
    /// How many settlements that stood in for it were refused.
    pub(super) level: u8,
    pub(super) refusal: Refusal,
    /// Whether the server named the command; else it was told by trying it alone.
    pub(super) is_named: bool,
}

impl Part {
    /// Whether a recorded message is to be acknowledged with it.
    pub(crate) fn is_acknowledgement(&self) -> bool {
        !self.acknowledges_itself && self.entry.as_ref().is_some_and(|entry| entry.slot.is_none())
    }

    pub(crate) fn tag(&self) -> Option<&str> {
        self.entry.as_ref().map(Entry::tag)
    }

    /// About how many bytes it puts onto the server.
    pub(super) fn weight(&self) -> usize {
        weight(self.commands.iter())
    }

    /// The settlement that it was made of, to be committed in steps.
    pub(super) fn into_settlement(mut self) -> Settlement {
        if self.acknowledges_itself {
            self.commands.broker.pop();
        }
        Settlement {
            serial: self.serial,
            disposition: self.disposition.map_or(Disposition::Ack, |disposition| *disposition),
            batch: Batch::Redis(self.commands),
            answers: self.answers,
            owner: self.owner,
            replaces: self.replaces,
        }
    }

    /// Notes that it was refused once more.
    pub(super) fn strike(&mut self, refusal: Refusal, is_named: bool) -> &mut Strikes {
        let strikes = self.strikes.get_or_insert_with(|| {
            let (since, refusal) = (Instant::now(), refusal.clone());
            Box::new(Strikes { since, count: 0, rounds: 0, level: 0, refusal, is_named })
        });
        strikes.count += 1;
        strikes.refusal = refusal;
        strikes.is_named = is_named;
        strikes
    }

    /// Whether it has been refused so often that something else must become of it.
    pub(super) fn is_hopeless(&self, bulk_limit: Option<u64>) -> bool {
        let Some(strikes) = &self.strikes else { return false };
        if strikes.refusal.kind() != RefusalKind::Lasting {
            return false;
        }
        let largest = largest(self.commands.iter()).map_or(0, |(_, bytes)| bytes);
        let is_too_large = bulk_limit.is_some_and(|limit| largest as u64 > limit);
        let most = if strikes.is_named || largest > SMALL { STRIKES } else { STRIKES_OF_SMALL };
        strikes.count >= most || is_too_large && !strikes.is_named
    }

    /// How long it waits before it is tried again.
    pub(super) fn pause(&self) -> Duration {
        let Some(strikes) = &self.strikes else { return Duration::ZERO };
        let pause = match strikes.refusal.kind() {
            RefusalKind::Lasting if strikes.rounds == 0 => 250 * strikes.count.min(8),
            _ => 250 << (strikes.count + strikes.rounds).min(4),
        };
        Duration::from_millis(pause.into())
    }
}
