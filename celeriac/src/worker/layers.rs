//! Layers around the runs of tasks: functions of the program that see a call go in and its outcome come out.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::threads::Seat;
use super::{Worker, panics};
use crate::message::Value;
use crate::task::{Context, Handler, TaskError, TaskResult};

type Layer = dyn Fn(Context, Next) -> BoxFuture<'static, TaskResult<Value>> + Send + Sync;

/// All layers, the outermost first; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Layers(Arc<[Arc<Layer>]>);

impl Worker {
    /// Puts a layer around every run of every task; the first one added is the outermost.
    ///
    /// It sees the [`Context`] before the run, goes on with [`Next::run`], and sees what comes back: a value, or a
    /// [`TaskError`], panics included. It may return something else, or not go on at all. Time limits hold for it as
    /// for the task. For tasks in child processes it runs in the child, with the states that the child has.
    ///
    /// ```no_run
    /// # use celeriac::prelude::*;
    /// # fn example(app: Celery) -> Worker {
    /// Worker::new(app).layer(async |context, next| {
    ///     let started = std::time::Instant::now();
    ///     let name = context.name().to_owned();
    ///     let outcome = next.run(context).await;
    ///     log::info!("{name} took {:?}, failed: {}", started.elapsed(), outcome.is_err());
    ///     outcome
    /// })
    /// # }
    /// ```
    pub fn layer<F, R>(mut self, layer: F) -> Self
    where
        F: Fn(Context, Next) -> R + Send + Sync + 'static,
        R: Future<Output = TaskResult<Value>> + Send + 'static,
    {
        let layer: Arc<Layer> = Arc::new(move |context, next| layer(context, next).boxed());
        self.layers = Layers(self.layers.0.iter().cloned().chain([layer]).collect());
        self
    }
}

impl Layers {
    /// Runs a task within the layers; a blocking one in the thread that it has.
    pub(crate) async fn run(
        &self,
        handler: &Handler,
        seat: Option<Seat>,
        context: Context,
    ) -> TaskResult<Value> {
        if self.0.is_empty() {
            return call(handler, seat, context).await;
        }
        let next = Next { layers: self.clone(), position: 0, handler: handler.clone(), seat };
        // The task itself cannot panic any more; a layer can.
        caught(next.run(context)).await
    }
}

/// The rest of the way to a task: the layers within, and its function.
pub struct Next {
    layers: Layers,
    position: usize,
    handler: Handler,
    seat: Option<Seat>,
}

impl Next {
    /// Goes on, and returns what comes back.
    ///
    /// Cancelling it ends the run, as happens when a task is terminated or its time is over.
    ///
    /// # Errors
    /// What the task, or a layer within, ends with instead of a value; a panic is a failure like any other.
    pub async fn run(mut self, context: Context) -> TaskResult<Value> {
        match self.layers.0.get(self.position).cloned() {
            Some(layer) => {
                self.position += 1;
                layer(context, self).await
            }
            None => call(&self.handler, self.seat, context).await,
        }
    }
}

/// Calls the function of a task; a panic in it is a failure. A blocking function without a thread waits for one.
pub(super) async fn call(handler: &Handler, seat: Option<Seat>, context: Context) -> TaskResult<Value> {
    match handler {
        Handler::Async(function) => caught(async { function(context).await }).await,
        Handler::Blocking(function) => {
            let seat = match seat {
                Some(seat) => seat,
                None => Seat::wait().await,
            };
            let (function, own) = (Arc::clone(function), context.clone());
            let run = move || {
                panics::watched(|| catch_unwind(AssertUnwindSafe(|| function(own))))
                    .unwrap_or_else(|payload| Err(panics::failure(&*payload)))
            };
            let ended = seat.run(&context, run).await;
            ended.unwrap_or_else(|| Err(TaskError::unexpected("the thread of the task has ended")))
        }
    }
}

/// Runs a task's code; a panic in it is a failure.
async fn caught(run: impl Future<Output = TaskResult<Value>>) -> TaskResult<Value> {
    let mut run = pin!(AssertUnwindSafe(run).catch_unwind());
    let ended = poll_fn(|context| panics::watched(|| run.as_mut().poll(context))).await;
    ended.unwrap_or_else(|payload| Err(panics::failure(&*payload)))
}
