//! The periodic scheduler: schedules, the loop that sends what is due, stores that remember the last runs, and the lock
//! by which only one of several beats sends.
//!
//! A tick goes through these rooms: the [`ScheduleStore`] says which entries may be due, their [`schedule`] decides, the
//! store records the run, the [`Publish`]er sends it, the store strikes it off. Whatever is killed in between, a run that
//! was due is sent; it is sent twice only if beat dies between the broker's answer and the stroke, and then with the
//! same task id.
#![deny(missing_docs)]

mod client;
mod entry;
mod publish;
pub mod schedule;
mod scheduler;
mod service;
mod store;

pub use entry::{Entry, EntryError, Run};
pub use publish::{BEAT_HEADER, Publish, PublishError};
pub use scheduler::{DEFAULT_MAX_INTERVAL, Scheduler};
pub use service::run;
pub use store::{FileStore, Look, Recorded, RedisOptions, RedisStore, ScheduleStore, Standing, StoreError};
