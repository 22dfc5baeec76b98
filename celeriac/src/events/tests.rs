//! The golden samples of events, captured from Celery 5.7.

use std::time::Duration;

use serde_json::Value as Json;

use super::buffer::group_of;
use super::*;
use crate::backend::ExceptionInfo;
use crate::message::{Accept, Headers, Map, Message, Serializer, Value, envelope};

fn sample(name: &str) -> Json {
    let path = format!("{}/../compat-tests/vectors/events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")))
        .unwrap()
}

fn dispatcher() -> Dispatcher {
    let options = DispatcherOptions {
        hostname: "w1@vectors.example".to_owned(),
        clock: LogicalClock::default(),
        exchange: "celeryev".to_owned(),
        codec: Serializer::Json.into(),
        timezone: crate::Timezone::UTC,
    };
    Dispatcher::new(options, true)
}

/// What the dispatcher would publish: the message, and its events in the order of their keys.
fn published(dispatcher: &Dispatcher) -> (Message, Vec<Map>) {
    let (mut messages, dropped) = dispatcher.take(10);
    assert_eq!((messages.len(), dropped), (1, 0));
    let message = messages.remove(0);
    let events = events(&message);
    (message, events)
}

fn events(message: &Message) -> Vec<Map> {
    match message.payload(&Accept::default()).unwrap() {
        Value::List(events) => events.iter().map(|event| event.as_map().unwrap().clone()).collect(),
        event => vec![event.as_map().unwrap().clone()],
    }
}

/// The fields that differ from run to run; everything else must be equal.
fn without_the_moment(mut event: Map) -> Map {
    for name in ["utcoffset", "pid", "clock", "timestamp", "loadavg", "sw_ident", "sw_ver", "hostname"] {
        assert!(
            event.contains_key(name) || name.starts_with("sw_") || name == "loadavg",
            "{name} is missing"
        );
        if let Some(value) = event.get_mut(name) {
            *value = Value::Null;
        }
    }
    event
}

fn assert_like_celerys(sample_name: &str, index: usize, send: impl FnOnce(&Dispatcher)) {
    let dispatcher = dispatcher();
    send(&dispatcher);
    let (message, mut ours) = published(&dispatcher);
    let sample = sample(sample_name);
    let Value::Map(theirs) = Value::from(sample["events"][index].clone()) else { panic!("no event {index}") };
    let ours = ours.remove(0);
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{sample_name}");
    assert_eq!(without_the_moment(ours), without_the_moment(theirs), "{sample_name}");
    let group = group_of(sample_name);
    let routing_key = if group == "task" { "task.multi".to_owned() } else { sample_name.replace('-', ".") };
    assert_eq!(message.properties.delivery_info.routing_key, routing_key);
}

fn headers(event: &Json) -> Headers {
    let text = |name: &str| event[name].as_str().map(str::to_owned);
    Headers {
        id: text("uuid"),
        task: text("name"),
        argsrepr: text("args"),
        kwargsrepr: text("kwargs"),
        root_id: text("root_id"),
        parent_id: text("parent_id"),
        eta: text("eta").map(Value::Str),
        expires: text("expires").map(Value::Str),
        retries: event["retries"].as_u64().unwrap_or(0) as u32,
        ..Headers::default()
    }
}

#[test]
fn task_events_are_celerys_field_by_field() {
    for index in 0..4 {
        let headers = headers(&sample("task-received")["events"][index]);
        assert_like_celerys("task-received", index, |events| events.task_events(true).received(&headers));
    }
    let event = |name: &str, index: usize| sample(name)["events"][index].clone();
    let id = |event: &Json| event["uuid"].as_str().unwrap().to_owned();

    assert_like_celerys("task-started", 0, |events| {
        events.task_events(true).started(&id(&event("task-started", 0)))
    });

    let succeeded = event("task-succeeded", 0);
    let runtime = succeeded["runtime"].as_f64().unwrap();
    let result: Value = succeeded["result"].as_str().unwrap().parse::<i64>().map_or(Value::Null, Value::from);
    assert_like_celerys("task-succeeded", 0, |events| {
        events.task_events(true).succeeded(&id(&succeeded), &result, runtime)
    });

    let unknown = event("task-failed", 0);
    assert_like_celerys("task-failed", 0, |events| {
        events.task_events(true).failed(
            &id(&unknown),
            &ExceptionInfo::celery("NotRegistered", "no.such.task"),
            None,
        );
    });
    let failed = event("task-failed", 1);
    assert_like_celerys("task-failed", 1, |events| {
        events.task_events(true).failed(
            &id(&failed),
            &ExceptionInfo::builtin("ValueError", "boom"),
            failed["traceback"].as_str(),
        );
    });
    let retried = event("task-retried", 0);
    assert_like_celerys("task-retried", 0, |events| {
        let exception = ExceptionInfo::builtin("ValueError", "try again");
        events.task_events(true).retried(
            &id(&retried),
            Some(&exception),
            retried["traceback"].as_str().unwrap(),
        );
    });
    let rejected = event("task-rejected", 0);
    assert_like_celerys("task-rejected", 0, |events| events.task_events(true).rejected(&id(&rejected), true));
    for (index, (terminated, signum, expired)) in
        [(false, None, true), (true, Some(15), false), (false, None, false)].into_iter().enumerate()
    {
        let revoked = event("task-revoked", index);
        assert_like_celerys("task-revoked", index, |events| {
            events.task_events(true).revoked(&id(&revoked), terminated, signum, expired);
        });
    }
}

#[test]
fn worker_events_are_celerys_field_by_field() {
    for kind in ["worker-online", "worker-heartbeat", "worker-offline"] {
        let theirs = &sample(kind)["events"][0];
        let vitals = Vitals {
            frequency: theirs["freq"].as_f64().unwrap(),
            active: theirs["active"].as_u64().unwrap() as usize,
            processed: theirs["processed"].as_u64().unwrap(),
        };
        assert_like_celerys(kind, 0, |events| events.worker(kind, vitals));
    }
}

#[test]
fn a_batch_is_enveloped_as_celerys() {
    let dispatcher = dispatcher();
    let sample = sample("_multi_envelope");
    dispatcher.task_events(true).received(&headers(&sample["body"][0]));
    dispatcher.task_events(true).started("ev-expires");
    let (message, events) = published(&dispatcher);
    assert_eq!(events.len(), 2);
    let ours: Json = serde_json::from_slice(&envelope::encode(&message)).unwrap();
    let mut theirs = sample["envelope"].clone();
    for varying in ["/body", "/properties/delivery_tag"] {
        *theirs.pointer_mut(varying).unwrap() = ours.pointer(varying).unwrap().clone();
    }
    assert_eq!(ours, theirs);
    assert_eq!(format!("/0.celeryev/{}", message.properties.delivery_info.routing_key), sample["channel"]);
}

#[test]
fn a_sent_task_is_told_as_celerys_clients_do() {
    let theirs = &sample("task-sent")["events"][0];
    let Value::Map(mut fields) = Value::from(theirs.clone()) else { panic!("no map") };
    fields.retain(|name, _| {
        !["hostname", "utcoffset", "pid", "clock", "timestamp", "type"].contains(&name.as_str())
    });
    let message = dispatcher().message("task-sent", &fields).unwrap();
    let Value::Map(theirs) = Value::from(theirs.clone()) else { panic!("no map") };
    let ours = events(&message).remove(0);
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    assert_eq!(without_the_moment(ours), without_the_moment(theirs));
    assert_eq!(message.properties.delivery_info.routing_key, "task.sent");
}

#[test]
fn groups_that_are_off_send_nothing() {
    let dispatcher = dispatcher();
    assert!(dispatcher.set_task_events(false));
    assert!(dispatcher.set_worker_events(false));
    dispatcher.task_events(true).started("a");
    dispatcher.send("task-progress", &Map::from([("uuid".to_owned(), "a".into())]));
    dispatcher.worker("worker-heartbeat", Vitals::default());
    assert_eq!(dispatcher.waiting(), 0);
    assert!(!dispatcher.set_task_events(true));
    dispatcher.send(
        "task-progress",
        &Map::from([("uuid".to_owned(), "a".into()), ("percent".to_owned(), 5.into())]),
    );
    let (message, events) = published(&dispatcher);
    assert_eq!(message.properties.delivery_info.routing_key, "task.multi");
    assert_eq!((events[0]["type"].as_str(), events[0]["percent"].as_i64()), (Some("task-progress"), Some(5)));
    dispatcher.send("custom-event", &Map::new());
    assert_eq!(published(&dispatcher).0.properties.delivery_info.routing_key, "custom.event");
}

#[test]
fn times_are_numbers_with_a_fraction() {
    let text = |time| {
        let mut out = Vec::new();
        crate::message::json::write_seconds(time, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(text(Duration::from_secs(7)), "7.0");
    assert_eq!(text(Duration::new(1_795_000_000, 120_300_000)), "1795000000.1203");
    assert_eq!(text(Duration::from_nanos(42)), "0.000000042");
}
