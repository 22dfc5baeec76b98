//! Settings that a worker, a client in Rust and one in Python all get, and a Redis that remembers what ran.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use celeriac::Celery;
use celeriac::canvas::{chain, chord, group};
use celeriac::config::Config;
use celeriac::message::Signature;
use compat_tests::{Process, PythonEnv, RedisServer, binary, eventually, eventually_async, secs, size};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

/// How long something may take on a busy machine.
pub(crate) const SOON: Duration = secs(60);

pub(crate) struct Stage {
    settings: Map<String, Value>,
    record: RedisServer,
    pub(crate) runtime: Runtime,
}

impl Stage {
    /// Broker and result backend at that URL, with short times.
    pub(crate) fn at(url: impl Into<String>) -> Self {
        let url = url.into();
        let settings = json!({"broker_url": url, "result_backend": url});
        let Value::Object(settings) = settings else { unreachable!("an object was written") };
        let stage = Self {
            settings,
            record: RedisServer::start(),
            runtime: tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime"),
        };
        stage.options(json!({"visibility_timeout": 5}))
    }

    /// With another setting.
    pub(crate) fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(name.to_owned(), value.into());
        self
    }

    /// With more options of both transports.
    pub(crate) fn options(mut self, more: Value) -> Self {
        for name in ["broker_transport_options", "result_backend_transport_options"] {
            let options = self.settings.entry(name).or_insert_with(|| json!({}));
            let (Some(options), Some(more)) = (options.as_object_mut(), more.as_object()) else {
                panic!("options are objects")
            };
            options.extend(more.clone());
        }
        self
    }

    /// With TLS under those options for both.
    pub(crate) fn ssl(self, options: Value) -> Self {
        self.set("broker_use_ssl", options.clone()).set("redis_backend_use_ssl", options)
    }

    /// A worker that may not become ready.
    pub(crate) fn start_worker(&self, name: &str, concurrency: usize) -> Process {
        let mut command = Command::new(binary("faults-worker"));
        command.args(["-n", &format!("{name}@host"), "-c", &concurrency.to_string(), "-l", "info"]);
        command.arg("--without-mingle").env("FAULTS_RECORD_URL", self.record.url());
        for (setting, value) in &self.settings {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            command.env(format!("CELERY_{}", setting.to_ascii_uppercase()), text);
        }
        Process::spawn(name, &command)
    }

    /// A worker that is ready.
    #[track_caller]
    pub(crate) fn worker(&self, name: &str, concurrency: usize) -> Process {
        let mut worker = self.start_worker(name, concurrency);
        worker.wait_for_line(" ready", secs(60));
        worker
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = Config::default();
        for (name, value) in &self.settings {
            config.set_value(name, value).unwrap();
        }
        config
    }

    pub(crate) fn client(&self) -> Celery {
        Celery::new("connections", self.config()).unwrap()
    }

    /// The message of a task, as it lies in its queue.
    pub(crate) fn message(&self, number: i64) -> String {
        let queue = format!("aside-{number}");
        let task = Signature::new("faults.late").arg(number).arg(0.0).option("queue", queue.as_str());
        let app = self.client();
        self.runtime.block_on(app.apply(task)).unwrap();
        let prefix =
            self.settings["broker_transport_options"]["global_keyprefix"].as_str().unwrap_or_default();
        let key = format!("{prefix}{queue}");
        let url = self.settings["broker_url"].as_str().unwrap();
        let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
        redis::cmd("RPOP").arg(key).query(&mut connection).unwrap()
    }

    /// Sends a task and waits for its result.
    #[track_caller]
    pub(crate) fn call(&self, number: i64) {
        let client = self.client();
        let task = Signature::new("faults.late").arg(number).arg(0.0);
        let result = self.runtime.block_on(async { client.apply(task).await?.get(SOON).await });
        assert_eq!(result.unwrap().as_i64(), Some(number));
    }

    /// The same by Celery's client in Python, whose settings may be others.
    #[track_caller]
    pub(crate) fn call_from_python(&self, number: i64, settings: Value) {
        let Value::Object(mut all) = settings else { panic!("settings are an object") };
        for (name, value) in &self.settings {
            all.entry(name.clone()).or_insert_with(|| value.clone());
        }
        let program = "import json, os\nfrom celery import Celery\napp = Celery('python')\n\
            app.conf.update(json.loads(os.environ['SETTINGS']))\nnumber = int(os.environ['NUMBER'])\n\
            print(app.send_task('faults.late', (number, 0.0)).get(timeout=60))\n\
            print(*(name for reply in app.control.ping(timeout=5, limit=1) for name in reply))";
        let said = PythonEnv::get()
            .script(program)
            .env("SETTINGS", Value::Object(all).to_string())
            .env("NUMBER", number.to_string())
            .deadline(secs(120))
            .run()
            .success();
        assert_eq!(said.lines().next_back(), Some("one@host"), "{said}");
        assert!(said.lines().any(|line| line == number.to_string()), "{said}");
    }

    /// A worker named `one` runs what all clients send, answers remote control, and leaves.
    #[track_caller]
    pub(crate) fn works_with_everybody(&self, python: Value) {
        let mut worker = self.worker("one", 4);
        self.call(1);
        self.call_from_python(2, python);
        let client = self.client();
        let answers = self.runtime.block_on(client.control().inspect().ping()).unwrap();
        assert_eq!(answers, ["one@host"]);
        assert!(worker.terminate(secs(20)).success());
    }

    /// Uses every part of the protocol once, with a worker that runs already.
    #[track_caller]
    pub(crate) fn everything(&self) {
        let client = self.client();
        let step = |number: i64| Signature::new("faults.step").arg(number);
        self.runtime.block_on(async {
            let mut events = client.events("#").await;
            let sum = client.apply(chord((0..3).map(step), Signature::new("faults.sum"))).await.unwrap();
            assert_eq!(sum.get(SOON).await.unwrap().as_i64(), Some(6));
            let steps = client.apply(chain([step(1), Signature::new("faults.step")])).await.unwrap();
            assert_eq!(steps.get(SOON).await.unwrap().as_i64(), Some(3));
            steps.forget().await.unwrap();
            let later = Signature::new("faults.late").arg(7).arg(0.0).countdown(secs(1));
            let later = client.apply(later).await.unwrap();
            assert_eq!(later.get(SOON).await.unwrap().as_i64(), Some(7));
            let long = client.apply(Signature::new("faults.late").arg(8).arg(1.0)).await.unwrap();
            assert!(!client.control().inspect().active().await.unwrap().is_empty());
            assert_eq!(long.get(SOON).await.unwrap().as_i64(), Some(8));
            let never = client
                .apply(Signature::new("faults.late").arg(9).arg(0.0).countdown(secs(60)))
                .await
                .unwrap();
            client.control().revoke([never.id()]).await.unwrap();
            client.apply(Signature::new("no.such.task")).await.unwrap();
            assert!(tokio::time::timeout(SOON, events.next()).await.unwrap().is_some());
            let broker = client.broker();
            let dead = || broker.dead_letters().unwrap();
            let letters = eventually_async("the unknown task is a dead letter", SOON, async || {
                dead().list().await.ok().filter(|letters| !letters.is_empty())
            })
            .await;
            assert!(dead().drop(&letters[0].id).await.unwrap());
            broker.bind("topics", "topic", "a.#", "celery").await.unwrap();
            assert_eq!(broker.purge("another").await.unwrap(), 0);
        });
    }

    /// Sends `count` tasks that take `seconds`, numbered from `first`.
    #[track_caller]
    pub(crate) fn send(&self, first: i64, count: i64, seconds: f64) {
        let tasks =
            (first..first + count).map(|number| Signature::new("faults.late").arg(number).arg(seconds));
        self.runtime.block_on(self.client().apply(group(tasks))).expect("the broker takes tasks");
    }

    /// The numbers in the order in which they were done.
    pub(crate) fn order(&self) -> Vec<i64> {
        redis::cmd("LRANGE").arg("done").arg(0).arg(-1).query(&mut self.record.connection()).unwrap()
    }

    /// How often each number was done.
    pub(crate) fn done(&self) -> BTreeMap<i64, usize> {
        let mut runs = BTreeMap::new();
        self.order().into_iter().for_each(|number| *runs.entry(number).or_insert(0) += 1);
        runs
    }

    /// How many tasks were done in all.
    pub(crate) fn count(&self) -> usize {
        redis::cmd("LLEN").arg("done").query(&mut self.record.connection()).unwrap()
    }

    /// Fails with what a broker without prefix holds for running.
    pub(crate) fn held(broker: &RedisServer) -> Result<(), String> {
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut broker.connection()).unwrap();
        let is_work = |key: &&String| {
            key.starts_with("celeriac.inflight.") && !key.ends_with(".committed")
                || ["celery", "unacked", "unacked_index"].contains(&key.as_str())
        };
        let held: Vec<&String> = keys.iter().filter(is_work).collect();
        if held.is_empty() { Ok(()) } else { Err(format!("{held:?}")) }
    }

    /// Waits until each of those numbers was done.
    #[track_caller]
    pub(crate) fn await_done(&self, numbers: impl IntoIterator<Item = i64>, deadline: Duration) {
        let numbers: Vec<i64> = numbers.into_iter().collect();
        eventually("all tasks are done", deadline, || {
            let done = self.done();
            let missing: Vec<&i64> = numbers.iter().filter(|number| !done.contains_key(*number)).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("{} missing: {missing:?}", missing.len())) }
        });
    }
}

/// How many times a loop of faults is repeated: `FAULTS_SOAK` says how many at least.
pub(crate) fn rounds(usual: usize) -> usize {
    usual.max(size("FAULTS_SOAK", usual))
}
