//! YAML against what PyYAML makes of it (`fixtures/yaml_scalars.py`), and within its bounds.

use celeriac::message::{Map, ProtocolError, Serializer, Value, json};
use celeriac::value;

fn load(text: &str) -> Result<Value, ProtocolError> {
    Serializer::Yaml.loads(text.as_bytes())
}

#[test]
fn plain_scalars_are_what_pyyaml_makes_of_them() {
    let scalars: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(include_str!("fixtures/yaml_scalars.json")).unwrap();
    assert!(scalars.len() > 900, "{}", scalars.len());
    for (text, expected) in scalars {
        let found = load(&format!("- {text}\n")).map(|list| json::dumps(&list.as_list().unwrap()[0]));
        match expected.as_str() {
            Some(expected) => assert_eq!(found.as_deref(), Ok(expected), "{text}"),
            None => assert!(found.is_err(), "{text} gave {found:?}"),
        }
        let is_text = expected.as_str().is_some_and(|shown| shown == format!("\"{text}\""));
        if is_text && !text.contains(": ") {
            let key = load(&format!("? {text}\n: 1\n")).unwrap();
            assert_eq!(key.as_map().unwrap().first(), Some((&text, &Value::Int(1))), "as a key");
        }
    }
}

#[test]
fn sets_pairs_and_ordered_mappings_are_lists() {
    assert_eq!(load("!!set {1: null, a: null, 2: null}").unwrap(), value!([1, "a", 2]));
    assert_eq!(load("!!set {? 1, ? a, ? 1}").unwrap(), value!([1, "a"]));
    assert_eq!(load("- !!set\n  ? x\n  ? y\n").unwrap(), value!([["x", "y"]]));
    assert_eq!(load("!!omap [1: a, {b: [2]}]").unwrap(), value!([[1, "a"], ["b", [2]]]));
    assert_eq!(load("!!pairs\n- a: 1\n- a: 2\n").unwrap(), value!([["a", 1], ["a", 2]]));
    for refused in ["!!omap {a: 1}", "!!pairs [{a: 1, b: 2}]", "!!omap [1]", "!!set [1]", "[=]", "[<<]"] {
        assert!(load(refused).is_err(), "{refused} gave {:?}", load(refused));
    }
    assert_eq!(load("{=: 1}").unwrap(), value!({"=": 1}));
}

#[test]
fn merged_entries_come_first_and_give_way() {
    for (text, expected) in [
        ("{b: 1, <<: {a: 2, b: 3}, c: 4}", r#"{"a": 2, "b": 1, "c": 4}"#),
        ("{<<: [{a: 1}, {a: 2, b: 2}], c: 3}", r#"{"a": 1, "b": 2, "c": 3}"#),
        ("{<<: {a: 1}, '<<': 2}", r#"{"a": 1, "<<": 2}"#),
    ] {
        assert_eq!(json::dumps(&load(text).unwrap()), expected, "{text}");
    }
    assert!(load("{<<: 1}").is_err());
    assert!(load("{<<: [[{a: 1}]]}").is_err());
}

#[test]
fn aliases_are_bound_by_the_memory_that_they_take() {
    let long = format!("[&a [{}], {}]", vec!["1"; 1_000].join(","), vec!["*a"; 150].join(","));
    let value = load(&long).unwrap();
    assert_eq!(value.as_list().unwrap().len(), 151);
    assert_eq!(value.as_list().unwrap()[150].as_list().unwrap().len(), 1_000);
    let bomb = (0..9).fold("a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned(), |text, level| {
        text + &format!("a{}: &a{} [{}]\n", level + 1, level + 1, vec![format!("*a{level}"); 10].join(","))
    });
    assert!(load(&bomb).unwrap_err().to_string().contains("128 MiB"));
    let text = format!("[&a \"{}\", {}]", "x".repeat(1 << 20), vec!["*a"; 200].join(","));
    assert!(load(&text).is_err(), "text counts as well");
}

#[test]
fn messagepack_refuses_lone_surrogates_by_name() {
    let name = json::loads(br#""caf\udce9""#).unwrap();
    let Value::Map(keyed) = json::loads(br#"{"caf\udce9": 1}"#).unwrap() else { panic!("no map") };
    let keyed = Value::Map(Map::from_iter([("outer".to_owned(), Value::Map(keyed))]));
    for value in [&name, &keyed] {
        let text = Serializer::Msgpack.dumps(value).unwrap_err().to_string();
        assert!(text.contains(r"'caf\udce9'") && text.contains("only json and yaml"), "{text}");
    }
}

/// What PyYAML 6 makes of each, as JSON; a pair of halves is one character there.
#[test]
fn escapes_of_lone_surrogates_are_read_and_written_as_pyyaml_does() {
    for (text, expected) in [
        (r#""\uDCE9""#, r#""\udce9""#),
        (r#""caf\udce9.txt""#, r#""caf\udce9.txt""#),
        (r#"!!str "\uD83D""#, r#""\ud83d""#),
        (
            r#"{"k\uDCE9": ["\uD83D\uDE00", "\uDE00\uD83D"]}"#,
            r#"{"k\udce9": ["\ud83d\ude00", "\ude00\ud83d"]}"#,
        ),
        // These are no escapes.
        (r"'\uDCE9'", r#""\\uDCE9""#),
        (r"a\udce9b", r#""a\\udce9b""#),
        (r#""\\uDCE9""#, r#""\\uDCE9""#),
        ("|\n  x\\uDCE9\n", r#""x\\uDCE9\n""#),
        (r#"["\uDCE9", '\uDCE9', "\u00e9"]"#, r#"["\udce9", "\\uDCE9", "\u00e9"]"#),
    ] {
        let value = load(text).unwrap();
        assert_eq!(json::dumps(&value), expected, "{text}");
        let written = Serializer::Yaml.dumps(&value).unwrap();
        assert_eq!(json::dumps(&Serializer::Yaml.loads(&written).unwrap()), expected, "{text} again");
    }
    let written = Serializer::Yaml.dumps(&json::loads(br#""caf\udce9.txt""#).unwrap()).unwrap();
    assert_eq!(written, b"\"caf\\uDCE9.txt\"\n");
    assert!(load(r#""\uDCE""#).is_err());
    // The marks that could stand for an escape are all in the text.
    assert!(load("- \"\\uDCE9\"\n- \u{10fffd}\u{10fffc}\u{ffffd}\u{ffffc}\n").is_err());
    let with_mark = load("- \"\\uDCE9\"\n- \u{10fffd}\n").unwrap();
    assert_eq!(with_mark.as_list().unwrap()[1], Value::from("\u{10fffd}"));
}
