//! Arguments that do not fit fail before the task's own code runs, in words that name the argument and what it should be.

use serde_json::json;

use crate::stage::Stage;

#[test]
fn unknown_and_malformed_arguments_from_python_fail_before_the_task_runs() {
    let stage = Stage::new();
    let _worker = stage.worker(&[]);
    let found = stage.script(
        r#"
def failure(name, *args, **kwargs):
    result = app.send_task("typed." + name, args, kwargs)
    found = outcome(result)
    return [found, result.state]
size = {"width": 1, "height": 2}
print(json.dumps([
    failure("add", 1, "two"),
    failure("add", 1),
    failure("add", 1, 2, 3),
    failure("add", 1, 2, z=3),
    failure("add", 1, y=2, x=3),
    failure("write", "mark", {"width": 1, "height": "tall"}),
    failure("write", "mark", {"width": 1}),
    failure("write", "mark", dict(size, depth=3)),
    failure("write", "mark", dict(size, unit="mile")),
    failure("write", ["mark"], size),
    failure("write", "mark", 7),
    failure("resize", "no-uuid", size),
    failure("resize", str(uuid.UUID(int=1)), size, quality=256),
    failure("notify", "tomorrow"),
    failure("notify", "2030-01-01T00:00:00Z", "a", 7),
    failure("notify", "2030-01-01T00:00:00Z", a="heavy"),
    os.path.exists("mark"),
    failure("write", "mark", size)[0],
    os.path.exists("mark"),
    failure("write", "caf\udce9.txt", size),
    failure("notify", "2030-01-01T00:00:00Z", **{"\ud83d": "heavy"}),
]))"#,
    );
    let expected = [
        ("add", ["add() argument 'y'", "expected an integer"]),
        ("too few", ["add() missing 1 required positional argument: 'y'", ""]),
        ("too many", ["add() takes 2 positional arguments but 3 were given", ""]),
        ("unknown", ["add() got an unexpected keyword argument 'z'", ""]),
        ("twice", ["add() got multiple values for argument 'x'", ""]),
        ("field", ["write() argument 'size'", "expected an integer"]),
        ("missing field", ["write() argument 'size'", "height"]),
        ("unknown field", ["write() argument 'size'", "depth"]),
        ("variant", ["write() argument 'size'", "percent"]),
        ("list", ["write() argument 'path'", "string"]),
        ("number", ["write() argument 'size'", "Size"]),
        ("uuid", ["resize() argument 'id'", "UUID"]),
        ("range", ["resize() argument 'quality'", "(u8)"]),
        ("time", ["notify() argument 'at'", "tomorrow"]),
        ("args", ["notify() argument 'names'", "string"]),
        ("kwargs", ["notify() argument 'weights'", "a number"]),
    ];
    for (index, (what, parts)) in expected.iter().enumerate() {
        assert_eq!(found[index][1], "FAILURE", "{what}: {}", found[index]);
        assert_eq!(found[index][0][0], "builtins.TypeError", "{what}: {}", found[index]);
        let text = found[index][0][1].as_str().unwrap_or_default();
        assert!(parts.iter().all(|part| text.contains(part)), "{what}: {text}");
    }
    assert_eq!(found[16], false, "none of the calls above ran the task");
    assert_eq!(found[17], json!({"width": 1, "height": 2, "unit": null}));
    assert_eq!(found[18], true, "the mark tells a run");
    let text =
        r"write() argument 'path': expected a string, found 'caf\udce9.txt', which has a lone surrogate";
    assert_eq!(found[19], json!([["builtins.TypeError", text], "FAILURE"]));
    assert_eq!(found[20][1], "FAILURE", "{}", found[20]);
}
