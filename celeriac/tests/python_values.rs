//! Values against what Python and Celery make of them (`fixtures/python_values.py`).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use celeriac::message::repr::{repr, repr_args, repr_kwargs, saferepr};
use celeriac::message::{Value, json};
use serde_json::Value as Json;

fn cases() -> Vec<Json> {
    serde_json::from_str(include_str!("fixtures/python_values.json")).unwrap()
}

fn text<'a>(case: &'a Json, key: &str) -> &'a str {
    case[key].as_str().unwrap()
}

#[test]
fn json_is_written_as_kombu_writes_it() {
    for case in cases() {
        let expected = text(&case, "json");
        let value = json::loads(expected.as_bytes()).unwrap();
        assert_eq!(json::dumps(&value), expected);
    }
}

#[test]
fn repr_is_that_of_python() {
    for case in cases() {
        let value = json::loads(text(&case, "json").as_bytes()).unwrap();
        assert_eq!(repr(&value), text(&case, "repr"));
    }
}

#[test]
fn shortened_repr_is_that_of_celery() {
    for case in cases() {
        let value = json::loads(text(&case, "json").as_bytes()).unwrap();
        for (key, length) in [("saferepr", 1024), ("short", 40), ("tiny", 7)] {
            assert_eq!(saferepr(&value, length, 3), text(&case, key), "{length} of {value:?}");
        }
        match &value {
            Value::List(items) => assert_eq!(repr_args(items), text(&case, "args")),
            Value::Map(entries) => assert_eq!(repr_kwargs(entries), text(&case, "saferepr")),
            _ => {}
        }
    }
}
