//! Parts that end without a result of their own.

use compat_tests::{Signal, secs};

use crate::stage::Stage;

const SKIP_A_PART: &str = r#"
print(outcome(chord([task("store_success_then_reject"), task("identity", 1).set(immutable=True)], task("identity")).apply_async()))
"#;

/// The part stores its success itself and comes again: it is not run, and was not returned before.
#[test]
fn a_part_that_deduplication_skips_is_returned() {
    for backend_database in [0, 1] {
        let stage = Stage::with_results_in(backend_database);
        let _worker = stage.worker(&[("CELERY_WORKER_DEDUPLICATE_SUCCESSFUL_TASKS", "true")]);
        assert_eq!(stage.run(SKIP_A_PART).trim(), "['first-pass', 1]");
    }
}

const START_A_LONG_PART: &str = r#"
body = task("identity").on_error(task("errback_old_style"))
result = chord([task("sleeping", 600), task("identity", 1).set(immutable=True)], body).apply_async()
await_that(lambda: list(stored.scan_iter("celery-taskset-meta-*.j")), "the quick part is back")
print(result.id)
"#;

/// The message of the part was acknowledged when it started: it is lost with the worker.
#[test]
fn a_part_that_a_cold_shutdown_gives_up_fails_its_chord() {
    let stage = Stage::new();
    let mut worker = stage.worker(&[]);
    let id = stage.run(START_A_LONG_PART);
    worker.signal(Signal::SIGQUIT);
    worker.wait(secs(60));
    let outcome = stage.run(&format!("print(outcome(app.AsyncResult({:?})))", id.trim()));
    assert!(outcome.starts_with("ChordError: Dependency"), "{outcome}");
    assert!(outcome.contains("cancelled by Celery"), "{outcome}");
}
