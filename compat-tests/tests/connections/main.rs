//! Ways to the broker and the result backend, each with a worker, a client in Rust, and Celery's client in Python: TLS,
//! logins, sockets, alternatives, Sentinels, a cluster, Valkey; and what becomes of work when a way breaks.
//!
//! `FAULTS_SOAK=100` makes the loops of faults that long.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod cluster;
mod failover;
mod failures;
mod options;
mod publishing;
mod sentinel;
mod stage;
mod tls;
mod valkey;
