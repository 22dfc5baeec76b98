//! The schema that workers serve, and the Python module made of it, before mypy and with Celery.

use compat_tests::{PythonEnv, secs};
use serde_json::{Value as Json, json};

use crate::stage::Stage;

#[test]
fn the_schema_is_served_to_python_and_on_the_command_line() {
    let stage = Stage::new();
    let worker = stage.worker(&[]);
    let served = stage.script(
        r#"
replies = app.control.broadcast("schema", reply=True, limit=1, timeout=20)
print(json.dumps(next(iter(replies[0].values()))))"#,
    );
    let shown = stage.run("celeriac", &["schema", "--timeout", "3"], &[]).success();
    let shown: Json = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(served, shown);

    let tasks = served["tasks"].as_object().expect("tasks by name");
    let names: Vec<&str> = tasks.keys().map(String::as_str).collect();
    assert_eq!(names, ["typed.add", "typed.anything", "typed.notify", "typed.resize", "typed.write"]);
    let add = &tasks["typed.add"];
    assert_eq!(add["description"], "The sum.\n\n Of two numbers.");
    assert_eq!((&add["options"]["acks_late"], &add["options"]["queue"]), (&json!(true), &json!("celery")));
    assert_eq!(add["returns"]["type"], "integer");
    let resize = &tasks["typed.resize"]["parameters"];
    assert_eq!((&resize[0]["name"], &resize[0]["kind"]), (&json!("id"), &json!("required")));
    assert_eq!(resize[0]["schema"]["format"], "uuid");
    assert_eq!(resize[1]["schema"]["$ref"], "#/$defs/Size");
    assert_eq!((&resize[2]["kind"], &resize[2]["default"]), (&json!("optional"), &json!(80)));
    assert_eq!(resize[3]["schema"]["type"], json!(["string", "null"]));
    assert_eq!(tasks["typed.notify"]["parameters"][1]["kind"], "var_args");
    assert_eq!(tasks["typed.anything"]["returns"], true);
    assert_eq!(served["$defs"]["Size"]["required"], json!(["width", "height"]));
    drop(worker);

    let silent = stage.run("celeriac", &["schema", "--timeout", "0.2"], &[]);
    assert_eq!(silent.status.code(), Some(69), "{silent}");
}

/// Calls that are right; each runs.
const RIGHT: &str = r#"
import datetime
import uuid
from proj import Size, add, anything, notify, resize, write

size: Size = {"width": 3, "height": 4, "unit": "percent"}
total: int = add.delay(1, 2).get(timeout=60)
text: str = resize.delay(uuid.UUID(int=7), size, label="x").get(timeout=60)
late: str = resize.s(str(uuid.UUID(int=7)), {"width": 3, "height": 4}, 90).apply_async(countdown=0.01).get(timeout=60)
told: list[object] = list(notify.delay(datetime.datetime(2030, 1, 1, tzinfo=datetime.timezone.utc), "a", "b", c=1.5).get(timeout=60))
written: Size = write.delay("mark", size).get(timeout=60)
found = [total, text, late, told, written, anything.delay([1]).get(timeout=60)]
"#;

/// Calls that are wrong, one a line.
const WRONG: &str = r#"
from proj import add, notify, resize, write
add.delay(1, "two")
add.delay(1)
add.s(1, 2, 3)
add.delay(1, z=2)
text: str = add.delay(1, 2).get()
resize.delay(7, {"width": 1, "height": 2})
write.delay("mark", {"width": 1})
write.delay("mark", {"width": 1, "height": 2, "unit": "mile"})
notify.delay("2030-01-01", 7)
"#;

#[test]
fn python_stubs_of_the_schema_let_mypy_find_wrong_calls_and_celery_make_right_ones() {
    let stage = Stage::new();
    let _worker = stage.worker(&[]);
    let module = stage.run("celeriac", &["schema", "--python", "--timeout", "3"], &[]).success();
    stage.write("proj.py", &format!("{module}\n"));
    stage.write("right.py", RIGHT);
    stage.write("wrong.py", WRONG);

    let mypy = |file: &str| {
        let arguments = [
            "-m",
            "mypy",
            "--strict",
            "--ignore-missing-imports",
            "--disable-error-code=import-untyped",
            file,
        ];
        PythonEnv::get().python(arguments).current_dir(stage.folder.path()).deadline(secs(120)).run()
    };
    let right = mypy("right.py");
    assert!(right.status.success(), "{right}\n{module}");
    let wrong = mypy("wrong.py");
    for line in 3..=11 {
        assert!(wrong.stdout.contains(&format!("wrong.py:{line}: error")), "line {line}: {wrong}");
    }
    assert!(!wrong.stdout.contains("proj.py:"), "{wrong}");

    let found = stage.script("from right import found\nprint(json.dumps(found))");
    let id = "00000000-0000-0000-0000-000000000007";
    let size = json!({"width": 3, "height": 4, "unit": "percent"});
    let expected = json!([
        3,
        format!("{id} 3x4 Percent 80 x"),
        format!("{id} 3x4 Pixel 90 "),
        ["2030-01-01T00:00:00+00:00", 2, 1.5],
        size,
        [1]
    ]);
    assert_eq!(found, expected);
}

/// Tasks whose names and parameters mean something else in Python or in the module, or are the same in it.
fn hostile() -> Json {
    let integer = json!({"type": "integer"});
    let list = json!({"type": "array", "items": integer});
    let of = |name: &str, kind: &str, schema: &Json| json!({"name": name, "kind": kind, "schema": schema});
    let required = |name: &str| of(name, "required", &integer);
    let task = |parameters: Json, returns: &Json| json!({"description": "A line.\rimport os", "parameters": parameters, "returns": returns, "options": {}});
    let either = json!({"anyOf": [
        {"type": "array", "items": {"type": ["integer", "string"]}},
        {"type": "object", "additionalProperties": {"type": ["integer", "string"]}},
        {"enum": ["a | b", "c"]}, {"const": 1.5},
    ]});
    json!({
        "$defs": {
            "Result": {"type": "object", "properties": {"class": integer, "next": {"$ref": "#/$defs/Result"}}},
            "my-size": {"type": "integer"}, "my_size": {"type": "string"}, "copy": {"type": "integer"},
        },
        "tasks": {
            "orders.list": task(json!([]), &list), "orders.get": task(json!([of("ids", "required", &list)]), &list),
            "x.celery": task(json!([required("n")]), &integer), "x.Result": task(json!([required("n")]), &json!({"$ref": "#/$defs/Result"})),
            "x.R": task(json!([]), &integer), "x.annotations": task(json!([]), &integer), "x.uuid": task(json!([]), &integer),
            "x.b": task(json!([required("n")]), &integer), "y.b": task(json!([of("n", "required", &json!({"type": "string"}))]), &integer),
            "x_b": task(json!([]), &integer), "_x_b": task(json!([]), &integer), "z.__init__": task(json!([]), &integer),
            "x.copy": task(json!([of("from", "var_args", &list)]), &integer), "copy": task(json!([]), &integer),
            "x.tag": task(json!([of("class", "var_kwargs", &json!({"type": "object", "additionalProperties": integer}))]), &integer),
            "x.all": task(json!([required("self"), required("from"), required("from_"), of("2²", "optional", &integer),
                                 required("größe"), of("args", "var_args", &list)]), &either),
            "x.ﬁle": task(json!([required("ﬁle")]), &json!({"$ref": "#/$defs/my-size"})), "x.²": task(json!([]), &json!({"$ref": "#/$defs/none"})),
            "quo\"te'\n.None": task(Json::Null, &integer), "": task(json!([]), &integer), "...": task(json!([]), &integer),
        },
    })
}

#[test]
fn stubs_of_hostile_names_can_be_imported_called_and_checked() {
    let stage = Stage::new();
    let schemas: celeriac::schema::Schemas = serde_json::from_value(hostile()).unwrap();
    stage.write("proj.py", &schemas.python());
    let call = r#"
import proj
tasks = [task for task in vars(proj).values() if isinstance(task, proj.Task)]
named = {task.name: task for task in tasks}
calls = [
    named["orders.get"].s([1]), named["x.celery"].s(n=1), named["x.all"].s(1, 2, 3, 4, größe=5), named["x.tag"].s(a=1),
    named["x.copy"].s(1, 2), named["x.all"].s(1, 2, 3, 4, 5, 6), named["x.b"].s(n=1),
]
print(json.dumps([sorted(named), [call.kwargs for call in calls]]))"#;
    let found = stage.script(call);
    let mut names: Vec<String> = hostile()["tasks"].as_object().unwrap().keys().cloned().collect();
    names.sort();
    assert_eq!(found[0], json!(names), "each task has a variable of its own");
    assert_eq!(found[1], json!([{}, {"n": 1}, {"größe": 5}, {"a": 1}, {}, {}, {"n": 1}]));
    let checked = PythonEnv::get()
        .python([
            "-m",
            "mypy",
            "--strict",
            "--ignore-missing-imports",
            "--disable-error-code=import-untyped",
            "proj.py",
        ])
        .current_dir(stage.folder.path())
        .deadline(secs(120))
        .run();
    assert!(checked.status.success(), "{checked}\n{}", schemas.python());
}
