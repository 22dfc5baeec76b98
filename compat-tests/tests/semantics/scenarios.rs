//! One test a scenario of `semantics_app.py`.

use celeriac::Celery;
use celeriac::config::Config;
use celeriac::message::Signature;
use compat_tests::{Signal, eventually, secs};
use serde_json::{Value as Json, json};

use crate::stage::{Kind, QUEUES, Stage, observed_at_both};

/// Of a scenario that needs no more than one running worker.
#[track_caller]
fn observed(scenario: &str) -> Json {
    observed_at_both(|stage| {
        let mut worker = stage.worker(&["-c", "2"]);
        let found = stage.observe(scenario);
        worker.kill();
        found
    })
}

#[test]
fn failures_and_timeouts_that_are_not_acknowledged() {
    let found = observed("acknowledgement");
    assert_eq!(found[0], json!(["FAILURE", "ValueError", ["no"]]));
    assert_eq!(found[2], json!(["SUCCESS", "second time"]), "a timeout is requeued");
    assert_eq!(found[4], 0, "a failure is dropped");
}

#[test]
fn a_task_can_tidy_up_when_its_soft_limit_passes() {
    let found = observed("soft_limits");
    assert_eq!(found, json!([["SUCCESS", "tidied"], ["SUCCESS", "tidied"], ["SUCCESS", 3]]));
}

#[test]
fn all_forms_of_retry() {
    let found = observed("retries");
    assert_eq!(found["countdown"][1][0], 1);
    assert_eq!(found["args"][1][1], "second");
    assert_eq!(found["exc"], json!(["FAILURE", "ValueError", ["mine"]]));
    assert_eq!(found["exceeded"][1], "MaxRetriesExceededError");
    assert_eq!(found["often"][1][0], 5);
    assert_eq!(found["elsewhere"][1][3], 9);
}

#[test]
fn automatic_retries_with_backoff() {
    let found = observed("automatic_retries");
    assert_eq!(found[3], json!(["SUCCESS", 1]));
    assert_eq!(found[4].as_array().unwrap().len(), 3, "a class that is excepted is not retried");
}

#[test]
fn chords_whose_headers_end_in_groups() {
    let found = observed("failed_joins");
    assert_eq!(found[0], json!(["FAILURE", "ChordError", ["Join error: ValueError('at fault')"]]));
    assert_eq!(found[1], json!(["FAILURE", "ChordError", ["Join error: KeyError('at fault')"]]));
    assert_eq!(found[2], json!(["SUCCESS", [[6, 7], 9]]));
}

#[test]
fn states_that_are_stored_or_not() {
    let found = observed("stored_states");
    assert_eq!(found[0], json!(["hostname", "pid"]));
    assert_eq!(found[2], json!(["FAILURE", "ValueError", ["loud"]]));
    assert_eq!(found[4], "PENDING");
}

#[test]
fn direct_topic_and_fanout_exchanges() {
    let found = observed("routes");
    assert_eq!(found[5], json!(["news 0", "news 1", "news 2"]));
}

#[test]
fn a_client_in_rust_sends_to_a_fanout_exchange() {
    let heard = observed_at_both(|stage| {
        let _worker = stage.worker(&["-c", "2"]);
        let mut config = Config::default();
        let routes = r#"{"sem.told": {"queue": "news"}}"#;
        for (name, value) in
            [("broker_url", &*stage.redis.url()), ("task_queues", QUEUES), ("task_routes", routes)]
        {
            config.set(name, value).unwrap();
        }
        let client = Celery::new("client", config).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        for n in 0..3 {
            runtime.block_on(client.apply(Signature::new("sem.told").arg(format!("news {n}")))).unwrap();
        }
        let heard = || -> Vec<String> {
            redis::cmd("LRANGE").arg("told").arg(0).arg(-1).query(&mut stage.redis.connection()).unwrap()
        };
        eventually("all is heard", secs(30), || heard().len() >= 3);
        let mut heard = heard();
        heard.sort();
        json!(heard)
    });
    assert_eq!(heard, json!(["news 0", "news 1", "news 2"]));
}

#[test]
fn tasks_are_revoked_by_their_stamps() {
    let revoked = json!(["REVOKED", "TaskRevokedError", ["revoked"]]);
    assert_eq!(observed("revoked_stamps"), json!([revoked, ["SUCCESS", 2], revoked]));
}

#[test]
fn a_cold_shutdown_loses_what_was_acknowledged_early_and_gives_the_rest_back() {
    let found = observed_at_both(|stage| {
        let mut worker = stage.worker(&["-c", "2"]);
        stage.observe("cold_shutdown_begins");
        worker.signal(Signal::SIGQUIT);
        worker.wait(secs(60));
        stage.observe("cold_shutdown_ended")
    });
    assert_eq!(found, json!([{"early": "RETRY", "late": "PENDING"}, "Retry", 1]));
}

#[test]
fn a_queue_that_nobody_declared_is_an_error_when_none_are_to_be_made() {
    for kind in [Kind::Celery, Kind::Ours] {
        let stage = Stage::new(kind);
        let mut worker = match kind {
            Kind::Celery => return_of_celery(&stage),
            Kind::Ours => stage.start(&["-Q", "celery,no.such", "--task-create-missing-queues", "false"]),
        };
        assert!(!worker.wait(secs(60)).success(), "{kind:?}");
        assert!(!worker.lines_with("no.such").is_empty(), "{kind:?} names the queue: {:?}", worker.lines());
    }
}

/// Celery's command line takes settings after `--`.
fn return_of_celery(stage: &Stage) -> compat_tests::Process {
    stage.start(&["-Q", "celery,no.such", "--", "task_create_missing_queues=no"])
}
