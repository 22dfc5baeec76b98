//! How a run in a child process ended, as the child tells it to the worker.

use crate::backend::{ExceptionInfo, ResultRef};
use crate::message::{Map, ProtocolError, Signature, Value, json};
use crate::task::{Failure, Retry, TaskError};
use crate::worker::execute::Ended;

/// A child's answer.
pub(super) struct Answer {
    pub(super) ended: Ended,
    /// What the task has sent.
    pub(super) children: Vec<ResultRef>,
    /// Most memory that the child had resident so far, in KiB; 0 if there is no limit of it.
    pub(super) resident_kib: u64,
}

impl Answer {
    /// The content of a frame.
    pub(super) fn encode(&self) -> Vec<u8> {
        let children = self.children.iter().map(ResultRef::to_value).collect();
        let (kind, content) = match &self.ended {
            Ended::Returned(Ok(value)) => ("returned", value.clone()),
            Ended::Returned(Err(error)) => raised(error),
            // The worker keeps the limits, so that a child ends no run for them.
            other => raised(&TaskError::unexpected(format!("the run ended as {other:?}"))),
        };
        let resident = i64::try_from(self.resident_kib).unwrap_or(i64::MAX);
        let answer = list([kind.into(), content, children, resident.into()]);
        json::dumps(&answer).into_bytes()
    }

    /// Reads what [`Answer::encode`] wrote.
    pub(super) fn decode(content: &[u8]) -> Result<Self, ProtocolError> {
        let unreadable = || ProtocolError::bad_body("a child process's answer cannot be read");
        let Value::List(parts) = json::loads(content)? else { return Err(unreadable()) };
        let [kind, content, children, resident] = <[Value; 4]>::try_from(parts).map_err(|_| unreadable())?;
        let kind = kind.as_str().ok_or_else(unreadable)?;
        let ended = match kind {
            "returned" => Ended::Returned(Ok(content)),
            kind => Ended::Returned(Err(error(kind, content).ok_or_else(unreadable)?)),
        };
        let children =
            children.as_list().unwrap_or_default().iter().filter_map(ResultRef::from_value).collect();
        let resident_kib = resident.as_i64().and_then(|kib| u64::try_from(kib).ok()).unwrap_or_default();
        Ok(Self { ended, children, resident_kib })
    }
}

fn raised(error: &TaskError) -> (&'static str, Value) {
    match error {
        TaskError::Failure(failure) => {
            let Failure { exception, traceback, expected } = &**failure;
            ("failed", list([exception_value(exception), traceback.clone().into(), (*expected).into()]))
        }
        TaskError::Retry(retry) => ("retry", retry_value(retry)),
        TaskError::Ignore => ("ignore", Value::Null),
        TaskError::Reject { reason, requeue } => {
            ("reject", list([reason.as_str().into(), (*requeue).into()]))
        }
        TaskError::Replace(signature) => ("replace", signature.to_value()),
        TaskError::SoftTimeLimitExceeded => ("soft", Value::Null),
    }
}

fn error(kind: &str, content: Value) -> Option<TaskError> {
    Some(match (kind, content) {
        ("failed", Value::List(parts)) => {
            let [exception, traceback, expected] = <[Value; 3]>::try_from(parts).ok()?;
            TaskError::Failure(Box::new(Failure {
                exception: exception_of(exception)?,
                traceback: traceback.as_str().map(str::to_owned),
                expected: expected.as_bool()?,
            }))
        }
        ("retry", Value::Map(parts)) => TaskError::Retry(Box::new(retry_of(parts)?)),
        ("ignore", _) => TaskError::Ignore,
        ("reject", Value::List(parts)) => {
            let [reason, requeue] = <[Value; 2]>::try_from(parts).ok()?;
            TaskError::Reject { reason: reason.as_str()?.to_owned(), requeue: requeue.as_bool()? }
        }
        ("replace", signature) => TaskError::Replace(Box::new(Signature::from_value(&signature).ok()?)),
        ("soft", _) => TaskError::SoftTimeLimitExceeded,
        _ => return None,
    })
}

fn exception_value(exception: &ExceptionInfo) -> Value {
    list([
        exception.exc_type.as_str().into(),
        Value::List(exception.exc_message.clone()),
        exception.exc_module.clone().into(),
    ])
}

fn exception_of(value: Value) -> Option<ExceptionInfo> {
    let Value::List(parts) = value else { return None };
    let [class, Value::List(arguments), module] = <[Value; 3]>::try_from(parts).ok()? else { return None };
    Some(ExceptionInfo {
        exc_type: class.as_str()?.to_owned(),
        exc_message: arguments,
        exc_module: module.as_str().map(str::to_owned),
    })
}

fn retry_value(retry: &Retry) -> Value {
    let Retry { args, kwargs, eta, countdown, max_retries, exception, options } = retry;
    let mut parts = Map::new();
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            parts.insert(name.to_owned(), value);
        }
    };
    add("args", args.clone().map(Value::List));
    add("kwargs", kwargs.clone().map(Value::Map));
    add("eta", eta.map(Value::from));
    add("countdown", countdown.map(Value::Float));
    add("max_retries", max_retries.map(Value::from));
    add("exception", exception.as_ref().map(exception_value));
    add("options", Some(Value::Map(options.clone())));
    Value::Map(parts)
}

fn retry_of(mut parts: Map) -> Option<Retry> {
    let mut take = |name: &str| parts.shift_remove(name);
    let mut retry = Retry::default();
    if let Some(Value::List(args)) = take("args") {
        retry.args = Some(args);
    }
    if let Some(Value::Map(kwargs)) = take("kwargs") {
        retry.kwargs = Some(kwargs);
    }
    if let Some(Value::DateTime(eta)) = take("eta") {
        retry.eta = Some(eta.to_utc());
    }
    retry.countdown = take("countdown").and_then(|countdown| countdown.as_f64());
    retry.max_retries =
        take("max_retries").map(|most| most.as_i64().map(|most| u32::try_from(most).unwrap_or_default()));
    retry.exception = take("exception").and_then(exception_of);
    if let Some(Value::Map(options)) = take("options") {
        retry.options = options;
    }
    Some(retry)
}

fn list<const N: usize>(items: [Value; N]) -> Value {
    Value::List(items.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crossed(ended: Ended) -> Ended {
        let answer = Answer { ended, children: vec![ResultRef::task("child")], resident_kib: 7 };
        let crossed = Answer::decode(&answer.encode()).unwrap();
        assert_eq!((crossed.children.len(), crossed.resident_kib), (1, 7));
        crossed.ended
    }

    #[test]
    fn every_end_of_a_run_crosses_the_process_boundary() {
        let value = crate::value!({"n": [1, 2.5, null], "text": "é"});
        assert!(
            matches!(crossed(Ended::Returned(Ok(value.clone()))), Ended::Returned(Ok(same)) if same == value)
        );
        let eta = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let errors = [
            TaskError::builtin("ValueError", "no"),
            TaskError::expected("seen"),
            Retry::default().countdown(2).max_retries(4).exc(TaskError::builtin("KeyError", "k")).into(),
            Retry::default().eta(eta).max_retries(None).args([1]).into(),
            TaskError::Ignore,
            TaskError::Reject { reason: "full".to_owned(), requeue: true },
            TaskError::Replace(Box::new(Signature::new("proj.add").arg(1))),
            TaskError::SoftTimeLimitExceeded,
        ];
        for error in errors {
            let Ended::Returned(Err(same)) = crossed(Ended::Returned(Err(error.clone()))) else {
                panic!("{error} did not stay an error")
            };
            assert_eq!(same, error);
        }
    }
}
