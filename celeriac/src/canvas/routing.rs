//! Where a task is published to.
//!
//! Source: celery 5.7 `celery/app/routes.py` and `send_task_message` in `celery/app/amqp.py`.

use super::{CanvasError, Sender};
use crate::config::ExchangeType;
use crate::message::{DeliveryInfo, Map, Value};

/// Finds the destination and takes the options that say it; options of a matching route join the others.
pub(super) fn destination(
    name: &str,
    options: &mut Map,
    sender: &Sender<'_>,
) -> Result<DeliveryInfo, CanvasError> {
    let config = sender.config;
    let mut queue = take_text(options, "queue")?;
    if let Some(route) = config.task_routes.find(name) {
        for (option, value) in &route.options {
            if options.get(option).is_none_or(Value::is_null) && option != "queue" {
                options.insert(option.clone(), value.clone().into());
            }
        }
        queue = queue.or_else(|| route.queue().map(str::to_owned));
    } else if queue.is_none() {
        queue = Some(config.task_default_queue.clone());
    }
    let exchange = take_text(options, "exchange")?;
    let routing_key = take_text(options, "routing_key")?;
    let exchange_type = take_text(options, "exchange_type")?;
    if queue.is_none() && exchange.is_none() {
        queue = Some(config.task_default_queue.clone());
    }
    let find = |name: String| config.queue(&name).ok_or(CanvasError::UnknownQueue { queue: name });
    let queue = queue.map(find).transpose()?;
    let is_direct = match (&exchange_type, &queue) {
        (Some(name), _) => name == "direct",
        (None, Some(queue)) => queue.exchange_type == ExchangeType::Direct,
        (None, None) => true,
    };
    let (exchange, routing_key) = match (exchange, routing_key, queue) {
        (Some(exchange), Some(routing_key), _) => (exchange, routing_key),
        (_, _, Some(queue)) if is_direct => (String::new(), queue.name),
        (exchange, routing_key, Some(queue)) => {
            (exchange.unwrap_or(queue.exchange), routing_key.unwrap_or(queue.routing_key))
        }
        (exchange, routing_key, None) => (exchange.unwrap_or_default(), routing_key.unwrap_or_default()),
    };
    Ok(DeliveryInfo { exchange, routing_key, redelivered: false })
}

fn take_text(options: &mut Map, option: &'static str) -> Result<Option<String>, CanvasError> {
    match options.shift_remove(option) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Str(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        // A queue or exchange that a Python client wrote in full.
        Some(Value::Map(entries)) => match entries.get("name") {
            Some(Value::Str(name)) => Ok(Some(name.clone())),
            _ => Err(CanvasError::bad_option(option, &Value::Map(entries), "a name")),
        },
        Some(other) => Err(CanvasError::bad_option(option, &other, "a name")),
    }
}
