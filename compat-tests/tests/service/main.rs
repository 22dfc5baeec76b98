//! The service as built, with real Python Celery, Redis and PostgreSQL around it.

mod bad_input;
mod http_load;
mod incidents;
mod load;
mod outage;
mod repeated;
mod runbook;
mod smoke;
mod stack;
mod story;
mod supervision;
