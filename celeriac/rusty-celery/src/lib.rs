//! Runs tasks written for the crate `celery` (rusty-celery) on celeriac's worker, unchanged.
//!
//! The task functions, their `#[celery::task]` attributes and the `celery::app!` stay. What changes is who runs them: not
//! `app.consume()` but a [`celeriac::Worker`], which stores results, sends events, answers remote control and loses nothing.
//!
//! ```no_run
//! # use celery::prelude::*;
//! # #[celery::task]
//! # fn add(x: i32, y: i32) -> TaskResult<i32> { Ok(x + y) }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let app = celery::app!(
//!     broker = RedisBroker { "redis://127.0.0.1:6379/0" },
//!     tasks = [],
//!     task_routes = [],
//! )
//! .await?;
//! let worker = celeriac::Worker::new(celeriac::Celery::from_env("proj")?);
//! worker.task(celeriac_rusty_celery::task::<add>(&app)).run().await?;
//! # Ok(()) }
//! ```
//!
//! A task sees what rusty-celery shows it: its request, its options, and the app, through which it sends other tasks.
//! Retries follow rusty-celery's rules ([`celery::task::TaskOptions`]), but are sent at their eta; a task that fails for good
//! leaves a FAILURE whose exception is named after the variant of [`celery::error::TaskError`].
//! A plain `fn` blocks the thread that it runs on, as it does in rusty-celery; [`blocking`] gives it one of its own.

mod arguments;
mod outcome;

use std::sync::Arc;
use std::time::Duration;

use celeriac::Value;
use celeriac::message::to_value;
use celeriac::task::{Context, Handler, Parameter, Pool, TaskDefinition, TaskError, TaskOptions, TaskResult};
use celery::Celery;
use celery::task::{Request, Task};
use serde::Serialize;

/// The task, for [`celeriac::Worker::task`]; its results are stored.
pub fn task<T>(app: &Arc<Celery>) -> TaskDefinition
where
    T: Task + 'static,
    T::Returns: Serialize,
{
    define::<T>(app, encode::<T>)
}

/// The task, when what it returns has no form to be stored in; callers read `None`.
pub fn task_without_result<T: Task + 'static>(app: &Arc<Celery>) -> TaskDefinition {
    define::<T>(app, |_| Ok(Value::Null))
}

/// The same task on a thread that it may block.
pub fn blocking(mut task: TaskDefinition) -> TaskDefinition {
    if let Handler::Async(function) = task.handler.clone() {
        task.options.pool = Pool::Blocking;
        task.handler = Handler::from_blocking(move |context| {
            // celeriac runs blocking tasks on threads of its tokio runtime.
            tokio::runtime::Handle::current().block_on(function(context))
        });
    }
    task
}

type Encode<T> = fn(&<T as Task>::Returns) -> TaskResult<Value>;

fn encode<T: Task>(returned: &T::Returns) -> TaskResult<Value>
where
    T::Returns: Serialize,
{
    Ok(to_value(returned)?)
}

fn define<T: Task + 'static>(app: &Arc<Celery>, encode: Encode<T>) -> TaskDefinition {
    let (app, defaults) = (Arc::clone(app), merged::<T>(app));
    let mut options = TaskOptions::default();
    options.max_retries = defaults.max_retries;
    options.acks_late = defaults.acks_late;
    let parameters = arguments::parameters::<T>();
    let handler =
        Handler::from_async(move |context| run::<T>(context, parameters, Arc::clone(&app), defaults, encode));
    let mut definition = TaskDefinition::new(T::NAME, options, handler);
    definition.parameters = Some(parameters);
    definition
}

/// The task's options over those of the app.
fn merged<T: Task>(app: &Celery) -> celery::task::TaskOptions {
    let (task, app) = (T::DEFAULTS, &app.task_options);
    celery::task::TaskOptions {
        time_limit: task.time_limit.or(app.time_limit),
        hard_time_limit: task.hard_time_limit.or(app.hard_time_limit),
        max_retries: task.max_retries.or(app.max_retries),
        min_retry_delay: task.min_retry_delay.or(app.min_retry_delay),
        max_retry_delay: task.max_retry_delay.or(app.max_retry_delay),
        retry_for_unexpected: task.retry_for_unexpected.or(app.retry_for_unexpected),
        acks_late: task.acks_late.or(app.acks_late),
        content_type: task.content_type.or(app.content_type),
    }
}

async fn run<T: Task>(
    context: Context,
    parameters: &'static [Parameter],
    app: Arc<Celery>,
    options: celery::task::TaskOptions,
    encode: Encode<T>,
) -> TaskResult<Value> {
    let params: T::Params = arguments::read::<T>(parameters, context.request())?;
    let task = T::from_request(request(&context, app, params.clone()), options);
    // A limit that the caller asked for is the worker's to keep.
    let limit = if task.request().time_limit.is_some() { None } else { task.time_limit() };
    let ran = match limit {
        Some(seconds) => tokio::time::timeout(Duration::from_secs(seconds.into()), task.run(params))
            .await
            .unwrap_or(Err(celery::error::TaskError::TimeoutError)),
        None => task.run(params).await,
    };
    match ran {
        Ok(returned) => {
            task.on_success(&returned).await;
            encode(&returned)
        }
        Err(error) => {
            task.on_failure(&error).await;
            Err(outcome::of(&task, error))
        }
    }
}

fn request<T: Task>(context: &Context, app: Arc<Celery>, params: T::Params) -> Request<T> {
    let request = context.request();
    let (headers, properties) = (&request.headers, &request.properties);
    let time = |value: &Option<Value>| {
        let text = value.as_ref().and_then(Value::as_str)?;
        celeriac::message::parse_iso8601(text, celeriac::Timezone::UTC)
    };
    let limits = [headers.timelimit.hard, headers.timelimit.soft];
    Request {
        app,
        id: request.id.clone(),
        group: headers.group.clone(),
        chord: request.body.embed.chord.as_ref().and_then(|chord| chord.options.get("task_id")?.as_str().map(str::to_owned)),
        correlation_id: properties.correlation_id.clone().unwrap_or_else(|| request.id.clone()),
        params,
        origin: headers.origin.clone(),
        retries: request.retries(),
        eta: time(&headers.eta),
        expires: time(&headers.expires),
        hostname: Some(request.hostname.clone()),
        reply_to: properties.reply_to.clone(),
        time_limit: limits.into_iter().flatten().min_by(f64::total_cmp).map(|seconds| seconds.ceil() as u32),
    }
}

/// A failure whose exception Python shows as `rusty_celery.CLASS`.
fn failure(class: &str, text: &str) -> TaskError {
    TaskError::exception(celeriac::backend::ExceptionInfo::new("rusty_celery", class, vec![Value::from(text)]))
}
