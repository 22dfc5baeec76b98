//! Values to and from Rust types, and through every serializer.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap};

use celeriac::message::{
    Map, ProtocolError, Serializer, Value, envelope, from_value, from_value_ref, json, repr, to_value,
};
use celeriac::value;
use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

fn typed() -> Vec<Value> {
    let offset: DateTime<FixedOffset> = "2026-01-02T03:04:05.678901+02:00".parse().unwrap();
    vec![
        Value::DateTime(offset),
        Value::NaiveDateTime("2026-01-02T03:04:05".parse().unwrap()),
        Value::Date("2026-01-02".parse().unwrap()),
        Value::Time("03:04:05.000001".parse().unwrap()),
        Value::Decimal("10.50".to_owned()),
        Value::Uuid(Uuid::from_u128(0x1234)),
        Value::Bytes(b"abc".to_vec()),
        Value::Bytes(vec![0xff, 0xfe, 0]),
    ]
}

fn plain() -> Vec<Value> {
    vec![
        Value::Null,
        Value::Bool(true),
        Value::Int(-5),
        Value::Int(i64::MAX),
        Value::Float(1.5),
        Value::Float(f64::INFINITY),
        Value::Str("it's \u{1f600} \u{7f} \"quoted\" 2026-01-02".to_owned()),
        value!([1, [2, {"k": []}], {}]),
        value!({"": null, "yes": "no", "1": 1.0, "a: b": "- c # d"}),
    ]
}

fn all() -> Vec<Value> {
    let big = [
        "18446744073709551615",
        "-170141183460469231731687303715884105728",
        "340282366920938463463374607431768211456",
    ];
    let mut values: Vec<_> = plain().into_iter().chain(typed()).collect();
    values.extend(big.map(|digits| Value::BigInt(digits.to_owned())));
    let nested = Value::Map(Map::from_iter([("all".to_owned(), Value::List(values.clone()))]));
    values.push(nested);
    values
}

#[test]
fn a_value_stays_itself_through_serde() {
    for value in all() {
        assert_eq!(to_value(&value).as_ref(), Ok(&value));
        assert_eq!(from_value::<Value>(value.clone()).as_ref(), Ok(&value));
        assert_eq!(to_value(&Some(vec![value.clone()])), Ok(Value::List(vec![value.clone()])));
        assert_eq!(
            from_value::<Option<Value>>(value.clone()),
            Ok(Some(value.clone()).filter(|value| !value.is_null()))
        );
        assert_eq!(from_value_ref::<Value>(&value), Ok(value));
    }
    let nanos = Value::DateTime("2026-01-02T03:04:05.123456789+00:00".parse().unwrap());
    assert_eq!(to_value(&nanos), Ok(nanos));
}

#[test]
fn json_keeps_every_value() {
    for value in all() {
        assert_eq!(json::loads(json::dumps(&value).as_bytes()), Ok(value));
    }
}

#[test]
fn json_escapes_a_character_wherever_it_stands() {
    for special in ['"', '\\', '\n', '\u{1}', '\u{7f}', 'é', '😀'] {
        for place in 0..40 {
            let text = format!("{}{special}{}{special}", "a".repeat(place), "b".repeat(40 - place));
            let dumped = json::dumps(&Value::from(text.as_str()));
            assert!(dumped.is_ascii(), "{dumped}");
            assert_eq!(serde_json::from_str::<String>(&dumped).unwrap(), text, "{dumped}");
        }
    }
}

#[test]
fn other_formats_hold_typed_values_in_kombus_form() {
    for value in typed() {
        let text = serde_json::to_string(&value).unwrap();
        assert!(text.contains("__type__"), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert_eq!(json::loads(text.as_bytes()), Ok(value));
    }
}

#[test]
fn arguments_become_the_types_they_stand_for() {
    let uuid = Uuid::from_u128(0x1234);
    let moment: DateTime<Utc> = "2026-01-02T01:04:05.678901Z".parse().unwrap();
    for value in [Value::Uuid(uuid), uuid.to_string().into(), uuid.simple().to_string().into()] {
        assert_eq!(from_value::<Uuid>(value), Ok(uuid));
    }
    for value in
        [typed()[0].clone(), "2026-01-02T03:04:05.678901+02:00".into(), "2026-01-02T01:04:05.678901Z".into()]
    {
        assert_eq!(from_value::<DateTime<Utc>>(value), Ok(moment));
    }
    assert_eq!(from_value::<NaiveDateTime>(typed()[1].clone()).unwrap().to_string(), "2026-01-02 03:04:05");
    assert_eq!(from_value::<NaiveDate>(typed()[2].clone()).unwrap().to_string(), "2026-01-02");
    assert_eq!(from_value::<NaiveDate>("2026-01-02".into()).unwrap().to_string(), "2026-01-02");
    assert_eq!(from_value::<NaiveTime>(typed()[3].clone()).unwrap().to_string(), "03:04:05.000001");
    assert_eq!(from_value::<String>(typed()[4].clone()).as_deref(), Ok("10.50"));
    assert_eq!(from_value::<Vec<u8>>(typed()[7].clone()), Ok(vec![255, 254, 0]));
    assert_eq!(from_value::<Vec<u8>>(value!([1, 2])), Ok(vec![1, 2]));
    assert_eq!(from_value::<f64>(Value::Int(3)), Ok(3.0));
    assert_eq!(from_value::<u64>(Value::BigInt(u64::MAX.to_string())), Ok(u64::MAX));
    assert_eq!(from_value::<i128>(Value::BigInt(i128::MIN.to_string())), Ok(i128::MIN));
    assert_eq!(from_value::<(i32, String)>(value!([1, "x"])), Ok((1, "x".to_owned())));
    assert_eq!(from_value::<HashMap<i64, bool>>(value!({"-3": true})), Ok(HashMap::from([(-3, true)])));
    assert_eq!(from_value::<()>(Value::Null), Ok(()));
    assert_eq!(from_value::<serde_json::Value>(value!({"a": [1]})), Ok(serde_json::json!({"a": [1]})));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Shape {
    Point,
    Circle(f64),
    Rectangle { width: u32, height: u32 },
    Line(u8, u8),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: Uuid,
    #[serde(default)]
    note: Option<String>,
    shapes: Vec<Shape>,
    counts: BTreeMap<u8, i64>,
}

#[test]
fn rust_types_go_there_and_back() {
    let order = Order {
        id: Uuid::from_u128(7),
        note: None,
        shapes: vec![
            Shape::Point,
            Shape::Circle(1.0),
            Shape::Rectangle { width: 1, height: 2 },
            Shape::Line(3, 4),
        ],
        counts: BTreeMap::from([(1, -1)]),
    };
    let value = to_value(&order).unwrap();
    assert_eq!(
        value,
        value!({
            "id": "00000000-0000-0000-0000-000000000007",
            "note": null,
            "shapes": ["point", {"circle": 1.0}, {"rectangle": {"width": 1, "height": 2}}, {"line": [3, 4]}],
            "counts": {"1": -1},
        })
    );
    assert_eq!(from_value::<Order>(value), Ok(order));
}

#[test]
fn a_mismatch_says_what_was_expected_and_what_was_found() {
    fn error<T: serde::de::DeserializeOwned + std::fmt::Debug>(value: Value) -> String {
        from_value::<T>(value).unwrap_err().to_string()
    }
    assert_eq!(error::<i64>("abc".into()), "expected an integer, found 'abc'");
    assert_eq!(error::<u8>(300.into()), "expected an integer (u8), found 300");
    assert_eq!(error::<u32>((-1).into()), "expected an integer (u32), found -1");
    assert_eq!(error::<i64>(1.5.into()), "expected an integer, found 1.5");
    assert_eq!(error::<f64>(Value::Null), "expected a number, found None");
    assert_eq!(error::<bool>(1.into()), "expected a boolean, found 1");
    assert_eq!(error::<String>(value!([1])), "expected a string, found a list");
    assert_eq!(error::<Vec<i64>>("abc".into()), "expected a list, found 'abc'");
    assert_eq!(error::<Vec<i64>>(value!({})), "expected a list, found a mapping");
    assert_eq!(
        error::<i64>(Value::Uuid(Uuid::nil())),
        "expected an integer, found '00000000-0000-0000-0000-000000000000'"
    );
    assert_eq!(error::<(i64, i64)>(value!([1])), "expected a tuple of size 2, found 1 elements");
    assert_eq!(error::<(i64, i64)>(value!([1, 2, 3])), "expected fewer elements, found 3");
    assert_eq!(
        error::<i64>(Value::BigInt("9".repeat(50))),
        format!("expected an integer, found '{}'", "9".repeat(50))
    );
    assert!(error::<Shape>("dot".into()).contains("unknown variant `dot`"));
    assert!(error::<Shape>(3.into()).contains("found 3"));
    assert!(error::<Order>(value!({"id": "x"})).contains("UUID"));
    assert!(error::<Order>(value!({"id": Uuid::nil().to_string()})).contains("missing field `shapes`"));
}

#[test]
fn kombus_typed_values_are_read_exactly() {
    for (text, expected) in [
        (r#"{"__type__": "date", "__value__": "2026-01-02T03:04:05"}"#, Some(typed()[2].clone())),
        (
            r#"{"__type__": "datetime", "__value__": "2026-01-02T03:04:05Z"}"#,
            Some("2026-01-02T03:04:05Z".parse::<DateTime<Utc>>().unwrap().into()),
        ),
        (
            r#"{"__type__": "uuid", "__value__": {"hex": "00000000000000000000000000001234"}}"#,
            Some(typed()[5].clone()),
        ),
        (r#"{"__type__": "bytes", "__value__": "é"}"#, Some(Value::Bytes("é".into()))),
        (r#"{"__type__": "datetime", "__value__": "x"}"#, None),
        (r#"{"__type__": "datetime", "__value__": 5}"#, None),
        (r#"{"__type__": "decimal", "__value__": "ten"}"#, None),
        (r#"{"__type__": "uuid", "__value__": "no"}"#, None),
        (r#"{"__type__": "base64", "__value__": "?"}"#, None),
        (r#"{"__type__": "set", "__value__": []}"#, None),
        (r#"{"__type__": 5, "__value__": []}"#, None),
    ] {
        assert_eq!(json::loads(text.as_bytes()).ok(), expected, "{text}");
    }
    for untouched in [
        r#"{"__type__": "date"}"#,
        r#"{"__type__": "date", "__value__": "2026-01-02", "x": 1}"#,
        r#"{"__type__": "time", "__value__": "03:04:05+02:00"}"#,
    ] {
        let value = json::loads(untouched.as_bytes()).unwrap();
        assert!(value.as_map().is_some());
        assert_eq!(json::dumps(&value), untouched);
    }
}

#[test]
fn what_is_not_json_is_an_error() {
    for text in [
        "",
        " ",
        "{",
        "[1,]",
        "{\"a\": 1,}",
        "nul",
        "'a'",
        "01",
        "1 2",
        "\"a\nb\"",
        "{1: 2}",
        "\u{feff}1",
        "--1",
    ] {
        let result = json::loads(text.as_bytes());
        assert!(matches!(result, Err(ProtocolError::NotJson { .. })), "{text:?} gave {result:?}");
    }
    assert!(matches!(json::loads(b"\"\xff\""), Err(ProtocolError::NotJson { .. })));
    assert!(json::loads("9".repeat(5000).as_bytes()).is_err(), "Python takes 4300 digits at most");
    assert!(json::loads("9".repeat(4300).as_bytes()).is_ok());
}

/// A type that nests as deep as its value does.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Tree {
    Leaf(i64),
    List(Vec<Tree>),
    Map { a: Box<Tree> },
}

impl Tree {
    fn depth(&self) -> usize {
        let (mut depth, mut tree) = (0, self);
        loop {
            tree = match tree {
                Tree::Leaf(_) => return depth,
                Tree::List(items) => &items[0],
                Tree::Map { a } => a,
            };
            depth += 1;
        }
    }
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    std::thread::Builder::new()
        .stack_size(2 * 1024 * 1024)
        .spawn(|| {
            for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
                let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
                let value = json::loads(nested(1_200).as_bytes()).unwrap();
                assert_eq!(json::loads(json::dumps(&value).as_bytes()).unwrap(), value);
                assert_eq!(to_value(&value).unwrap(), value);
                assert_eq!(from_value::<Value>(value.clone()).unwrap(), value);
                assert_eq!(from_value::<Tree>(value.clone()).unwrap().depth(), 1_200);
                assert_eq!(to_value(&from_value::<Tree>(value.clone()).unwrap()).unwrap(), value);
                assert!(repr(&value).len() >= 2_400);
                assert!(!format!("{value:?}").is_empty());
                assert_eq!(serde_json::to_string(&value).unwrap().replace(' ', ""), nested(1_200));
                let value = json::loads(nested(1_000).as_bytes()).unwrap();
                for serializer in [Serializer::Msgpack, Serializer::Yaml] {
                    let bytes = serializer.dumps(&value).unwrap();
                    assert_eq!(serializer.loads(&bytes).unwrap(), value);
                }
                for depth in [1_201, 100_000] {
                    let text = nested(depth);
                    assert_eq!(json::loads(text.as_bytes()), Err(ProtocolError::TooDeep { limit: 1_200 }));
                    assert!(Serializer::Yaml.loads(text.as_bytes()).is_err());
                    assert!(
                        envelope::mark_redelivered(format!("{{\"headers\": {text}}}").as_bytes()).is_err()
                    );
                    let entry =
                        format!(r#"{{"x": {text}, "headers": {{"y": {text}, "id": "a", "task": "t"}}}}"#);
                    let error = envelope::decode(entry.as_bytes()).unwrap_err();
                    assert_eq!((error.task_id(), error.task_name()), (Some("a"), Some("t")), "{error}");
                }
            }
            let msgpack = [vec![0x91; 100_000], vec![0xc0]].concat();
            assert_eq!(Serializer::Msgpack.loads(&msgpack), Err(ProtocolError::TooDeep { limit: 1_200 }));
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn msgpack_and_yaml_keep_what_they_know() {
    let values = || plain().into_iter().chain([Value::Bytes(vec![0, 255])]);
    for serializer in [Serializer::Msgpack, Serializer::Yaml] {
        for value in values().chain([values().collect()]) {
            let bytes = serializer.dumps(&value).unwrap();
            assert_eq!(
                serializer.loads(&bytes),
                Ok(value),
                "{serializer:?} {}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }
    for value in &typed()[..3] {
        assert_eq!(Serializer::Yaml.loads(&Serializer::Yaml.dumps(value).unwrap()).as_ref(), Ok(value));
        assert!(matches!(Serializer::Msgpack.dumps(value), Err(ProtocolError::Encode { .. })));
    }
    assert!(matches!(Serializer::Yaml.dumps(&typed()[4]), Err(ProtocolError::Encode { .. })));
    // Neither knows kombu's typed values: such an object is left alone.
    let object = value!({"__type__": "date", "__value__": "2026-01-02"});
    for serializer in [Serializer::Msgpack, Serializer::Yaml] {
        assert_eq!(serializer.loads(&serializer.dumps(&object).unwrap()).as_ref(), Ok(&object));
    }
}

#[test]
fn yaml_is_read_as_pyyaml_reads_it() {
    let load = |text: &str| Serializer::Yaml.loads(text.as_bytes());
    let text = "- - 2\n  - \"\\xE9\"\n- {x: yes, y: 'yes', z: 0x1F, o: 017, s: 1:30, e: 1.5e+3, n: 1e3, u: ~, i: -.inf}\n- &a [1]\n- *a\n";
    assert_eq!(
        load(text).unwrap(),
        Value::List(vec![
            value!([2, "é"]),
            {
                let mut map = value!({"x": true, "y": "yes", "z": 31, "o": 15, "s": 90, "e": 1500.0, "n": "1e3", "u": null});
                if let Value::Map(entries) = &mut map {
                    entries.insert("i".to_owned(), Value::Float(f64::NEG_INFINITY));
                }
                map
            },
            value!([1]),
            value!([1]),
        ])
    );
    let moments = "[2026-01-02, 2026-01-02 03:04:05, 2026-01-02 03:04:05.678901+02:00, '2026-01-02', 12-34, 2026-01-02x]";
    assert_eq!(
        load(moments).unwrap(),
        Value::List(vec![
            typed()[2].clone(),
            typed()[1].clone(),
            typed()[0].clone(),
            "2026-01-02".into(),
            "12-34".into(),
            "2026-01-02x".into()
        ])
    );
    assert_eq!(
        load("a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  k: 3\n").unwrap().get("b"),
        Some(&value!({"k": 3, "l": 2}))
    );
    assert_eq!(load("!!binary aGk=").unwrap(), Value::Bytes(b"hi".to_vec()));
    assert_eq!(load("!!python/tuple [1, 2]").unwrap(), value!([1, 2]));
    assert_eq!(load("").unwrap(), Value::Null);
    for refused in [
        "!!python/object/apply:os.system ['x']",
        "!!python/name:os.system",
        "!x 1",
        "!!int x",
        "[1",
        "--- 1\n--- 2",
        "&a [*a]",
        "*b",
    ] {
        assert!(load(refused).is_err(), "{refused} gave {:?}", load(refused));
    }
    let bomb = (0..9).fold("a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned(), |text, level| {
        text + &format!("a{}: &a{} [{}]\n", level + 1, level + 1, vec![format!("*a{level}"); 10].join(","))
    });
    assert!(load(&bomb).is_err());
}
