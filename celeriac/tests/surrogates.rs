//! Text with lone surrogates goes through every part of a message as it came.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;

use celeriac::Timezone;
use celeriac::backend::{ExceptionInfo, TaskMeta};
use celeriac::message::{
    Accept, Headers, Map, Serializer, Value, envelope, from_value, json, repr, to_value,
};
use celeriac::value;
use serde::Deserialize;

fn read(text: &str) -> Value {
    json::loads(text.as_bytes()).unwrap()
}

/// `caf\udce9.txt`
fn name() -> Value {
    read(r#""caf\udce9.txt""#)
}

#[test]
fn an_envelope_is_written_as_it_was_read() {
    const BODY: &str = r#"[["caf\udce9.txt", {"\ud83d": "\udce9"}], {"x": "\ud83dx"}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#;
    let entry = r#"{"body": BODY, "content-encoding": "utf-8", "content-type": "application/json", "headers": {"lang": "py", "task": "t", "id": "1", "shadow": "caf\udce9", "eta": null, "expires": null, "group": "\udce9", "group_index": null, "retries": 0, "timelimit": [null, null], "root_id": "r\ud83d", "parent_id": "p\udce9", "argsrepr": "('caf\udce9',)", "kwargsrepr": "{'\udce9'}", "origin": "gen\udce9", "ignore_result": null, "replaced_task_nesting": 0, "stamped_headers": ["s\udce9"], "stamps": {"s\udce9": ["v\udce9\\"]}, "x\udce9\\": {"y\udce9": ["\udce9\ud83d\ude00"]}}, "properties": {"correlation_id": "c\udce9", "reply_to": "r\udce9", "custom\udce9": "\ud83d\ud83d", "delivery_mode": 2, "delivery_info": {"exchange": "", "routing_key": "celery"}, "priority": 0, "body_encoding": null, "delivery_tag": "d"}}"#;
    let mut body = Vec::new();
    json::write_str(BODY, &mut body);
    let entry = entry.replace("BODY", std::str::from_utf8(&body).unwrap());
    let message = envelope::decode(entry.as_bytes()).unwrap();
    let written = envelope::encode_with(&message, envelope::BodyEncoding::Text);
    assert_eq!(String::from_utf8(written).unwrap(), entry);
    let mut written = Vec::new();
    message.body(&Accept::default()).unwrap().write_json(&mut written);
    assert_eq!(String::from_utf8(written).unwrap(), BODY);
    let again = Headers::from_map(message.headers.to_map()).unwrap();
    assert_eq!(again, message.headers);
    assert!(message.headers.eta(Timezone::UTC).unwrap().is_none());
}

#[test]
fn ids_and_names_of_tasks_are_refused_by_name() {
    for (headers, found, id) in [
        (
            r#"{"task": "t", "id": "i\udce9"}"#,
            r"bad header id: expected text without lone surrogates, found 'i\udce9'",
            None,
        ),
        (
            r#"{"task": "t\udce9", "id": "1"}"#,
            r"bad header task: expected text without lone surrogates, found 't\udce9'",
            Some("1"),
        ),
    ] {
        let entry = format!(r#"{{"body": "", "headers": {headers}, "properties": {{"delivery_tag": "d"}}}}"#);
        let error = envelope::decode(entry.as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with(found), "{error}");
        assert_eq!(error.task_id(), id);
    }
}

#[test]
fn records_of_results_keep_it() {
    let mut meta = TaskMeta::decode("1", br#"{"status": "SUCCESS", "result": {"f\udce9": ["\udce9"]}, "traceback": "t\udce9", "children": [], "date_done": null, "parent_id": "p\udce9", "queue\udce9": "q\udce9", "task_id": "1"}"#).unwrap();
    let stored = String::from_utf8(meta.encode()).unwrap();
    assert_eq!(
        stored,
        r#"{"status": "SUCCESS", "result": {"f\udce9": ["\udce9"]}, "traceback": "t\udce9", "children": [], "date_done": null, "parent_id": "p\udce9", "queue\udce9": "q\udce9", "task_id": "1"}"#
    );
    let exception = ExceptionInfo::builtin("OSError", "").repr();
    assert_eq!(exception, "OSError('')");
    meta.result = read(r#"{"exc_type": "OSError", "exc_message": ["caf\udce9"], "exc_module": "builtins"}"#);
    let exception = ExceptionInfo::from_value(&meta.result);
    assert_eq!(exception.repr(), r"OSError('caf\udce9')");
    assert!(exception.traceback(None).ends_with("OSError: caf\\udce9\n"));
    assert_eq!(exception.to_value(), meta.result);
}

#[test]
fn it_is_shown_as_python_shows_it() {
    assert_eq!(repr(&name()), r"'caf\udce9.txt'");
    assert_eq!(repr(&read(r#"{"\ud83d'": ["\\\udce9\"'"]}"#)), r#"{"\ud83d'": ['\\\udce9"\'']}"#);
    assert_eq!(name().kind(), "str");
    assert_eq!(name().as_str(), None);
}

#[test]
fn values_hold_it_through_every_format_and_other_types_refuse_it() {
    let all = read(r#"{"k\udce9": ["caf\udce9.txt", {"a": "\ud83d"}, "plain"]}"#);
    assert_eq!(from_value::<Value>(all.clone()).unwrap(), all);
    assert_eq!(to_value(&Some([&all])).unwrap(), Value::List(vec![all.clone()]));
    let through_serde_json = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&through_serde_json).unwrap(), all);

    #[derive(Debug, Deserialize)]
    struct Typed {
        #[expect(dead_code)]
        path: String,
    }
    let found = r"found 'caf\udce9.txt', which has a lone surrogate";
    let cases = [
        ("a string", from_value::<String>(name()).unwrap_err()),
        ("a string", from_value::<Option<String>>(name()).unwrap_err()),
        ("a string", from_value::<Vec<String>>(Value::List(vec![name()])).unwrap_err()),
        ("an integer", from_value::<i64>(name()).unwrap_err()),
        ("path string", from_value::<std::path::PathBuf>(name()).unwrap_err()),
        ("a list", from_value::<Vec<u8>>(name()).unwrap_err()),
        (
            "a string",
            from_value::<Typed>(Value::Map(Map::from_iter([("path".to_owned(), name())]))).unwrap_err(),
        ),
        ("a string", from_value::<HashMap<String, i64>>(read(r#"{"caf\udce9.txt": 1}"#)).unwrap_err()),
    ];
    for (expected, error) in cases {
        assert_eq!(error.to_string(), format!("expected {expected}, {found}"));
    }
    assert!(from_value::<serde_json::Value>(name()).is_err());
    assert!(Serializer::Raw.dumps(&name()).is_err());
    // What looks like the carried form and is plain stays plain.
    let plain = read(r#"["\u0001lone surrogates\u0001\\udce9"]"#);
    assert_eq!(from_value::<Value>(plain.clone()).unwrap(), plain);
    assert_eq!(from_value::<Vec<String>>(plain).unwrap(), ["\u{1}lone surrogates\u{1}\\udce9"]);
    assert_eq!(value!(["x"]), from_value::<Value>(value!(["x"])).unwrap());
}
