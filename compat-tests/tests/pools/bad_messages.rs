//! Messages that cannot be read: each is refused with its reason in the log, and what follows runs at once.

use compat_tests::secs;
use serde_json::json;

use crate::bench::Bench;

/// Publishes a message with a body of one's own.
const RAW: &str = r#"
import base64, bz2, lzma, zlib
def raw(id, body, content_type="application/json", content_encoding="utf-8", task="pools.late", **headers):
    if isinstance(body, str):
        body = body.encode()
    envelope = {"body": base64.b64encode(body).decode(), "content-encoding": content_encoding, "content-type": content_type,
        "headers": {"lang": "py", "task": task, "id": id, "root_id": id, "parent_id": None, "group": None, "retries": 0,
                    "timelimit": [None, None], "argsrepr": "()", "kwargsrepr": "{}", "eta": None, "expires": None, **headers},
        "properties": {"correlation_id": id, "delivery_mode": 2, "delivery_tag": str(uuid.uuid4()), "priority": 0,
                       "body_encoding": "base64", "delivery_info": {"exchange": "", "routing_key": "celery"}}}
    redis.lpush("celery", json.dumps(envelope))
EMPTY = '[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
"#;

#[test]
fn each_kind_of_bad_message_is_refused_with_its_reason_and_nothing_stalls() {
    let bench = Bench::new();
    let mut worker = bench.worker("-c 1 --prefetch-multiplier 1 --celeriac-max-decompressed-bytes 16000000");
    let found = bench.script(&format!(
        r#"{RAW}
many = 10 ** 6
bomb = zlib.compressobj(9)
zeros = b" " * many
bomb = b"".join([bomb.compress(zeros) for _ in range(40)] + [bomb.flush()])
raw("bomb", bomb, compression="application/x-gzip")
raw("bomb_bzip2", bz2.compress(zeros * 40), compression="application/x-bz2")
raw("garbage", b"not compressed", compression="application/x-gzip")
raw("compression", EMPTY, compression="application/x-rar")
raw("deep", "[" * 100_000 + "]" * 100_000)
raw("deep_in_triple", "[[" + "[" * 5_000 + "]" * 5_000 + "], {{}}, {{}}]")
raw("type", EMPTY, content_type="application/x-strange")
raw("pickle", b"\x80\x04N.", content_type="application/x-python-serialize", content_encoding="binary")
raw("encoding", EMPTY, content_encoding="klingon")
raw("retries", EMPTY, retries="many")
raw("timelimit", EMPTY, timelimit={{"hard": 1}})
raw("group", EMPTY, group=[1, 2])
raw("eta", EMPTY, eta="tomorrow")
raw("expires", EMPTY, expires=[1])
raw("stamps", EMPTY, stamps="none", stamped_headers=3)
raw("triple", '{{"what": "is this"}}')
raw("kwargs", '[[], [1], {{}}]')
raw("utf8", b'[["\xff\xfe"], {{}}, {{}}]')
raw("early", '{{"what": "is this"}}', task="pools.worker_pid")
raw("unknown", EMPTY, task="no.such.task")
raw("large", b"[[\"" + b"x" * 100_000_000 + b"\"], {{}}, {{}}]", content_encoding="utf-8")
ran = outcome(call("late"), 240)
found = {{}}
for id in ("bomb", "bomb_bzip2", "garbage", "compression", "deep", "deep_in_triple", "type", "pickle", "encoding", "retries",
           "timelimit", "group", "eta", "expires", "stamps", "triple", "kwargs", "utf8", "large"):
    found[id] = outcome(app.AsyncResult(id), 10)
unregistered = outcome(app.AsyncResult("unknown"), 10)[0]
early = outcome(app.AsyncResult("early"), 10)[0]
metrics = [line.rsplit(" ", 1) for line in list(app.control.broadcast("metrics", reply=True, timeout=20, limit=1)[0].values())[0].splitlines() if not line.startswith('#')]
refused = {{name.split('reason="')[1][:-2]: int(count) for name, count in metrics if name.startswith("celeriac_messages_refused_total")}}
received = [count for name, count in metrics if name.startswith("celery_task_received_total")]
dead = [json.loads(letter) for letter in redis.lrange("celeriac.dead", 0, -1)]
early_body = [json.loads(base64.b64decode(letter["message"]))["body"] for letter in dead if b'pools.worker_pid' in base64.b64decode(letter["message"])]
print(json.dumps([ran, redis.llen("celery") == 0, redis.hlen("unacked"), found, unregistered, early, refused, len(received),
                  len(dead), [base64.b64decode(body).decode() for body in early_body]]))"#
    ));
    assert_eq!(found[0], json!(1), "{found}");
    assert_eq!((&found[1], &found[2]), (&json!(true), &json!(0)));
    for (id, outcome) in found[3].as_object().unwrap() {
        assert_eq!(outcome[0], "celery.exceptions.InvalidTaskError", "{id}: {outcome}");
    }
    assert_eq!(found[4], "celery.exceptions.NotRegistered");
    assert_eq!(found[5], "celery.exceptions.InvalidTaskError");
    assert_eq!(
        found[6],
        json!({
            "envelope": 0, "headers": 6, "content_type": 2, "encoding": 1, "compression": 1, "size": 3, "depth": 2,
            "body": 5, "trust": 0, "unregistered": 1,
        }),
        "each is counted under its reason"
    );
    assert_eq!(found[7], 2, "what a sender makes up gets no counter of its own");
    assert_eq!(found[8], 21, "each is a dead letter");
    assert_eq!(
        found[9],
        json!([r#"{"what": "is this"}"#]),
        "also one that was acknowledged before it was read"
    );
    let reason = |id: &str| found[3][id][1].as_str().unwrap_or_default();
    for (id, expected) in [
        ("bomb", "larger than"),
        ("bomb_bzip2", "larger than"),
        ("compression", "application/x-rar"),
        ("deep", "nested deeper"),
        ("deep_in_triple", "nested deeper"),
        ("type", "application/x-strange"),
        ("pickle", "application/x-python-serialize"),
        ("encoding", "klingon"),
        ("retries", "retries"),
        ("timelimit", "timelimit"),
        ("group", "group"),
        ("eta", "tomorrow"),
        ("large", "100000014 bytes"),
    ] {
        assert!(reason(id).contains(expected), "{id}: {}", reason(id));
    }
    assert!(worker.lines_with("Message rejected").len() >= 19, "each has its line in the log");
    assert!(worker.lines_with("[Pp]anick").is_empty());
    assert!(worker.terminate(secs(20)).success());
}
