//! What Celery does to a task, ours does: each scenario is observed at Celery's own worker and at ours.

mod scenarios;
mod stage;
