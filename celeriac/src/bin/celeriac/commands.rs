//! Which arguments the commands of remote control take on a command line, in their order.
//!
//! Source: the decorators in celery 5.7 `celery/worker/control.py`.

use celeriac::message::{Map, Value, json};

use crate::failure::Failure;

/// A command, as a line shows it.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    /// Its arguments by place.
    places: &'static [(&'static str, Kind)],
    /// The argument that takes all further words.
    rest: Option<&'static str>,
    /// How many words there must be.
    required: usize,
    pub(crate) usage: &'static str,
    pub(crate) about: &'static str,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Integer,
    Float,
    Flag,
}

pub(crate) const INSPECT: &[Known] = &[
    known("active", "", "Tasks that run"),
    known("active_queues", "", "Queues that are consumed"),
    known("clock", "", "Logical clock"),
    takes(
        "conf",
        &[("with_defaults", Kind::Flag)],
        None,
        "[include_defaults=False]",
        "Settings, secrets masked",
    ),
    takes("memdump", &[("samples", Kind::Integer)], None, "[n_samples=10]", "Samples that memsample took"),
    known("memsample", "", "Memory now"),
    takes(
        "objgraph",
        &[("type", Kind::Text), ("num", Kind::Integer), ("max_depth", Kind::Integer)],
        None,
        "[object_type=Request] [num=200 [max_depth=10]]",
        "Graph of objects; Python workers only",
    ),
    known("ping", "", "Whether workers answer"),
    takes("query_task", &[], Some("ids"), "[id1 [id2 [... [idN]]]]", "What is known of tasks"),
    takes(
        "registered",
        &[],
        Some("taskinfoitems"),
        "[attr1 [attr2 [... [attrN]]]]",
        "Tasks that workers know",
    ),
    known("report", "", "Page for bug reports"),
    known("reserved", "", "Tasks that wait for a slot"),
    known("revoked", "", "Ids of revoked tasks"),
    known("scheduled", "", "Tasks that wait for their eta"),
    known("stats", "", "Numbers of the workers"),
];

pub(crate) const CONTROL: &[Known] = &[
    takes(
        "add_consumer",
        &[
            ("queue", Kind::Text),
            ("exchange", Kind::Text),
            ("exchange_type", Kind::Text),
            ("routing_key", Kind::Text),
        ],
        None,
        "<queue> [exchange [type [routing_key]]]",
        "Consume a queue",
    ),
    takes(
        "autoscale",
        &[("max", Kind::Integer), ("min", Kind::Integer)],
        None,
        "[max [min]]",
        "Bounds of the slots",
    ),
    takes("cancel_consumer", &[("queue", Kind::Text)], None, "<queue>", "Consume a queue no more"),
    known("disable_events", "", "Send no events of tasks"),
    known("election", "", "Elect a worker"),
    known("enable_events", "", "Send events of tasks"),
    known("heartbeat", "", "Send a heartbeat now"),
    takes("pool_grow", &[("n", Kind::Integer)], None, "[N=1]", "More slots"),
    known("pool_restart", "", "Replace child processes"),
    takes("pool_shrink", &[("n", Kind::Integer)], None, "[N=1]", "Fewer slots"),
    takes(
        "rate_limit",
        &[("task_name", Kind::Text), ("rate_limit", Kind::Text)],
        None,
        "<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>",
        "How often a task may start",
    ),
    takes("revoke", &[], Some("task_id"), "[id1 [id2 [... [idN]]]]", "Keep tasks from running"),
    takes(
        "revoke_by_stamped_headers",
        &[],
        Some("headers"),
        "[key1=value1 [key2=value2 [... [keyN=valueN]]]]",
        "Keep tasks of these stamps from running",
    ),
    known("shutdown", "", "End warm"),
    takes(
        "terminate",
        &[("signal", Kind::Text)],
        Some("task_id"),
        "<signal> [id1 [id2 [... [idN]]]]",
        "Revoke tasks, and end those that run",
    ),
    takes(
        "time_limit",
        &[("task_name", Kind::Text), ("soft", Kind::Float), ("hard", Kind::Float)],
        None,
        "<task_name> <soft_secs> [hard_secs]",
        "How long a task may run",
    ),
];

const fn known(name: &'static str, usage: &'static str, about: &'static str) -> Known {
    takes(name, &[], None, usage, about)
}

const fn takes(
    name: &'static str,
    places: &'static [(&'static str, Kind)],
    rest: Option<&'static str>,
    usage: &'static str,
    about: &'static str,
) -> Known {
    Known { name, places, rest, required: required(usage), usage, about }
}

/// How many arguments a usage names without brackets, as in `<task_name> <soft_secs> [hard_secs]`.
const fn required(usage: &str) -> usize {
    let (bytes, mut at, mut count) = (usage.as_bytes(), 0, 0);
    while at < bytes.len() && bytes[at] != b'[' {
        count += (bytes[at] == b'<') as usize;
        at += 1;
    }
    count
}

/// The arguments in the words after a command.
///
/// # Errors
/// The command is not one of Celery's, or it takes other arguments.
pub(crate) fn arguments(table: &[Known], command: &str, words: &[String]) -> Result<Map, Failure> {
    let Some(known) = table.iter().find(|known| known.name == command) else {
        let names: Vec<&str> = table.iter().map(|known| known.name).collect();
        return Err(Failure::usage(format!(
            "unknown command '{command}'\nhint: {} are known; --custom sends one that the workers' program has added",
            names.join(", ")
        )));
    };
    if words.len() < known.required {
        return Err(Failure::usage(format!("Command '{command}' takes arguments: {}", known.usage)));
    }
    let mut arguments = Map::new();
    let (by_place, rest) = words.split_at(known.places.len().min(words.len()));
    for ((name, kind), word) in known.places.iter().zip(by_place) {
        arguments.insert((*name).to_owned(), kind.read(name, word)?);
    }
    match known.rest {
        Some(name) => {
            arguments.insert(name.to_owned(), rest.iter().map(|word| Value::from(word.as_str())).collect());
        }
        None if rest.is_empty() => {}
        None => return Err(Failure::usage(format!("Command '{command}' takes arguments: {}", known.usage))),
    }
    Ok(arguments)
}

/// Arguments as `name=value`, the value as JSON or else as text.
pub(crate) fn pairs(words: &[String]) -> Result<Map, Failure> {
    let pair = |word: &String| {
        let (name, text) = word.split_once('=').ok_or_else(|| {
            Failure::usage(format!("the arguments of a custom command are NAME=VALUE, not '{word}'"))
        })?;
        Ok((name.to_owned(), json::loads(text.as_bytes()).unwrap_or_else(|_| text.into())))
    };
    words.iter().map(pair).collect()
}

impl Kind {
    fn read(self, name: &str, word: &str) -> Result<Value, Failure> {
        let wrong = |expected: &str| Failure::usage(format!("{name} is to be {expected}, not '{word}'"));
        match self {
            Kind::Text => Ok(word.into()),
            Kind::Integer => word.parse::<i64>().map(Value::from).map_err(|_| wrong("a whole number")),
            Kind::Float => match word.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(number.into()),
                _ => Err(wrong("a number")),
            },
            Kind::Flag => match word.to_lowercase().as_str() {
                "true" | "yes" | "1" | "on" => Ok(true.into()),
                "false" | "no" | "0" | "off" => Ok(false.into()),
                _ => Err(wrong("true or false")),
            },
        }
    }
}
