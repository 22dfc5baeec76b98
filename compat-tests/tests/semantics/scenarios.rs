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
fn tasks_are_revoked_by_their_stamps() {
    let revoked = json!(["REVOKED", "TaskRevokedError", ["revoked"]]);
    assert_eq!(observed("revoked_stamps"), json!([revoked, ["SUCCESS", 2], revoked]));
}

#[test]
fn chords_of_which_a_part_fails() {
    let found = observed("parts_that_fail");
    let text = "Dependency part raised ValueError('no')";
    assert_eq!(found["failed"][0]["result"]["exc_message"], json!([text]));
    assert_eq!(found["failed"][1], json!([format!("failed sem.echo ChordError: {text}, without traceback")]));
    assert_eq!(found["group"][1]["result"]["exc_type"], "ValueError", "tasks of a group fail with the cause");
}

#[test]
fn chords_whose_results_cannot_be_joined() {
    let found = observed("joins_that_fail");
    let text = "Join error: ValueError('no')";
    let record = &found["failed"][0];
    assert_eq!((&record["status"], &record["result"]["exc_type"]), (&json!("FAILURE"), &json!("ChordError")));
    assert_eq!(record["result"]["exc_message"], json!([text]));
    assert_eq!(found["failed"][1], json!([format!("failed sem.echo ChordError: {text}, without traceback")]));
    assert_eq!(found["group"][0]["result"], found["failed"][0]["result"], "such an error has no cause");
}

/// Celery's worker reads the records again: it fails the body for one that cannot be read, and hands `None` to it for one
/// that is missing (observed with Celery 5.7).
#[test]
fn a_chord_is_joined_from_what_its_parts_returned() {
    let stage = Stage::new(Kind::Ours);
    let _worker = stage.worker(&["-c", "2"]);
    let found = stage.observe("joins_past_spoiled_records");
    for outcome in found.as_array().expect("two outcomes") {
        assert_eq!(outcome[0], "SUCCESS", "{outcome}");
        assert!(outcome[1].to_string().contains('2'), "the part's result is there: {outcome}");
    }
}

#[test]
fn refused_and_rejected_messages_are_gone_when_there_are_no_dead_letters() {
    let [theirs, ours] = [Kind::Celery, Kind::Ours].map(|kind| {
        let stage = Stage::with_settings(kind, json!({"celeriac_dead_letter_queue": ""}));
        let mut worker = stage.worker(&["-c", "2"]);
        let found = stage.observe("refused_messages");
        assert!(!worker.lines_with("no.such.task").is_empty(), "{kind:?} tells of it: {:?}", worker.lines());
        if kind == Kind::Ours {
            let counted = stage.observe("refusals_counted");
            assert_eq!(counted, json!({"headers": 2, "content_type": 1, "body": 1, "unregistered": 1}));
        }
        assert!(worker.terminate(secs(60)).success(), "{kind:?} lives on");
        found
    });
    assert_eq!(ours, theirs, "\nours   {ours}\ntheirs {theirs}");
    assert_eq!(ours[0], json!(["FAILURE", "NotRegistered", ["no.such.task"]]));
    assert_eq!((&ours[2], &ours[3]), (&json!(["SUCCESS", 2]), &json!([])));
}

#[test]
fn text_with_lone_surrogates_goes_everywhere() {
    let found = observed("lone_surrogates");
    assert_eq!(found[0], r"'caf\udce9.txt'");
}

#[test]
fn text_with_lone_surrogates_goes_through_workers_of_both_kinds() {
    let stage = Stage::new(Kind::Ours);
    let _workers = [(Kind::Ours, "celery"), (Kind::Celery, "keyed")]
        .map(|(kind, queue)| stage.worker_of(kind, &format!("{kind:?}@host"), &["-c", "2", "-Q", queue]));
    let name = r"'caf\udce9.txt'";
    let joined = format!("[{name}, {{{name}: [{name}]}}, 'plain']");
    assert_eq!(stage.observe("lone_surrogates_between_workers"), json!([name, joined, name, joined]));
}

/// Celery's worker dies of headers that are null.
#[test]
fn messages_of_protocol_1_need_no_headers() {
    let stage = Stage::new(Kind::Ours);
    let _worker = stage.worker(&["-c", "2"]);
    assert_eq!(stage.observe("protocol_1_without_headers"), json!(vec![json!(["SUCCESS", 3]); 6]));
}

/// Celery's worker leaves their callers waiting.
#[test]
fn unreadable_messages_that_name_their_task_leave_a_failure() {
    let stage = Stage::new(Kind::Ours);
    let _worker = stage.worker(&["-c", "2"]);
    let found = stage.observe("unreadable_messages_that_name_their_task");
    for (what, part) in [
        ("body_encoding", "properties.body_encoding is \"base85\", which is neither base64 nor utf-8"),
        ("no base64", "body is not base64"),
        ("deep header", "nested deeper than 1200 levels"),
        ("deep arguments", "nested deeper than 1200 levels"),
        ("broken off", "unreadable: not JSON"),
        ("typed header", "unknown __type__ no"),
        ("task name", r"task: expected text without lone surrogates, found 'caf\udce9'"),
        ("protocol 1", "expected an object of keyword arguments, found None"),
    ] {
        let (state, class, text) = (&found[what][0], &found[what][1], &found[what][2][0]);
        assert_eq!((state, class), (&json!("FAILURE"), &json!("InvalidTaskError")), "{what}: {found}");
        assert!(text.as_str().unwrap_or_default().contains(part), "{what}: {text}");
    }
}

#[test]
fn arguments_of_a_thousand_levels_run() {
    let stage = Stage::new(Kind::Ours);
    let _worker = stage.worker(&["-c", "2"]);
    let found = stage.observe("deep_arguments");
    assert!(found.as_object().unwrap().values().all(|same| *same == true), "{found}");
}

#[test]
fn what_follows_a_task_that_rejects_its_message() {
    let found = observed("what_follows_a_rejection");
    assert_eq!(found[0]["result"]["exc_message"], json!(["not today", false]));
    assert_eq!(found[1], json!(["rejected sem.reject Reject: not today, without traceback"]));
    assert_eq!(found[2]["result"], found[0]["result"], "the rest of its chain fails");
    let text = "Dependency part raised reject requeue=False: not today";
    assert_eq!(found[3]["result"]["exc_message"], json!([text]));
}

/// Whoever sends.
#[test]
fn what_is_sent_to_a_fanout_exchange_reaches_workers_of_both_kinds() {
    let stage = Stage::new(Kind::Ours);
    let _workers =
        [Kind::Ours, Kind::Celery].map(|kind| stage.worker_of(kind, &format!("{kind:?}@host"), &["-c", "1"]));
    let mut config = Config::default();
    config.set("broker_url", &stage.redis.url()).unwrap();
    config.set("task_queues", QUEUES).unwrap();
    let app = Celery::new("client", config).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tell = |news: &str| {
        let tell = Signature::new("sem.told").arg(news).option("queue", "news");
        runtime.block_on(app.apply(tell)).unwrap();
    };
    // Celery's worker subscribes only after it has said that it is ready.
    let mut asked = 0;
    eventually("both workers listen", secs(60), || {
        asked += 1;
        tell(&format!("question {asked}"));
        let told = stage.told();
        told.iter().any(|news| told.iter().filter(|other| *other == news).count() == 2)
    });
    for number in 0..3 {
        let news = format!("from Rust {number}");
        tell(&news);
        stage.await_told(&news, 2);
    }
    stage.observe("told_by_python");
    stage.await_told("from Python", 2);
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
