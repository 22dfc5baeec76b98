//! Settings that Celery knows, and options of the transport: each is known, works or is said not to.

use std::time::Duration;

use celeriac::config::Config;
use celeriac::message::Signature;
use compat_tests::{PythonEnv, RedisServer, eventually, secs};
use serde_json::{Value, json};

use crate::stage::{SOON, Stage};

#[test]
fn every_setting_that_the_installed_celery_has_or_reads_is_known() {
    let program = r#"
import json, pathlib, re, celery
from celery.app.defaults import NAMESPACES, flatten
source = pathlib.Path(celery.__file__).parent
read = set()
for path in source.rglob("*.py"):
    text = path.read_text()
    read |= set(re.findall(r"(?:conf\.get\(|conf\[|\b_get\()\s*['\"]([a-z0-9]+_[a-z0-9_]+)['\"]", text))
daemons = [f"{command}_{option}" for command in ("worker", "beat", "events")
           for option in ("executable", "gid", "logfile", "pidfile", "uid", "umask")]
print(json.dumps([[name for name, _ in flatten(NAMESPACES)], sorted(read), daemons]))"#;
    let said = PythonEnv::get().script(program).run().success();
    let found: Value = serde_json::from_str(&said).unwrap();
    let config = Config::default();
    for (names, least) in found.as_array().unwrap().iter().zip([190, 40, 18]) {
        let names: Vec<&str> = names.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(names.len() >= least, "{names:?}");
        let unknown: Vec<&&str> = names.iter().filter(|name| config.get(name).is_none()).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}

#[test]
fn a_worker_names_what_has_no_effect_and_works() {
    let redis = RedisServer::start();
    let stage = Stage::at(redis.url())
        .set("accept_content", json!(["application/json", "pickle"]))
        .set("worker_executable", "/usr/bin/python3")
        .set(
            "broker_transport_options",
            json!({"visibility_timeout": 5, "max_connections": 3, "no_such": 1}),
        );
    let mut worker = stage.worker("one", 1);
    stage.call(1);
    for (part, count) in [
        ("worker_executable has no effect", 1),
        ("the option max_connections has no effect", 1),
        ("the option no_such is not known", 1),
        ("accept_content: pickle is never decoded", 1),
    ] {
        assert_eq!(worker.lines_with(part).len(), count, "{part}");
    }
    assert!(worker.terminate(secs(20)).success());
}

#[test]
fn what_is_not_offered_is_refused_with_what_works() {
    let redis = RedisServer::start();
    for (setting, url) in [
        ("result_backend", "rpc://"),
        ("result_backend", "rpc"),
        ("broker_url", "amqp://guest:secret@127.0.0.1//"),
    ] {
        let mut worker = Stage::at(redis.url()).set(setting, url).start_worker("one", 1);
        worker.wait_for_line("is not offered", secs(30));
        worker.wait_for_line(r"redis\+cluster://HOST:6379 work", secs(30));
        assert_eq!(worker.lines_with(setting).len(), 1);
        assert!(worker.lines_with("secret").is_empty());
        assert!(!worker.wait(secs(20)).success());
    }
}

#[test]
fn connections_have_a_name_and_the_credentials_that_a_command_yields() {
    let redis = RedisServer::start();
    let ask = |words: &[&str]| {
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(*word);
        });
        command.query::<redis::Value>(&mut redis.connection()).unwrap();
    };
    ask(&["ACL", "SETUSER", "ann", "on", ">first one", "~*", "&*", "+@all"]);
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "ann\nfirst one\n").unwrap();
    let url = format!("redis://nobody:wrong@127.0.0.1:{}/0", redis.port());
    let stage = Stage::at(url).options(json!({
        "client_name": "orders", "credential_provider": format!("cat {}", secret.display()),
        "socket_keepalive_options": {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3},
    }));
    let mut worker = stage.worker("one", 2);
    stage.call(1);
    let names = || {
        let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut redis.connection()).unwrap();
        let of_ann = list.lines().filter(|line| line.contains(" user=ann "));
        let is_named = |line: &str| line.contains(" name=orders ") || line.contains(" name=orders:celeriac:");
        of_ann.map(is_named).collect::<Vec<bool>>()
    };
    let found = names();
    assert!(found.len() >= 3 && found.iter().all(|named| *named), "{found:?}");
    // The password changes, and the server ends all connections: new ones come with what the command yields now.
    ask(&["ACL", "SETUSER", "ann", "resetpass", ">second"]);
    std::fs::write(&secret, r#"{"username": "ann", "password": "second"}"#).unwrap();
    ask(&["CLIENT", "KILL", "USER", "ann"]);
    eventually("the worker is back", SOON, || names().len() >= 3);
    stage.call(2);
    // What the command says is not shown.
    std::fs::write(&secret, "hunter2\nhunter2\nhunter2").unwrap();
    ask(&["CLIENT", "KILL", "USER", "ann"]);
    worker.wait_for_line("credential_provider: the command yields no credentials", secs(60));
    assert!(worker.lines_with("hunter2|second|first one").is_empty());
    std::fs::write(&secret, "ann\nsecond\n").unwrap();
    stage.call(3);
    assert!(worker.terminate(secs(20)).success());
}

/// The order in which a worker runs what waits in the queues `b` and `a`.
fn order(strategy: &str) -> Vec<i64> {
    let redis = RedisServer::start();
    let stage = Stage::at(redis.url())
        .options(json!({"queue_order_strategy": strategy}))
        .set("worker_prefetch_multiplier", 1)
        .set("task_queues", "b,a");
    let client = stage.client();
    for (queue, first) in [("a", 1), ("b", 11)] {
        for number in first..first + 3 {
            let task = Signature::new("faults.late").arg(number).arg(0.0).option("queue", queue);
            stage.runtime.block_on(client.apply(task)).unwrap();
        }
    }
    let _worker = stage.worker("one", 1);
    stage.await_done([1, 2, 3, 11, 12, 13], SOON);
    stage.order()
}

#[test]
fn queues_are_served_in_the_order_that_is_asked_for() {
    assert_eq!(order("sorted"), [1, 2, 3, 11, 12, 13]);
    assert_eq!(order("priority"), [11, 12, 13, 1, 2, 3]);
    let mixed = order("round_robin");
    assert!(mixed[..2].contains(&1) && mixed[..2].contains(&11), "{mixed:?}");
}

#[test]
fn the_lists_of_a_queue_with_x_expires_expire_as_those_of_kombu() {
    let redis = RedisServer::start();
    let stage = Stage::at(redis.url()).set(
        "task_queues",
        json!([{"name": "brief", "queue_arguments": {"x-expires": 60_000}}, {"name": "soon", "expires": 60},
               {"name": "zero", "queue_arguments": {"x-expires": 0}}, {"name": "plain"}]),
    );
    let client = stage.client();
    let ttl = |key: &str| -> i64 { redis::cmd("PTTL").arg(key).query(&mut redis.connection()).unwrap() };
    for (queue, expires) in [("brief", true), ("soon", true), ("zero", false), ("plain", false)] {
        for priority in [0, 9] {
            let task =
                Signature::new("faults.late").arg(1).option("queue", queue).option("priority", priority);
            stage.runtime.block_on(client.apply(task)).unwrap();
        }
        for key in [queue.to_owned(), format!("{queue}\u{6}\u{16}9")] {
            let left = ttl(&key);
            assert_eq!((1..=60_000).contains(&left), expires, "{key}: {left}");
            assert!(expires || left == -1, "{key}: {left}");
        }
    }
    // kombu, with a queue of its own beside ours.
    let program = "import os\nfrom celery import Celery\nfrom kombu import Queue\napp = Celery(broker=os.environ['URL'])\n\
        app.conf.task_queues = [Queue('theirs', queue_arguments={'x-expires': 60000})]\n\
        app.send_task('faults.late', (1, 0.0), queue='theirs', priority=9)";
    PythonEnv::get().script(program).env("URL", redis.url()).run().success();
    assert!((1..=60_000).contains(&ttl("theirs\u{6}\u{16}9")));
    // Without a message the list goes; with one, its time begins again.
    let brief = Stage::at(redis.url())
        .set("task_queues", json!([{"name": "moment", "queue_arguments": {"x-expires": 300}}]));
    let task = Signature::new("faults.late").arg(1).option("queue", "moment");
    brief.runtime.block_on(brief.client().apply(task)).unwrap();
    eventually("the list is gone", Duration::from_secs(20), || ttl("moment") == -2);
}

#[test]
fn a_time_limit_of_0_is_no_limit_wherever_it_is_said() {
    let redis = RedisServer::start();
    let stage = Stage::at(redis.url()).set("task_time_limit", 0).set("task_soft_time_limit", 0);
    let mut worker = stage.worker("one", 4);
    let client = stage.client();
    let run = |options: Value| {
        let mut task = Signature::new("faults.late").arg(1).arg(0.4);
        for (name, value) in options.as_object().unwrap() {
            task = task.option(name.as_str(), value.as_f64());
        }
        let result = stage.runtime.block_on(async { client.apply(task).await?.get(SOON).await });
        result.err().map_or("done".to_owned(), |error| error.to_string())
    };
    let limit = |soft: Option<f64>, hard: Option<f64>| {
        let arguments = json!({"task_name": "faults.late", "soft": soft, "hard": hard});
        let control = client.control();
        let set = control.call(
            celeriac::control::Broadcast::new("time_limit")
                .arguments(
                    celeriac::message::json::loads(arguments.to_string().as_bytes())
                        .unwrap()
                        .as_map()
                        .unwrap()
                        .clone(),
                )
                .timeout(secs(20)),
        );
        assert_eq!(stage.runtime.block_on(set).unwrap().len(), 1);
    };
    assert_eq!(run(json!({})), "done");
    assert_eq!(run(json!({"time_limit": 0, "soft_time_limit": 0})), "done");
    assert!(run(json!({"time_limit": 0.1})).contains("TimeLimitExceeded"));
    limit(Some(0.0), Some(0.1));
    assert!(
        run(json!({"time_limit": 0})).contains("TimeLimitExceeded"),
        "the next source decides, as in Celery"
    );
    assert_eq!(run(json!({"time_limit": 30})), "done");
    limit(Some(0.0), Some(0.0));
    assert_eq!(run(json!({})), "done");
    limit(None, None);
    assert_eq!(run(json!({})), "done");
    assert!(worker.terminate(secs(20)).success());
}
