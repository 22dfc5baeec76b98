//! `celeriac::testing` as its users meet it: tests of tasks without any server.
#![cfg(feature = "testing")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use celeriac::backend::TaskState;
use celeriac::broker::DeadReason;
use celeriac::canvas::{chain, chord, group};
use celeriac::prelude::*;
use celeriac::testing::{self, TestWorker};

#[celeriac::task]
async fn add(x: i64, y: i64) -> TaskResult<i64> {
    Ok(x + y)
}

#[celeriac::task]
async fn total(numbers: Vec<i64>) -> TaskResult<i64> {
    Ok(numbers.iter().sum())
}

#[celeriac::task(max_retries = 2, default_retry_delay = 3600)]
async fn price(ctx: Context, item: String) -> TaskResult<i64> {
    match (item.as_str(), ctx.request().retries()) {
        ("gone", _) => Err(TaskError::builtin("ValueError", "no such item")),
        ("flaky", 0) => Err(ctx.retry().into()),
        _ => Ok(5),
    }
}

/// Calls of a task, told by its state.
#[derive(Clone, Default)]
struct Calls(Arc<AtomicU32>);

impl Calls {
    fn count(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

#[celeriac::task]
async fn note(calls: State<Calls>) -> TaskResult<u32> {
    Ok(calls.0.fetch_add(1, Ordering::SeqCst) + 1)
}

#[celeriac::task]
async fn note_error(calls: State<Calls>, _id: String) -> TaskResult<()> {
    calls.0.fetch_add(100, Ordering::SeqCst);
    Ok(())
}

#[celeriac::task(time_limit = 60)]
async fn slow(seconds: u64) -> TaskResult<u64> {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    Ok(seconds)
}

#[celeriac::task(time_limit = 1)]
fn blocking(milliseconds: u64) -> TaskResult<u64> {
    std::thread::sleep(Duration::from_millis(milliseconds));
    Ok(milliseconds)
}

#[celeriac::task(rate_limit = "1/h")]
async fn limited() -> TaskResult<()> {
    Ok(())
}

#[celeriac::task(pool = "process")]
fn in_process() -> TaskResult<u32> {
    Ok(std::process::id())
}

#[celeriac::task]
async fn refuse() -> TaskResult<()> {
    Err(TaskError::Reject { reason: "no".to_owned(), requeue: false })
}

/// Held back until a test lets them go.
#[derive(Clone)]
struct Gate(Arc<tokio::sync::Semaphore>);

#[celeriac::task]
async fn pass(gate: State<Gate>, _load: String) -> TaskResult<()> {
    gate.0.acquire().await.map_err(|_| TaskError::builtin("RuntimeError", "no gate"))?.forget();
    Ok(())
}

#[celeriac::task(ignore_result)]
async fn quiet(ctx: Context) -> TaskResult<()> {
    ctx.send(add::s(1, 1)).await.map(drop)
}

/// Adds a number to what the step before returned.
fn plus(number: i64) -> celeriac::message::Signature {
    celeriac::message::Signature { args: vec![number.into()], ..add::signature() }
}

fn worker() -> Worker {
    worker_on(testing::app("shop"))
}

fn worker_on(app: Celery) -> Worker {
    Worker::new(app)
        .task(add)
        .task(total)
        .task(price)
        .task(slow)
        .task(blocking)
        .task(limited)
        .task(in_process)
        .task(refuse)
}

#[tokio::test]
async fn one_task_runs_in_one_line() {
    assert_eq!(testing::eager(add, add::s(1, 2)).await.unwrap(), 3);
}

#[tokio::test]
async fn a_chord_has_a_failing_and_a_retried_part() {
    let worker = TestWorker::start(worker()).await.unwrap();
    let before = worker.now();
    let sum: i64 = worker
        .run(chord([price::s("tea".into()), price::s("flaky".into())], total::signature()))
        .await
        .unwrap();
    assert_eq!((sum, (worker.now() - before).num_hours()), (10, 1));
    let failed =
        worker.run::<i64>(chord([price::s("tea".into()), price::s("gone".into())], total::signature())).await;
    assert!(failed.unwrap_err().to_string().contains("no such item"));
}

#[tokio::test(flavor = "multi_thread")]
async fn canvases_run_to_their_end() {
    let calls = Calls::default();
    let worker = TestWorker::start(worker().task(note).task(note_error).state(calls.clone())).await.unwrap();
    let steps: i64 = worker.run(chain([add::s(1, 2).into(), plus(10), plus(100)])).await.unwrap();
    assert_eq!(steps, 113);
    let members: Vec<i64> = worker.run(group([add::s(1, 2), add::s(3, 4)])).await.unwrap();
    assert_eq!(members, [3, 7]);
    let nested: i64 = worker
        .run(chord(
            [chord([add::s(1, 1), add::s(2, 2)], total::signature()), add::s(3, 3).into()],
            total::signature(),
        ))
        .await
        .unwrap();
    assert_eq!(nested, 12);
    let linked: i64 = worker.run(add::s(1, 2).link(note::s().immutable())).await.unwrap();
    assert_eq!((linked, calls.count()), (3, 1), "links have run too");
    let failed = worker.run::<i64>(price::s("gone".into()).link_error(note_error::signature())).await;
    assert!(matches!(failed, Err(celeriac::Error::Task { .. })), "{failed:?}");
    assert_eq!(calls.count(), 101);
}

#[tokio::test]
async fn etas_retries_and_limits_go_by_the_clock_of_the_test() {
    let worker = TestWorker::start(worker()).await.unwrap();
    let start = worker.now();
    let hours = |worker: &TestWorker| (worker.now() - start).num_hours();
    let sum: i64 = worker.run(add::s(1, 2).countdown(86_400)).await.unwrap();
    assert_eq!((sum, hours(&worker)), (3, 24));
    let sum: i64 = worker.run(add::s(1, 2).eta(start + chrono::TimeDelta::hours(48))).await.unwrap();
    assert_eq!((sum, hours(&worker)), (3, 48));
    assert_eq!(worker.run::<u64>(slow::s(59)).await.unwrap(), 59);
    let error = worker.run::<u64>(slow::s(61)).await.unwrap_err().to_string();
    assert!(error.contains("TimeLimitExceeded"), "{error}");
    for _ in 0..3 {
        worker.app().apply(limited::s()).await.unwrap();
    }
    worker.drain().await.unwrap();
    assert_eq!(hours(&worker), 50, "the first one started at once");
    let expired = worker.app().apply(add::s(1, 2).countdown(7200).expires(3600)).await.unwrap();
    worker.drain().await.unwrap();
    assert_eq!(expired.state().await.unwrap(), TaskState::Revoked);
}

#[tokio::test]
async fn the_clock_stands_still_while_a_blocking_task_runs() {
    let worker = TestWorker::start(worker()).await.unwrap();
    let before = worker.now();
    // Longer in real time than its limit: a clock that jumped meanwhile would end it.
    assert_eq!(worker.run::<u64>(blocking::s(1200)).await.unwrap(), 1200);
    assert!((worker.now() - before).num_milliseconds() < 1000);
    assert_eq!(worker.run::<u32>(in_process::s()).await.unwrap(), std::process::id(), "no child of a test");
}

#[tokio::test]
async fn etas_that_are_parked_at_the_broker_come_back() {
    let mut config = testing::config();
    config.celeriac_max_scheduled = 1;
    let worker = TestWorker::start(worker_on(Celery::new("shop", config).unwrap())).await.unwrap();
    let start = worker.now();
    let call = |hours: u32| add::s(i64::from(hours), 0).countdown(f64::from(hours) * 3600.0);
    let sums: Vec<i64> = worker.run(group([call(3), call(1), call(2)])).await.unwrap();
    assert_eq!((sums, (worker.now() - start).num_hours()), (vec![3, 1, 2], 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_wait_for_a_slot_are_bounded_by_their_bytes() {
    let mut config = testing::config();
    config.set("worker_concurrency", "1").unwrap();
    config.worker_prefetch_multiplier = 100;
    config.celeriac_prefetch_bytes = 10_000;
    config.broker_url = Some("memory://bounded-by-bytes".into());
    config.result_backend = Some("memory://bounded-by-bytes".into());
    let app = Celery::new("shop", config).unwrap();
    let (gate, stop) =
        (Gate(Arc::new(tokio::sync::Semaphore::new(0))), celeriac::worker::CancellationToken::new());
    let worker = Worker::new(app.clone()).task(pass).state(gate.clone());
    let running = tokio::spawn(worker.without_signals().hostname("one@host").stop_on(stop.clone()).run());
    let mut results = Vec::new();
    for _ in 0..10 {
        results.push(app.apply(pass::s("x".repeat(6_000))).await.unwrap());
    }
    let waiting = async |expected: u64| {
        while app.broker().length("celery").await.unwrap() > expected {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // By the time that it has answered it could have taken more.
        app.control().timeout(Duration::from_secs(60)).inspect().ping().await.unwrap();
        app.broker().length("celery").await.unwrap()
    };
    assert_eq!(waiting(7).await, 7, "one runs, two wait for its slot");
    gate.0.add_permits(1);
    assert_eq!(waiting(6).await, 6, "the next one has begun");
    gate.0.add_permits(9);
    for result in &results {
        result.get(Duration::from_secs(60)).await.unwrap();
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_was_sent_given_up_and_stored_can_be_looked_at() {
    let app = testing::app("shop");
    let (id, eta) = ("the-id", chrono::Utc::now() + chrono::TimeDelta::hours(1));
    app.apply(add::s(1, 2).queue("sums").eta(eta).task_id(id)).await.unwrap();
    app.send_task("mail.send", ["ann"], [("copy", true.into())]).await.unwrap();
    let sent = testing::sent(&app);
    assert_eq!(sent.len(), 2);
    let sum = sent.task(add::NAME).args([1, 2]).only().clone();
    assert_eq!((sum.id.as_str(), sum.queue.as_str(), sum.retries), (id, "sums", 0));
    assert_eq!(sum.eta.map(|eta| eta.timestamp_micros()), Some(eta.timestamp_micros()));
    assert_eq!(sent.queue("celery").kwarg("copy", true).only().name, "mail.send");
    assert!(sent.args(["bob"]).is_empty());

    let worker = TestWorker::start(worker_on(app.clone()).queues(["sums", "celery"])).await.unwrap();
    worker.drain().await.unwrap();
    let letters = testing::dead_letters(&app);
    assert_eq!(letters.iter().map(|letter| letter.reason).collect::<Vec<_>>(), [DeadReason::Unregistered]);
    assert_eq!(letters[0].task().1.as_deref(), Some("mail.send"));
    let results = testing::results(&app);
    assert_eq!(results.len(), 2, "the sum, and the failure of the task that nobody knows");
    let stored = results.iter().find(|meta| meta.task_id == id).unwrap();
    assert_eq!((stored.result.clone(), stored.date_done.unwrap() >= eta), (3.into(), true));
}

#[tokio::test]
async fn results_that_nobody_stores_are_no_reason_to_wait() {
    let worker = TestWorker::start(worker().task(quiet)).await.unwrap();
    let missing = worker.run::<()>(quiet::s()).await.unwrap_err();
    assert!(matches!(missing, celeriac::Error::Timeout { .. }), "{missing}");
    assert_eq!(worker.sent().task(add::NAME).len(), 1);
    assert_eq!(testing::results(worker.app()).len(), 1, "what it sent has run too");
}

#[tokio::test]
async fn a_worker_that_stops_leaves_what_is_not_due() {
    let worker = TestWorker::start(worker()).await.unwrap();
    let app = worker.app().clone();
    let result = app.apply(add::s(1, 2).countdown(3600)).await.unwrap();
    worker.advance(Duration::from_secs(1800)).await.unwrap();
    assert_eq!(result.state().await.unwrap(), TaskState::Pending);
    assert!(!worker.stop().await.unwrap().is_cold);
    assert_eq!(app.broker().length("celery").await.unwrap(), 1);
    let another = TestWorker::start(worker_on(app)).await.unwrap();
    assert_eq!(another.wait::<i64>(&result).await.unwrap(), 3);
}

#[tokio::test]
async fn what_is_set_up_wrongly_is_said_at_the_start() {
    let missing = TestWorker::start(worker().task(note)).await.err().unwrap().to_string();
    assert!(missing.contains("Calls"), "{missing}");
    let mut config = celeriac::config::Config::default();
    config.broker_url = Some("redis://127.0.0.1:1/0".into());
    let elsewhere = Worker::new(Celery::new("shop", config).unwrap());
    let error = TestWorker::start(elsewhere).await.err().unwrap().to_string();
    assert!(error.contains("celeriac::testing::app"), "{error}");
}

#[tokio::test]
async fn real_time_passes_where_it_is_asked_for() {
    let worker = TestWorker::start_in_real_time(worker()).await.unwrap();
    let before = std::time::Instant::now();
    assert_eq!(worker.run::<i64>(add::s(1, 2).countdown(0.3)).await.unwrap(), 3);
    assert!(before.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn it_works_with_no_more_than_an_amqp_broker() {
    let mut config = testing::config();
    let url = format!("{}&limits=amqp", config.broker_url.as_ref().unwrap().expose());
    config.broker_url = Some(url.as_str().into());
    config.result_backend = Some(url.into());
    let worker = TestWorker::start(worker_on(Celery::new("shop", config).unwrap())).await.unwrap();
    let sum: i64 = worker
        .run(chord([price::s("tea".into()), price::s("flaky".into())], total::signature()))
        .await
        .unwrap();
    assert_eq!(sum, 10);
    let failed =
        worker.run::<i64>(chord([price::s("tea".into()), price::s("gone".into())], total::signature())).await;
    assert!(failed.unwrap_err().to_string().contains("no such item"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_in_memory_answers_remote_control_and_sends_events() {
    let mut config = celeriac::config::Config::default();
    config.broker_url = Some("memory://remote-control".into());
    config.result_backend = Some("memory://remote-control".into());
    let app = Celery::new("shop", config).unwrap();
    let mut events = app.events("worker.#").await;
    let stop = celeriac::worker::CancellationToken::new();
    let worker = worker_on(app.clone()).without_signals().hostname("one@host").stop_on(stop.clone());
    let running = tokio::spawn(worker.run());
    assert_eq!(events.next().await.unwrap().hostname(), Some("one@host"));
    let begun = std::time::Instant::now();
    let nodes = app.control().timeout(Duration::from_secs(60)).inspect().ping().await.unwrap();
    assert_eq!(nodes, ["one@host"]);
    assert!(begun.elapsed() < Duration::from_secs(60), "it is known that nobody else will answer");
    let result = app.apply(add::s(1, 2)).await.unwrap();
    assert_eq!(result.get_as::<i64>(Duration::from_secs(60)).await.unwrap(), 3);
    stop.cancel();
    running.await.unwrap().unwrap();
}
