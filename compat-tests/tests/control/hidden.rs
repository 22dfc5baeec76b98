//! Arguments that the caller hides are shown nowhere: not in events, not in logs, not in answers.

use serde_json::json;

use crate::stage::Stage;

/// Collects every event; `listening` returns once they come.
const EVENTS: &str = r#"
import threading
events = []

def listen():
    with app.connection_for_read() as connection:
        app.events.Receiver(connection, handlers={"*": events.append}).capture(limit=None, timeout=None, wakeup=False)

threading.Thread(target=listen, daemon=True).start()

def seen(id, kind):
    return [event for event in events if event["type"] == kind and event.get("uuid") == id]

def listening():
    probe = add.apply_async((1, 1), queue="rs")
    probe.get(timeout=20)
    return seen(probe.id, "task-succeeded")

wait_until("events come", listening)
"#;

#[test]
fn hidden_arguments_stay_hidden_through_retries_replacements_and_links() {
    let stage = Stage::new();
    let worker = stage.rust_worker("-n rs@host -Q rs -c 2 -E");
    let found = stage.script(&format!(
        r#"{EVENTS}
from celery import chain
word, hidden = "s3cret", dict(argsrepr="<hidden>", kwargsrepr="<nothing>", queue="rs")

def secret(*args, **kwargs):
    return app.signature("tools.secret", args=args, kwargs=kwargs)

def end(result):
    try:
        return result.get(timeout=30)
    except Exception as error:
        return f"{{type(error).__name__}}: {{error}}"

ends = {{how: end(secret(how, word).apply_async(**hidden)) for how in ("done", "retry", "args", "exceeded", "replace", "canvas")}}
ends["keyword"] = end(secret(how="retry", word=word).apply_async(**hidden))
ends["empty"] = end(secret("retry", word).apply_async(argsrepr="", kwargsrepr="", queue="rs"))
ends["wrong type"] = end(app.send_task("tools.add", (word, 1), **hidden))
linked = add.s(1, 1).set(queue="rs", link=[secret("retry", word).set(immutable=True, task_id="linked", **hidden)])
end(linked.apply_async())
ends["link"] = end(app.AsyncResult("linked"))
ends["chain"] = end(chain(add.s(1, 1).set(queue="rs"), secret("retry", word).set(immutable=True, **hidden)).apply_async())
scheduled = secret("done", word).apply_async(countdown=600, task_id="scheduled", **hidden)
wait_until("it is scheduled", lambda: ask("scheduled", ["rs@host"])["rs@host"])
request = ask("scheduled", ["rs@host"])["rs@host"][0]["request"]
last = add.apply_async((2, 2), queue="rs")
wait_until("all events have come", lambda: seen(last.id, "task-succeeded"))
shown = {{(event["name"], event["args"], event["kwargs"]) for event in events if event["type"] == "task-received" and "secret" in event["name"]}}
show({{
    "ends": ends,
    "events that tell it": [event for event in events if word in str(event)],
    "shown": sorted(shown),
    "scheduled": [request["args"], request["kwargs"]],
    "received": len([event for event in events if event["type"] == "task-received" and "secret" in event["name"]]),
}})
"#
    ));
    let ends = &found["ends"];
    for how in ["done", "retry", "args", "replace", "canvas", "keyword", "empty", "link", "chain"] {
        assert_eq!(ends[how], 6, "{how}: {ends}");
    }
    let exceeded = ends["exceeded"].as_str().unwrap();
    assert!(exceeded.ends_with("args:<hidden> kwargs:<nothing>"), "{exceeded}");
    let wrong = ends["wrong type"].as_str().unwrap();
    assert!(wrong.ends_with("add() argument 'x': expected an integer"), "{wrong}");
    assert_eq!(found["events that tell it"], json!([]));
    assert_eq!(found["shown"], json!([["tools.secret", "", ""], ["tools.secret", "<hidden>", "<nothing>"]]));
    assert_eq!(found["received"], 21, "each run was seen");
    assert_eq!(found["scheduled"], json!(["<hidden>", "<nothing>"]));
    assert_eq!(worker.lines_with("s3cret"), [""; 0]);
}
