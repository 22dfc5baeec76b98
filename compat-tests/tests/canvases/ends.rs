//! Canvases in which a task will never complete, whatever the reason.

use compat_tests::{Fault, Interceptor, Rule, size};
use serde_json::Value as Json;

use crate::stage::{SOON, Stage};

/// `CANVAS_ENDS=2000` for the full number, `CANVAS_SEED=7` for other ones.
#[test]
fn every_known_id_ends_and_every_errback_is_called_once_whichever_task_never_completes() {
    let (seed, count) = (size("CANVAS_SEED", 20_260), size("CANVAS_ENDS", 100));
    let stage = Stage::new();
    // The worker's server stores no record of a success in which that stands.
    let path = Interceptor::to(stage.redis.port());
    path.inject(Rule {
        command: "SETEX".to_owned(),
        argument: Some("nobody stores this".to_owned()),
        times: None,
        fault: Fault::Error("NOPERM this user has no permissions to access one of the keys".to_owned()),
    });
    let url = format!("redis://127.0.0.1:{}/0", path.port());
    let mut worker = stage.worker_with(
        4,
        &[
            ("CELERY_BROKER_URL", &url),
            ("CELERY_RESULT_BACKEND", &url),
            // A task that is delivered again counts as one that killed its worker.
            ("CELERY_CELERIAC_MAX_DELIVERIES", "1"),
        ],
    );
    worker.wait_for_line(" ready", SOON);
    let client = stage.script_named("ends.py", &[&seed.to_string(), &count.to_string()]);
    let answer = client.run().success();
    let answer: Json = serde_json::from_str(answer.lines().last().unwrap_or_default()).unwrap();
    let wrong = answer["wrong"].as_array().unwrap();
    let shown: Vec<&str> = wrong.iter().filter_map(Json::as_str).take(10).collect();
    assert!(path.hits() > 0, "something was not stored");
    assert!(wrong.is_empty(), "{} of {count} canvases:\n{}", wrong.len(), shown.join("\n"));
}
