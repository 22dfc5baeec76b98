//! Text with lone surrogates in commands, their answers and events; patterns that are matched as in Python.

use serde_json::json;

use crate::stage::Stage;

#[test]
fn commands_answers_and_events_keep_lone_surrogates() {
    let stage = Stage::new();
    let _worker = stage.rust_worker("-n rs@host -Q rs -c 1 -E");
    let found = stage.script(
        r#"
import threading
name, half, events = "caf\udce9.txt", "\ud83d", []

def listen():
    with app.connection_for_read() as connection:
        app.events.Receiver(connection, handlers={"task-received": events.append}).capture(limit=None, timeout=None, wakeup=False)

threading.Thread(target=listen, daemon=True).start()

def told():
    app.send_task("tools.add", (1, 1), queue="rs", shadow=name, argsrepr=half).get(timeout=20)
    return events

wait_until("an event comes", told)
value = {"value": [name, {half: name}], name: half}
answer = app.control.broadcast("echo", arguments=value, destination=["rs@host"], reply=True, timeout=20, limit=1)
revoked = app.control.revoke(name, destination=["rs@host"], reply=True, timeout=20, limit=1)
nobody = app.control.broadcast("ping", destination=[name], reply=True, timeout=0.5)
show([ascii(answer), ascii(value), ascii([events[-1]["name"], events[-1]["args"]]), list(revoked[0]["rs@host"]), nobody])
"#,
    );
    assert_eq!(found[0], format!("[{{'rs@host': {}}}]", found[1].as_str().unwrap()));
    assert_eq!(found[2], r"['caf\udce9.txt', '\ud83d']");
    assert_eq!((&found[3], &found[4]), (&json!(["ok"]), &json!([])));
}

#[test]
fn patterns_are_those_of_python_and_wrong_ones_are_answered() {
    let stage = Stage::new();
    let _workers = ["a@host", "b@host"].map(|name| stage.rust_worker(&format!("-n {name} -Q {name} -c 1")));
    let found = stage.script(
        r#"
def ask_pattern(pattern, matcher, limit):
    answers = app.control.broadcast("ping", pattern=pattern, matcher=matcher, reply=True, timeout=20, limit=limit)
    return dict(sorted((node, answer) for answers in answers for node, answer in answers.items()))

show([ask_pattern(r"(?!a@).*@host$", "pcre", 1), ask_pattern(r".(?=@)", "pcre", 2), ask_pattern("(", "pcre", 2),
      ask_pattern("*", "sql", 2)])
"#,
    );
    let pong = json!({"ok": "pong"});
    assert_eq!(found[0], json!({"b@host": pong}));
    assert_eq!(found[1], json!({"a@host": pong, "b@host": pong}));
    for (index, part) in [
        (2, "error('the pattern \"(\" is no regular expression: "),
        (3, "MatcherNotInstalled('no matcher \"sql\""),
    ] {
        for node in ["a@host", "b@host"] {
            let text = found[index][node]["error"].as_str().unwrap_or_default();
            assert!(text.starts_with(part), "{}", found[index]);
        }
    }
}
