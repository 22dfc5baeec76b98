//! The counters of chords: how long they last, what becomes of a chord without them, what is left of it.

use compat_tests::secs;

use crate::stage::Stage;

/// A part of its own, one in an inner chord, and one at the end of a chain whose first step takes long.
const OUTLIVE_THE_EXPIRY: &str = r#"
sleeping = lambda: task("sleeping", 6).set(immutable=True)
quick = lambda: task("identity", 0).set(immutable=True)
chords = [
    chord([sleeping(), quick()], task("identity")),
    chord([chord([sleeping(), quick()], task("identity")), quick()], task("identity")),
    chord([chain(sleeping(), quick()), quick()], task("identity")),
    chord([group(sleeping(), quick()), quick()], task("identity")),
]
results = [canvas.apply_async() for canvas in chords]
for result in results:
    assert await_that(lambda: result.state in ("SUCCESS", "FAILURE") and result.state, result.id) == "SUCCESS", result.result
"#;

#[test]
fn a_chord_outlives_the_expiry_of_its_counters_while_a_part_runs() {
    let stage = Stage::expiring(3);
    let _worker = stage.worker(&[]);
    stage.run(OUTLIVE_THE_EXPIRY);
}

/// Nobody runs the parts until the size has expired. Beside it stands a chord that nobody can go on with.
const LOSE_THE_SIZE: &str = r#"
stored.zadd("celeriac.chords", {"unreadable": 0})
stored.hset("celeriac.chords.completing", "unreadable", "?")
stored.set("celery-taskset-meta-unreadable.s", 1)
stored.zadd("celery-taskset-meta-unreadable.j", {"part": 0})
body = task("identity").on_error(task("errback_old_style"))
waiting = chord([task("identity", 1), task("identity", 2)], body).apply_async()
size = lambda: [key for key in stored.scan_iter("celery-taskset-meta-*.s") if b"unreadable" not in key]
assert size()
await_that(lambda: not size(), "the size has expired")
print(waiting.id)
"#;

const FAIL_IT: &str = r#"
error = outcome(app.AsyncResult("ID"))
assert error.startswith("ChordError: The counters of chord"), error
await_that(lambda: traces.get("ID"), "its errback")
assert stored.zscore("celeriac.chords", "unreadable") > time.time() + 60
assert stored.zcard("celeriac.chords") == 1 == stored.hlen("celeriac.chords.completing")
assert int(traces.get("ID")) == 1
"#;

#[test]
fn a_chord_whose_size_has_expired_fails_whatever_else_cannot_be_recovered() {
    let stage = Stage::expiring(2);
    let id = stage.run(LOSE_THE_SIZE);
    let mut worker = stage.worker(&[]);
    stage.run(&FAIL_IT.replace("ID", id.trim()));
    worker.wait_for_line("Nobody can go on with chord unreadable", secs(30));
}

/// A client is slow between two parts: the first ones are counted all the same.
const SEND_SLOWLY: &str = r#"
backend = app.backend
set_size = backend.set_chord_size

def set_size_late(group_id, size):
    def is_gone():
        # Hurries: nothing is heard of it for long.
        stored.zadd("celeriac.chords", {group_id: 0}, xx=True)
        return stored.get(backend.get_key_for_group(group_id, ".c")) == b"gone"
    await_that(is_gone, "it counts as gone")
    set_size(group_id, size)

backend.set_chord_size = set_size_late
result = chord([task("identity", number) for number in range(3)], task("identity")).apply_async()
await_that(lambda: backend.get_task_meta(result.id, cache=False)["status"] == "SUCCESS", "the body runs after all")
assert sorted(outcome(result)) == [0, 1, 2]
"#;

#[test]
fn a_chord_that_counted_as_gone_goes_on_when_its_size_comes_after_all() {
    let stage = Stage::new();
    let _worker = stage.worker(&[]);
    stage.run(SEND_SLOWLY);
}

const FAIL_WITHOUT_EXPIRY: &str = r#"
failing = lambda: chord([task("fail"), task("identity", 1)], task("identity"))
for canvas in (failing(), chord([failing(), task("identity", 2)], task("identity"))):
    error = outcome(canvas.apply_async())
    assert error.startswith("ChordError"), error
twice = chord([task("identity", 1), task("fail")], task("identity").on_error(task("errback_old_style")))
twice.freeze()
for run in ("1", "2"):
    result = twice.apply_async()
    await_that(lambda: traces.get(result.id) == run.encode(), f"the errback of run {run}")
    await_that(lambda: not list(stored.scan_iter("celery-taskset-meta-*.s")), f"the end of run {run}")
counters = lambda: [key for key in stored.scan_iter("celery-taskset-meta-*") if stored.ttl(key) == -1]
await_that(lambda: not counters(), counters())
assert stored.zcard("celeriac.chords") == 0 == stored.hlen("celeriac.chords.completing")
"#;

#[test]
fn a_failed_chord_leaves_no_counters_behind_if_results_never_expire() {
    let stage = Stage::expiring(0);
    let _worker = stage.worker(&[]);
    stage.run(FAIL_WITHOUT_EXPIRY);
}
