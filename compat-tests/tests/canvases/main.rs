//! Canvases at Celery's own worker, at ours, and at both together; at random, and of one large size.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chords;
mod client;
mod ends;
mod generated;
mod large;
mod results;
mod stage;
