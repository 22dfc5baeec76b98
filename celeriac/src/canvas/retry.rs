//! Retries: the message of the next run.
//!
//! Source: celery 5.7 `retry` and `signature_from_request` in `celery/app/task.py`, `celery/app/autoretry.py`; sample
//! `vectors/monitor/retry.txt`.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::send::{ShownArgs, send};
use super::{CanvasError, Outbox, Sender};
use crate::backend::ExceptionInfo;
use crate::message::{Map, Signature, Value, repr};
use crate::task::{Parameter, ParameterKind, Request, Retry, TaskOptions};

/// Headers that RabbitMQ adds to dead letters; a retry that kept them would look like a loop.
const DEATH_HEADERS: [&str; 7] = [
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
];

/// Why a task is not retried.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RetryError {
    /// No retry is left: the task fails with that exception.
    #[error("no retry is left: {}", .0.exc_type)]
    MaxRetriesExceeded(ExceptionInfo),
    /// The message cannot be made: the task is rejected, without a requeue.
    #[error(transparent)]
    Canvas(#[from] CanvasError),
}

/// Puts the message of a task's next run into the outbox, and the task itself among its children.
///
/// `parameters` are those of the task's function, if known: when only positional or only keyword arguments are
/// replaced, an inherited argument for the same parameter gives way.
///
/// # Errors
/// No retry is left, or the message cannot be made.
pub fn retry(
    request: &Request,
    retry: &Retry,
    task: &TaskOptions,
    parameters: Option<&[Parameter]>,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Result<(), RetryError> {
    let sender = &Sender { parent: Some(request), ..*sender };
    let retries = request.retries().saturating_add(1);
    let (args, kwargs) = arguments(request, retry, parameters.unwrap_or_default());
    if let Some(exception) = exhausted(request, retry, task, &args, &kwargs) {
        return Err(RetryError::MaxRetriesExceeded(exception));
    }
    let mut options = execution_options(request);
    let ignore_result = request.headers.ignore_result.or(task.ignore_result);
    set(&mut options, "ignore_result", ignore_result.unwrap_or(sender.config.task_ignore_result));
    if let Some(priority) = request.properties.priority {
        set(&mut options, "priority", priority);
    }
    match retry.eta {
        Some(eta) => set(&mut options, "eta", eta),
        None => set(&mut options, "countdown", retry.countdown.unwrap_or(task.default_retry_delay)),
    }
    set(&mut options, "retries", retries);
    for (option, hidden) in [("argsrepr", request.hidden_args()), ("kwargsrepr", request.hidden_kwargs())] {
        hidden.into_iter().for_each(|hidden| set(&mut options, option, hidden));
    }
    options.extend(retry.options.clone());
    let has_queue = options.get("queue").is_some_and(|queue| !queue.is_null());
    let delivery = request.delivery_info();
    if !has_queue && delivery.exchange.is_empty() {
        set(&mut options, "queue", delivery.routing_key.as_str());
    } else if !has_queue {
        for (option, value) in [("exchange", &delivery.exchange), ("routing_key", &delivery.routing_key)] {
            options.entry(option.to_owned()).or_insert_with(|| Value::from(value.as_str()));
        }
    }
    send(&request.task, args, kwargs, options, ShownArgs::Tuple, sender, outbox)?;
    Ok(())
}

/// Makes a request that of the next run, for a task that is called in the place of another and has no message of its own.
/// Returns the seconds until then.
///
/// # Errors
/// No retry is left: the task fails with that exception.
pub(crate) fn retry_in_place(
    request: &mut Request,
    retry: &Retry,
    task: &TaskOptions,
    parameters: Option<&[Parameter]>,
    now: DateTime<Utc>,
) -> Result<f64, ExceptionInfo> {
    let (args, kwargs) = arguments(request, retry, parameters.unwrap_or_default());
    if let Some(exception) = exhausted(request, retry, task, &args, &kwargs) {
        return Err(exception);
    }
    (request.body.args, request.body.kwargs) = (args, kwargs);
    let headers = Arc::make_mut(&mut request.headers);
    headers.retries = headers.retries.saturating_add(1);
    Ok(match retry.eta {
        Some(eta) => (eta - now).as_seconds_f64(),
        None => retry.countdown.unwrap_or(task.default_retry_delay),
    })
}

/// The exception with which a task fails that may not be retried once more with those arguments.
fn exhausted(
    request: &Request,
    retry: &Retry,
    task: &TaskOptions,
    args: &[Value],
    kwargs: &Map,
) -> Option<ExceptionInfo> {
    let max_retries = retry.max_retries.unwrap_or(task.max_retries)?;
    if request.retries() < max_retries {
        return None;
    }
    Some(retry.exception.clone().unwrap_or_else(|| {
        let args = request.hidden_args().map_or_else(|| tuple(args), str::to_owned);
        let kwargs = request.hidden_kwargs().map_or_else(|| repr(&Value::Map(kwargs.clone())), str::to_owned);
        let text = format!("Can't retry {}[{}] args:{args} kwargs:{kwargs}", request.task, request.id);
        ExceptionInfo::celery("MaxRetriesExceededError", text)
    }))
}

/// Python's `repr` of a tuple.
fn tuple(items: &[Value]) -> String {
    let shown: Vec<String> = items.iter().map(repr).collect();
    let comma = if shown.len() == 1 { "," } else { "" };
    format!("({}{comma})", shown.join(", "))
}

/// The retry that a task's own options ask for after that exception; `None` when they ask for none.
pub fn autoretry(request: &Request, exception: &ExceptionInfo, task: &TaskOptions) -> Option<Retry> {
    let is_named = |classes: &[String]| classes.iter().any(|class| is_instance(exception, class));
    if !is_named(&task.autoretry_for) || is_named(&task.dont_autoretry_for) {
        return None;
    }
    let backs_off = task.retry_backoff.is_some_and(|factor| factor > 0.0);
    let countdown = backs_off.then(|| task.backoff_delay(request.retries()));
    Some(Retry { countdown, exception: Some(exception.clone()), ..Retry::default() })
}

/// The options under which the task runs, for its next run (`Context.as_execution_options`).
///
/// Null ones are given all the same, so that they are not replaced by the task's own.
fn execution_options(request: &Request) -> Map {
    let headers = &request.headers;
    let embed = &request.body.embed;
    let list = |signatures: &[Signature]| match signatures {
        [] => Value::Null,
        signatures => signatures.iter().map(Signature::to_value).collect(),
    };
    let mut custom = headers.extra.clone();
    custom.retain(|name, _| !DEATH_HEADERS.contains(&name.as_str()));
    let mut options = Map::new();
    for (option, value) in [
        ("task_id", Value::from(request.id.as_str())),
        ("root_id", headers.root_id.clone().into()),
        ("parent_id", headers.parent_id.clone().into()),
        ("group_id", headers.group.clone().into()),
        ("group_index", headers.group_index.into()),
        ("shadow", headers.shadow.clone().into()),
        ("chord", embed.chord.as_ref().map_or(Value::Null, |chord| chord.to_value())),
        ("chain", list(&embed.chain)),
        ("link", list(&embed.callbacks)),
        ("link_error", list(&embed.errbacks)),
        ("expires", headers.expires.clone().unwrap_or_default()),
        ("soft_time_limit", headers.timelimit.soft.into()),
        ("time_limit", headers.timelimit.hard.into()),
        ("headers", Value::Map(custom)),
        ("reply_to", request.properties.reply_to.clone().into()),
        ("replaced_task_nesting", headers.replaced_task_nesting.into()),
        ("origin", headers.origin.clone().into()),
    ] {
        options.insert(option.to_owned(), value);
    }
    if let Some(names) = &headers.stamped_headers {
        set(&mut options, "stamped_headers", names.clone());
        for name in names {
            if let Some(stamp) = headers.stamps.get(name) {
                options.insert(name.clone(), stamp.clone());
            }
        }
    }
    options
}

/// The arguments of the next run: those that the retry gives, and of the others the inherited ones.
fn arguments(request: &Request, retry: &Retry, parameters: &[Parameter]) -> (Vec<Value>, Map) {
    let named = || {
        parameters
            .iter()
            .filter(|parameter| matches!(parameter.kind, ParameterKind::Required | ParameterKind::Optional))
    };
    match (&retry.args, &retry.kwargs) {
        (Some(args), Some(kwargs)) => (args.clone(), kwargs.clone()),
        (None, None) => (request.body.args.clone(), request.body.kwargs.clone()),
        (Some(args), None) => {
            let mut kwargs = request.body.kwargs.clone();
            for parameter in named().take(args.len()) {
                kwargs.shift_remove(parameter.name);
            }
            (args.clone(), kwargs)
        }
        (None, Some(kwargs)) => {
            let mut args = request.body.args.clone();
            let mut kwargs = kwargs.clone();
            for (arg, parameter) in args.iter_mut().zip(named()) {
                if let Some(value) = kwargs.shift_remove(parameter.name) {
                    *arg = value;
                }
            }
            (args, kwargs)
        }
    }
}

/// Whether the exception is of that class, as far as names tell: `ValueError`, `module.Class`, or a built-in base.
fn is_instance(exception: &ExceptionInfo, class: &str) -> bool {
    let module = exception.exc_module.as_deref().unwrap_or_default();
    let is_self = class == exception.exc_type || class == format!("{module}.{}", exception.exc_type);
    let class = class.strip_prefix("builtins.").unwrap_or(class);
    is_self
        || matches!(class, "Exception" | "BaseException")
        || (module == "builtins" && bases(&exception.exc_type).contains(&class))
}

/// The bases of Python's built-in exceptions below `Exception`.
fn bases(class: &str) -> &'static [&'static str] {
    match class {
        "KeyError" | "IndexError" => &["LookupError"],
        "ZeroDivisionError" | "OverflowError" | "FloatingPointError" => &["ArithmeticError"],
        "ConnectionRefusedError" | "ConnectionResetError" | "ConnectionAbortedError" | "BrokenPipeError" => {
            &["ConnectionError", "OSError", "IOError"]
        }
        "ConnectionError" | "TimeoutError" | "FileNotFoundError" | "FileExistsError" | "PermissionError"
        | "InterruptedError" | "BlockingIOError" | "ChildProcessError" | "IsADirectoryError"
        | "NotADirectoryError" | "ProcessLookupError" => &["OSError", "IOError"],
        "NotImplementedError" | "RecursionError" => &["RuntimeError"],
        "UnicodeDecodeError" | "UnicodeEncodeError" | "UnicodeTranslateError" => {
            &["UnicodeError", "ValueError"]
        }
        "UnicodeError" => &["ValueError"],
        "ModuleNotFoundError" => &["ImportError"],
        "UnboundLocalError" => &["NameError"],
        _ => &[],
    }
}

fn set(options: &mut Map, name: &str, value: impl Into<Value>) {
    options.insert(name.to_owned(), value.into());
}
