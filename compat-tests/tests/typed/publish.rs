//! What an application adds to each message that leaves it.

use celeriac::canvas::chain;
use celeriac::config::Config;
use celeriac::message::{Message, Signature, Value};
use celeriac::worker::CancellationToken;
use celeriac::{Celery, Worker};
use compat_tests::{PythonEnv, secs};

use crate::stage::Stage;

/// A task that shows the headers of its own that its message has.
const PEER: &str = r#"
from celery import Celery
app = Celery("peer")
app.conf.task_default_queue = "python"

@app.task(name="peer.headers", bind=True)
def headers(self):
    return self.request.headers["sender"]
"#;

#[celeriac::task(name = "hooked.first")]
async fn first() {}

fn note(text: &'static str) -> impl Fn(&mut Message) {
    move |message| {
        let sender = message.headers.extra.get("sender").and_then(Value::as_str).unwrap_or_default();
        let sender = format!("{sender}{text}");
        message.headers.extra.insert("sender".to_owned(), Value::from(sender));
    }
}

#[test]
fn hooks_see_what_clients_and_workers_publish() {
    let stage = Stage::new();
    stage.write("peer.py", PEER);
    let url = stage.redis.url();
    let command = PythonEnv::get().celery(["-A", "peer", "worker", "-P", "solo", "-l", "info"]);
    let command = command.current_dir(stage.folder.path()).env("PYTHONPATH", stage.folder.path());
    let mut peer = command.env("CELERY_BROKER_URL", &url).env("CELERY_RESULT_BACKEND", &url).spawn();
    peer.wait_for_line(" ready", secs(60));

    let mut config = Config::default();
    config.set("broker_url", &url).unwrap();
    config.set("result_backend", &url).unwrap();
    let bare = Celery::new("hooked", config).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let client = bare.clone().before_task_publish(note("client")).before_task_publish(note(", twice"));
        let shown = || Signature::new("peer.headers").queue("python").immutable(true);
        let sent = client.apply(shown()).await.unwrap();
        assert_eq!(sent.get_as::<String>(secs(60)).await.unwrap(), "client, twice");

        let stop = CancellationToken::new();
        let hooked = bare.clone().before_task_publish(note("worker"));
        let worker = Worker::new(hooked).task(first).stop_on(stop.clone()).without_signals();
        let worker = tokio::spawn(worker.run());
        let sent =
            bare.apply(chain([Signature::new("hooked.first").immutable(true), shown()])).await.unwrap();
        assert_eq!(sent.get_as::<String>(secs(60)).await.unwrap(), "worker");
        stop.cancel();
        worker.await.unwrap().unwrap();
    });
}
