//! The requests that a worker holds.

use super::{Answer, Arguments, Failed, Panel};
use crate::control::info::{DeliveryInfo, ScheduledTask, TaskInfo};
use crate::message::{Map, Value, repr_args, repr_kwargs, to_value};
use crate::node::{Known, Stage, lock};

/// Priority of all timers that wait for an eta.
const TIMER_PRIORITY: i64 = 6;

pub(super) fn active(panel: &Panel, arguments: &Arguments) -> Answer {
    let safe = arguments.flag("safe");
    let active = held(panel).into_iter().filter(|known| matches!(known.stage, Stage::Active(_)));
    encode(&active.map(|known| info(panel, &known, safe)).collect::<Vec<_>>())
}

pub(super) fn reserved(panel: &Panel, _: &Arguments) -> Answer {
    let reserved = held(panel).into_iter().filter(|known| known.stage == Stage::Reserved);
    encode(&reserved.map(|known| info(panel, &known, false)).collect::<Vec<_>>())
}

pub(super) fn scheduled(panel: &Panel, _: &Arguments) -> Answer {
    let mut scheduled: Vec<_> = held(panel)
        .into_iter()
        .filter_map(|known| if let Stage::Scheduled(eta) = known.stage { Some((eta, known)) } else { None })
        .collect();
    scheduled.sort_by_key(|(eta, _)| *eta);
    let tasks = scheduled.iter().map(|(eta, known)| ScheduledTask {
        eta: Some(eta.to_rfc3339_opts(chrono::SecondsFormat::Micros, false)),
        priority: TIMER_PRIORITY,
        request: info(panel, known, false),
    });
    encode(&tasks.collect::<Vec<_>>())
}

pub(super) fn query_task(panel: &Panel, arguments: &Arguments) -> Answer {
    let ids = arguments.texts("ids");
    let held = held(panel);
    let mut found = Map::new();
    for id in ids {
        let Some(known) = held.iter().find(|known| known.headers.id.as_deref() == Some(&id)) else {
            continue;
        };
        let state = match known.stage {
            Stage::Active(_) => "active",
            Stage::Reserved => "reserved",
            Stage::Scheduled(_) => "scheduled",
        };
        found.insert(id, encode(&(state, info(panel, known, false)))?);
    }
    Ok(Value::Map(found))
}

pub(super) fn revoked(panel: &Panel, _: &Arguments) -> Answer {
    Ok(lock(&panel.state().revoked).ids().into_iter().map(Value::from).collect())
}

fn held(panel: &Panel) -> Vec<Known> {
    let mut held: Vec<_> =
        panel.state().requests().iter().map(|(serial, known)| (*serial, known.clone())).collect();
    held.sort_by_key(|(serial, _)| *serial);
    held.into_iter().map(|(_, known)| known).collect()
}

fn info(panel: &Panel, known: &Known, safe: bool) -> TaskInfo {
    let (headers, properties) = (&known.headers, &known.properties);
    let delivery = &properties.delivery_info;
    let task = headers.task.clone().unwrap_or_default();
    let is_shown = |shadow: &&String| !shadow.is_empty();
    let (args, kwargs) = arguments(panel, known, safe);
    let time_start = match known.stage {
        Stage::Active(started) => Some(started.timestamp_micros() as f64 / 1e6),
        _ => None,
    };
    TaskInfo {
        id: headers.id.clone().unwrap_or_default(),
        name: headers.shadow.as_ref().filter(is_shown).unwrap_or(&task).clone(),
        args,
        kwargs,
        task_type: task,
        hostname: Some(panel.state().hostname.clone()),
        time_start,
        acknowledged: known.acknowledged,
        delivery_info: DeliveryInfo {
            exchange: Some(delivery.exchange.clone()),
            routing_key: Some(delivery.routing_key.clone()),
            priority: properties.priority.map(i64::from),
            redelivered: Some(delivery.redelivered || headers.redelivered),
        },
        worker_pid: time_start.map(|_| panel.state().pid.into()),
    }
}

/// The arguments; as their `repr` when asked for safely, when they cannot be read, or when the caller hides them.
fn arguments(panel: &Panel, known: &Known, safe: bool) -> (Value, Value) {
    let headers = &known.headers;
    let body = if safe { None } else { known.body.decode(&panel.worker().codecs().accept_all()).ok() };
    // What the caller gave to be shown stands in the properties too, as Celery sends it.
    let is_given = |option: &str| known.properties.extra.contains_key(option);
    let (args, kwargs) = match body {
        Some(body) => (Some(Value::List(body.args)), Some(Value::Map(body.kwargs))),
        None => (None, None),
    };
    let args = args
        .filter(|_| !is_given("argsrepr"))
        .unwrap_or_else(|| headers.argsrepr.clone().unwrap_or_else(|| repr_args(&[])).into());
    let kwargs = kwargs
        .filter(|_| !is_given("kwargsrepr"))
        .unwrap_or_else(|| headers.kwargsrepr.clone().unwrap_or_else(|| repr_kwargs(&Map::new())).into());
    (args, kwargs)
}

fn encode<T: serde::Serialize>(answer: &T) -> Answer {
    to_value(answer).map_err(|error| Failed::raised("EncodeError", error.to_string()))
}
