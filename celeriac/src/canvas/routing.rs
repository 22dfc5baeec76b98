//! Where a task is published to.
//!
//! Source: celery 5.7 `celery/app/routes.py` and `send_task_message` in `celery/app/amqp.py`.

use super::{CanvasError, Sender};
use crate::config::{Config, ExchangeType};
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
    let queue = queue.map(|name| Queue::find(name, config)).transpose()?;
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

/// A queue with its binding.
struct Queue {
    name: String,
    exchange: String,
    exchange_type: ExchangeType,
    routing_key: String,
}

impl Queue {
    fn find(name: String, config: &Config) -> Result<Self, CanvasError> {
        let declared = config.task_queues.as_ref().and_then(|queues| queues.get(&name));
        if let Some(declared) = declared {
            return Ok(Self {
                exchange: declared.exchange.clone().unwrap_or_else(|| name.clone()),
                exchange_type: declared.exchange_type.unwrap_or(config.task_default_exchange_type),
                routing_key: declared.routing_key.clone().unwrap_or_else(|| name.clone()),
                name,
            });
        }
        if config.task_queues.is_none() && name == config.task_default_queue {
            return Ok(Self {
                exchange: config.task_default_exchange.clone().unwrap_or_else(|| name.clone()),
                exchange_type: config.task_default_exchange_type,
                routing_key: config.task_default_routing_key.clone().unwrap_or_else(|| name.clone()),
                name,
            });
        }
        if !config.task_create_missing_queues {
            return Err(CanvasError::UnknownQueue { queue: name });
        }
        Ok(Self {
            exchange: name.clone(),
            exchange_type: config.task_create_missing_queue_exchange_type.unwrap_or(ExchangeType::Direct),
            routing_key: name.clone(),
            name,
        })
    }
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
