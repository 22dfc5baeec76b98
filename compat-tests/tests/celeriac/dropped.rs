//! A worker whose future is dropped, in the middle of its work or of its start.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use celeriac::config::Config;
use celeriac::message::Signature;
use celeriac::prelude::*;
use compat_tests::{RedisServer, eventually_async};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::stage::SOON;

type Told = UnboundedSender<i64>;

/// Never ends by itself.
#[celeriac::task(name = "dropped.hold", acks_late)]
async fn hold(told: State<Told>, number: i64) -> TaskResult<()> {
    told.send(number)?;
    std::future::pending().await
}

#[celeriac::task(name = "dropped.note")]
async fn note(told: State<Told>, number: i64) -> TaskResult<()> {
    Ok(told.send(number)?)
}

fn app(redis: &RedisServer, concurrency: &str) -> Celery {
    let mut config = Config::default();
    config.set("broker_url", &redis.url()).unwrap();
    config.set("result_backend", &redis.url()).unwrap();
    config.set("worker_concurrency", concurrency).unwrap();
    Celery::new("dropped", config).unwrap()
}

fn worker(app: &Celery) -> (Worker, UnboundedReceiver<i64>) {
    let (told, tellings) = unbounded_channel::<i64>();
    let worker = Worker::new(app.clone()).task(hold).task(note).state(told);
    (worker.hostname("dropped@host").without_signals().without_panic_hook(), tellings)
}

async fn send(app: &Celery, task: &str, number: i64) {
    app.apply(Signature::new(task).args([number])).await.unwrap();
}

/// The threads of workers in this process, by name; the system cuts names off.
fn threads() -> Vec<String> {
    let is_a_workers = |name: &String| ["celeriac-contro", "celeriac-signal"].contains(&name.as_str());
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).filter(is_a_workers).collect()
}

/// Waits until nothing of a worker is left in this process.
async fn gone(tasks_before: usize) {
    eventually_async("nothing of the worker is left", SOON, async || {
        let tasks = Handle::current().metrics().num_alive_tasks();
        (threads().is_empty() && tasks <= tasks_before)
            .then_some(())
            .ok_or(format!("{tasks} {:?}", threads()))
    })
    .await;
}

async fn drop_in_the_middle() {
    let redis = RedisServer::start();
    let app = app(&redis, "1");
    // One waits for its eta, one runs, and three wait for the slot.
    app.apply(Signature::new("dropped.note").args([4]).countdown(Duration::from_secs(3600))).await.unwrap();
    send(&app, "dropped.hold", 0).await;
    for number in 1..4 {
        send(&app, "dropped.note", number).await;
    }
    let length = async || app.broker().length("celery").await.unwrap();
    let before = Handle::current().metrics().num_alive_tasks();
    let (worker, mut tellings) = worker(&app);
    {
        let mut running = pin!(worker.run());
        let holds_all = async {
            assert_eq!(tellings.recv().await, Some(0));
            eventually_async("all are taken", SOON, async || length().await == 0).await;
            eventually_async("it answers", SOON, async || {
                app.control().inspect().ping().await.unwrap() == ["dropped@host"]
            })
            .await;
        };
        tokio::select! {
            stopped = &mut running => panic!("{stopped:?}"),
            () = holds_all => {}
        }
    }
    gone(before).await;
    assert_eq!(length().await, 5, "what it held is back");
    let left: i64 = redis::cmd("EXISTS")
        .arg(&["unacked", "unacked_index", "celeriac.inflight"])
        .query(&mut redis.connection())
        .unwrap();
    assert_eq!(left, 0);
    assert!(app.control().inspect().ping().await.unwrap().is_empty());
    // What comes now waits, and is taken by the next worker: each once.
    send(&app, "dropped.note", 5).await;
    assert_eq!(length().await, 6);
    let (next, mut next_tellings) = self::worker(&self::app(&redis, "2"));
    let next = tokio::spawn(next.run());
    let mut counts = BTreeMap::new();
    for _ in 0..5 {
        let number = tokio::time::timeout(SOON, next_tellings.recv()).await.unwrap();
        *counts.entry(number.unwrap()).or_insert(0) += 1;
    }
    assert_eq!(counts, [0, 1, 2, 3, 5].map(|number| (number, 1)).into());
    assert!(tellings.try_recv().is_err());
    next.abort();
    let _ = next.await;
    gone(before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_dropped_gives_back_what_it_holds_and_is_gone() {
    drop_in_the_middle().await;
}

#[tokio::test]
async fn so_it_does_where_the_runtime_has_one_thread() {
    drop_in_the_middle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_dropped_while_its_broker_is_away_is_gone() {
    let mut redis = RedisServer::start();
    let app = app(&redis, "1");
    redis.stop();
    let before = Handle::current().metrics().num_alive_tasks();
    for patience in [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(500)] {
        let (worker, _tellings) = worker(&app);
        assert!(tokio::time::timeout(patience, worker.run()).await.is_err());
        gone(before).await;
    }
}
