//! What Celery does to a task, ours does: each scenario is observed at Celery's own worker and at ours.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scenarios;
mod serializers;
mod stage;
