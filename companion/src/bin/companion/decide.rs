//! Commands by which an engineer decides what becomes of deliveries that did not end well.

use clap::{Args, Subcommand};
use companion::{
    Companion,
    reminders::{self, Closed, Requeued},
    settings::Settings,
};
use uuid::Uuid;

#[derive(Subcommand)]
pub(crate) enum Uncertain {
    /// List them: reminder, channel, when it was due, when the sending began, the reminder's status, user.
    List,
    /// Send them again; whoever had the message gets it twice.
    Resend(Chosen),
    /// Take them for delivered.
    Accept(Chosen),
}

#[derive(Subcommand)]
pub(crate) enum FailedJobs {
    /// List the open ones: job, when it failed last, attempts, task, reminder, reason.
    List {
        /// List closed ones too.
        #[arg(long)]
        all: bool,
    },
    /// Queue their reminders again; a row is closed when its reminder is sent.
    Requeue(Chosen),
    /// Close them and do nothing else.
    Close(Chosen),
}

#[derive(Args)]
pub(crate) struct Chosen {
    /// These.
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<Uuid>,
    /// All that `list` shows.
    #[arg(long)]
    all: bool,
}

/// Most rows of a list, and most that `--all` means.
const MOST: i64 = 100_000;

impl Uncertain {
    pub(crate) async fn run(self, settings: Settings) -> anyhow::Result<()> {
        let companion = Companion::open(settings)?;
        let list = companion.store.uncertain_deliveries(MOST).await?;
        let all = || list.iter().map(|delivery| delivery.reminder_id).collect();
        match self {
            Self::List => {
                for delivery in &list {
                    println!(
                        "{} {} due {} began {} {} user {}",
                        delivery.reminder_id,
                        delivery.channel,
                        delivery.utc_ts.to_rfc3339(),
                        delivery.started_at.to_rfc3339(),
                        delivery.reminder_status.name(),
                        delivery.user_id
                    );
                }
                println!("{} may have been delivered", list.len());
            }
            Self::Resend(chosen) => {
                for id in chosen.or(all) {
                    match reminders::resend_uncertain(&companion, id).await? {
                        Requeued::Queued(task) => println!("{id} queued as task {task}"),
                        Requeued::Skipped(reason) => println!("{id} skipped: {reason}"),
                    }
                }
            }
            Self::Accept(chosen) => {
                for id in chosen.or(all) {
                    match reminders::accept_uncertain(&companion, id).await? {
                        true => println!("{id} taken for delivered"),
                        false => println!("{id} skipped: no uncertain delivery of it, or being delivered"),
                    }
                }
            }
        }
        companion.store.close().await;
        Ok(())
    }
}

impl FailedJobs {
    pub(crate) async fn run(self, settings: Settings) -> anyhow::Result<()> {
        let companion = Companion::open(settings)?;
        let closed_too = matches!(&self, Self::List { all: true });
        let list = companion.store.failed_jobs(closed_too, MOST).await?;
        let all = || list.iter().map(|job| job.id).collect();
        match self {
            Self::List { .. } => {
                for job in &list {
                    let reminder = job.reminder().map_or("-".to_owned(), |reminder| reminder.to_string());
                    let closed =
                        job.resolution.as_ref().map_or(String::new(), |how| format!(" [closed: {how}]"));
                    println!(
                        "{} {} attempts {} {} reminder {reminder}{closed} {}",
                        job.id,
                        job.last_error_at.to_rfc3339(),
                        job.attempts,
                        job.job_name,
                        job.error_message
                    );
                }
                println!("{} open", companion.store.count_failed_jobs().await?);
            }
            Self::Requeue(chosen) => {
                for id in chosen.or(all) {
                    match reminders::requeue_failed_job(&companion, id).await? {
                        Closed::Queued(task) => println!("{id} queued as task {task}"),
                        Closed::Closed(reason) => println!("{id} closed: its reminder is {reason}"),
                        Closed::Skipped(reason) => println!("{id} skipped: {reason}"),
                    }
                }
            }
            Self::Close(chosen) => {
                for id in chosen.or(all) {
                    match companion.store.close_failed_job(id, "closed by hand").await? {
                        true => println!("{id} closed"),
                        false => println!("{id} skipped: not found or closed already"),
                    }
                }
            }
        }
        companion.store.close().await;
        Ok(())
    }
}

impl Chosen {
    /// The ids that were given, or all.
    fn or(self, all: impl FnOnce() -> Vec<Uuid>) -> Vec<Uuid> {
        if self.all { all() } else { self.ids }
    }
}
