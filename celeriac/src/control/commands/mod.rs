//! The commands of a worker, one small function each.
//!
//! Names, arguments and answers are those of celery 5.7 `celery/worker/control.py`; samples
//! `compat-tests/vectors/control`.

mod built_ins;
mod configuration;
mod consumers;
mod events;
mod limits;
mod memory;
mod pool;
mod registered;
mod requests;
mod revoke;
mod stats;

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::arguments::{Arguments, Parameters};
use super::panel::Panel;
use super::{mingle, python};
use crate::message::{Map, Value};
use crate::node::lock;
pub use built_ins::BuiltIns;
pub(super) use memory::resident_bytes;

/// What a command answers.
pub(super) type Answer = Result<Value, Failed>;

/// Why a command has no proper answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Failed {
    /// It raised an exception; the text is its Python `repr`, such as `ValueError('Autoscale not enabled')`.
    #[error("{0}")]
    Raised(String),
    /// It answers nothing at all.
    #[error("no answer")]
    NoAnswer,
}

impl Failed {
    /// An exception of that class with that text.
    pub fn raised(class: &str, text: impl AsRef<str>) -> Self {
        Failed::Raised(python::exception(class, text.as_ref()))
    }
}

/// The commands that a worker knows.
#[derive(Clone)]
pub struct Commands {
    by_name: HashMap<String, Arc<Command>>,
}

struct Command {
    parameters: Parameters,
    handler: Handler,
}

enum Handler {
    /// Answers at once.
    Now(fn(&Panel, &Arguments) -> Answer),
    /// Takes its time.
    Later(Later),
}

type Later = Box<dyn Fn(Panel, Arguments) -> BoxFuture<'static, Answer> + Send + Sync>;

impl Default for Commands {
    /// All commands of Celery's worker.
    fn default() -> Self {
        let mut commands = Self { by_name: HashMap::new() };
        for (names, required, optional, others, handler) in BUILT_IN {
            commands.add(names, Parameters { required, optional, others: *others }, Handler::Now(*handler));
        }
        let mut later = |name: &str, required: &'static [&'static str], optional, handler: Later| {
            commands.add(&[name], Parameters { required, optional, others: true }, Handler::Later(handler));
        };
        let how = &["terminate", "signal"];
        later("revoke", &["task_id"], how, Box::new(|panel, given| revoke::revoke(panel, given).boxed()));
        let terminate: Later = Box::new(|panel, given| revoke::terminate(panel, given).boxed());
        later("terminate", &["signal", "task_id"], &[], terminate);
        let by_stamps: Later = Box::new(|panel, given| revoke::by_stamped_headers(panel, given).boxed());
        later("revoke_by_stamped_headers", &["headers"], how, by_stamps);
        commands
    }
}

impl Commands {
    /// The same commands and one of your own, which takes any arguments; it replaces one of the same name.
    ///
    /// It runs on the thread that answers all commands and must not block it.
    #[must_use]
    pub fn with<F, R>(mut self, name: &str, command: F) -> Self
    where
        F: Fn(Arguments) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Value, Failed>> + Send + 'static,
    {
        let handler: Later = Box::new(move |_, arguments| Box::pin(command(arguments)));
        self.add(&[name], Parameters { required: &[], optional: &[], others: true }, Handler::Later(handler));
        self
    }

    /// As [`Commands::with`], for a command that is made of built-in ones.
    #[must_use]
    pub fn with_built_ins<F, R>(mut self, name: &str, command: F) -> Self
    where
        F: Fn(BuiltIns, Arguments) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Value, Failed>> + Send + 'static,
    {
        let handler: Later =
            Box::new(move |panel, arguments| Box::pin(command(BuiltIns::new(panel), arguments)));
        let parameters = Parameters { required: &[], optional: &[], others: true };
        self.add(&[name], parameters, Handler::Later(handler));
        self
    }

    /// Carries a command out.
    pub(super) async fn call(&self, method: &str, arguments: Value, panel: &Panel) -> Answer {
        let Some(command) = self.by_name.get(method) else { return Err(Failed::raised("KeyError", method)) };
        let arguments = Arguments::bind(method, &command.parameters, arguments)?;
        match &command.handler {
            Handler::Now(handler) => handler(panel, &arguments),
            Handler::Later(handler) => handler(panel.clone(), arguments).await,
        }
    }

    fn add(&mut self, names: &[&str], parameters: Parameters, handler: Handler) {
        let command = Arc::new(Command { parameters, handler });
        for name in names {
            self.by_name.insert((*name).to_owned(), Arc::clone(&command));
        }
    }
}

impl std::fmt::Debug for Commands {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.by_name.keys()).finish()
    }
}

/// Names, required and optional arguments, whether others are passed over, and the function.
type BuiltIn = (
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
    bool,
    fn(&Panel, &Arguments) -> Answer,
);

const BUILT_IN: &[BuiltIn] = &[
    (&["ping"], &[], &[], true, ping),
    (&["clock"], &[], &[], true, clock),
    (&["hello"], &["from_node"], &["revoked"], true, hello),
    (&["shutdown"], &[], &["msg"], true, shutdown),
    (&["election"], &["id", "topic"], &["action"], true, election),
    (&["report"], &[], &[], false, configuration::report),
    (&["conf", "dump_conf"], &[], &["with_defaults"], true, configuration::conf),
    (&["active", "dump_active"], &[], &["safe"], true, requests::active),
    (&["reserved", "dump_reserved"], &[], &[], true, requests::reserved),
    (&["scheduled", "dump_schedule"], &[], &[], true, requests::scheduled),
    (&["query_task"], &["ids"], &[], true, requests::query_task),
    (&["revoked", "dump_revoked"], &[], &[], true, requests::revoked),
    (&["registered", "dump_tasks"], &[], &["taskinfoitems", "builtins"], true, registered::registered),
    (&["schema"], &[], &[], true, registered::schema),
    (&["stats"], &[], &[], true, stats::stats),
    (&["active_queues"], &[], &[], false, consumers::active_queues),
    (
        &["add_consumer"],
        &["queue"],
        &["exchange", "exchange_type", "routing_key"],
        true,
        consumers::add_consumer,
    ),
    (&["cancel_consumer"], &["queue"], &[], true, consumers::cancel_consumer),
    (&["rate_limit"], &["task_name", "rate_limit"], &[], true, limits::rate_limit),
    (&["time_limit"], &[], &["task_name", "hard", "soft"], true, limits::time_limit),
    (&["enable_events"], &[], &[], false, events::enable),
    (&["disable_events"], &[], &[], false, events::disable),
    (&["heartbeat"], &[], &[], false, events::heartbeat),
    (&["pool_grow"], &[], &["n"], true, pool::grow),
    (&["pool_shrink"], &[], &["n"], true, pool::shrink),
    (&["pool_restart"], &[], &["modules", "reload", "reloader"], true, pool::restart),
    (&["autoscale"], &[], &["max", "min"], false, pool::autoscale),
    (&["memsample"], &[], &[], true, memory::sample),
    (&["memdump"], &[], &["samples"], true, memory::dump),
    (&["objgraph"], &[], &["num", "max_depth", "type"], false, memory::objgraph),
];

/// The answer of a command that did what it was told.
fn ok(text: impl Into<String>) -> Value {
    Value::Map(Map::from([("ok".to_owned(), Value::Str(text.into()))]))
}

/// The answer of a command that cannot do what it was told.
fn nok(text: impl Into<String>) -> Value {
    Value::Map(Map::from([("error".to_owned(), Value::Str(text.into()))]))
}

fn ping(_: &Panel, _: &Arguments) -> Answer {
    Ok(ok("pong"))
}

fn clock(panel: &Panel, _: &Arguments) -> Answer {
    Ok(Value::Map(Map::from([("clock".to_owned(), panel.state().clock.value().into())])))
}

/// What a worker that starts is told by the others.
fn hello(panel: &Panel, arguments: &Arguments) -> Answer {
    let state = panel.state();
    let from_node = arguments.text("from_node").unwrap_or_default();
    if from_node == state.hostname {
        return Ok(Value::Null);
    }
    log::info!(worker = from_node; "sync with {from_node}");
    let revoked = {
        let mut revoked = lock(&state.revoked);
        if let Some(ids) = arguments.get("revoked") {
            mingle::merge(&mut revoked, ids);
        }
        revoked.ids()
    };
    let revoked = revoked.into_iter().map(Value::from).collect();
    Ok(Value::Map(Map::from([
        ("revoked".to_owned(), revoked),
        ("clock".to_owned(), state.clock.forward().into()),
    ])))
}

fn shutdown(panel: &Panel, arguments: &Arguments) -> Answer {
    log::warn!("{}", arguments.text("msg").unwrap_or("Got shutdown from remote"));
    panel.worker().shut_down();
    Err(Failed::NoAnswer)
}

fn election(panel: &Panel, arguments: &Arguments) -> Answer {
    if let Some(gossip) = panel.gossip() {
        let text = |name: &str| arguments.get(name).map(python::str).unwrap_or_default();
        let action = arguments.get("action").cloned().unwrap_or_default();
        lock(gossip).elect(&text("id"), &text("topic"), action);
    }
    Ok(Value::Null)
}
