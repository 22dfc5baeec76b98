//! Celery's tools and other programs that nobody here wrote, at the control of a Rust worker.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod browser;
mod client;
mod commands;
mod doctor;
mod effects;
mod events;
mod exporters;
mod fleet;
mod flower;
mod hidden;
mod probes;
mod program;
mod revocations;
mod stage;
mod start;
mod surrogates;
