//! Reasons for which a worker cannot start, or cannot go on.

/// A worker that cannot start as it was built, or that has lost a part of itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// A task asks for state that the worker does not have.
    #[error(
        "cannot start the worker: task {task} asks for State<{state}>, which the worker does not have\nhint: add it with Worker::state"
    )]
    MissingState {
        /// Name of the task.
        task: String,
        /// Type of the state.
        state: &'static str,
    },
    /// A queue to consume from is not declared.
    #[error(
        "cannot start the worker: queue {queue:?} is not defined in task_queues\nhint: declare it there, or set task_create_missing_queues"
    )]
    UndefinedQueue {
        /// Name of the queue.
        queue: String,
    },
    /// The rate limit of a task cannot be read.
    #[error("cannot start the worker: task {task}: {reason}")]
    BadRateLimit {
        /// Name of the task.
        task: String,
        /// The fault of the limit.
        reason: String,
    },
    /// The address for probes cannot be used.
    #[error(
        "cannot start the worker: probes cannot be answered at {address:?}: {reason}\nhint: celeriac_probe_address is HOST:PORT, such as 0.0.0.0:8080, and each worker of a machine needs its own"
    )]
    Probes {
        /// The address.
        address: String,
        /// The words of the system.
        reason: String,
    },
    /// The file of `worker_state_db` cannot be used.
    #[error("cannot start the worker: {reason}")]
    StateDb {
        /// Which file, and what is wrong with it.
        reason: String,
    },
    /// The metrics cannot be made.
    #[error("cannot start the worker: its metrics cannot be registered: {reason}")]
    Metrics {
        /// Which metric, and why.
        reason: String,
    },
    /// The system gives no thread.
    #[error("cannot start the worker: it gets no thread: {reason}")]
    NoThread {
        /// The words of the system.
        reason: String,
    },
    /// The runtime has ended, and the worker with it.
    #[error("the worker ended with its runtime: {reason}")]
    Runtime {
        /// The way in which it ended.
        reason: String,
    },
    /// A child process lost the connection to its worker.
    #[error("a child process lost its worker: {reason}")]
    LostWorker {
        /// The words of the system.
        reason: String,
    },
    /// A worker for tests has an application that is not in memory.
    #[cfg(feature = "testing")]
    #[error(
        "a test worker needs a broker in memory whose clock can be paused\nhint: make the application with celeriac::testing::app, or from celeriac::testing::config"
    )]
    NotInMemory,
    /// A worker for tests has ended before its work was done.
    #[cfg(feature = "testing")]
    #[error("the test worker has ended{reason}")]
    TestWorkerEnded {
        /// The way in which it ended, if that is known.
        reason: String,
    },
    /// The consumer has ended, so that no delivery can be settled any more.
    #[error("the worker's consumer has ended{reason}")]
    ConsumerEnded {
        /// The way in which it ended, if that is known.
        reason: String,
    },
}
