//! What is stored and published of each task, field for field as by Celery's own worker.

use std::collections::BTreeMap;

use compat_tests::eventually;
use serde_json::Value as Json;

use crate::stage::{SOON, Stage, sample};

/// The samples of a worker with default settings. `worker_lost` is about a pool's child, of which there is none.
const PLAIN: [&str; 22] = [
    "success",
    "success_typed",
    "success_children",
    "success_link_children",
    "failure",
    "failure_domain",
    "failure_nested_class",
    "retry_then_success",
    "max_retries",
    "progress_custom",
    "started_then_success",
    "soft_time_limit",
    "hard_time_limit",
    "expired",
    "unregistered",
    "reject",
    "ignore",
    "replaced",
    "ignored_result",
    "errback_old_style",
    "errback_new_style",
    "bad_args",
];

/// The samples with `result_extended`.
const EXTENDED: [&str; 8] = [
    "success",
    "success_typed",
    "success_children",
    "failure",
    "retry_then_success",
    "progress_custom",
    "started_then_success",
    "unregistered",
];

#[test]
fn results_are_stored_and_published_as_by_celery() {
    compare("results", &PLAIN, &[]);
}

#[test]
fn extended_results_are_stored_and_published_as_by_celery() {
    compare("results_extended", &EXTENDED, &[("CELERY_RESULT_EXTENDED", "1")]);
}

#[test]
fn a_panic_is_a_failure_and_the_worker_goes_on() {
    let stage = Stage::new();
    let mut worker = stage.worker("-c 1");
    let answers = stage.script(
        r#"
failed = sig("panic", "out of luck").apply_async()
failed.get(timeout=30, propagate=False)
show([failed.state, str(failed.result), sig("add", 1, 2).apply_async().get(timeout=30)])
"#,
    );
    assert_eq!((&answers[0], &answers[2]), (&"FAILURE".into(), &3.into()), "{answers}");
    assert!(answers[1].as_str().is_some_and(|text| text.contains("out of luck")), "{answers}");
    assert!(worker.is_running());
}

/// Celery's worker stores RETRY after it has sent the retry: here, after the retry is done.
#[test]
fn an_outcome_outlasts_the_state_that_comes_late_from_who_sent_the_retry() {
    let stage = Stage::new();
    let _worker = stage.worker("-c 1");
    let answers = stage.script(
        r#"
def outcome_after_retry(signature):
    result = signature.apply_async()
    result.get(timeout=30, propagate=False)
    outcome = app.backend.get(app.backend.get_key_for_task(result.id))
    app.backend.client.set(app.backend.get_key_for_task(result.id), outcome.replace(result.state.encode(), b"RETRY"))
    deadline = time.monotonic() + 30
    while app.backend.get(app.backend.get_key_for_task(result.id)) != outcome and time.monotonic() < deadline:
        time.sleep(0.05)
    return app.AsyncResult(result.id).state

first, second = sig("add", 1, 2).set(retries=1), sig("fail", "boom").set(retries=1)
sent_by_the_worker = sig("add", 1, 2) | sig("add", 3).set(retries=1)
show([outcome_after_retry(signature) for signature in (first, second, sent_by_the_worker)])
"#,
    );
    assert_eq!(answers, serde_json::json!(["SUCCESS", "FAILURE", "SUCCESS"]));
}

fn compare(folder: &str, names: &[&str], settings: &[(&str, &str)]) {
    let stage = Stage::new();
    let _worker = stage.worker_with("-c 1 -n w1@vectors.example", settings);
    let mut subscriber = stage.redis.connection();
    let mut subscription = subscriber.as_pubsub();
    subscription.psubscribe("celery-task-meta-*").expect("a subscription");
    stage.script(&format!("run_cases({names:?})"));

    let mut published = BTreeMap::<String, Vec<Json>>::new();
    while !published.contains_key("celery-task-meta-last") {
        let message = subscription.get_message().expect("the last task's result is published");
        let meta: Vec<u8> = message.get_payload().expect("a result");
        let meta = serde_json::from_slice(&meta).expect("a result is JSON");
        published.entry(message.get_channel_name().to_owned()).or_default().push(meta);
    }

    let mut redis = stage.redis.connection();
    let mut differences = Vec::new();
    for name in names {
        let sample = sample(&format!("{folder}/{name}.json"));
        let mut expected = BTreeMap::<String, Vec<Json>>::new();
        for message in sample["published"].as_array().expect("a list") {
            let channel = message["channel"].as_str().expect("a channel").to_owned();
            expected.entry(channel).or_default().push(message["json"].clone());
        }
        let key = sample["key"].as_str().expect("a key");
        let stored: Option<String> = redis::cmd("GET").arg(key).query(&mut redis).expect("the stored result");
        let stored = stored.map_or(Json::Null, |text| serde_json::from_str(&text).expect("JSON is stored"));
        if comparable(&stored) != comparable(&sample["final"]) {
            differences.push(format!("{name}, stored:\n  ours   {stored}\n  theirs {}", sample["final"]));
        }
        if !stored.is_null() {
            let left: i64 = redis::cmd("TTL").arg(key).query(&mut redis).expect("the time to live");
            assert!((86_000..=86_400).contains(&left), "{name} expires in {left} s");
        }
        for (channel, theirs) in &expected {
            let ours = published.get(channel).cloned().unwrap_or_default();
            if all_comparable(&ours) != all_comparable(theirs) {
                differences.push(format!(
                    "{name}, published on {channel}:\n  ours   {}\n  theirs {}",
                    Json::from(ours),
                    Json::from(theirs.clone())
                ));
            }
        }
        if expected.is_empty() {
            assert!(!published.contains_key(key), "{name} publishes nothing");
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    eventually("nothing is held", SOON, || stage.waiting_and_held() == (0, 0));
}

/// Without repetitions: Celery's pool publishes a hard time limit twice.
fn all_comparable(metas: &[Json]) -> Vec<Json> {
    let mut all: Vec<Json> = metas.iter().map(comparable).collect();
    all.dedup();
    all
}

/// Without what differs from run to run; of a traceback the last line, since above it stand Python's own files.
fn comparable(meta: &Json) -> Json {
    let mut meta = meta.clone();
    let Some(fields) = meta.as_object_mut() else { return meta };
    for (name, value) in fields.iter_mut() {
        match (name.as_str(), value.as_str()) {
            ("date_done" | "group_id", Some(_)) => *value = "some".into(),
            ("traceback", Some(text)) => *value = text.trim_end().lines().last().unwrap_or_default().into(),
            _ => {}
        }
    }
    if fields["status"] == "STARTED" {
        fields["result"]["pid"] = 1.into();
    }
    meta
}
