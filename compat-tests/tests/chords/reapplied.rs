//! Chords that Python applies in ways that are easy to get wrong.

use crate::stage::Stage;

/// The first part of the second run is back before Python has set the size, which it does before the last part.
const APPLY_A_FROZEN_CHORD_TWICE: &str = r#"
backend = app.backend
counting = task("redis_count", "runs").set(immutable=True)
twice = chord([task("add", 1, 2), task("add", 3, 4)], counting, app=app)
twice.freeze()
first_part, group_id = twice.tasks.tasks[0].id, twice.tasks.id

def runs():
    return int(traces.get("runs") or 0)

def await_that(condition, what):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)

twice.apply_async()
await_that(lambda: runs() == 1, "the first run")
await_that(lambda: backend.client.exists(backend.get_key_for_group(group_id, ".s")) == 0, "the end of the first chord")
before = backend._get_task_meta_for(first_part)["date_done"]
set_size = backend.set_chord_size

def set_size_late(group_id, size):
    await_that(lambda: backend._get_task_meta_for(first_part)["date_done"] != before, "the first part again")
    set_size(group_id, size)

backend.set_chord_size = set_size_late
twice.apply_async()
await_that(lambda: runs() == 2, "the second run")
"#;

#[test]
fn a_frozen_chord_that_is_applied_again_runs_again_although_its_first_part_is_back_before_its_size_is_set() {
    for backend_database in [0, 1] {
        let stage = Stage::with_results_in(backend_database);
        let _worker = stage.worker(&[]);
        stage.run(APPLY_A_FROZEN_CHORD_TWICE);
    }
}
