//! Celery's tools and other programs that nobody here wrote, at the control of a Rust worker.

mod answers;
mod client;
mod effects;
mod events;
mod fleet;
mod stage;
