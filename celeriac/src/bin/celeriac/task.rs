//! `call` and `result`.

use std::time::Duration;

use celeriac::message::{Map, Signature, Value, json};
use celeriac::{Celery, Error};
use clap::Args;

use crate::failure::Failure;
use crate::show::text;

/// As long as `celery result` waits: for ever, in steps.
const STEP: Duration = Duration::from_secs(3600);

#[derive(Args)]
pub(crate) struct Call {
    /// Name of the task
    name: String,
    /// Positional arguments: a JSON array
    #[arg(short, long, value_name = "JSON", default_value = "[]")]
    args: String,
    /// Keyword arguments: a JSON object
    #[arg(short, long, value_name = "JSON", default_value = "{}")]
    kwargs: String,
    /// When it is to run: ISO 8601
    #[arg(long)]
    eta: Option<String>,
    /// Seconds until it is to run
    #[arg(long)]
    countdown: Option<f64>,
    /// When it is not to run any more: seconds from now, or ISO 8601
    #[arg(long)]
    expires: Option<String>,
    /// How the message is written: json, msgpack or yaml
    #[arg(long, default_value = "json")]
    serializer: String,
    /// Queue to send it to
    #[arg(long)]
    queue: Option<String>,
    /// Exchange to send it to
    #[arg(long)]
    exchange: Option<String>,
    /// Its routing key
    #[arg(long)]
    routing_key: Option<String>,
}

impl Call {
    pub(crate) async fn run(self, app: &Celery) -> Result<(), Failure> {
        let args = match read("--args", &self.args)? {
            Value::List(args) => args,
            other => {
                return Err(Failure::usage(format!("--args is to be a JSON array, not {}", text(&other))));
            }
        };
        let kwargs = match read("--kwargs", &self.kwargs)? {
            Value::Map(kwargs) => kwargs,
            other => {
                return Err(Failure::usage(format!("--kwargs is to be a JSON object, not {}", text(&other))));
            }
        };
        let mut signature = Signature { task: self.name, args, kwargs, ..Signature::default() };
        let seconds_or_moment = |text: String| match text.parse::<f64>() {
            Ok(seconds) => Value::from(seconds),
            Err(_) => text.into(),
        };
        let options: [(&str, Option<Value>); 7] = [
            ("eta", self.eta.map(Value::from)),
            ("countdown", self.countdown.map(Value::from)),
            ("expires", self.expires.map(seconds_or_moment)),
            ("serializer", Some(self.serializer.into())),
            ("queue", self.queue.map(Value::from)),
            ("exchange", self.exchange.map(Value::from)),
            ("routing_key", self.routing_key.map(Value::from)),
        ];
        let given = options.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        signature.options.extend(given.collect::<Map>());
        println!("{}", app.apply(signature).await?.id());
        Ok(())
    }
}

#[derive(Args)]
pub(crate) struct Outcome {
    /// Id of the task
    task_id: String,
    /// Name of the task; without effect here
    #[arg(short, long)]
    task: Option<String>,
    /// Print the traceback instead
    #[arg(long)]
    traceback: bool,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

impl Outcome {
    pub(crate) async fn run(self, app: &Celery) -> Result<(), Failure> {
        let result = app.result(self.task_id);
        if self.traceback {
            println!("{}", result.meta().await?.traceback.unwrap_or_else(|| "None".to_owned()));
            return Ok(());
        }
        let value = loop {
            match result.get(STEP).await {
                Err(Error::Timeout { .. }) => {}
                outcome => break outcome?,
            }
        };
        println!("{}", if self.json { json::dumps(&value) } else { text(&value) });
        Ok(())
    }
}

fn read(option: &str, text: &str) -> Result<Value, Failure> {
    json::loads(text.as_bytes()).map_err(|error| Failure::usage(format!("{option} {text:?}: {error}")))
}
