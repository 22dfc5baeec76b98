//! `call` and `result`.

use std::time::Duration;

use celeriac::config::{BodySerializer, SettingValue};
use celeriac::message::{Map, Signature, Value, json, parse_iso8601};
use celeriac::{Celery, Error, Timezone};
use clap::Args;

use crate::failure::Failure;
use crate::out::say;
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
    #[arg(long, allow_hyphen_values = true)]
    countdown: Option<String>,
    /// When it is not to run any more: seconds from now, or ISO 8601
    #[arg(long)]
    expires: Option<String>,
    /// How the message is written: json, msgpack, yaml, or auth or encrypted where the settings have keys for it
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
    /// Checks everything, and only then connects to the broker.
    pub(crate) async fn run(self, app: impl FnOnce() -> Result<Celery, Failure>) -> Result<(), Failure> {
        let signature = self.signature()?;
        let app = app()?;
        app.codecs()
            .codec(&self.serializer)
            .map_err(|error| Failure::usage(format!("--serializer: {error}")))?;
        match app.apply(signature).await {
            Ok(result) => say(result.id()),
            Err(error @ (Error::Canvas(_) | Error::Protocol(_))) => Err(Failure::usage(error)),
            Err(error) => Err(error.into()),
        }
    }

    fn signature(&self) -> Result<Signature, Failure> {
        let args = match read("--args", &self.args)? {
            Value::List(args) => args,
            other => return Err(wrong("--args", &text(&other), "a JSON array such as '[2, 2]'")),
        };
        let kwargs = match read("--kwargs", &self.kwargs)? {
            Value::Map(kwargs) => kwargs,
            other => return Err(wrong("--kwargs", &text(&other), "a JSON object such as '{\"x\": 2}'")),
        };
        if BodySerializer::from_text(&self.serializer).is_err() {
            return Err(wrong("--serializer", &self.serializer, &BodySerializer::expected()));
        }
        if self.name.trim().is_empty() {
            return Err(Failure::usage("the name of the task is empty"));
        }
        let options: [(&str, Option<Value>); 7] = [
            ("eta", self.eta.as_deref().map(|text| moment("--eta", text)).transpose()?),
            ("countdown", self.countdown.as_deref().map(|text| seconds("--countdown", text)).transpose()?),
            ("expires", self.expires.as_deref().map(seconds_or_moment).transpose()?),
            ("serializer", Some(self.serializer.as_str().into())),
            ("queue", self.queue.clone().map(Value::from)),
            ("exchange", self.exchange.clone().map(Value::from)),
            ("routing_key", self.routing_key.clone().map(Value::from)),
        ];
        let mut signature = Signature { task: self.name.clone(), args, kwargs, ..Signature::default() };
        let given = options.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        signature.options.extend(given.collect::<Map>());
        Ok(signature)
    }
}

/// A time as ISO 8601 writes it.
fn moment(option: &str, text: &str) -> Result<Value, Failure> {
    match parse_iso8601(text, Timezone::UTC) {
        Some(_) => Ok(text.into()),
        None => Err(wrong(option, text, "a time in ISO 8601 such as 2026-11-30T18:00:00Z")),
    }
}

/// A number of seconds.
fn seconds(option: &str, text: &str) -> Result<Value, Failure> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() => Ok(seconds.into()),
        _ => Err(wrong(option, text, "a number of seconds such as 10")),
    }
}

fn seconds_or_moment(text: &str) -> Result<Value, Failure> {
    let expected = "a number of seconds such as 10, or a time in ISO 8601 such as 2026-11-30T18:00:00Z";
    let value = seconds("--expires", text).or_else(|_| moment("--expires", text));
    value.map_err(|_| wrong("--expires", text, expected))
}

fn wrong(option: &str, text: &str, expected: &str) -> Failure {
    Failure::usage(format!("{option}: {text:?} is not valid\nhint: it takes {expected}"))
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
            return say(result.meta().await?.traceback.as_deref().unwrap_or("None"));
        }
        let value = loop {
            match result.get(STEP).await {
                Err(Error::Timeout { .. }) => {}
                outcome => break outcome?,
            }
        };
        say(if self.json { json::dumps(&value) } else { text(&value) })
    }
}

fn read(option: &str, text: &str) -> Result<Value, Failure> {
    json::loads(text.as_bytes()).map_err(|error| Failure::usage(format!("{option} {text:?}: {error}")))
}
