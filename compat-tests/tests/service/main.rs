//! The service as built, with real Python Celery, Redis and PostgreSQL around it.

mod bad_input;
mod incidents;
mod outage;
mod runbook;
mod smoke;
mod stack;
mod story;
mod supervision;
