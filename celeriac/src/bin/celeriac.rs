//! `celeriac dead list|show|requeue|drop`: the messages that workers have given up.
//!
//! Broker and list are those of the settings in the environment: `CELERY_BROKER_URL`,
//! `CELERY_CELERIAC_DEAD_LETTER_QUEUE`.

use std::process::ExitCode;

use celeriac::broker::redis::{DeadLetter, DeadLetters};
use celeriac::{Celery, Error};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about = "Looks after the messages of a Celery broker")]
struct Arguments {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Subcommand)]
enum Subject {
    /// The messages that workers have given up
    #[command(subcommand)]
    Dead(Dead),
}

#[derive(Subcommand)]
enum Dead {
    /// One line for each: id, date, reason, deliveries, queue, worker, task, task id
    List,
    /// The whole message
    Show { id: String },
    /// Back to the queue that it came from, byte by byte as it was delivered
    Requeue { id: String },
    /// Away for good
    Drop { id: String },
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { subject: Subject::Dead(command) } = Arguments::parse();
    match run(command).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("no such dead letter\nhint: celeriac dead list");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Dead) -> Result<bool, Error> {
    let app = Celery::from_env("celeriac")?;
    let Some(name) = &app.config().celeriac_dead_letter_queue else {
        eprintln!("there are no dead letters without celeriac_dead_letter_queue");
        return Ok(false);
    };
    let letters = DeadLetters::new(app.queues().link().clone(), app.queues().keys().dead_letters(name));
    match command {
        Dead::List => {
            letters.list().await?.iter().for_each(|letter| println!("{}", line(letter)));
            Ok(true)
        }
        Dead::Show { id } => {
            let found = letters.list().await?.into_iter().find(|letter| letter.id == id);
            if let Some(letter) = &found {
                println!("{}\n{}", line(letter), String::from_utf8_lossy(&letter.message()));
            }
            Ok(found.is_some())
        }
        Dead::Requeue { id } => Ok(letters.requeue(&id).await?),
        Dead::Drop { id } => Ok(letters.drop(&id).await?),
    }
}

fn line(letter: &DeadLetter) -> String {
    let (id, task) = letter.task();
    let DeadLetter { reason, list, hostname, deliveries, date, .. } = letter;
    let (task, task_id) = (task.as_deref().unwrap_or("-"), id.as_deref().unwrap_or("-"));
    format!("{} {date} {reason} {deliveries} {list} {hostname} {task} {task_id}", letter.id)
}
