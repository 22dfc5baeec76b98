//! `purge`.

use std::collections::BTreeSet;
use std::io::Write;

use celeriac::Celery;
use clap::Args;

use crate::failure::Failure;
use crate::out::say;

#[derive(Args)]
pub(crate) struct Purge {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Queues to empty, comma-separated; those of `task_queues`, or the default queue, when none is given
    #[arg(short = 'Q', long, value_name = "QUEUES", value_delimiter = ',')]
    queues: Vec<String>,
    /// Queues not to empty, comma-separated
    #[arg(short = 'X', long, value_name = "QUEUES", value_delimiter = ',')]
    exclude_queues: Vec<String>,
}

impl Purge {
    pub(crate) async fn run(self, app: &Celery) -> Result<(), Failure> {
        let mut names: BTreeSet<String> = match (self.queues.is_empty(), &app.config().task_queues) {
            (false, _) => self.queues.into_iter().collect(),
            (true, Some(queues)) => queues.0.iter().map(|queue| queue.name.clone()).collect(),
            (true, None) => [app.config().task_default_queue.clone()].into(),
        };
        names.retain(|name| !self.exclude_queues.contains(name));
        if names.is_empty() {
            return Ok(());
        }
        let queues = if names.len() == 1 { "queue" } else { "queues" };
        if !self.force {
            confirm(queues, &names.iter().map(String::as_str).collect::<Vec<_>>().join(", "))?;
        }
        let mut messages = 0;
        for name in &names {
            messages += app.broker().purge(name).await?;
        }
        match messages {
            0 => say(format_args!("No messages purged from {} {queues}.", names.len())),
            1 => say(format_args!("Purged 1 message from {} known task {queues}.", names.len())),
            _ => say(format_args!("Purged {messages} messages from {} known task {queues}.", names.len())),
        }
    }
}

/// Asks on the terminal.
fn confirm(queues: &str, names: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    write!(
        out,
        "WARNING: This will remove all tasks from {queues}: {names}.\n         There is no undo for this operation!\n\n(to skip this prompt use the -f option)\nAre you sure you want to delete all tasks? [y/N]: "
    )
    .and_then(|()| out.flush())?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(Failure::failed)?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(Failure::failed("Aborted!"))
    }
}
