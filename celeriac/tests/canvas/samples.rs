//! Each golden sample of a client's call, built here and compared field for field.

use std::fs;

use celeriac::canvas::{chain, chord, chunks, group, starmap};
use celeriac::message::{Message, Signature, Value, envelope};
use celeriac::value;
use chrono::{DateTime, NaiveDate};
use serde_json::Value as Json;

use crate::desk::{Desk, chord_sizes, messages, s, s0};
use crate::same::SameIds;

const ID: &str = "11111111-1111-4111-8111-111111111111";

fn sample(name: &str) -> Json {
    let path = format!("{}/../compat-tests/vectors/messages/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")))
        .unwrap()
}

/// The envelope with its body decoded.
fn ours(message: &Message) -> Json {
    let mut envelope: Json = serde_json::from_slice(&envelope::encode(message)).unwrap();
    envelope["body"] = serde_json::from_slice(&message.body).unwrap();
    envelope
}

fn check(name: &str, signature: Signature, options: Value) {
    let sample = sample(name);
    let desk = Desk::new();
    let outbox = desk.apply(signature, options);
    let messages = messages(&outbox);
    let expected = sample["messages"].as_array().unwrap();
    assert_eq!(messages.len(), expected.len(), "{name}: number of messages");
    let mut same = SameIds::default();
    for (index, (message, expected)) in messages.iter().zip(expected).enumerate() {
        let mut theirs = expected["envelope"].clone();
        theirs["body"] = expected["body_json"].clone();
        let mut ours = ours(message);
        for envelope in [&mut ours, &mut theirs] {
            envelope["properties"]["delivery_tag"] = Json::Null;
            sort(&mut envelope["headers"]["stamped_headers"]);
            sort_stamps(&mut envelope["body"]);
            // Python shows tuples where JSON has lists.
            if let Json::String(shown) = &mut envelope["headers"]["kwargsrepr"] {
                *shown = shown.replace(['(', ')', '[', ']'], "");
            }
        }
        same.assert(&format!("{name}[{index}]"), &ours, &theirs);
    }
    if let Some(keys) = sample["backend_keys_created_by_client"].as_object() {
        let mut sizes: Vec<usize> =
            keys.values().map(|key| key["value"].as_str().unwrap().parse().unwrap()).collect();
        let mut ours = chord_sizes(&outbox);
        sizes.sort_unstable();
        ours.sort_unstable();
        assert_eq!(ours, sizes, "{name}: sizes of chords");
    }
}

fn sort(names: &mut Json) {
    if let Json::Array(names) = names {
        names.sort_by_key(Json::to_string);
    }
}

fn sort_stamps(value: &mut Json) {
    match value {
        Json::Object(entries) => entries
            .iter_mut()
            .for_each(|(key, value)| if key == "stamped_headers" { sort(value) } else { sort_stamps(value) }),
        Json::Array(items) => items.iter_mut().for_each(sort_stamps),
        _ => {}
    }
}

fn with_id(options: Value) -> Value {
    let Value::Map(mut options) = options else { panic!("not a mapping") };
    options.insert("task_id".to_owned(), Value::from(ID));
    Value::Map(options)
}

fn one(option: &str, value: impl Into<Value>) -> Value {
    Value::Map([(option.to_owned(), value.into())].into_iter().collect())
}

#[test]
fn a_task_with_options_is_sent_as_celery_sends_it() {
    let add = || s("add", [1, 2]);
    let eta: DateTime<chrono::Utc> = "2026-01-01T12:05:00.250Z".parse().unwrap();
    let naive = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap().and_hms_opt(12, 5, 0).unwrap();
    check("simple", s("add", [2, 2]), with_id(value!({})));
    check("countdown", add(), with_id(value!({"countdown": 10})));
    check("eta_aware", add(), with_id(one("eta", eta)));
    check("eta_naive", add(), with_id(one("eta", Value::NaiveDateTime(naive))));
    check("expires_seconds", add(), with_id(value!({"expires": 30})));
    check("expires_datetime", add(), with_id(one("expires", eta)));
    check("priority_5", add(), with_id(value!({"priority": 5})));
    check("priority_9", add(), with_id(value!({"priority": 9})));
    check("custom_queue", add(), with_id(value!({"queue": "video"})));
    check("reply_to_explicit", add(), with_id(value!({"reply_to": "some-queue"})));
    check("time_limits", add(), with_id(value!({"time_limit": 60, "soft_time_limit": 30})));
    check("argsrepr", add(), with_id(value!({"argsrepr": "('***',)", "kwargsrepr": "{'pw': '***'}"})));
    check(
        "ignore_result_shadow",
        add(),
        with_id(value!({"ignore_result": true, "shadow": "pretty.name", "headers": {"x-custom": "v"}})),
    );
    check(
        "send_task_unregistered",
        Signature::new("other.task").args([1]).kwarg("a", 2),
        with_id(value!({})),
    );
}

#[test]
fn links_are_sent_as_celery_sends_them() {
    let linked = s("add", [1, 2]).link(s("mul", [10])).link(s("noop", ["x"]).immutable(true));
    check("link", linked, with_id(value!({})));
    let guarded = s0("fail").link_error(s0("errback_old")).link_error(s0("errback_new"));
    check("link_error", guarded, with_id(value!({})));
    let tasks = chain([s("add", [2, 2]), s("add", [4])]).link_error(s0("errback_old"));
    check("chain_link_error", tasks, value!({}));
}

#[test]
fn chains_groups_and_chords_are_sent_as_celery_sends_them() {
    let two = || [s("add", [1, 1]), s("add", [2, 2])];
    check("chain3", chain([s("add", [2, 2]), s("add", [4]), s("add", [8])]), value!({}));
    check("group3", group((0..3).map(|i| s("add", [i, i]))), value!({}));
    check("chord", chord(two(), s0("xsum")), value!({}));
    let header = group([s("add", [2]), s("add", [3])]);
    check("chord_in_chain", chain([s("add", [1, 1]), header, s0("xsum"), s("mul", [10])]), value!({}));
    let inner = chord(two(), s0("xsum"));
    check("chord_in_chord", chord([inner, s("add", [5, 5])], s0("xsum")), value!({}));
    let pairs = [(1, 2), (2, 3)].map(|(a, b)| chain([s("add", [a, a]), s("mul", [b])]));
    check("group_of_chains", group(pairs), value!({}));
    let first = group([chain([s("add", [1, 1]), s("add", [2])]), s("add", [3, 3])]);
    let last = group([s("add", [1]), s("mul", [2])]);
    check("nested_canvas", chain([first, s0("xsum"), last]), value!({}));
}

#[test]
fn maps_and_chunks_are_sent_as_celery_sends_them() {
    check("xmap", starmap(s0("add"), [vec![1, 2], vec![3, 4]]), with_id(value!({})));
    check("chunks", chunks(s0("add"), (0..4).map(|i| vec![i, i]), 2), value!({}));
}

#[test]
fn stamps_are_sent_as_celery_sends_them() {
    let stamps = || [("tenant", value!("acme")), ("trace", value!(["t1", "t2"]))];
    let linked = s("add", [1, 2]).link(s("mul", [3])).stamp(stamps());
    check("stamped", linked, with_id(value!({})));
    check("stamped_chain", chain([s("add", [1, 2]), s("mul", [3])]).stamp(stamps()), value!({}));
}

#[test]
fn unsent_signatures_look_as_in_python() {
    let signatures = sample("signatures")["signatures"].clone();
    let ours = |signature: Signature| -> Json {
        let text = celeriac::message::json::dumps(&signature.into());
        serde_json::from_str(&text).unwrap()
    };
    let two = || [s("add", [1, 1]), s("add", [2, 2])];
    for (name, signature) in [
        ("task", s("add", [2, 2])),
        ("immutable", s("add", [2, 2]).immutable(true)),
        ("with_options", s("add", [2]).queue("q").option("countdown", 3)),
        ("chain", s("add", [1, 1]) | s("add", [2])),
        ("group", group(two())),
        ("chord", chord(two(), s0("xsum"))),
        ("starmap", starmap(s0("add"), [vec![1, 2]])),
        ("chunks", chunks(s0("add"), [vec![1, 2], vec![3, 4]], 1)),
        ("linked", s("add", [1, 1]).link(s("mul", [2])).link_error(s0("errback_old"))),
    ] {
        assert_eq!(ours(signature), signatures[name], "{name}");
    }
}
