//! Exporters to Prometheus, as they are on PyPI: their numbers for a Rust worker are those for Celery's.

use std::collections::BTreeMap;

use compat_tests::{Port, Process, PythonEnv, eventually, secs};

use crate::stage::{SOON, Stage};

/// Numbers by name and labels, without those that are times.
type Numbers = BTreeMap<String, f64>;

/// The exporters' names at the broker, which tell their connections from the worker's.
const USERS: [&str; 3] = ["exporter0", "exporter1", "exporter2"];

/// An exporter, and where its numbers are.
struct Exporter {
    _process: Process,
    port: Port,
}

impl Exporter {
    /// All exporters, each at the broker as a user of its own.
    fn all(stage: &Stage) -> Vec<Self> {
        let start = |user: &str, program: &str, arguments: &dyn Fn(&str, u16) -> Vec<String>| {
            let mut new_user = redis::cmd("ACL");
            new_user.arg("SETUSER").arg(user).arg(&["on", "nopass", "~*", "&*", "+@all"]);
            let () = new_user.query(&mut stage.redis.connection()).unwrap();
            let url = format!("redis://{user}:any@127.0.0.1:{}/0", stage.redis.port());
            let port = Port::free();
            let command = PythonEnv::exporters().program(program, arguments(&url, port.number()));
            let command = stage.environment(command).env("CELERY_BROKER_URL", &url);
            Self { _process: command.spawn(), port }
        };
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let address = |port: u16| format!("127.0.0.1:{port}");
        vec![
            start(USERS[0], "python", &|url, port| {
                let code = "from src.cli import cli; cli()";
                words(&["-c", code, "--broker-url", url, "--port", &port.to_string()])
            }),
            start(USERS[1], "celery-prometheus-exporter", &|url, port| {
                words(&["--broker", url, "--addr", &address(port)])
            }),
            start(USERS[2], "celery-exporter", &|url, port| {
                words(&["--broker-url", url, "--listen-address", &address(port)])
            }),
        ]
    }

    fn numbers(&self) -> Option<Numbers> {
        let page = compat_tests::http_get(self.port.number(), "/metrics").ok()?.1;
        let is_time = |name: &str| {
            let inner_bucket =
                name.contains("_bucket{") && !name.contains("le=\"+Inf\"") && !name.contains("le=\"10.0\"");
            inner_bucket
                || ["python_", "process_"].iter().any(|prefix| name.starts_with(prefix))
                || ["_sum", "_created"]
                    .iter()
                    .any(|end| name.split('{').next().is_some_and(|name| name.ends_with(end)))
        };
        let numbers = page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (name, number) = line.rsplit_once(' ')?;
            (!is_time(name)).then_some((name.to_owned(), number.parse().ok()?))
        });
        Some(numbers.collect())
    }
}

/// What the exporters say of a worker after it has done the same work as any other.
fn exported(start_worker: impl FnOnce(&Stage) -> Process, expected: Option<&[Numbers]>) -> Vec<Numbers> {
    let stage = Stage::new();
    let _worker = start_worker(&stage);
    let exporters = Exporter::all(&stage);
    eventually("all exporters listen", secs(60), || {
        let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut stage.redis.connection()).unwrap();
        let listens = |user: &&str| {
            let is_user = |client: &&str| client.contains(&format!(" user={user} "));
            clients.lines().filter(is_user).any(|client| !client.contains(" psub=0 "))
        };
        USERS.iter().all(listens)
    });
    stage.script(
        r#"
import os, signal
app.conf.task_send_sent_event = True
pid = ask("stats", ["w@host"])["w@host"]["pid"]

def state_of(thread):
    with open(f"/proc/{pid}/task/{thread}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]

def send(*calls, **options):
    # Stopped, the worker does not tell of a task before the client does, however fast it is.
    os.kill(pid, signal.SIGSTOP)
    wait_until("all its threads stand", lambda: set(map(state_of, os.listdir(f"/proc/{pid}/task"))) == {"T"})
    try:
        return [call.apply_async(**options) for call in calls]
    finally:
        os.kill(pid, signal.SIGCONT)

# So many wait behind the first that Celery's worker does not receive its second try before it tells of the first one.
*sent, _ = send(retry.s(), add.s(1, 2), add.s(3, 4), fail.s("boom"), add.s("one", 2), add.s(5, 6), app.signature("tools.reject"))
wait_until("all ended", lambda: all(result.ready() for result in sent))
[revoked] = send(add.s(1, 2), countdown=2)
wait_until("scheduled", lambda: ask("scheduled", ["w@host"])["w@host"])
revoked.revoke()
[running] = send(sleep.s(60))
wait_until("it runs", lambda: [1 for task in ask("active", ["w@host"])["w@host"] if task["id"] == running.id], 20)
send(add.s(1, 2), expires=0.5)
expired = time.time() + 0.5
wait_until("it is received", lambda: ask("reserved", ["w@host"])["w@host"])
wait_until("it has expired", lambda: time.time() > expired)
running.revoke(terminate=True)
wait_until("it was ended", lambda: running.state == "REVOKED")
wait_until("it was revoked", lambda: not ask("scheduled", ["w@host"])["w@host"])
send(add.s(7, 8))[0].get(timeout=10)
show("done")
"#,
    );
    let all = || exporters.iter().map(Exporter::numbers).collect::<Option<Vec<_>>>();
    eventually("the numbers of all exporters", SOON, || {
        let numbers = all().ok_or("an exporter has no page")?;
        let missing = match expected {
            Some(expected) => differences(&numbers, expected),
            None => unfinished(&numbers),
        };
        if missing.is_empty() { Ok(numbers) } else { Err(missing.join("\n")) }
    })
}

/// What an exporter counts last of the work: the successes of `tools.add`, and the workers.
const LAST: [(&str, f64); 5] = [
    ("0 celery_task_runtime_count{hostname=\"host\",name=\"tools.add\",queue_name=\"celery\"}", 4.0),
    ("1 celery_tasks_runtime_seconds_count{name=\"tools.add\"}", 4.0),
    ("2 celery_tasks_runtime_seconds_count{name=\"tools.add\",namespace=\"celery\"", 4.0),
    ("1 celery_workers", 1.0),
    ("2 celery_workers", 1.0),
];

/// The numbers that are not there yet.
fn unfinished(numbers: &[Numbers]) -> Vec<String> {
    let is_there = |(name, expected): &(&str, f64)| {
        let (exporter, name) = name.split_once(' ').expect("an exporter and a name");
        let exporter: usize = exporter.parse().expect("a number");
        numbers[exporter].iter().any(|(key, number)| key.starts_with(name) && number == expected)
    };
    let missing = LAST.iter().filter(|last| !is_there(last));
    missing.map(|(name, number)| format!("exporter {name} is not {number}")).collect()
}

fn differences(ours: &[Numbers], theirs: &[Numbers]) -> Vec<String> {
    let of_exporter = |(exporter, (ours, theirs)): (usize, (&Numbers, &Numbers))| {
        let names = ours.keys().chain(theirs.keys());
        let differing = names.filter(|name| ours.get(*name) != theirs.get(*name));
        let said = |name: &String| {
            format!("exporter {exporter}: {name}: ours {:?}, theirs {:?}", ours.get(name), theirs.get(name))
        };
        differing.map(said).collect::<Vec<_>>()
    };
    ours.iter().zip(theirs).enumerate().flat_map(of_exporter).collect()
}

#[test]
fn exporters_count_for_a_rust_worker_what_they_count_for_celerys() {
    let theirs = exported(|stage| stage.python_worker("-n w@host -c 1 -E"), None);
    assert!(theirs.iter().all(|numbers| numbers.len() > 10), "an exporter has no numbers: {theirs:?}");
    exported(|stage| stage.rust_worker("-n w@host -c 1 -E"), Some(&theirs));
}
