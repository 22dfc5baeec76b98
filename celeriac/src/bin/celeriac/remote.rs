//! `inspect`, `control` and `status`.
//!
//! Source of options and output: celery 5.7 `celery/bin/control.py`.

use std::time::Duration;

use celeriac::Celery;
use celeriac::control::{Broadcast, Replies};
use celeriac::message::{Map, Value, json};
use clap::Args;

use crate::commands::{CONTROL, INSPECT, Known, arguments};
use crate::failure::Failure;
use crate::show::{show_reply, show_status};

/// Whom to ask, and how long.
#[derive(Args)]
struct Nodes {
    /// Seconds to wait for replies at most
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1.0)]
    timeout: f64,
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
        let Some(replies) = self.ask(INSPECT, app).await? else { return Ok(()) };
        if self.nodes.json {
            let replies: Map = replies.into_iter().map(|(node, reply)| (node, reply.value)).collect();
            println!("{}", json::dumps(&Value::Map(replies)));
            return Ok(());
        }
        replies.iter().for_each(|(node, reply)| show_reply(node, &reply.value, quiet));
        say_count(replies.len(), quiet);
        Ok(())
    }

    pub(crate) async fn control(
        self,
        app: impl FnOnce() -> Result<Celery, Failure>,
        quiet: bool,
    ) -> Result<(), Failure> {
        let Some(replies) = self.ask(CONTROL, app).await? else { return Ok(()) };
        if self.nodes.json {
            let reply = |(node, reply): (String, celeriac::control::ControlReply)| {
                Value::Map(Map::from([(node, reply.value)]))
            };
            println!("{}", json::dumps(&replies.into_iter().map(reply).collect()));
            return Ok(());
        }
        replies.iter().for_each(|(node, reply)| show_reply(node, &reply.value, quiet));
        Ok(())
    }

    /// The replies; `None` when only the list of commands was wanted.
    async fn ask(
        &self,
        table: &[Known],
        app: impl FnOnce() -> Result<Celery, Failure>,
    ) -> Result<Option<Replies>, Failure> {
        let Some(command) = self.command.as_deref().filter(|_| !self.list) else {
            for Known { name, usage, about, .. } in table {
                println!("  {:<70} {about}", format!("{name} {usage}").trim_end());
            }
            return Ok(None);
        };
        let arguments = arguments(table, command, &self.arguments)?;
        self.nodes.ask(&app()?, command, arguments).await.map(Some)
    }
}

impl Status {
    pub(crate) async fn run(self, app: &Celery, quiet: bool) -> Result<(), Failure> {
        let replies = self.nodes.ask(app, "ping", Map::new()).await?;
        let count = replies.len();
        if self.nodes.json {
            let replies: Map = replies.into_iter().map(|(node, reply)| (node, reply.value)).collect();
            println!("{}", json::dumps(&Value::Map(replies)));
        } else {
            replies.iter().for_each(|(node, reply)| show_status(node, &reply.value, quiet));
        }
        say_count(count, quiet);
        Ok(())
    }
}

impl Nodes {
    async fn ask(&self, app: &Celery, command: &str, arguments: Map) -> Result<Replies, Failure> {
        let timeout = Duration::try_from_secs_f64(self.timeout)
            .map_err(|error| Failure::usage(format!("--timeout {}: {error}", self.timeout)))?;
        let broadcast = Broadcast::new(command).arguments(arguments).timeout(timeout);
        let replies = app.control().call(broadcast.destination(self.destination.iter().cloned())).await?;
        if replies.is_empty() { Err(Failure::no_nodes()) } else { Ok(replies) }
    }
}

fn say_count(nodes: usize, quiet: bool) {
    if !quiet {
        println!("\n{nodes} {} online.", if nodes == 1 { "node" } else { "nodes" });
    }
}
