//! Calls of tasks whose types are known.

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Seconds;
use crate::message::{Signature, Value, to_value};

/// A call of a task that returns an `R`, ready to be sent, linked or made part of a canvas.
///
/// What `#[celeriac::task]` makes of a function `resize` is built by `resize::s(..)`:
///
/// ```
/// use celeriac::prelude::*;
/// use celeriac::message::Signature;
///
/// #[celeriac::task(name = "proj.tasks.resize")]
/// async fn resize(id: u64, width: Option<u32>) -> TaskResult<String> {
///     Ok(format!("{id}-{}", width.unwrap_or(640)))
/// }
///
/// let signature: Signature = resize::s(7, Some(320)).countdown(5).queue("images").into();
/// assert_eq!(signature.task, "proj.tasks.resize");
/// assert_eq!(signature.args, [Value::Int(7), Value::Int(320)]);
/// assert_eq!(signature.options["queue"], Value::from("images"));
/// ```
#[must_use = "a signature does nothing until it is sent"]
pub struct TaskSignature<R> {
    signature: Signature,
    returns: PhantomData<fn() -> R>,
}

impl<R> TaskSignature<R> {
    /// A call of the task of that name, without arguments; an `R` is what it is known to return.
    pub fn new(task: impl Into<String>) -> Self {
        Self::from_signature(Signature { task: task.into(), ..Signature::default() })
    }

    /// That signature, which is known to return an `R`.
    pub fn from_signature(signature: Signature) -> Self {
        Self { signature, returns: PhantomData }
    }

    /// The call as data.
    pub fn as_signature(&self) -> &Signature {
        &self.signature
    }

    /// The same call with one more positional argument.
    ///
    /// # Panics
    /// When the value cannot be serialised, as a mapping whose keys are not text.
    pub fn arg<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        self.signature.args.push(self.encode(value));
        self
    }

    /// The same call with that keyword argument.
    ///
    /// # Panics
    /// When the value cannot be serialised, as a mapping whose keys are not text.
    pub fn kwarg<T: Serialize + ?Sized>(mut self, name: impl Into<String>, value: &T) -> Self {
        let value = self.encode(value);
        self.signature.kwargs.insert(name.into(), value);
        self
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Value {
        to_value(value).unwrap_or_else(|error| {
            let task = &self.signature.task;
            panic!("cannot serialise a {} as an argument of task {task}: {error}", type_name::<T>())
        })
    }

    /// Run after that time.
    pub fn countdown(self, countdown: impl Into<Seconds>) -> Self {
        self.option("countdown", countdown.into().into_value())
    }

    /// Run at that time.
    pub fn eta(self, eta: DateTime<Utc>) -> Self {
        self.option("eta", eta)
    }

    /// Do not run when this time has passed since sending.
    pub fn expires(self, expires: impl Into<Seconds>) -> Self {
        self.option("expires", expires.into().into_value())
    }

    /// Do not run after that time.
    pub fn expires_at(self, expires: DateTime<Utc>) -> Self {
        self.option("expires", expires)
    }

    /// End the task after that time.
    pub fn time_limit(self, limit: impl Into<Seconds>) -> Self {
        self.option("time_limit", limit.into().into_value())
    }

    /// Tell the task to end after that time.
    pub fn soft_time_limit(self, limit: impl Into<Seconds>) -> Self {
        self.option("soft_time_limit", limit.into().into_value())
    }

    /// Send to that queue.
    pub fn queue(self, queue: impl Into<String>) -> Self {
        self.option("queue", queue.into())
    }

    /// Send with that routing key.
    pub fn routing_key(self, routing_key: impl Into<String>) -> Self {
        self.option("routing_key", routing_key.into())
    }

    /// Send with that priority, 0 to 9.
    pub fn priority(self, priority: u8) -> Self {
        self.option("priority", priority)
    }

    /// Send with that task id.
    pub fn task_id(self, id: impl Into<String>) -> Self {
        self.option("task_id", id.into())
    }

    /// Show that name instead of the task's in logs and events.
    pub fn shadow(self, name: impl Into<String>) -> Self {
        self.option("shadow", name.into())
    }

    /// Drop the result, or keep it although the task drops it.
    pub fn ignore_result(self, ignore: bool) -> Self {
        self.option("ignore_result", ignore)
    }

    /// Any option of Celery's `apply_async`, by its name.
    pub fn option(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.signature.options.insert(name.into(), value.into());
        self
    }

    /// Call that one with the result when this one succeeds.
    pub fn link(self, callback: impl Into<Signature>) -> Self {
        self.append("link", callback.into())
    }

    /// Call that one when this one fails.
    pub fn link_error(self, errback: impl Into<Signature>) -> Self {
        self.append("link_error", errback.into())
    }

    /// Take no arguments from whatever calls this, as Celery's `si`.
    pub fn immutable(mut self) -> Self {
        self.signature.immutable = true;
        self
    }

    fn append(mut self, option: &str, signature: Signature) -> Self {
        let linked =
            self.signature.options.entry(option.to_owned()).or_insert_with(|| Value::List(Vec::new()));
        if let Value::List(signatures) = linked {
            signatures.push(signature.into());
        }
        self
    }
}

/// The arguments of a typed call, in the order of its parameters; used by `#[celeriac::task]`.
///
/// What is not given stays away, so that the callee's own default holds; what follows it goes by keyword.
#[doc(hidden)]
pub struct CallBuilder<R> {
    call: TaskSignature<R>,
    gap: bool,
}

impl<R> CallBuilder<R> {
    pub fn new(task: &str) -> Self {
        Self { call: TaskSignature::new(task), gap: false }
    }

    pub fn required<T: Serialize + ?Sized>(mut self, name: &str, value: &T) -> Self {
        self.call = if self.gap { self.call.kwarg(name, value) } else { self.call.arg(value) };
        self
    }

    pub fn optional<T: Serialize>(mut self, name: &str, value: &Option<T>) -> Self {
        match value {
            Some(value) => self.required(name, value),
            None => {
                self.gap = true;
                self
            }
        }
    }

    pub fn var_args<T: Serialize>(mut self, values: &[T]) -> Self {
        self.call = values.iter().fold(self.call, |call, value| call.arg(value));
        self
    }

    pub fn var_kwargs<K: Into<String>, T: Serialize>(
        mut self,
        values: impl IntoIterator<Item = (K, T)>,
    ) -> Self {
        self.call = values.into_iter().fold(self.call, |call, (name, value)| call.kwarg(name, &value));
        self
    }

    pub fn build(self) -> TaskSignature<R> {
        self.call
    }
}

impl Seconds {
    /// A whole number of seconds goes out as an integer, as Python's callers write it.
    fn into_value(self) -> Value {
        if self.0.fract() == 0.0 && self.0.abs() < 1e15 {
            Value::Int(self.0 as i64)
        } else {
            Value::Float(self.0)
        }
    }
}

impl<R> From<TaskSignature<R>> for Signature {
    fn from(call: TaskSignature<R>) -> Self {
        call.signature
    }
}

impl<R> Clone for TaskSignature<R> {
    fn clone(&self) -> Self {
        Self::from_signature(self.signature.clone())
    }
}

impl<R> PartialEq for TaskSignature<R> {
    fn eq(&self, other: &Self) -> bool {
        self.signature == other.signature
    }
}

impl<R> fmt::Debug for TaskSignature<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.signature.fmt(formatter)
    }
}
