//! The golden samples of the wire, read and written again (`compat-tests/vectors`).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use celeriac::Timezone;
use celeriac::message::{
    Accept, Body, BodyEncoding, Compression, Message, ProtocolError, Serializer, Signature, Value, envelope,
    json,
};
use serde_json::Value as Json;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../compat-tests/vectors")
}

fn read(path: &Path) -> Json {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn samples(folder: &str) -> Vec<(String, Json)> {
    let mut samples: Vec<_> = std::fs::read_dir(vectors().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), read(&path)))
        .collect();
    samples.sort_by(|(left, _), (right, _)| left.cmp(right));
    assert!(!samples.is_empty(), "no samples in {folder}");
    samples
}

fn task_messages() -> Vec<(String, String, Json)> {
    let samples = samples("messages").into_iter().flat_map(|(name, sample)| {
        let messages = sample["messages"].as_array().cloned().unwrap_or_default();
        messages
            .into_iter()
            .map(move |message| (name.clone(), message["raw"].as_str().unwrap().to_owned(), message))
    });
    let messages: Vec<_> = samples.collect();
    assert!(messages.len() > 50, "only {} task messages", messages.len());
    messages
}

fn sample(name: &str) -> Message {
    let messages = task_messages();
    let (_, raw, _) = messages.iter().find(|(sample, _, _)| sample == name).unwrap();
    envelope::decode(raw.as_bytes()).unwrap()
}

/// The texts under that key, at any depth.
fn texts(value: &Json, key: &str, found: &mut Vec<String>) {
    match value {
        Json::Object(entries) => {
            for (name, value) in entries {
                match value {
                    Json::String(text) if name == key => found.push(text.clone()),
                    _ => texts(value, key, found),
                }
            }
        }
        Json::Array(items) => items.iter().for_each(|item| texts(item, key, found)),
        _ => {}
    }
}

fn as_json(raw: &[u8]) -> Json {
    serde_json::from_slice(raw).unwrap()
}

#[test]
fn task_envelopes_are_written_as_they_were_read() {
    for (name, raw, _) in task_messages() {
        let message = envelope::decode(raw.as_bytes()).unwrap();
        assert_eq!(as_json(&envelope::encode(&message)), as_json(raw.as_bytes()), "{name}");
        let text = envelope::encode_with(&message, BodyEncoding::Text);
        let mut again = envelope::decode(&text).unwrap();
        assert_eq!(again, message, "{name} with its body as text");
        again.properties.delivery_info.redelivered = true;
        again.headers.redelivered = true;
        assert_eq!(envelope::decode(&envelope::encode(&again)).unwrap(), again, "{name} redelivered");
    }
}

#[test]
fn event_and_control_envelopes_are_written_as_they_were_read() {
    let mut raws = Vec::new();
    for (_, sample) in samples("events") {
        texts(&sample, "first_raw", &mut raws);
        texts(&sample, "raw", &mut raws);
    }
    for (_, sample) in samples("control") {
        texts(&sample, "request_raw", &mut raws);
    }
    assert!(raws.len() > 50, "only {} envelopes", raws.len());
    for raw in raws {
        let message = envelope::decode(raw.as_bytes()).unwrap();
        assert_eq!(as_json(&envelope::encode(&message)), as_json(raw.as_bytes()));
        assert_eq!(json::dumps(&message.payload(&Accept::default()).unwrap()).as_bytes(), message.body);
    }
}

#[test]
fn task_bodies_are_written_as_they_were_read() {
    for (name, raw, sample) in task_messages() {
        let message = envelope::decode(raw.as_bytes()).unwrap();
        if name == "pickle" || name.starts_with("proto1") {
            continue;
        }
        let payload = message.payload(&Accept::all()).unwrap();
        let body = message.body(&Accept::all()).unwrap();
        assert_eq!(body.to_value(), embed_in_order(payload.clone()), "{name}");
        if !sample["body_json"].is_null() && name != "typed_json" {
            assert_eq!(body.to_value(), Value::from(sample["body_json"].clone()), "{name}");
        }
        if message.content_type == "application/json" {
            let mut written = Vec::new();
            body.write_json(&mut written);
            assert_eq!(json::loads(&written).unwrap(), payload, "{name}");
            if message.headers.compression.is_none() {
                assert_eq!(written, message.body, "{name}");
            }
        }
        let serializer = Serializer::from_name(&message.content_type).unwrap();
        let compression =
            message.headers.compression.as_deref().map(|name| Compression::from_name(name).unwrap());
        let mut again = message.clone();
        again.set_body(&body, serializer, compression).unwrap();
        assert_eq!(again.headers, message.headers, "{name}");
        assert_eq!(again.into_task(&Accept::all()).unwrap().1, body, "{name}");
    }
}

/// PyYAML sorts keys.
fn embed_in_order(payload: Value) -> Value {
    Body::from_value(payload).unwrap().to_value()
}

#[test]
fn bodies_of_every_serializer_and_compression_are_read() {
    for name in ["gzip", "bzip2", "lzma", "brotli", "zstd"] {
        let message = sample(name);
        assert!(message.headers.compression.is_some(), "{name}");
        let body = message.body(&Accept::default()).unwrap();
        assert!(!body.args.is_empty(), "{name}");
    }
    for (name, accepted) in [("yaml", "yaml"), ("msgpack", "application/x-msgpack")] {
        let message = sample(name);
        let refused = message.body(&Accept::default()).unwrap_err();
        assert_eq!(refused, ProtocolError::ContentDisallowed { content_type: message.content_type.clone() });
        let body = message.body(&Accept::new([accepted]).unwrap()).unwrap();
        assert_eq!(body.args[0], Value::Int(2), "{name}");
    }
}

#[test]
fn pickle_is_refused_by_name() {
    let error = sample("pickle").payload(&Accept::all()).unwrap_err();
    assert_eq!(
        error,
        ProtocolError::ContentDisallowed { content_type: "application/x-python-serialize".to_owned() }
    );
    assert_eq!(
        Accept::new(["json", "pickle"]).unwrap_err(),
        ProtocolError::UnknownSerializer { name: "pickle".to_owned() }
    );
}

#[test]
fn messages_of_protocol_1_become_messages_of_protocol_2() {
    let mut count = 0;
    for (name, raw, sample) in task_messages().into_iter().filter(|(name, _, _)| name.starts_with("proto1")) {
        let (message, body) =
            envelope::decode(raw.as_bytes()).unwrap().into_task(&Accept::default()).unwrap();
        let old = &sample["body_json"];
        let headers = message.headers;
        assert_eq!(headers.task.as_deref(), old["task"].as_str(), "{name}");
        assert_eq!(headers.id.as_deref(), old["id"].as_str(), "{name}");
        assert_eq!(headers.group.as_deref(), old["taskset"].as_str(), "{name}");
        assert_eq!(
            headers.eta("Asia/Tokyo".parse::<Timezone>().unwrap()).unwrap().is_some(),
            !old["eta"].is_null(),
            "{name}"
        );
        assert_eq!(headers.timelimit.to_value(), Value::from(old["timelimit"].clone()), "{name}");
        assert_eq!(Value::List(body.args), Value::from(old["args"].clone()), "{name}");
        assert_eq!(Value::Map(body.kwargs), Value::from(old["kwargs"].clone()), "{name}");
        assert_eq!(body.embed.callbacks.len(), old["callbacks"].as_array().map_or(0, Vec::len), "{name}");
        assert_eq!(body.embed.chord.is_some(), !old["chord"].is_null(), "{name}");
        count += 1;
    }
    assert!(count >= 8);
}

#[test]
fn signatures_are_written_as_they_were_read() {
    let sample = read(&vectors().join("messages/signatures.json"));
    for (name, signature) in sample["signatures"].as_object().unwrap() {
        let value = Value::from(signature.clone());
        let read = Signature::from_value(&value).unwrap();
        assert_eq!(json::dumps(&read.to_value()), json::dumps(&value), "{name}");
        let kind = signature["subtask_type"].as_str();
        assert_eq!((read.is_chain(), read.is_group(), read.is_chord()), {
            (kind == Some("chain"), kind == Some("group"), kind == Some("chord"))
        });
    }
}

#[test]
fn a_new_task_message_is_that_of_celerys_client() {
    let expected = sample("simple");
    let body = Body { args: vec![2.into(), 2.into()], ..Body::default() };
    let id = expected.headers.id.clone().unwrap();
    let mut message = Message::task("vec.add", id, body, Serializer::Json, None).unwrap();
    let own = message.headers.origin.clone().unwrap();
    assert!(own.starts_with(&format!("gen{}@", std::process::id())), "{own}");
    assert_ne!(message.properties.delivery_tag, "");
    message.headers.origin = expected.headers.origin.clone();
    message.properties.delivery_tag = expected.properties.delivery_tag.clone();
    message.properties.reply_to = expected.properties.reply_to.clone();
    message.properties.delivery_info = expected.properties.delivery_info.clone();
    assert_eq!(message, expected);
    let raw = task_messages().into_iter().find(|(name, _, _)| name == "simple").unwrap().1;
    assert_eq!(String::from_utf8(envelope::encode(&message)).unwrap(), raw);
}

#[test]
fn display_texts_are_those_of_celerys_client() {
    // Those without a tuple inside their arguments: tuples became lists on the wire.
    for name in ["simple", "kwargs_unicode", "typed_json", "yaml", "chord", "stamped", "gzip"] {
        let message = sample(name);
        let body = message.body(&Accept::all()).unwrap();
        let again = Message::task("t", "i", body, Serializer::Json, None).unwrap();
        assert_eq!(again.headers.argsrepr, message.headers.argsrepr, "{name}");
        assert_eq!(again.headers.kwargsrepr, message.headers.kwargsrepr, "{name}");
    }
}

#[test]
fn a_restored_message_differs_in_the_flags_only() {
    for (name, raw, _) in task_messages() {
        let marked = envelope::mark_redelivered(raw.as_bytes()).unwrap();
        let mut expected = as_json(raw.as_bytes());
        expected["headers"]["redelivered"] = true.into();
        expected["properties"]["delivery_info"]["redelivered"] = true.into();
        assert_eq!(as_json(&marked), expected, "{name}");
        assert_eq!(envelope::mark_redelivered(&marked).unwrap(), marked, "{name}");
        let message = envelope::decode(&marked).unwrap();
        assert!(message.headers.redelivered && message.properties.delivery_info.redelivered);
    }
    let odd = br#"{"headers": {"redelivered": false, "x": [{}]}, "properties": {"a": 1}}"#;
    let marked = br#"{"headers": {"redelivered": true, "x": [{}]}, "properties": {"a": 1}}"#;
    assert_eq!(envelope::mark_redelivered(odd).unwrap(), marked);
    assert!(envelope::mark_redelivered(b"[]").is_err());
    assert!(envelope::mark_redelivered(b"no").is_err());
}

#[test]
fn poison_gives_the_error_that_names_it() {
    let sample = read(&vectors().join("poison/cases.json"));
    let cases = sample["cases"].as_array().unwrap();
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let raw = case["raw"].as_str().unwrap().as_bytes();
        let result = envelope::decode(raw).and_then(|message| message.into_task(&Accept::default()));
        let result = result
            .and_then(|(message, body)| message.headers.expires(Timezone::UTC).map(|_| (message, body)));
        let text = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
        match (name, &result) {
            ("missing_id", Err(ProtocolError::BadHeader { name, task, .. })) => {
                assert_eq!((name.as_str(), task.as_deref()), ("id", Some("vec.add")));
            }
            ("wrong_pair", Err(ProtocolError::BadBody { .. })) => {
                assert!(text.contains("a list of 2"), "{text}")
            }
            ("kwargs_list" | "args_null", Err(ProtocolError::BadBody { .. })) => {}
            ("expires_number", Err(ProtocolError::BadTime { .. })) => {
                assert!(text.contains("1234.5"), "{text}")
            }
            ("content_type_text", Err(ProtocolError::ContentDisallowed { .. })) => {}
            ("not_json_entry", Err(ProtocolError::NotJson { .. })) => {}
            ("no_delivery_tag", Err(error @ ProtocolError::BadEnvelope { field, .. })) => {
                assert_eq!(*field, "properties.delivery_tag");
                assert_eq!((error.task_id(), error.task_name()), (Some("p11"), Some("vec.add")));
            }
            ("unknown_type_marker", Err(ProtocolError::UnknownType { name })) => assert_eq!(name, "zzz"),
            // Of protocol 1 it would run: the body of this one names no task.
            ("headers_null", Err(ProtocolError::BadHeader { name, .. })) => assert_eq!(name, "task"),
            (
                "body_object" | "embed_null" | "timelimit_null" | "retries_missing_eta_Z",
                Ok((message, body)),
            ) => {
                assert_eq!(message.headers.task.as_deref(), Some("vec.add"));
                assert_eq!(body.args, [1, 2].map(Value::Int), "{name}");
            }
            _ => panic!("{name} gave {result:?}"),
        }
    }
    assert!(cases.len() >= 13);
}
