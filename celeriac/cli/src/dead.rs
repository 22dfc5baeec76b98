//! `dead`: the messages that workers have given up (`celeriac_dead_letter_queue`).

use std::collections::HashSet;

use celeriac::Celery;
use celeriac::broker::{DeadLetter, DeadLetters, DeadReason, Fate};
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::out::say;

#[derive(Subcommand)]
pub(crate) enum Dead {
    /// One line for each: id, date, reason, deliveries, queue, worker, task, task id
    List {
        #[command(flatten)]
        search: Search,
        /// One JSON object a line instead
        #[arg(long)]
        json: bool,
    },
    /// All about one: where and when it was delivered, and the whole message
    Show {
        id: String,
        /// One JSON object instead
        #[arg(long)]
        json: bool,
    },
    /// Back to the queue that it came from, byte by byte as it was delivered
    Requeue(Chosen),
    /// Away for good
    Drop(Chosen),
}

/// Which ones; every condition must hold.
#[derive(Args)]
pub(crate) struct Search {
    /// Of tasks whose name has this in it
    #[arg(long)]
    task: Option<String>,
    /// Given up for that reason: malformed, unregistered, rejected, deliveries
    #[arg(long)]
    reason: Option<DeadReason>,
    /// That came from that queue
    #[arg(long)]
    queue: Option<String>,
}

/// The ones to act on.
#[derive(Args)]
pub(crate) struct Chosen {
    /// By id, or by the id of the task
    ids: Vec<String>,
    #[command(flatten)]
    search: Search,
    /// All of them
    #[arg(long, conflicts_with_all = ["ids", "task", "reason", "queue"])]
    all: bool,
}

impl Dead {
    pub(crate) async fn run(self, app: &Celery) -> Result<(), Failure> {
        let Some(letters) = app.broker().dead_letters() else {
            return Err(Failure::failed("there are no dead letters without celeriac_dead_letter_queue"));
        };
        let all = letters.list().await?;
        match self {
            Dead::List { search, json } => {
                let found = all.iter().filter(|letter| search.matches(letter));
                found
                    .map(|letter| if json { summary(letter).to_string() } else { line(letter) })
                    .try_for_each(say)
            }
            Dead::Show { id, json } => {
                let letter = all.iter().find(|letter| is_named(letter, &id)).ok_or_else(|| unknown(&id))?;
                say(if json { whole(letter).to_string() } else { page(letter) })
            }
            Dead::Requeue(chosen) => {
                let count = deal(&letters, chosen.of(&all)?, Fate::Requeue).await?;
                say(format_args!("requeued {count}"))
            }
            Dead::Drop(chosen) => {
                let count = deal(&letters, chosen.of(&all)?, Fate::Drop).await?;
                say(format_args!("dropped {count}"))
            }
        }
    }
}

/// Deals with the letters of those ids, with a progress bar if somebody watches; returns how many there were still.
async fn deal(letters: &DeadLetters, ids: HashSet<&str>, fate: Fate) -> Result<u64, Failure> {
    let bar = ProgressBar::new(letters.count().await?);
    let decide = |letter: &DeadLetter| if ids.contains(letter.id.as_str()) { fate } else { Fate::Keep };
    let dealt = letters.sift(decide, |looked_at| bar.inc(looked_at)).await;
    bar.finish_and_clear();
    Ok(dealt?)
}

fn unknown(id: &str) -> Failure {
    Failure::failed(format!("no such dead letter: {id}\nhint: celeriac dead list"))
}

impl Search {
    fn is_empty(&self) -> bool {
        self.task.is_none() && self.reason.is_none() && self.queue.is_none()
    }

    fn matches(&self, letter: &DeadLetter) -> bool {
        let task = self.task.as_ref();
        task.is_none_or(|part| letter.task().1.is_some_and(|name| name.contains(part.as_str())))
            && self.reason.is_none_or(|reason| reason == letter.reason)
            && self.queue.as_ref().is_none_or(|queue| *queue == letter.list)
    }
}

impl Chosen {
    /// The ids of those that are meant.
    fn of<'a>(&self, all: &'a [DeadLetter]) -> Result<HashSet<&'a str>, Failure> {
        if self.ids.is_empty() && self.search.is_empty() && !self.all {
            return Err(Failure::failed(
                "no dead letters are chosen\nhint: give ids, conditions such as --task NAME, or --all",
            ));
        }
        let wanted: HashSet<&str> = self.ids.iter().map(String::as_str).collect();
        let (mut named, mut meant) = (HashSet::new(), HashSet::new());
        for letter in all {
            let (task_id, _) = letter.task();
            let names = [Some(letter.id.as_str()), task_id.as_deref()];
            let found: Vec<&str> =
                names.into_iter().flatten().filter_map(|name| wanted.get(name).copied()).collect();
            if (wanted.is_empty() || !found.is_empty()) && self.search.matches(letter) {
                meant.insert(letter.id.as_str());
            }
            named.extend(found);
        }
        match self.ids.iter().find(|id| !named.contains(id.as_str())) {
            Some(id) => Err(unknown(id)),
            None => Ok(meant),
        }
    }
}

fn is_named(letter: &DeadLetter, id: &str) -> bool {
    letter.id == id || letter.task().0.is_some_and(|task_id| task_id == id)
}

fn line(letter: &DeadLetter) -> String {
    let (id, task) = letter.task();
    let DeadLetter { reason, list, hostname, deliveries, date, .. } = letter;
    let (task, task_id) = (task.as_deref().unwrap_or("-"), id.as_deref().unwrap_or("-"));
    format!("{} {date} {reason} {deliveries} {list} {hostname} {task} {task_id}", letter.id)
}

fn page(letter: &DeadLetter) -> String {
    let mut page = vec![line(letter)];
    page.extend(letter.history.iter().map(|start| format!("started {} {}", start.date, start.hostname)));
    page.push(String::from_utf8_lossy(&letter.message()).into_owned());
    page.join("\n")
}

fn summary(letter: &DeadLetter) -> Value {
    let (task_id, task) = letter.task();
    json!({
        "id": letter.id, "date": letter.date, "reason": letter.reason, "deliveries": letter.deliveries,
        "queue": letter.list, "hostname": letter.hostname, "task": task, "task_id": task_id,
    })
}

/// The message is text where it is UTF-8, and base64 in any case.
fn whole(letter: &DeadLetter) -> Value {
    let mut whole = summary(letter);
    whole["history"] = json!(letter.history);
    whole["message"] = String::from_utf8(letter.message()).map_or(Value::Null, Value::String);
    whole["message_base64"] = json!(letter.message_base64());
    whole
}
