//! Restarts, cut connections and paths that swallow everything, in turn, under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use celeriac::message::Signature;
use compat_tests::{Port, Proxy, RedisOptions, RedisServer, eventually, secs};

use crate::stage::{SOON, Stage, rounds};

/// Within this time of the broker's return tasks run again.
const RESUMED: Duration = secs(5);

/// How many messages a worker with ten slots holds.
const PREFETCHED: usize = 40;

/// Sends tasks to the broker itself, without the path that breaks, until it is told to end.
struct Load {
    confirmed: Arc<AtomicI64>,
    ends: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Load {
    fn begin(stage: Stage) -> Self {
        let (confirmed, ends) = (Arc::<AtomicI64>::default(), Arc::<AtomicBool>::default());
        let (sent, end) = (Arc::clone(&confirmed), Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            let client = stage.client();
            while !end.load(Ordering::SeqCst) {
                let number = sent.load(Ordering::SeqCst);
                let task = Signature::new("faults.late").arg(number).arg(0.01);
                // A broker that is being restarted is asked again, for the same task.
                if stage.runtime.block_on(client.apply(task)).is_ok() {
                    sent.fetch_add(1, Ordering::SeqCst);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { confirmed, ends, thread }
    }

    /// How many tasks the broker has taken.
    fn end(self) -> i64 {
        self.ends.store(true, Ordering::SeqCst);
        self.thread.join().expect("the load runs to its end");
        self.confirmed.load(Ordering::SeqCst)
    }
}

#[test]
fn consumption_resumes_after_every_kind_of_outage_and_nothing_is_lost() {
    resumes_after_outages(RedisServer::options(), rounds(10));
}

/// Breaks the way to such a server that often, in every way.
pub(crate) fn resumes_after_outages(server: RedisOptions, faults: usize) {
    let mut redis = server.append_only().start();
    let proxy = Proxy::to(redis.port());
    let stage = Stage::at(format!("redis://127.0.0.1:{}/0", proxy.port()));
    let mut worker = stage.worker("one", 10);
    let load = Load::begin(Stage::at(redis.url()));
    let mut slowest = Duration::ZERO;
    for fault in 0..faults {
        let before = stage.count();
        eventually("tasks run", SOON, || stage.count() > before + 20);
        match fault % 5 {
            0 => {
                redis.kill();
                redis.restart();
            }
            1 => {
                let mut kill = redis::cmd("CLIENT");
                kill.arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]);
                let _: i64 = kill.query(&mut redis.connection()).unwrap();
            }
            2 => {
                proxy.black_hole();
                std::thread::sleep(secs(4));
                proxy.forget();
            }
            3 => {
                proxy.black_hole();
                std::thread::sleep(secs(1));
                proxy.resume();
            }
            // What was swallowed arrives after all, when the worker has given its connection up.
            _ => {
                proxy.black_hole();
                std::thread::sleep(secs(5));
                proxy.resume();
            }
        }
        // More than the worker held when the broker went away: it fetches again.
        let (back, before) = (Instant::now(), stage.count());
        eventually("tasks run again", SOON, || stage.count() > before + 2 * PREFETCHED);
        slowest = slowest.max(back.elapsed());
        println!("fault {fault}: tasks ran again after {:?}", back.elapsed());
        assert!(back.elapsed() < RESUMED, "fault {fault}: {:?}", back.elapsed());
    }
    let sent = load.end();
    stage.await_done(0..sent, secs(120));
    let more = stage.count() - stage.done().len();
    println!(
        "{faults} faults, {sent} tasks, none lost, {more} run more than once, slowest return {slowest:?}"
    );
    assert!(worker.is_running());
    eventually("nothing is left in the broker", SOON, || Stage::held(&redis));
}

#[test]
fn remote_control_and_results_come_back_after_a_black_hole() {
    let redis = RedisServer::start();
    let proxy = Proxy::to(redis.port());
    let stage = Stage::at(format!("redis://127.0.0.1:{}/0", proxy.port()));
    let straight = Stage::at(redis.url());
    let _worker = stage.worker("one", 4);
    let client = stage.client();
    let ping = |client: &celeriac::Celery| {
        stage.runtime.block_on(client.control().inspect().ping()).is_ok_and(|answers| answers.len() == 1)
    };
    assert!(ping(&client));
    stage.call(1);
    // A client that waits for a result does so through the path that breaks.
    let task = Signature::new("faults.late").arg(2).arg(3.0);
    let result = stage.runtime.block_on(client.apply(task)).unwrap();
    let waiting = stage.runtime.spawn(async move { result.get(SOON).await });
    proxy.black_hole();
    std::thread::sleep(secs(4));
    proxy.forget();
    let control = straight.client();
    eventually("the worker answers", SOON, || ping(&control));
    eventually("the client's own connections are back", SOON, || ping(&client));
    assert_eq!(stage.runtime.block_on(waiting).unwrap().unwrap().as_i64(), Some(2));
}

#[test]
fn writing_does_not_hide_that_nothing_is_answered() {
    let redis = RedisServer::start();
    let proxy = Proxy::to(redis.port());
    let stage = Stage::at(format!("redis://127.0.0.1:{}/0", proxy.port()));
    let client = stage.client();
    stage.runtime.block_on(client.apply(Signature::new("faults.late").arg(0).arg(0.0))).unwrap();
    proxy.black_hole();
    let send = |number: i64| {
        let client = client.clone();
        stage.runtime.spawn(async move {
            client.apply(Signature::new("faults.late").arg(number).arg(0.0)).await.map(drop)
        })
    };
    let first = send(1);
    let mut others = Vec::new();
    // Whoever takes writing for a sign of life never finds out.
    eventually("the silence is noticed and the task sent anew", SOON, || {
        others.push(send(2));
        if others.len() == 40 {
            proxy.forget();
        }
        first.is_finished()
    });
    for sent in others.into_iter().chain([first]) {
        stage.runtime.block_on(sent).unwrap().unwrap();
    }
}

#[test]
fn a_drip_of_bytes_is_no_sign_of_life() {
    let redis = RedisServer::start();
    let proxy = Proxy::to(redis.port());
    let stage = Stage::at(format!("redis://127.0.0.1:{}/0", proxy.port()));
    let straight = Stage::at(redis.url());
    let mut worker = stage.worker("one", 4);
    stage.call(0);
    proxy.drip();
    // At twenty bytes a second their messages would take ten minutes.
    straight.send(1, 40, 0.0);
    stage.await_done(1..41, SOON);
    worker.wait_for_line("reconnecting", SOON);
}

#[test]
fn those_who_ask_at_once_wait_together_for_a_server_that_swallows_everything() {
    let redis = RedisServer::start();
    let proxy = Proxy::to(redis.port());
    proxy.black_hole();
    let stage =
        Stage::at(format!("redis://127.0.0.1:{}/0", proxy.port())).set("broker_connection_timeout", 2);
    let client = stage.client();
    let asked = Instant::now();
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let broker = client.broker().clone();
            stage.runtime.spawn(async move { broker.length("celery").await })
        })
        .collect();
    for answer in asking {
        assert!(stage.runtime.block_on(answer).unwrap().is_err());
    }
    // One after another they would have waited for forty seconds.
    assert!(asked.elapsed() < secs(20), "{:?}", asked.elapsed());
    proxy.forget();
    assert_eq!(stage.runtime.block_on(client.broker().length("celery")).unwrap(), 0);
}

#[test]
fn a_server_that_loads_its_data_is_waited_for() {
    // Each key takes a while to load, so that the server answers `LOADING` for some seconds.
    let mut redis = RedisServer::options().append_only().argument("--key-load-delay", "500").start();
    let mut fill = redis::pipe();
    for number in 0..8_000 {
        fill.cmd("SET").arg(format!("filler.{number}")).arg("x").ignore();
    }
    let _: () = fill.query(&mut redis.connection()).unwrap();
    let stage = Stage::at(redis.url());
    let mut worker = stage.worker("one", 4);
    stage.call(1);
    redis.kill();
    redis.restart();
    worker.wait_for_line("LOADING", secs(20));
    stage.call(2);
    assert!(worker.is_running());
}

#[test]
fn a_worker_gives_up_only_where_it_is_told_to() {
    let port = Port::free();
    let nobody = format!("redis://127.0.0.1:{}/0", port.number());
    let mut impatient =
        Stage::at(nobody).set("broker_connection_retry_on_startup", false).start_worker("one", 1);
    assert!(!impatient.wait(SOON).success());
    impatient.wait_for_line("gave up redis://127.0.0.1.*after 1 attempt", secs(1));

    let mut redis = RedisServer::start();
    let stage = Stage::at(redis.url()).set("broker_connection_max_retries", 3);
    let mut limited = stage.worker("one", 1);
    redis.kill();
    assert!(!limited.wait(SOON).success());
    limited.wait_for_line("gave up .* after 4 attempt.*refused", secs(1));
}

#[test]
fn a_server_that_evicts_is_warned_of() {
    let redis = RedisServer::options().argument("--maxmemory-policy", "allkeys-lru").start();
    let mut worker = Stage::at(redis.url()).worker("one", 1);
    worker.wait_for_line("maxmemory-policy allkeys-lru.*throws away", secs(20));
}
