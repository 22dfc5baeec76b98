//! Tests of tasks and of the code that sends them, without any server.
//!
//! [`config`] and [`app`] give an application whose broker and result backend are in memory. A [`TestWorker`] runs what
//! is sent to it: it is the real [`Worker`](crate::Worker), with your tasks, state, layers and hooks, on a clock that
//! jumps to the next thing to do, so that a retry in an hour takes no time. [`sent`], [`dead_letters`] and [`results`]
//! show what happened.
//!
//! One task, with its retries, in one line:
//!
//! ```
//! use celeriac::prelude::*;
//! use celeriac::testing;
//!
//! #[celeriac::task]
//! async fn add(x: i64, y: i64) -> TaskResult<i64> {
//!     Ok(x + y)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> celeriac::Result<()> {
//! assert_eq!(testing::eager(add, add::s(1, 2)).await?, 3);
//! # Ok(()) }
//! ```
//!
//! A chord with a part that fails at first and is retried, and one that fails for good:
//!
//! ```
//! use celeriac::canvas::chord;
//! use celeriac::prelude::*;
//! use celeriac::testing::{self, TestWorker};
//!
//! #[celeriac::task(max_retries = 1, default_retry_delay = 3600)]
//! async fn price(ctx: Context, item: String) -> TaskResult<i64> {
//!     match (item.as_str(), ctx.request().retries()) {
//!         ("gone", _) => Err(TaskError::builtin("ValueError", "no such item")),
//!         (_, 0) => Err(ctx.retry().into()),
//!         _ => Ok(5),
//!     }
//! }
//!
//! #[celeriac::task]
//! async fn total(prices: Vec<i64>) -> TaskResult<i64> {
//!     Ok(prices.iter().sum())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> celeriac::Result<()> {
//! let worker = TestWorker::start(Worker::new(testing::app("shop")).task(price).task(total)).await?;
//! let before = worker.now();
//! let sum: i64 = worker.run(chord([price::s("tea".into()), price::s("milk".into())], total::signature())).await?;
//! assert_eq!(sum, 10);
//! assert_eq!((worker.now() - before).num_hours(), 1);
//! let failed = worker.run::<i64>(chord([price::s("tea".into()), price::s("gone".into())], total::signature())).await;
//! assert!(failed.unwrap_err().to_string().contains("no such item"));
//! # Ok(()) }
//! ```
//!
//! Code that sends tasks, without running them:
//!
//! ```
//! use celeriac::prelude::*;
//! use celeriac::testing;
//!
//! async fn sign_up(app: &Celery, address: &str) -> celeriac::Result<()> {
//!     app.send_task("mail.welcome", [address], []).await?;
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> celeriac::Result<()> {
//! let app = testing::app("shop");
//! sign_up(&app, "ann@example.com").await?;
//! assert_eq!(testing::sent(&app).task("mail.welcome").only().args, ["ann@example.com".into()]);
//! # Ok(()) }
//! ```

#[doc(hidden)]
pub mod seam;
mod sent;
mod worker;

pub use sent::{Sent, SentTask, dead_letters, results, sent};
use serde::de::DeserializeOwned;
pub use worker::TestWorker;

use crate::app::{Celery, Result};
use crate::config::Config;
use crate::task::{Task, TaskSignature};
use crate::worker::Worker;

/// Returns the settings of an application in memory, with a server of its own and otherwise Celery's defaults; change
/// them as the test needs and give them to [`Celery::new`].
pub fn config() -> Config {
    let url = format!("memory://{}?clock=simulated", uuid::Uuid::new_v4());
    let mut config = Config::default();
    config.broker_url = Some(url.as_str().into());
    config.result_backend = Some(url.into());
    config
}

/// Returns an application in memory, with a server of its own. Its clones share the server.
///
/// # Panics
/// Never; the default settings are good.
#[allow(clippy::expect_used, reason = "the default settings are good")]
pub fn app(name: &str) -> Celery {
    Celery::new(name, config()).expect("an application in memory")
}

/// Runs one call of a task to its end, with its retries, and returns what it returned.
///
/// Cancel safe: the worker ends, and the task with it.
///
/// # Errors
/// The same as [`TestWorker::start`] and [`TestWorker::run`].
pub async fn eager<R: DeserializeOwned + Send + 'static>(
    task: impl Task,
    call: TaskSignature<R>,
) -> Result<R> {
    TestWorker::start(Worker::new(app("eager")).task(task)).await?.run(call).await
}
