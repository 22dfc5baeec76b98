//! `dead`: the messages that workers have given up (`celeriac_dead_letter_queue`).

use celeriac::Celery;
use celeriac::broker::redis::{DeadLetter, DeadLetters};
use clap::Subcommand;

use crate::failure::Failure;

#[derive(Subcommand)]
pub(crate) enum Dead {
    /// One line for each: id, date, reason, deliveries, queue, worker, task, task id
    List,
    /// The whole message
    Show { id: String },
    /// Back to the queue that it came from, byte by byte as it was delivered
    Requeue { id: String },
    /// Away for good
    Drop { id: String },
}

impl Dead {
    pub(crate) async fn run(self, app: &Celery) -> Result<(), Failure> {
        let Some(name) = &app.config().celeriac_dead_letter_queue else {
            return Err(Failure::failed("there are no dead letters without celeriac_dead_letter_queue"));
        };
        let letters = DeadLetters::new(app.queues().link().clone(), app.queues().keys().dead_letters(name));
        let is_found = match self {
            Dead::List => {
                letters.list().await?.iter().for_each(|letter| println!("{}", line(letter)));
                true
            }
            Dead::Show { id } => {
                let found = letters.list().await?.into_iter().find(|letter| letter.id == id);
                if let Some(letter) = &found {
                    println!("{}\n{}", line(letter), String::from_utf8_lossy(&letter.message()));
                }
                found.is_some()
            }
            Dead::Requeue { id } => letters.requeue(&id).await?,
            Dead::Drop { id } => letters.drop(&id).await?,
        };
        if is_found { Ok(()) } else { Err(Failure::failed("no such dead letter\nhint: celeriac dead list")) }
    }
}

fn line(letter: &DeadLetter) -> String {
    let (id, task) = letter.task();
    let DeadLetter { reason, list, hostname, deliveries, date, .. } = letter;
    let (task, task_id) = (task.as_deref().unwrap_or("-"), id.as_deref().unwrap_or("-"));
    format!("{} {date} {reason} {deliveries} {list} {hostname} {task} {task_id}", letter.id)
}
