//! The database's clock, by which claims and leases are counted, however wrong the clocks of the hosts are.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use super::{Pool, Store, StoreError, postgres::Link};

/// How long a reading is carried on by this host's steady clock before the database is asked again.
const FRESH: Duration = Duration::from_secs(10);
/// A difference worth a warning.
const NOTABLE: TimeDelta = TimeDelta::seconds(2);

const NOW: &str = "SELECT clock_timestamp()";

/// The last reading of the database's clock.
#[derive(Debug, Default)]
pub(super) struct Clock(Mutex<Option<Reading>>);

#[derive(Debug, Clone, Copy)]
struct Reading {
    taken: Instant,
    time: DateTime<Utc>,
    skew: TimeDelta,
}

impl Store {
    /// Returns the time now by the database's clock, to the microsecond.
    ///
    /// # Errors
    /// [`StoreError`] when the clock must be read and the database is not available.
    pub async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        match &self.pool {
            Pool::Postgres(link) => Ok(link.now().await?),
            // The database is a file, whose clock is that of this host.
            Pool::Sqlite(_) => Ok(Utc::now().trunc_subsecs(6)),
        }
    }

    /// Returns how far the database's clock was ahead of this host's when it was last read; `None` before that.
    pub fn clock_skew(&self) -> Option<TimeDelta> {
        match &self.pool {
            Pool::Postgres(link) => link.clock.last().map(|reading| reading.skew),
            Pool::Sqlite(_) => Some(TimeDelta::zero()),
        }
    }
}

impl Link {
    async fn now(&self) -> Result<DateTime<Utc>, sqlx::Error> {
        if let Some(reading) = self.clock.last().filter(|reading| reading.taken.elapsed() < FRESH) {
            return Ok((reading.time + reading.taken.elapsed()).trunc_subsecs(6));
        }
        // A connection that has to be made first is no part of the time that the answer takes.
        let mut connection = self.hold().await?;
        let asked = Instant::now();
        let time: DateTime<Utc> = sqlx::query_scalar(NOW).fetch_one(&mut connection).await?;
        // The clock was read somewhere between question and answer.
        let time = time + asked.elapsed() / 2;
        self.clock.note(Reading { taken: Instant::now(), time, skew: time - Utc::now() });
        Ok(time.trunc_subsecs(6))
    }
}

impl Clock {
    fn last(&self) -> Option<Reading> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, reading: Reading) {
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(reading);
        let is_notable = |skew: TimeDelta| skew.abs() >= NOTABLE;
        let was_notable = before.is_some_and(|before| is_notable(before.skew));
        if is_notable(reading.skew) && !was_notable {
            let skew_ms = reading.skew.num_milliseconds();
            log::warn!(skew_ms; "The clock of this host and that of the database differ by {skew_ms} ms; claims and leases go by the database's\nhint: have both hosts keep the time (NTP)");
        }
    }
}
