//! The periodic scheduler: schedules, the loop that sends what is due, stores that remember the last runs, and the lock
//! by which only one of several beats sends.
#![deny(missing_docs)]

pub mod schedule;
