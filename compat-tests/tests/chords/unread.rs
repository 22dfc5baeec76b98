//! Parts whose messages the worker cannot read: their headers name only the group.

use compat_tests::secs;

use crate::stage::Stage;

/// Pickled parts, which say to nobody with which body their chord goes on.
const PARTS: &str = r#"
from kombu.serialization import enable_insecure_serializers
enable_insecure_serializers(["pickle"])

def readable(**options):
    return task("identity", 1).set(immutable=True, **options)

def unread(**options):
    return readable(serializer="pickle", **options)

def body():
    return task("identity").on_error(task("errback_old_style"))
"#;

const FAIL: &str = r#"
headers = {
    "it is the first to end": [unread(), readable(countdown=2)],
    "it is the last to end": [readable(), readable(), unread(countdown=2)],
    "several are": [unread(), readable(countdown=1), unread(countdown=2)],
    "it is in a group": [group(readable(), unread(countdown=2)), readable()],
    "it is in an inner chord": [chord([readable(), unread(countdown=2)], body()), readable()],
}
results = {what: chord(header, body()).apply_async() for what, header in headers.items()}
for what, result in results.items():
    error = outcome(result)
    assert error.startswith("ChordError") and "InvalidTaskError" in error, (what, error)
    for part in result.parent.results:
        await_that(lambda: part.state in ("SUCCESS", "FAILURE") or hasattr(part, "results"), (what, part))
    await_that(lambda: traces.get(result.id), (what, "its errback"))
    assert int(traces.get(result.id)) == 1, what
await_that(lambda: not list(stored.scan_iter("celery-taskset-meta-*.b")), "nobody needs the body any more")
assert stored.zcard("celeriac.chords") == 0 == stored.hlen("celeriac.chords.completing")
"#;

#[test]
fn a_part_that_cannot_be_read_fails_its_chord_whenever_it_ends() {
    for backend_database in [0, 1] {
        let stage = Stage::with_results_in(backend_database);
        let _worker = stage.worker(&[]);
        stage.run(&format!("{PARTS}\n{FAIL}"));
    }
}

/// Of the first nobody knows the body; the second is no chord.
const LEAVE_NOTHING: &str = r#"
whole, plain = chord([unread(), unread()], body()).apply_async(), group(readable(), unread()).apply_async()
for part in whole.parent.results + plain.results[1:]:
    assert outcome(part).startswith("InvalidTaskError"), part
assert outcome(plain.results[0]) == 1

def is_left():
    # Hurries: nothing is heard of them for long.
    for group_id in stored.zrange("celeriac.chords", 0, -1):
        stored.zadd("celeriac.chords", {group_id: 0}, xx=True)
    return stored.zcard("celeriac.chords") + stored.hlen("celeriac.chords.completing")

await_that(lambda: not is_left(), "nobody waits for them")
assert not [key for key in stored.scan_iter("celery-taskset-meta-*") if stored.ttl(key) == -1]
print(whole.parent.id)
"#;

#[test]
fn parts_of_which_none_can_be_read_end_and_leave_nothing_behind() {
    let stage = Stage::new();
    let mut worker = stage.worker(&[]);
    let group_id = stage.run(&format!("{PARTS}\n{LEAVE_NOTHING}"));
    worker
        .wait_for_line(&format!("chord {} have ended, but its body is not known", group_id.trim()), secs(30));
}
