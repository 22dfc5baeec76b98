//! `inspect`, `control` and `status`.
//!
//! Source of options and output: celery 5.7 `celery/bin/control.py`.

use std::time::Duration;

use celeriac::Celery;
use celeriac::config::SettingValue;
use celeriac::control::{Broadcast, CommandKind, CommandSpec, Replies};
use celeriac::message::{Map, Value, json};
use clap::Args;

use crate::commands::{arguments, commands, pairs};
use crate::failure::Failure;
use crate::out::say;
use crate::show::{show_reply, show_status};

/// Whom to ask, and how long.
#[derive(Args)]
struct Nodes {
    /// Seconds to wait for replies at most
    #[arg(short, long, value_name = "SECONDS", default_value = "1.0", value_parser = Duration::from_text)]
    timeout: Duration,
    /// Node names, comma-separated; all when none is given
    #[arg(short, long, value_name = "NODES", value_delimiter = ',')]
    destination: Vec<String>,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct Remote {
    #[command(flatten)]
    nodes: Nodes,
    /// List the commands, and what they take
    #[arg(long)]
    list: bool,
    /// The command is one that the workers' program has added: its arguments are NAME=VALUE
    #[arg(long)]
    custom: bool,
    /// The command
    #[arg(required_unless_present = "list")]
    command: Option<String>,
    /// Its arguments
    arguments: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Status {
    #[command(flatten)]
    nodes: Nodes,
}

impl Remote {
    pub(crate) async fn inspect(
        self,
        app: impl FnOnce() -> Result<Celery, Failure>,
        quiet: bool,
    ) -> Result<(), Failure> {
        let Some(replies) = self.ask(CommandKind::Inspect, app).await? else { return Ok(()) };
        if self.nodes.json {
            let replies: Map = replies.into_iter().map(|(node, reply)| (node, reply.value)).collect();
            return say(json::dumps(&Value::Map(replies)));
        }
        replies.iter().try_for_each(|(node, reply)| show_reply(node, &reply.value, quiet))?;
        say_count(replies.len(), quiet)
    }

    pub(crate) async fn control(
        self,
        app: impl FnOnce() -> Result<Celery, Failure>,
        quiet: bool,
    ) -> Result<(), Failure> {
        let Some(replies) = self.ask(CommandKind::Control, app).await? else { return Ok(()) };
        if self.nodes.json {
            let reply = |(node, reply): (String, celeriac::control::ControlReply)| {
                Value::Map(Map::from([(node, reply.value)]))
            };
            return say(json::dumps(&replies.into_iter().map(reply).collect()));
        }
        replies.iter().try_for_each(|(node, reply)| show_reply(node, &reply.value, quiet))
    }

    /// The replies; `None` when only the list of commands was wanted.
    async fn ask(
        &self,
        kind: CommandKind,
        app: impl FnOnce() -> Result<Celery, Failure>,
    ) -> Result<Option<Replies>, Failure> {
        let Some(command) = self.command.as_deref().filter(|_| !self.list) else {
            for CommandSpec { name, usage, help, .. } in commands(kind) {
                say(format_args!("  {:<70} {help}", format!("{name} {usage}").trim_end()))?;
            }
            return Ok(None);
        };
        let arguments =
            if self.custom { pairs(&self.arguments)? } else { arguments(kind, command, &self.arguments)? };
        self.nodes.ask(&app()?, command, arguments).await.map(Some)
    }
}

impl Status {
    pub(crate) async fn run(self, app: &Celery, quiet: bool) -> Result<(), Failure> {
        let replies = self.nodes.ask(app, "ping", Map::new()).await?;
        let count = replies.len();
        if self.nodes.json {
            let replies: Map = replies.into_iter().map(|(node, reply)| (node, reply.value)).collect();
            say(json::dumps(&Value::Map(replies)))?;
        } else {
            replies.iter().try_for_each(|(node, reply)| show_status(node, &reply.value, quiet))?;
        }
        say_count(count, quiet)
    }
}

impl Nodes {
    async fn ask(&self, app: &Celery, command: &str, arguments: Map) -> Result<Replies, Failure> {
        let broadcast = Broadcast::new(command).arguments(arguments).timeout(self.timeout);
        let replies = app.control().call(broadcast.destination(self.destination.iter().cloned())).await?;
        if replies.is_empty() { Err(Failure::no_nodes()) } else { Ok(replies) }
    }
}

fn say_count(nodes: usize, quiet: bool) -> Result<(), Failure> {
    if quiet {
        return Ok(());
    }
    say(format_args!("\n{nodes} {} online.", if nodes == 1 { "node" } else { "nodes" }))
}
