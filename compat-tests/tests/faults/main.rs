//! Nothing is lost whatever is killed: faults against real servers, with a record of every run.
//!
//! `FAULTS_SOAK=10` repeats the loops of faults ten times as often; `FAULTS_SOAK_TASKS` is the size of the soak;
//! `FAULTS_MATRIX=1` injects every error of Redis at every command.
//! docs/FAULTS.md has the table that `scripts/faults-table` makes of the outcomes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bindings;
mod clients;
mod clocks;
mod commits;
mod databases;
mod dead_letters;
mod errbacks;
mod etas;
mod failpoints;
mod full;
mod idle;
mod kills;
mod leftovers;
mod look;
mod many_queues;
mod matrix;
mod mix;
mod mixed;
mod outages;
mod priorities;
mod refusals;
mod releases;
mod rights;
mod rollback;
mod shutdown;
mod soak;
mod stage;
mod stock;
mod table;
mod visibility;
