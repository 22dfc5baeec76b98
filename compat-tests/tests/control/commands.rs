//! The table of remote control's commands beside Celery's own.

use std::collections::BTreeMap;

use celeriac::control::{ArgumentKind, COMMANDS, CommandKind, CommandSpec};
use compat_tests::PythonEnv;
use serde_json::{Value as Json, json};

/// Prints what Celery knows of each command: its decorator's options, and the signature of its function.
const THEIRS: &str = r"
import inspect, json
from celery.worker.control import Panel
def spec(name, meta):
    parameters = list(inspect.signature(Panel.data[name]).parameters.values())[1:]
    named = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
    return {
        'alias': meta.alias,
        'kind': meta.type,
        'is_visible': meta.visible,
        'arguments': [[p.name, p.default is p.empty] for p in named],
        'takes_others': len(named) < len(parameters),
        'places': [[name, kind.__name__] for name, kind in meta.args or []],
        'rest': meta.variadic,
        'usage': meta.signature or '',
    }
print(json.dumps({name: spec(name, meta) for name, meta in Panel.meta.items()}))
";

/// The Python function that reads an argument from the command line.
fn reader(spec: &CommandSpec, name: &str) -> &'static str {
    match spec.argument(name).map(|argument| argument.kind) {
        Some(ArgumentKind::Integer) => "int",
        Some(ArgumentKind::Float) => "float",
        Some(ArgumentKind::Flag) => "strtobool",
        Some(ArgumentKind::Text) => "str",
        other => panic!("{}: {name} is {other:?} and taken by place", spec.name),
    }
}

fn ours(spec: &CommandSpec) -> Json {
    let arguments: Vec<Json> =
        spec.arguments.iter().map(|argument| json!([argument.name, argument.is_required])).collect();
    let places: Vec<Json> = spec.places.iter().map(|name| json!([name, reader(spec, name)])).collect();
    json!({
        "alias": spec.alias,
        "kind": match spec.kind { CommandKind::Inspect => "inspect", CommandKind::Control => "control" },
        "is_visible": spec.is_visible,
        "arguments": arguments,
        "takes_others": spec.takes_others,
        "places": places,
        "rest": spec.rest,
        "usage": spec.usage,
    })
}

#[test]
fn names_and_arguments_are_celerys() {
    let printed = PythonEnv::get().script(THEIRS).run().success();
    let theirs: BTreeMap<String, Json> = serde_json::from_str(&printed).unwrap();
    assert!(theirs.len() > 25, "{theirs:?}");
    let ours: BTreeMap<String, Json> = COMMANDS
        .iter()
        .filter(|spec| spec.is_celerys)
        .map(|spec| (spec.name.to_owned(), self::ours(spec)))
        .collect();
    for (name, command) in &theirs {
        assert_eq!(ours.get(name), Some(command), "{name}");
    }
    assert_eq!(ours.len(), theirs.len(), "a command that Celery does not have");
}
