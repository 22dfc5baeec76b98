//! The worker with real Python Celery as its client, against what Celery's own worker was seen to do.

mod beat_runs;
mod calls;
mod dropped;
mod errbacks;
mod poison;
mod results;
mod shutdown;
mod stage;
mod timing;
