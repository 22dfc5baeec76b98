//! The command line beside `celery`'s, without Python: `inspect`, `control`, `status`, `call`, `result` and `purge` take
//! Celery's options, print what Celery prints and end with its exit codes (69 when no worker replies); `dead` looks
//! after the messages that workers have given up; `recover` brings back what dead workers held; `doctor` looks for what is
//! wrong; `schema` tells what tasks take and return; `beat` sends periodic tasks and looks after their schedule.
//!
//! Broker and result backend are those of the settings: `CELERY_BROKER_URL`, `CELERY_RESULT_BACKEND`, a file, `-b`.

mod beat;
mod commands;
mod dead;
mod doctor;
mod failure;
mod out;
mod purge;
mod recover;
mod remote;
mod schema;
mod show;
mod task;

use std::path::PathBuf;
use std::process::ExitCode;

use celeriac::Celery;
use celeriac::config::Config;
use clap::{Args, Parser, Subcommand};

use failure::Failure;

// What a large schedule took while it was read goes back to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(version, about = "Looks after the workers and messages of a Celery broker")]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Args)]
struct Global {
    /// Name of the app; without effect here
    #[arg(short = 'A', long, global = true)]
    app: Option<String>,
    /// Broker; also CELERY_BROKER_URL
    #[arg(short, long, global = true, value_name = "URL")]
    broker: Option<String>,
    /// Result backend; also CELERY_RESULT_BACKEND
    #[arg(long, global = true, value_name = "URL")]
    result_backend: Option<String>,
    /// TOML file of settings; also CELERY_CONFIG_FILE
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// No colours; there are none
    #[arg(short = 'C', long, global = true)]
    no_color: bool,
    /// Only what was asked for
    #[arg(short, long, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Subject {
    /// Ask workers: `celeriac inspect ping -d w1@host`; --list names the questions
    Inspect(remote::Remote),
    /// Command workers: `celeriac control pool_grow 2`; --list names the commands
    Control(remote::Remote),
    /// The workers that are online
    Status(remote::Status),
    /// Call a task by its name, and print its id
    Call(task::Call),
    /// Wait for a task, and print what it returned
    Result(task::Outcome),
    /// Remove all messages that wait in queues
    Purge(purge::Purge),
    /// The messages that workers have given up
    #[command(subcommand)]
    Dead(dead::Dead),
    /// Put what dead workers held back into their queues, without a worker
    Recover(recover::Recover),
    /// Look at broker, results and workers, and say what is wrong and what to do
    Doctor(doctor::Doctor),
    /// What the tasks of the workers take and return, as JSON schemas
    Schema(schema::Schema),
    /// Send periodic tasks, as `celery beat` does, or look after their schedule
    Beat(Box<celeriac_beat::Beat>),
}

fn main() -> ExitCode {
    let Arguments { global, subject } = Arguments::parse();
    let outcome = match &subject {
        // Before there is anything that a process in the background would not inherit.
        Subject::Beat(beat) if beat.command.is_none() => beat.options.enter(true).map_err(Failure::from),
        _ => Ok(()),
    };
    // One thread is enough, and starts at once.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = outcome.and_then(|()| runtime.map_err(Failure::failed));
    match outcome.and_then(|runtime| runtime.block_on(run(&global, subject))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(global: &Global, subject: Subject) -> Result<(), Failure> {
    let app = || -> Result<Celery, Failure> {
        let mut config = Config::default().load(global.config.as_deref()).map_err(Failure::usage)?;
        for (setting, url) in [("broker_url", &global.broker), ("result_backend", &global.result_backend)] {
            if let Some(url) = url {
                config.set(setting, url).map_err(Failure::usage)?;
            }
        }
        Celery::new(global.app.as_deref().unwrap_or("celeriac"), config).map_err(Failure::usage)
    };
    match subject {
        Subject::Inspect(remote) => remote.inspect(app, global.quiet).await,
        Subject::Control(remote) => remote.control(app, global.quiet).await,
        Subject::Status(status) => status.run(&app()?, global.quiet).await,
        Subject::Call(call) => call.run(app).await,
        Subject::Result(outcome) => outcome.run(&app()?).await,
        Subject::Purge(purge) => purge.run(&app()?).await,
        Subject::Dead(dead) => dead.run(&app()?).await,
        Subject::Recover(recover) => recover.run(&app()?).await,
        Subject::Doctor(doctor) => doctor.run(&app()?, global.quiet).await,
        Subject::Schema(schema) => schema.run(&app()?).await,
        Subject::Beat(beat) => beat::run(*beat, app()?, global.config.clone()).await,
    }
}
