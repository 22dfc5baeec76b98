//! Nothing is lost whatever is killed: faults against real servers, with a record of every run.
//!
//! `FAULTS_SOAK=10` repeats the loops of faults ten times as often.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clients;
mod dead_letters;
mod etas;
mod full;
mod idle;
mod kills;
mod outages;
mod priorities;
mod shutdown;
mod stage;
mod stock;
mod visibility;
