//! The built-in commands of remote control: one table for the worker that answers, the client that asks, and the command
//! line.
//!
//! Source: celery 5.7 `celery/worker/control.py`, its decorators and the signatures of its functions.

use futures_util::FutureExt;

use super::{
    Handler, configuration, consumers, events, limits, memory, pool, registered, requests, revoke, stats,
};
use super::{clock, election, hello, ping, shutdown};

/// A built-in command of remote control.
#[derive(Debug)]
#[non_exhaustive]
pub struct CommandSpec {
    /// Its name.
    pub name: &'static str,
    /// An older name under which workers know it too.
    pub alias: Option<&'static str>,
    /// Its group on the command line: `celery inspect` or `celery control`.
    pub kind: CommandKind,
    /// Its arguments, in the order of the function in Celery.
    pub arguments: &'static [Argument],
    /// Whether workers pass over other arguments; else they refuse them.
    pub takes_others: bool,
    /// The arguments that the command line takes by place.
    pub places: &'static [&'static str],
    /// The argument that takes all further words of the command line.
    pub rest: Option<&'static str>,
    /// How the command line shows the arguments.
    pub usage: &'static str,
    /// A sentence about it, without a full stop.
    pub help: &'static str,
    /// Whether it is meant for people; others are for workers among themselves.
    pub is_visible: bool,
    /// Whether Celery's workers know it too.
    pub is_celerys: bool,
    pub(super) handler: Handler,
}

/// The group of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandKind {
    /// Asks, and changes nothing.
    Inspect,
    /// Tells workers to do something.
    Control,
}

/// An argument of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: ArgumentKind,
    /// Whether it must be given.
    pub is_required: bool,
}

/// The type of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArgumentKind {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// A number, in seconds where it is a time.
    Float,
    /// True or false.
    Flag,
    /// A list of texts, or one text.
    Texts,
    /// Any value.
    Any,
}

use ArgumentKind::{Any, Flag, Float, Integer, Text, Texts};
use CommandKind::{Control, Inspect};

/// A command without arguments; the functions below add to it.
const fn command(kind: CommandKind, name: &'static str, help: &'static str, handler: Handler) -> CommandSpec {
    CommandSpec {
        name,
        alias: None,
        kind,
        arguments: &[],
        takes_others: true,
        places: &[],
        rest: None,
        usage: "",
        help,
        is_visible: true,
        is_celerys: true,
        handler,
    }
}

impl CommandSpec {
    const fn alias(self, alias: &'static str) -> Self {
        Self { alias: Some(alias), ..self }
    }

    const fn takes(self, arguments: &'static [Argument]) -> Self {
        Self { arguments, ..self }
    }

    const fn nothing_else(self) -> Self {
        Self { takes_others: false, ..self }
    }

    const fn line(
        self,
        places: &'static [&'static str],
        rest: Option<&'static str>,
        usage: &'static str,
    ) -> Self {
        Self { places, rest, usage, ..self }
    }

    /// Returns the argument of that name.
    pub fn argument(&self, name: &str) -> Option<&'static Argument> {
        self.arguments.iter().find(|argument| argument.name == name)
    }
}

const fn required(name: &'static str, kind: ArgumentKind) -> Argument {
    Argument { name, kind, is_required: true }
}

const fn optional(name: &'static str, kind: ArgumentKind) -> Argument {
    Argument { name, kind, is_required: false }
}

const REVOCATION: [Argument; 2] = [optional("terminate", Flag), optional("signal", Text)];

/// All built-in commands, by group and name.
pub static COMMANDS: &[CommandSpec] = &[
    command(Inspect, "active", "List the tasks that run", Handler::Now(requests::active))
        .alias("dump_active")
        .takes(&[optional("safe", Flag)]),
    command(
        Inspect,
        "active_queues",
        "List the queues that are consumed",
        Handler::Now(consumers::active_queues),
    )
    .nothing_else(),
    command(Inspect, "clock", "Show the logical clock", Handler::Now(clock)),
    command(Inspect, "conf", "Show the settings, secrets masked", Handler::Now(configuration::conf))
        .alias("dump_conf")
        .takes(&[optional("with_defaults", Flag)])
        .line(&["with_defaults"], None, "[include_defaults=False]"),
    CommandSpec {
        is_visible: false,
        ..command(
            Inspect,
            "hello",
            "Exchange clock and revoked ids with a worker that starts",
            Handler::Now(hello),
        )
        .takes(&[required("from_node", Text), optional("revoked", Texts)])
    },
    command(Inspect, "memdump", "Show the samples that memsample took", Handler::Now(memory::dump))
        .takes(&[optional("samples", Integer)])
        .line(&["samples"], None, "[n_samples=10]"),
    command(Inspect, "memsample", "Sample the memory in use", Handler::Now(memory::sample)),
    command(
        Inspect,
        "objgraph",
        "Draw a graph of objects; Python workers only",
        Handler::Now(memory::objgraph),
    )
    .takes(&[optional("num", Integer), optional("max_depth", Integer), optional("type", Text)])
    .nothing_else()
    .line(&["type", "num", "max_depth"], None, "[object_type=Request] [num=200 [max_depth=10]]"),
    command(Inspect, "ping", "Ask workers for a sign of life", Handler::Now(ping)),
    command(Inspect, "query_task", "Show what workers know of tasks", Handler::Now(requests::query_task))
        .takes(&[required("ids", Texts)])
        .line(&[], Some("ids"), "[id1 [id2 [... [idN]]]]"),
    command(Inspect, "registered", "List the tasks that workers know", Handler::Now(registered::registered))
        .alias("dump_tasks")
        .takes(&[optional("taskinfoitems", Texts), optional("builtins", Flag)])
        .line(&[], Some("taskinfoitems"), "[attr1 [attr2 [... [attrN]]]]"),
    command(Inspect, "report", "Print a page for bug reports", Handler::Now(configuration::report))
        .nothing_else(),
    command(Inspect, "reserved", "List the tasks that wait for a slot", Handler::Now(requests::reserved))
        .alias("dump_reserved"),
    command(Inspect, "revoked", "List the ids of revoked tasks", Handler::Now(requests::revoked))
        .alias("dump_revoked"),
    command(
        Inspect,
        "scheduled",
        "List the tasks that wait for their eta",
        Handler::Now(requests::scheduled),
    )
    .alias("dump_schedule"),
    CommandSpec {
        is_celerys: false,
        ..command(
            Inspect,
            "schema",
            "Show what tasks take and return; Rust workers only",
            Handler::Now(registered::schema),
        )
    },
    command(Inspect, "stats", "Show statistics of the workers", Handler::Now(stats::stats)),
    command(Control, "add_consumer", "Start consuming a queue", Handler::Now(consumers::add_consumer))
        .takes(&[
            required("queue", Text),
            optional("exchange", Text),
            optional("exchange_type", Text),
            optional("routing_key", Text),
        ])
        .line(
            &["queue", "exchange", "exchange_type", "routing_key"],
            None,
            "<queue> [exchange [type [routing_key]]]",
        ),
    command(Control, "autoscale", "Set the bounds of the autoscaler", Handler::Now(pool::autoscale))
        .takes(&[optional("max", Integer), optional("min", Integer)])
        .nothing_else()
        .line(&["max", "min"], None, "[max [min]]"),
    command(Control, "cancel_consumer", "Stop consuming a queue", Handler::Now(consumers::cancel_consumer))
        .takes(&[required("queue", Text)])
        .line(&["queue"], None, "<queue>"),
    command(Control, "disable_events", "Stop sending events of tasks", Handler::Now(events::disable))
        .nothing_else(),
    command(Control, "election", "Elect one worker to call a task", Handler::Now(election)).takes(&[
        required("id", Text),
        required("topic", Text),
        optional("action", Any),
    ]),
    command(Control, "enable_events", "Start sending events of tasks", Handler::Now(events::enable))
        .nothing_else(),
    command(Control, "heartbeat", "Send a heartbeat at once", Handler::Now(events::heartbeat)).nothing_else(),
    command(Control, "pool_grow", "Add slots", Handler::Now(pool::grow))
        .takes(&[optional("n", Integer)])
        .line(&["n"], None, "[N=1]"),
    command(Control, "pool_restart", "Replace the child processes", Handler::Now(pool::restart)).takes(&[
        optional("modules", Texts),
        optional("reload", Flag),
        optional("reloader", Any),
    ]),
    command(Control, "pool_shrink", "Remove slots", Handler::Now(pool::shrink))
        .takes(&[optional("n", Integer)])
        .line(&["n"], None, "[N=1]"),
    command(Control, "rate_limit", "Set how often a task may start", Handler::Now(limits::rate_limit))
        .takes(&[required("task_name", Text), required("rate_limit", Text)])
        .line(&["task_name", "rate_limit"], None, "<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>"),
    command(
        Control,
        "revoke",
        "Keep tasks from running",
        Handler::Later(|panel, given| revoke::revoke(panel, given).boxed()),
    )
    .takes(&[required("task_id", Texts), REVOCATION[0], REVOCATION[1]])
    .line(&[], Some("task_id"), "[id1 [id2 [... [idN]]]]"),
    command(
        Control,
        "revoke_by_stamped_headers",
        "Keep tasks with these stamps from running",
        Handler::Later(|panel, given| revoke::by_stamped_headers(panel, given).boxed()),
    )
    .takes(&[required("headers", Any), REVOCATION[0], REVOCATION[1]])
    .line(&[], Some("headers"), "[key1=value1 [key2=value2 [... [keyN=valueN]]]]"),
    command(Control, "shutdown", "Shut workers down gracefully", Handler::Now(shutdown))
        .takes(&[optional("msg", Text)]),
    command(
        Control,
        "terminate",
        "Revoke tasks, and end the running ones with a signal",
        Handler::Later(|panel, given| revoke::terminate(panel, given).boxed()),
    )
    .takes(&[required("signal", Text), required("task_id", Texts)])
    .line(&["signal"], Some("task_id"), "<signal> [id1 [id2 [... [idN]]]]"),
    command(Control, "time_limit", "Set how long a task may run", Handler::Now(limits::time_limit))
        .takes(&[optional("task_name", Text), optional("hard", Float), optional("soft", Float)])
        .line(&["task_name", "soft", "hard"], None, "<task_name> <soft_secs> [hard_secs]"),
];
