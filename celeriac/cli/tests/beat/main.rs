//! `celeriac beat`: as a program, beside Python's RedBeat, and under faults.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod django;
mod faults;
mod program;
mod redbeat;
mod remote;
mod sentinel;
mod stage;
