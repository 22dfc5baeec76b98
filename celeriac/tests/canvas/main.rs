//! The canvas against the golden samples of Celery's clients, and the rules of completion.

mod completion;
mod desk;
mod recorded;
mod retries;
mod same;
mod samples;
