//! The tasks that a worker knows.

use super::{Answer, Arguments, Failed, Panel};
use crate::config::Config;
use crate::control::python;
use crate::message::{Value, to_value};
use crate::schema::Schemas;
use crate::task::TaskDefinition;

/// Attributes that are shown when none are asked for.
const DEFAULT_ITEMS: [&str; 3] = ["exchange", "routing_key", "rate_limit"];

pub(super) fn registered(panel: &Panel, arguments: &Arguments) -> Answer {
    let mut items = arguments.texts("taskinfoitems");
    if items.is_empty() {
        items = DEFAULT_ITEMS.map(str::to_owned).into();
    }
    let builtins = arguments.flag("builtins");
    let mut tasks = panel.worker().tasks();
    tasks.retain(|task| builtins || !task.name.starts_with("celery."));
    tasks.sort_by(|a, b| a.name.cmp(&b.name));
    let config = panel.worker().config();
    Ok(tasks.iter().map(|task| Value::Str(shown(task, &items, config))).collect())
}

/// What the tasks take and return; Celery has no such command.
pub(super) fn schema(panel: &Panel, _: &Arguments) -> Answer {
    let tasks = panel.worker().tasks();
    to_value(&Schemas::of(tasks.iter().map(|task| &**task)))
        .map_err(|error| Failed::raised("ValueError", error.to_string()))
}

fn shown(task: &TaskDefinition, items: &[String], config: &Config) -> String {
    let shown: Vec<String> = items
        .iter()
        .filter_map(|item| Some(format!("{item}={}", python::str(&attribute(task, item, config)?))))
        .collect();
    if shown.is_empty() { task.name.to_string() } else { format!("{} [{}]", task.name, shown.join(" ")) }
}

/// An attribute under its name in Celery; `None` for those that are unknown or unset.
fn attribute(task: &TaskDefinition, name: &str, config: &Config) -> Option<Value> {
    let options = &task.options;
    let seconds =
        |seconds: f64| if seconds.fract() == 0.0 { Value::Int(seconds as i64) } else { seconds.into() };
    let text = |text: &Option<String>| text.clone().map_or(Value::Null, Value::from);
    let value = match name {
        "name" => (*task.name).into(),
        "exchange" => text(&options.exchange),
        "routing_key" => text(&options.routing_key),
        "queue" => text(&options.queue),
        "rate_limit" => match &options.rate_limit {
            Some(limit) => limit.as_str().into(),
            None => config.task_default_rate_limit.map_or(Value::Null, |limit| limit.rate().into()),
        },
        "max_retries" => options.max_retries.into(),
        "default_retry_delay" => seconds(options.default_retry_delay),
        "acks_late" => options.acks_late.unwrap_or(config.task_acks_late).into(),
        "acks_on_failure" => options.acks_on_failure.unwrap_or(config.acks_on_failure()).into(),
        "acks_on_timeout" => options.acks_on_timeout.unwrap_or(config.acks_on_timeout()).into(),
        "reject_on_worker_lost" => options.reject_on_worker_lost.or(config.task_reject_on_worker_lost).into(),
        "ignore_result" => options.ignore_result.unwrap_or(config.task_ignore_result).into(),
        "store_errors_even_if_ignored" => {
            let setting = config.task_store_errors_even_if_ignored;
            options.store_errors_even_if_ignored.unwrap_or(setting).into()
        }
        "track_started" => options.track_started.unwrap_or(config.task_track_started).into(),
        "time_limit" => options
            .time_limit
            .or(config.task_time_limit.map(|limit| limit.as_secs_f64()))
            .map_or(Value::Null, seconds),
        "soft_time_limit" => {
            let setting = config.task_soft_time_limit.map(|limit| limit.as_secs_f64());
            options.soft_time_limit.or(setting).map_or(Value::Null, seconds)
        }
        "priority" => options.priority.or(config.task_default_priority).into(),
        "serializer" => {
            options.serializer.clone().unwrap_or_else(|| config.task_serializer.as_str().to_owned()).into()
        }
        "compression" => text(&options.compression),
        "expires" => options.expires.map_or(Value::Null, seconds),
        "send_events" => options.send_events.into(),
        _ => Value::Null,
    };
    Some(value).filter(|value| !value.is_null())
}
