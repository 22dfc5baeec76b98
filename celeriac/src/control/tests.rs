//! The golden samples of remote control, captured from Celery 5.7.

use regex::Regex;
use serde_json::Value as Json;

use super::commands::COMMANDS;
use super::info::{QueueInfo, ScheduledTask, StoredTask, TaskInfo, WorkerStats};
use super::mailbox::{ReplyTo, Request};
use super::matcher::MatchError;
use crate::broker::ReplyAddress;
use crate::message::{Accept, Serializer, Value, envelope, from_value, to_value};

fn samples() -> Vec<(String, Json)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../compat-tests/vectors/control");
    let files = std::fs::read_dir(folder).unwrap();
    let samples: Vec<_> = files
        .map(|file| {
            let file = file.unwrap();
            let name = file.file_name().to_string_lossy().trim_end_matches(".json").to_owned();
            (name, serde_json::from_str(&std::fs::read_to_string(file.path()).unwrap()).unwrap())
        })
        .collect();
    assert!(samples.len() > 40);
    samples
}

fn sample(wanted: &str) -> Json {
    samples().into_iter().find(|(name, _)| name == wanted).unwrap().1
}

/// The answers of all nodes in a sample.
fn answers(name: &str) -> Vec<Value> {
    let replies = sample(name)["replies"].as_array().unwrap().clone();
    replies.iter().flat_map(|reply| reply.as_object().unwrap().values().cloned().map(Value::from)).collect()
}

#[test]
fn every_request_reads_and_writes_as_celerys() {
    for (name, sample) in samples() {
        let raw = sample["request_raw"].as_str().unwrap();
        let message = envelope::decode(raw.as_bytes()).unwrap();
        let request = Request::decode(&message, &Accept::default()).unwrap();
        assert_eq!(request.reply_to.is_some(), sample["request_body"].get("reply_to").is_some(), "{name}");
        let header =
            |name: &str| message.headers.extra.get(name).or(message.headers.expires.as_ref()).unwrap();
        let clock = message.headers.extra["clock"].as_i64().unwrap() as u64;
        let expires = header("expires").as_f64().unwrap();
        let ours = request.encode("celery.pidbox", clock, expires, Serializer::Json).unwrap();
        let mut ours: Json = serde_json::from_slice(&envelope::encode(&ours)).unwrap();
        let theirs: Json = serde_json::from_str(raw).unwrap();
        ours["properties"]["delivery_tag"] = theirs["properties"]["delivery_tag"].clone();
        assert_eq!(ours, theirs, "{name}");
    }
}

#[test]
fn every_reply_is_written_as_celerys() {
    let mut count = 0;
    for (name, sample) in samples() {
        for reply in sample.get("reply_raw").and_then(Json::as_array).into_iter().flatten() {
            let raw = reply["raw"].as_str().unwrap();
            let message = envelope::decode(raw.as_bytes()).unwrap();
            let info = &message.properties.delivery_info;
            let reply_to = ReplyTo {
                address: ReplyAddress {
                    exchange: info.exchange.clone(),
                    routing_key: info.routing_key.clone(),
                },
                ticket: message.headers.extra["ticket"].clone(),
            };
            assert_eq!(reply_to.address.queue(), reply["redis_key"].as_str().unwrap());
            let Value::Map(body) = message.payload(&Accept::default()).unwrap() else {
                panic!("{name}: no map")
            };
            let (node, answer) = body.into_iter().next().unwrap();
            let clock = message.headers.extra["clock"].as_i64().unwrap() as u64;
            let ours = reply_to.message(&node, answer, clock, Serializer::Json).unwrap();
            let mut ours: Json = serde_json::from_slice(&envelope::encode(&ours)).unwrap();
            let theirs: Json = serde_json::from_str(raw).unwrap();
            ours["properties"]["delivery_tag"] = theirs["properties"]["delivery_tag"].clone();
            assert_eq!(ours, theirs, "{name}");
            count += 1;
        }
    }
    assert!(count > 40);
}

#[test]
fn answers_have_the_shapes_of_celerys() {
    fn assert_same<T: serde::Serialize + serde::de::DeserializeOwned>(value: &Value) {
        let read: T = from_value(value.clone()).unwrap();
        assert_eq!(to_value(&read).unwrap(), *value);
    }
    for name in ["active", "active_safe", "reserved"] {
        answers(name).iter().for_each(assert_same::<Vec<TaskInfo>>);
    }
    answers("scheduled").iter().for_each(assert_same::<Vec<ScheduledTask>>);
    answers("active_queues").iter().for_each(assert_same::<Vec<QueueInfo>>);
    answers("query_task").iter().for_each(assert_same::<indexmap::IndexMap<String, StoredTask>>);
    let queues = to_value(&vec![QueueInfo::named("celery")]).unwrap();
    assert_eq!(queues, answers("active_queues")[0]);
    let stats: WorkerStats = from_value(answers("stats").remove(0)).unwrap();
    assert_eq!((stats.total["vec.add"], stats.autoscaler.unwrap().max, stats.pid), (2, 2, 20_039));
}

#[test]
fn only_those_who_are_meant_act() {
    let decode = |name: &str| {
        let message = envelope::decode(sample(name)["request_raw"].as_str().unwrap().as_bytes()).unwrap();
        Request::decode(&message, &Accept::default()).unwrap()
    };
    let everyone = decode("ping");
    assert_eq!(everyone.is_for("w1@vectors.example"), Ok(true));
    let one = decode("active_queues");
    assert_eq!(one.is_for("w1@vectors.example"), Ok(true));
    assert_eq!(one.is_for("w2@vectors.example"), Ok(false));
    let pattern = decode("ping_pattern_glob");
    assert_eq!(pattern.is_for("w2@vectors.example"), Ok(true));
    assert_eq!(pattern.is_for("w1@vectors.example"), Ok(false));
    let strange = Request { matcher: Some("sql".to_owned()), ..pattern };
    assert_eq!(strange.is_for("w1@vectors.example"), Err(MatchError::Unknown { matcher: "sql".to_owned() }));
}

#[test]
fn every_command_has_a_typed_method_that_sends_known_arguments() {
    let source = concat!(include_str!("inspect.rs"), include_str!("actions.rs"));
    let command = Regex::new(r#"(?:ask|request|broadcast)\(\s*"(\w+)""#).unwrap();
    let argument = Regex::new(r#"argument\("(\w+)"|\("(\w+)"\.to_owned\(\)"#).unwrap();
    let mut arguments = 0;
    for spec in COMMANDS.iter().filter(|spec| spec.is_visible) {
        let method = format!("pub async fn {}(", spec.name);
        let (_, body) = source.split_once(&method).unwrap_or_else(|| panic!("no {method}"));
        let body = body.split("pub async fn").next().unwrap();
        // Revoking goes through one function, and ending is revoking, as in Celery's client.
        let sent = command.captures(body).map_or("revoke", |found| found.get(1).unwrap().as_str());
        assert!(sent == spec.name || sent == "revoke", "{method} sends {sent}");
        let sent = COMMANDS.iter().find(|other| other.name == sent).unwrap();
        for found in argument.captures_iter(body) {
            let name = found.get(1).or(found.get(2)).unwrap().as_str();
            assert!(
                sent.argument(name).is_some(),
                "{method} sends {name}, which {} does not take",
                sent.name
            );
            arguments += 1;
        }
    }
    assert!(arguments > 20, "{arguments}");
}
