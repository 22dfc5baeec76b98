//! Calls of tasks whose types are known.

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;
use std::ops::BitOr;

use serde::Serialize;

use super::Seconds;
use crate::canvas::sending_options;
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

    sending_options!();

    /// Any option of Celery's `apply_async`, by its name.
    pub fn option(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.signature.options.insert(name.into(), value.into());
        self
    }

    /// Calls that one with the result when this one succeeds.
    pub fn link(self, callback: impl Into<Signature>) -> Self {
        Self::from_signature(self.signature.link(callback))
    }

    /// Calls that one when this one fails.
    pub fn link_error(self, errback: impl Into<Signature>) -> Self {
        Self::from_signature(self.signature.link_error(errback))
    }

    /// Adds values that travel in the headers of its message and those of its links.
    pub fn stamp(self, stamps: impl IntoIterator<Item = (impl Into<String>, impl Into<Value>)>) -> Self {
        Self::from_signature(self.signature.stamp(stamps))
    }

    /// Takes no arguments from whatever calls this, as Celery's `si`.
    pub fn immutable(self) -> Self {
        Self::from_signature(self.signature.immutable(true))
    }
}

impl<R, S: Into<Signature>> BitOr<S> for TaskSignature<R> {
    type Output = Signature;

    /// Celery's `|`: the other task after this one.
    fn bitor(self, other: S) -> Signature {
        self.signature | other
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
    pub(crate) fn into_value(self) -> Value {
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
