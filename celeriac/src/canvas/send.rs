//! Sending one task: options to a message.
//!
//! Source: celery 5.7 `send_task` in `celery/app/base.py`, `as_task_v2` in `celery/app/amqp.py`; samples
//! `vectors/messages`.

use crate::Timezone;
use chrono::{DateTime, FixedOffset, NaiveDateTime, TimeDelta, Utc};

use super::apply::take_add_to_parent;
use super::node::maybe_list;
use super::outcome::Outcome;
use super::routing::destination;
use super::{CanvasError, Effect, Outbox, Sender};
use crate::backend::ResultRef;
use crate::message::{
    Body, Compression, DeliveryInfo, Embed, Headers, Map, Message, Properties, Signature, TimeLimit, Value,
    parse_iso8601, repr_list,
};
use crate::task::TaskOptions;

/// Options that say how to publish or that mean something to a Python client only; none of them is in the message.
const UNSENT: [&str; 18] = [
    "confirm_timeout",
    "connection",
    "content_encoding",
    "content_type",
    "declare",
    "event_dispatcher",
    "immediate",
    "mandatory",
    "now",
    "producer",
    "publisher",
    "result_cls",
    "retry",
    "retry_policy",
    "router",
    "task_type",
    "timeout",
    "timezone",
];

/// As what a message shows its positional arguments.
pub(super) enum ShownArgs {
    Tuple,
    List,
}

/// Puts the message of one task into the outbox.
pub(super) fn send(
    task: &str,
    args: Vec<Value>,
    kwargs: Map,
    mut options: Map,
    shown_args: ShownArgs,
    sender: &Sender<'_>,
    outbox: &mut Outbox,
) -> Result<Outcome, CanvasError> {
    let config = sender.config;
    let local = (sender.tasks)(task);
    if let Some(local) = &local {
        add_task_options(&mut options, local, sender)?;
    }
    UNSENT.iter().for_each(|option| drop(options.shift_remove(*option)));
    let adds_to_parent = take_add_to_parent(&mut options);
    if let Some(id @ Value::Surrogates(_)) = options.get("task_id") {
        return Err(CanvasError::bad_option("task_id", id, "text without lone surrogates"));
    }
    let id = take_text(&mut options, "task_id").unwrap_or_else(|| (sender.new_id)());
    let shadow = take_text(&mut options, "shadow");
    let route_name = take_text(&mut options, "route_name");
    let ignore_result = match options.shift_remove("ignore_result") {
        Some(Value::Bool(flag)) => Some(flag),
        // Celery's own tasks are known everywhere.
        None if local.is_some() || task.starts_with("celery.") => {
            Some(local.as_ref().and_then(|local| local.ignore_result).unwrap_or(config.task_ignore_result))
        }
        _ => None,
    };
    let timelimit = TimeLimit {
        hard: take_number(&mut options, "time_limit")?,
        soft: take_number(&mut options, "soft_time_limit")?,
    };
    let times = Times::take(&mut options, sender)?;
    let embed = Embed {
        callbacks: take_signatures(&mut options, "link")?,
        errbacks: take_signatures(&mut options, "link_error")?,
        chain: take_signatures(&mut options, "chain")?,
        chord: take_signatures(&mut options, "chord")?.into_iter().next().map(Box::new),
    };
    let mut root_id = take_text(&mut options, "root_id");
    let mut parent_id = take_text(&mut options, "parent_id");
    let delivery_info = destination(route_name.as_deref().unwrap_or(task), &mut options, sender)?;
    if let Some(parent) = sender.parent.filter(|_| root_id.is_none() || parent_id.is_none()) {
        root_id.get_or_insert_with(|| parent.root_id().to_owned());
        parent_id.get_or_insert_with(|| parent.id.clone());
        if config.task_inherit_parent_priority
            && let Some(priority) = parent.properties.priority
        {
            options.entry("priority".to_owned()).or_insert_with(|| Value::from(priority));
        }
    }
    let serializer = take_text(&mut options, "serializer");
    let codec = sender.codecs.codec(serializer.as_deref().unwrap_or(config.task_serializer.as_str()))?;
    let compression = match take_text(&mut options, "compression") {
        Some(name) => Some(Compression::from_name(&name)?),
        None => config.task_compression,
    };

    let list = matches!(shown_args, ShownArgs::List).then(|| repr_list(&args));
    let mut message = Message::task(task, id.as_str(), Body { args, kwargs, embed }, codec, compression)?;
    let headers = &mut message.headers;
    // A secret body shows nothing.
    if let (Some(list), Some(shown)) = (list, headers.argsrepr.as_mut().filter(|shown| !shown.is_empty())) {
        *shown = list;
    }
    headers.shadow = shadow;
    headers.eta = times.eta.map(Value::Str);
    headers.expires = times.expires.map(Value::Str);
    headers.group = take_text(&mut options, "group_id");
    headers.group_index = options.shift_remove("group_index").and_then(|index| index.as_i64());
    headers.retries = take_count(&mut options, "retries");
    headers.timelimit = timelimit;
    headers.root_id = Some(root_id.unwrap_or_else(|| id.clone()));
    headers.parent_id = parent_id;
    headers.origin = Some(sender.origin.to_owned());
    // Given ones are sent as properties too, as Celery does.
    for (option, header) in [
        ("origin", &mut headers.origin),
        ("argsrepr", &mut headers.argsrepr),
        ("kwargsrepr", &mut headers.kwargsrepr),
    ] {
        if let Some(text) = options.get(option).cloned().and_then(Value::into_carried) {
            *header = Some(text);
        }
    }
    headers.ignore_result = ignore_result;
    headers.replaced_task_nesting = take_count(&mut options, "replaced_task_nesting");
    take_stamps(&mut options, headers);
    let mut custom = match options.shift_remove("headers") {
        Some(Value::Map(custom)) => custom,
        _ => Map::new(),
    };
    if !custom.is_empty() {
        let mut all = headers.to_map();
        all.append(&mut custom);
        *headers = Headers::from_map(all)?;
    }

    set_properties(&mut message.properties, options, times.expiration, delivery_info, sender)?;

    let sent_event = config.task_send_sent_event.then(|| sent_event(&message));
    outbox.push(Effect::Publish(Box::new(message)));
    outbox.effects.extend(sent_event.map(Effect::TaskSent));
    if adds_to_parent && sender.parent.is_some() {
        outbox.children.push(ResultRef::task(id.as_str()));
    }
    Ok(Outcome::task(id))
}

/// The properties of a message; options that nobody knows are among them.
fn set_properties(
    properties: &mut Properties,
    mut options: Map,
    expiration: Option<String>,
    delivery_info: DeliveryInfo,
    sender: &Sender<'_>,
) -> Result<(), CanvasError> {
    properties.reply_to =
        Some(take_text(&mut options, "reply_to").unwrap_or_else(|| sender.reply_to.to_owned()));
    properties.delivery_mode = match options.shift_remove("delivery_mode") {
        Some(Value::Int(1)) => 1,
        Some(Value::Int(2)) => 2,
        Some(Value::Str(name)) => {
            if name == "transient" {
                1
            } else {
                2
            }
        }
        _ => sender.config.task_default_delivery_mode.code(),
    };
    let priority = take_number(&mut options, "priority")?.unwrap_or_default();
    properties.priority = Some(priority.clamp(0.0, 255.0) as u8);
    properties.expiration = expiration;
    properties.delivery_info = delivery_info;
    properties.extra = options.into_iter().filter(|(_, value)| !value.is_null()).collect();
    Ok(())
}

/// Adds what a task that is known here declares about publishing (`Task._get_exec_options`, `Task.from_config`).
fn add_task_options(options: &mut Map, task: &TaskOptions, sender: &Sender<'_>) -> Result<(), CanvasError> {
    let config = sender.config;
    let seconds = |limit: Option<std::time::Duration>| limit.map(|limit| limit.as_secs_f64());
    let hard = task.time_limit.or(seconds(config.task_time_limit));
    let soft = task.soft_time_limit.or(seconds(config.task_soft_time_limit));
    if hard.zip(soft).is_some_and(|(hard, soft)| hard > 0.0 && soft > hard) {
        return Err(CanvasError::SoftLimitAboveHard);
    }
    let declared = [
        ("queue", Value::from(task.queue.clone())),
        ("routing_key", task.routing_key.clone().into()),
        ("exchange", task.exchange.clone().into()),
        ("priority", task.priority.or(config.task_default_priority).into()),
        ("expires", task.expires.into()),
        ("serializer", task.serializer.clone().into()),
        ("compression", task.compression.clone().into()),
        ("time_limit", hard.into()),
        ("soft_time_limit", soft.into()),
    ];
    for (option, value) in declared {
        if !value.is_null() {
            options.entry(option.to_owned()).or_insert(value);
        }
    }
    Ok(())
}

/// When a task is to run.
struct Times {
    /// Header `eta`, ISO 8601.
    eta: Option<String>,
    /// Header `expires`, ISO 8601.
    expires: Option<String>,
    /// Property `expiration`: milliseconds until it expires.
    expiration: Option<String>,
}

impl Times {
    fn take(options: &mut Map, sender: &Sender<'_>) -> Result<Self, CanvasError> {
        let timezone = sender.config.timezone.unwrap_or(Timezone::UTC);
        let countdown = take_number(options, "countdown")?.filter(|countdown| *countdown != 0.0);
        let eta = options.shift_remove("eta").filter(|eta| !eta.is_null());
        let eta = match (countdown, eta) {
            (Some(countdown), _) => Some(in_zone(after(sender.now, countdown), timezone)),
            (None, Some(eta)) => {
                Some(isoformat(&eta).ok_or_else(|| CanvasError::bad_option("eta", &eta, "a date and time"))?)
            }
            (None, None) => None,
        };
        let Some(expires) = options.shift_remove("expires").filter(|expires| !expires.is_null()) else {
            return Ok(Self { eta, expires: None, expiration: None });
        };
        let expires = match expires.as_f64() {
            Some(seconds) => in_zone(after(sender.now, seconds), timezone),
            None => isoformat(&expires)
                .ok_or_else(|| CanvasError::bad_option("expires", &expires, "seconds, or a date and time"))?,
        };
        let expiration = parse_iso8601(&expires, timezone).map(|moment| {
            let left = (moment - sender.now).num_microseconds().unwrap_or(i64::MAX);
            (left.max(0) / 1000).to_string()
        });
        Ok(Self { eta, expires: Some(expires), expiration })
    }
}

fn after(now: DateTime<Utc>, seconds: f64) -> DateTime<Utc> {
    let microseconds = (seconds * 1e6).round().clamp(-1e17, 1e17) as i64;
    now.checked_add_signed(TimeDelta::microseconds(microseconds)).unwrap_or(now)
}

fn in_zone(moment: DateTime<Utc>, timezone: Timezone) -> String {
    aware(&moment.with_timezone(&timezone).fixed_offset())
}

/// Python's `isoformat`; text stays as it is.
fn isoformat(value: &Value) -> Option<String> {
    match value {
        Value::Str(text) => Some(text.clone()),
        Value::DateTime(moment) => Some(aware(moment)),
        Value::NaiveDateTime(moment) => Some(naive(moment)),
        Value::Date(date) => Some(date.format("%Y-%m-%d").to_string()),
        _ => None,
    }
}

fn aware(moment: &DateTime<FixedOffset>) -> String {
    format!("{}{}", naive(&moment.naive_local()), moment.format("%:z"))
}

fn naive(moment: &NaiveDateTime) -> String {
    let has_fraction = moment.and_utc().timestamp_subsec_micros() > 0;
    moment.format(if has_fraction { "%Y-%m-%dT%H:%M:%S%.6f" } else { "%Y-%m-%dT%H:%M:%S" }).to_string()
}

/// Moves the stamps from the options into their headers.
fn take_stamps(options: &mut Map, headers: &mut Headers) {
    let Some(names) = options.shift_remove("stamped_headers").filter(|names| !names.is_null()) else {
        return;
    };
    let names: Vec<String> = maybe_list(Some(names)).into_iter().filter_map(Value::into_carried).collect();
    for name in &names {
        if let Some(stamp) = options.shift_remove(name) {
            headers.stamps.insert(name.clone(), stamp);
        }
    }
    headers.stamped_headers = Some(names);
}

fn sent_event(message: &Message) -> Map {
    let headers = message.headers.to_map();
    let destination = &message.properties.delivery_info;
    let mut fields = Map::new();
    for (field, header) in [
        ("uuid", "id"),
        ("root_id", "root_id"),
        ("parent_id", "parent_id"),
        ("name", "task"),
        ("args", "argsrepr"),
        ("kwargs", "kwargsrepr"),
        ("retries", "retries"),
        ("eta", "eta"),
        ("expires", "expires"),
    ] {
        fields.insert(field.to_owned(), headers.get(header).cloned().unwrap_or_default());
    }
    fields.insert("queue".to_owned(), Value::from(destination.routing_key.as_str()));
    fields.insert("exchange".to_owned(), Value::from(destination.exchange.as_str()));
    fields.insert("routing_key".to_owned(), Value::from(destination.routing_key.as_str()));
    fields
}

fn take_signatures(options: &mut Map, option: &str) -> Result<Vec<Signature>, CanvasError> {
    let signatures = maybe_list(options.shift_remove(option));
    signatures.iter().map(|signature| Ok(Signature::from_value(signature)?)).collect()
}

fn take_text(options: &mut Map, option: &str) -> Option<String> {
    match options.shift_remove(option) {
        Some(Value::Uuid(id)) => Some(id.to_string()),
        other => other?.into_carried().filter(|text| !text.is_empty()),
    }
}

fn take_number(options: &mut Map, option: &'static str) -> Result<Option<f64>, CanvasError> {
    match options.shift_remove(option) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_f64().filter(|number| number.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => Err(CanvasError::bad_option(option, &value, "a number")),
        },
    }
}

fn take_count(options: &mut Map, option: &str) -> u32 {
    let count = options.shift_remove(option).and_then(|count| count.as_i64()).unwrap_or_default();
    u32::try_from(count).unwrap_or_default()
}
