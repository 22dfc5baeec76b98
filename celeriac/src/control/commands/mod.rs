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
mod table;

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::arguments::Arguments;
use super::panel::Panel;
use super::{mingle, python};
use crate::message::{Map, Value};
use crate::node::lock;
pub use built_ins::BuiltIns;
pub(super) use memory::resident_bytes;
pub use table::{Argument, ArgumentKind, COMMANDS, CommandKind, CommandSpec};

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
    /// Those of the worker's program.
    own: HashMap<String, Own>,
}

/// The function of a built-in command.
#[derive(Debug)]
enum Handler {
    /// Answers at once.
    Now(fn(&Panel, &Arguments) -> Answer),
    /// Takes its time.
    Later(fn(Panel, Arguments) -> BoxFuture<'static, Answer>),
}

type Own = Arc<dyn Fn(Panel, Arguments) -> BoxFuture<'static, Answer> + Send + Sync>;

impl Default for Commands {
    /// All commands of Celery's worker.
    fn default() -> Self {
        Self { own: HashMap::new() }
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
        self.own.insert(name.to_owned(), Arc::new(move |_, arguments| Box::pin(command(arguments))));
        self
    }

    /// As [`Commands::with`], for a command that is made of built-in ones.
    #[must_use]
    pub fn with_built_ins<F, R>(mut self, name: &str, command: F) -> Self
    where
        F: Fn(BuiltIns, Arguments) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Value, Failed>> + Send + 'static,
    {
        let own: Own = Arc::new(move |panel, arguments| Box::pin(command(BuiltIns::new(panel), arguments)));
        self.own.insert(name.to_owned(), own);
        self
    }

    /// Carries a command out.
    pub(super) async fn call(&self, method: &str, arguments: Value, panel: &Panel) -> Answer {
        if let Some(own) = self.own.get(method) {
            return own(panel.clone(), Arguments::any(method, arguments)?).await;
        }
        let is_it = |spec: &&CommandSpec| spec.name == method || spec.alias == Some(method);
        let Some(spec) = COMMANDS.iter().find(is_it) else { return Err(Failed::raised("KeyError", method)) };
        let arguments = Arguments::bind(spec.name, spec.arguments, spec.takes_others, arguments)?;
        match spec.handler {
            Handler::Now(handler) => handler(panel, &arguments),
            Handler::Later(handler) => handler(panel.clone(), arguments).await,
        }
    }
}

impl std::fmt::Debug for Commands {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_list()
            .entries(COMMANDS.iter().map(|spec| spec.name))
            .entries(self.own.keys())
            .finish()
    }
}

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
