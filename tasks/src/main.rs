//! The worker of the AI companion.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use celeriac::Worker;
use celeriac::config::Config;
use celeriac::config::cli::WorkerOptions;
use celeriac::worker::CancellationToken;
use companion::settings::Settings;
use companion::{Companion, logging};
use companion_tasks::{QUEUE, register, relay};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often the uptime is told.
const UPTIME_EVERY: Duration = Duration::from_secs(10);
/// How long the outbox has to finish a batch.
const RELAY_GRACE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match Settings::from_env() {
        Ok(settings) => settings,
        Err(error) => {
            logging::report(&error);
            return ExitCode::FAILURE;
        }
    };
    match run(settings).await {
        Ok(status) => status,
        Err(error) => {
            log::error!("{error:#}");
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    let mut options = WorkerOptions::parse_over(config(&settings)?);
    // Whoever reads the log as JSON does not want a banner in it.
    options.quiet |= !settings.is_development();
    options.enter()?;
    logging::init(&settings);
    let companion = Companion::open(settings)?;
    tokio::spawn(tell_uptime(companion.clone()));
    let mut worker = Worker::from_options("ai_companion", &options)?;
    if options.queues.is_empty() {
        // `celery` is the queue that an unconfigured client publishes to.
        worker = worker.queues([QUEUE, "celery"]);
    }
    // It goes on while the worker finishes its tasks.
    let stop = CancellationToken::new();
    let relay = tokio::spawn(relay(&companion, &options.config)?.run_until(stop.clone().cancelled_owned()));
    let stopped = register(worker, companion).run().await;
    stop.cancel();
    if tokio::time::timeout(RELAY_GRACE, relay).await.is_err() {
        log::warn!("The outbox was left within a batch; another relay publishes it soon");
    }
    let stopped = stopped?;
    Ok(if stopped.exit_code() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The Celery settings that follow from those of the service; the environment and the command line go over them.
fn config(settings: &Settings) -> anyhow::Result<Config> {
    let mut config = Config::default();
    config.set("broker_url", settings.broker_url.expose())?;
    config.set("result_backend", settings.result_backend.expose())?;
    config.set("task_default_queue", QUEUE)?;
    config.set("worker_concurrency", "64")?;
    Ok(config)
}

async fn tell_uptime(companion: Companion) {
    let started = Instant::now();
    let mut interval = tokio::time::interval(UPTIME_EVERY);
    loop {
        interval.tick().await;
        companion.metrics.tend(started.elapsed().as_secs()).await;
    }
}
