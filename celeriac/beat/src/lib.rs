//! The periodic scheduler: schedules, the loop that sends what is due, stores that remember the last runs, and the lock
//! by which only one of several beats sends.
//!
//! A tick goes through these rooms: the [`ScheduleStore`] says which entries may be due, their [`schedule`] and policy
//! decide, the store records the run. A store beside the broker's queues sends the run in the same transaction, which is only
//! carried out while this beat holds the lock: whatever is killed or paused, a run is sent once. Elsewhere the
//! [`Publish`]er sends it then, and the store strikes it off; the broker knows by its id a run that it was sent before.
#![deny(missing_docs)]

mod client;
mod configured;
mod entry;
mod health;
mod instant;
#[cfg(feature = "cli")]
mod program;
mod publish;
pub mod schedule;
mod scheduler;
mod service;
mod store;

pub use configured::Configured;
pub use entry::{
    Calendar, CalendarError, Entry, EntryError, EntryErrors, History, Missed, MissedRuns, Outcome, Overlap,
    Past, Plan, Policy, Run, Verdict,
};
pub use health::Health;
#[cfg(feature = "cli")]
pub use program::{Beat, BeatCommand, BeatError, BeatOptions, Source, run_worker};
pub use publish::{BEAT_HEADER, Publish, PublishError};
pub use scheduler::{DEFAULT_MAX_INTERVAL, Scheduler};
pub use service::{run, run_with};
#[cfg(feature = "database")]
pub use store::DatabaseStore;
pub use store::{
    Change, FileStore, Found, Listed, Look, RedisOptions, RedisStore, ScheduleStore, Settled, Standing,
    StoreError,
};
