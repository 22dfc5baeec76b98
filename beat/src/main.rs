//! The companion's beat: sends its periodic tasks.

mod entries;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use celeriac::Celery;
use celeriac::broker::redis::{Endpoint, Link, Timing};
use celeriac::config::{Config, LogLevel, SettingValue, Url};
use celeriac_beat::schedule::Terms;
use celeriac_beat::{FileStore, Publish, RedisOptions, RedisStore, ScheduleStore, Scheduler, run};
use clap::Parser;
use companion::logging;
use companion::settings::Settings;
use log::{error, info};
use tokio::signal::unix::{SignalKind, signal};

/// Sends the companion's periodic tasks. Settings come from the environment (REDIS_URL, ...), Celery's own as
/// CELERY_BEAT_SCHEDULE, CELERY_BEAT_MAX_LOOP_INTERVAL, CELERY_BEAT_CRON_STARTING_DEADLINE, CELERY_TIMEZONE, ...
///
/// The schedule is kept in Redis, where several beats agree on the one that sends.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Keep the schedule in this file instead of Redis; then one beat only may run
    #[arg(short, long, value_name = "FILE")]
    schedule: Option<PathBuf>,
    /// Longest sleep between two looks at the schedule
    #[arg(long, value_name = "SECONDS", value_parser = Duration::from_text)]
    max_interval: Option<Duration>,
    /// DEBUG, INFO, WARNING, ERROR or CRITICAL
    #[arg(short, long, value_name = "LEVEL", value_parser = LogLevel::from_text)]
    loglevel: Option<LogLevel>,
    /// TOML file of settings; also CELERY_CONFIG_FILE
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// TOML file of the companion's own entries [default: infra/beat.toml where it exists, else the built-in copy of it]
    #[arg(long, value_name = "FILE", env = "BEAT_ENTRIES_FILE")]
    entries: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut settings = match Settings::from_env() {
        Ok(settings) => settings,
        Err(failure) => {
            logging::report(&failure);
            return ExitCode::FAILURE;
        }
    };
    if let Some(level) = arguments.loglevel {
        settings.log_level = level.filter();
    }
    logging::init(&settings);
    match serve(&arguments, &settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("beat ends: {failure:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments, settings: &Settings) -> anyhow::Result<()> {
    let config = celery_settings(arguments, settings)?;
    let entries = entries::read(arguments.entries.as_deref(), &config)?;
    let terms = Terms {
        timezone: config.timezone_or_utc(),
        cron_starting_deadline: config.beat_cron_starting_deadline,
    };
    let max_interval = arguments.max_interval.unwrap_or(config.beat_max_loop_interval);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let app = Celery::new("ai_companion", config)?;
        match &arguments.schedule {
            Some(file) => {
                info!("beat starts; schedule in {}", file.display());
                let scheduler = Scheduler::new(FileStore::new(file), app, entries, terms);
                tick_until_signal(scheduler.max_interval(max_interval)).await
            }
            None => {
                let options = RedisOptions { timezone: terms.timezone, ..RedisOptions::default() };
                let broker = app.config().write_url().context("setting broker_url is missing")?;
                let endpoint = Endpoint::broker(broker, app.config())?;
                info!("beat starts; schedule in redis at {endpoint}");
                let store = RedisStore::new(Link::new(endpoint, Timing::broker(app.config())), options);
                let scheduler = Scheduler::new(store, app, entries, terms);
                tick_until_signal(scheduler.max_interval(max_interval)).await
            }
        }
    })
}

/// The companion's Celery settings under those of a file and of the environment.
fn celery_settings(arguments: &Arguments, settings: &Settings) -> anyhow::Result<Config> {
    let mut config = Config::default();
    config.broker_url = Some(Url::new(settings.broker_url.expose()));
    config.result_backend = Some(Url::new(settings.result_backend.expose()));
    config.task_default_queue = entries::QUEUE.to_owned();
    config.load(arguments.config.as_deref()).context("Celery settings")
}

async fn tick_until_signal<S: ScheduleStore, P: Publish>(scheduler: Scheduler<S, P>) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: beat ends"),
            _ = interrupt.recv() => info!("SIGINT: beat ends"),
        }
    };
    Ok(run(scheduler, shutdown).await?)
}
