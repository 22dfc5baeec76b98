//! The tasks of Celery's own integration suite (`t/integration/tasks.py` of celery 5.7), under their names there.

mod canvas;
mod commands;
mod echo;
mod failures;
mod numbers;
mod python;
mod replacing;
mod request;
mod retries;

use celeriac::Worker;

pub use echo::Echo;

/// The worker with all tasks and control commands of the suite.
pub fn with_suite(worker: Worker) -> Worker {
    let worker = worker.commands(commands::commands());
    [
        numbers::register,
        echo::register,
        failures::register,
        retries::register,
        request::register,
        replacing::register,
        canvas::register,
    ]
    .into_iter()
    .fold(worker, |worker, register| register(worker))
}
