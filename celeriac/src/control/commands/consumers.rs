//! The queues that a worker consumes.

use super::{Answer, Arguments, Failed, Panel, ok};
use crate::control::info::QueueInfo;
use crate::message::{Value, to_value};

pub(super) fn active_queues(panel: &Panel, _: &Arguments) -> Answer {
    to_value(&panel.worker().queues()).map_err(|error| Failed::raised("EncodeError", error.to_string()))
}

pub(super) fn add_consumer(panel: &Panel, arguments: &Arguments) -> Answer {
    let name = arguments.text("queue").ok_or_else(|| Failed::raised("TypeError", "queue must be text"))?;
    let text = |name: &str| arguments.text(name).filter(|text| !text.is_empty());
    let exchange = text("exchange").unwrap_or(name);
    let exchange_type = text("exchange_type").unwrap_or("direct");
    let mut queue = QueueInfo::bound(name, exchange, exchange_type, text("routing_key").unwrap_or(name));
    queue.durable = arguments.get("durable").and_then(Value::as_bool).unwrap_or(true);
    queue.auto_delete = arguments.flag("auto_delete");
    queue.max_priority = arguments.get("max_priority").and_then(Value::as_i64);
    queue.queue_arguments = arguments.get("queue_arguments").and_then(Value::as_map).cloned();
    log::info!(queue = name; "Started consuming from {name}");
    panel.worker().add_queue(queue);
    Ok(ok(format!("add consumer {name}")))
}

pub(super) fn cancel_consumer(panel: &Panel, arguments: &Arguments) -> Answer {
    let name = arguments.text("queue").ok_or_else(|| Failed::raised("TypeError", "queue must be text"))?;
    log::info!(queue = name; "Canceling queue {name}");
    panel.worker().cancel_queue(name);
    Ok(ok(format!("no longer consuming from {name}")))
}
