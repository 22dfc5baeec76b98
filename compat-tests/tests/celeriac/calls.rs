//! What the worker with the tasks of Celery's suite returns: calls that `map` and `starmap` make, numbers of any size.

use std::process::Command;

use compat_tests::{Process, PythonEnv, RedisServer, binary, secs};

const CALLS: &str = r#"
import os
from celery import Celery

app = Celery("client", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
named = lambda name: app.signature(name)
suite = lambda name: app.signature("t.integration.tasks." + name)

def outcome(canvas):
    try:
        return canvas.apply_async().get(timeout=60)
    except Exception as error:
        return type(error).__name__

@app.task(name="auto_retry_class_task")
def auto(): pass

@app.task(name="t.integration.tasks.retry_once")
def once(*args): pass

@app.task(name="t.integration.tasks.fail")
def fail(*args): pass

# Each call of a task is retried by itself, once by its own limit.
assert outcome(auto.starmap([(), (), ()])) == [1, 1, 1]
assert outcome(once.map([1, 2])) == [1, 1]
assert outcome(auto.chunks([(), (), ()], 2).group()) == [[1, 1], [1]]
assert outcome(fail.map([1, 2])) == "ExpectedException"

big = 2**63
sums = [(1, 2), (big - 1, 1), (-big, -1), (big, -big), (big, big), (10**40, -(10**40)), (True, 1), (1.5, big), (10**30, 0.5)]
for x, y in sums:
    found = outcome(suite("add").clone(args=(x, y)))
    assert (type(found), found) == (type(x + y), x + y), (x, y, found)
products = [(2, 3), (big, big), (-(2**40), 2**40), (2.5, 4), ("ab", 3), ([1], 2)]
for x, y in products:
    found = outcome(suite("mul").clone(args=(x, y)))
    assert (type(found), found) == (type(x * y), x * y), (x, y, found)
assert outcome(suite("add").clone(args=(10**400, 0.5))) == "OverflowError"
assert outcome(suite("add").clone(args=(1, "a"))) == "TypeError"
assert outcome(suite("xsum").clone(args=([big, [big, 1]],))) == 2 * big + 1
assert outcome(suite("add_pydantic").clone(args=({"x": big - 1, "y": big - 1},))) == {"result": 2 * (big - 1)}
"#;

#[test]
fn calls_in_a_map_are_retried_and_numbers_have_any_size() {
    let redis = RedisServer::start();
    let mut command = Command::new(binary("conformance-worker"));
    command.args(["-l", "info", "-c", "4"]);
    command.env("TEST_BROKER", redis.url()).env("TEST_BACKEND", redis.url());
    command.env("REDIS_HOST", "127.0.0.1").env("REDIS_PORT", redis.port().to_string());
    let mut worker = Process::spawn("conformance-worker", &command);
    worker.wait_for_line(" ready", secs(60));
    PythonEnv::get().script(CALLS).env("BROKER", redis.url()).deadline(secs(180)).run().success();
}
