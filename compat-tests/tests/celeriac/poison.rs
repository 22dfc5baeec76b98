//! Messages that no worker can run: each is put away with a reason, and the worker lives on.

use serde_json::{Value as Json, json};

use crate::stage::{Stage, sample};

#[test]
fn broken_messages_are_put_away_and_the_worker_lives_on() {
    let stage = Stage::new();
    let mut worker = stage.worker("-c 2");
    let sample = sample("poison/cases.json");
    let cases = sample["cases"].as_array().expect("a list");
    let mut redis = stage.redis.connection();
    for case in cases {
        redis::cmd("LPUSH").arg("celery").arg(case["raw"].as_str()).exec(&mut redis).expect("it is pushed");
    }
    assert_eq!(stage.script(r#"show(sig("add", 20, 22).apply_async().get(timeout=30))"#), 42);
    stage.await_waiting_and_held(0, 0);
    assert!(worker.is_running());
    assert!(worker.lines_with("panicked").is_empty());

    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let envelope: Json = serde_json::from_str(case["raw"].as_str().expect("text")).unwrap_or_default();
        let Some(id) = envelope["headers"]["id"].as_str() else { continue };
        let stored: Option<String> =
            redis::cmd("GET").arg(format!("celery-task-meta-{id}")).query(&mut redis).expect("the result");
        let stored: Json = stored.map_or(Json::Null, |text| serde_json::from_str(&text).expect("JSON"));
        if case["observed"] == "SUCCESS" {
            assert_eq!((&stored["status"], &stored["result"]), (&json!("SUCCESS"), &json!(3)), "{name}");
        }
    }
    // What Celery's worker loses or dies of is told in the log.
    assert!(worker.lines_with("WARN|ERROR").len() >= 6, "{:?}", worker.lines());
}
