//! The canvas against the golden samples of Celery's clients, and the rules of completion.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod completion;
mod desk;
mod long;
mod recorded;
mod retries;
mod same;
mod samples;
