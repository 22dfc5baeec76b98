//! The companion's beat: sends its periodic tasks.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use celeriac::Celery;
use celeriac::config::{Config, Url};
use celeriac_beat::{BeatOptions, Health, Source};
use clap::Parser;
use companion::settings::Settings;
use companion::{RedisLink, beat_sign, logging};
use log::error;

// What a large schedule took while it was read goes back to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The queue of the companion's tasks.
const QUEUE: &str = "default";

/// Where the entries are looked for: in a clone, and in the image's working directory.
const ENTRIES: &str = "infra/beat.toml";

/// The entries as they were when the program was built.
const BUILT_IN: &str = include_str!("../../infra/beat.toml");

/// Sends the companion's periodic tasks: the entries of infra/beat.toml, which is read again when it changes. Settings come
/// from the environment (REDIS_URL, ...), Celery's own as CELERY_BEAT_SCHEDULE, CELERY_TIMEZONE, ...
///
/// The schedule is kept in Redis, where several beats agree on the one that sends.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    beat: BeatOptions,
    /// TOML file of settings; also CELERY_CONFIG_FILE
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
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
    if let Some(level) = arguments.beat.loglevel {
        settings.log_level = level.filter();
    }
    let entered = arguments.beat.enter(false);
    logging::init(&settings);
    let served = entered.map_err(anyhow::Error::msg).and_then(|()| serve(&arguments, &settings));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for line in format!("{failure:#}").lines() {
                error!("beat ends: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments, settings: &Settings) -> anyhow::Result<()> {
    // Their texts already say what their sources do.
    let config =
        celery_settings(arguments, settings).map_err(|error| anyhow::Error::msg(error.to_string()))?;
    let source = entries(Source::settings(&config, arguments.config.clone()));
    let app = Celery::new("ai_companion", config).map_err(|error| anyhow::Error::msg(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let health = Health::default();
        let signs = tokio::spawn(leave_signs(RedisLink::open(&settings.redis_url)?, health.clone()));
        let ended = arguments.beat.run_observed(app, source, health).await;
        signs.abort();
        ended.map_err(|error| anyhow::Error::msg(error.to_string()))
    })
}

/// Tells `/healthz` that this beat sends, for as long as it does.
async fn leave_signs(redis: RedisLink, health: Health) {
    let mut interval = tokio::time::interval(beat_sign::EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if health.leads()
            && health.lives().is_ok()
            && let Err(error) = beat_sign::leave(&redis).await
        {
            // Beat itself says that Redis is away.
            log::debug!(error:% = error; "The sign of life could not be left");
        }
    }
}

/// The companion's own entries under those of the settings: from `BEAT_ENTRIES_FILE` or [`ENTRIES`], else as built in.
fn entries(source: Source) -> Source {
    let named = std::env::var_os("BEAT_ENTRIES_FILE").filter(|name| !name.is_empty()).map(PathBuf::from);
    match named.or_else(|| Some(PathBuf::from(ENTRIES)).filter(|path| Path::exists(path))) {
        Some(path) => source.path(path),
        None => source.built_in(BUILT_IN),
    }
}

/// The companion's Celery settings under those of a file and of the environment.
fn celery_settings(
    arguments: &Arguments,
    settings: &Settings,
) -> Result<Config, celeriac::config::ConfigError> {
    let mut config = Config::default();
    config.broker_url = Some(Url::new(settings.broker_url.expose()));
    config.result_backend = Some(Url::new(settings.result_backend.expose()));
    config.task_default_queue = QUEUE.to_owned();
    config.load(arguments.config.as_deref())
}
