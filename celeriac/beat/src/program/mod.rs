//! Beat as a program: `celeriac beat`, `companion-beat`, `-B` of a worker.

mod commands;
mod embedded;
mod error;
mod keeper;
mod pidfile;
mod probes;
mod remote;
mod serve;
mod source;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use celeriac::config::{LogLevel, SettingValue};
use clap::Args;

pub use self::commands::BeatCommand;
pub use self::embedded::run_worker;
pub use self::error::BeatError;
pub use self::source::Source;

/// The options of `celery beat`, and celeriac's own.
#[derive(Args, Clone, Debug, Default)]
pub struct BeatOptions {
    /// Keep the schedule in this file; then one beat only may run
    #[arg(short, long, value_name = "FILE")]
    pub schedule: Option<PathBuf>,
    /// Keeper of the schedule: redbeat.RedBeatScheduler (Redis; the default), celery.beat:PersistentScheduler (a file) or
    /// django_celery_beat.schedulers:DatabaseScheduler
    #[arg(short = 'S', long, value_name = "CLASS")]
    pub scheduler: Option<String>,
    /// Database of django-celery-beat: postgresql://... or sqlite://FILE
    #[cfg(feature = "database")]
    #[arg(long, value_name = "URL", env = "BEAT_DATABASE_URL", hide_env_values = true)]
    pub database: Option<String>,
    /// TOML or JSON file of entries, or directory of such files; read again when it changes
    #[arg(long, value_name = "PATH")]
    pub entries: Vec<PathBuf>,
    /// Longest sleep between two looks at the schedule
    #[arg(long, value_name = "SECONDS", value_parser = Duration::from_text)]
    pub max_interval: Option<Duration>,
    /// DEBUG, INFO, WARNING, ERROR or CRITICAL
    #[arg(short, long, value_name = "LEVEL", value_parser = LogLevel::from_text)]
    pub loglevel: Option<LogLevel>,
    /// File of the log; standard error if not given
    #[arg(short = 'f', long, value_name = "FILE")]
    pub logfile: Option<PathBuf>,
    /// File that gets the process id
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// Go on in the background
    #[arg(long)]
    pub detach: bool,
    /// Directory to change into first
    #[arg(long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// User to become, by name or number
    #[arg(long, value_name = "USER")]
    pub uid: Option<String>,
    /// Group to become, by name or number
    #[arg(long, value_name = "GROUP")]
    pub gid: Option<String>,
    /// Permissions that new files do not get: 022
    #[arg(long, value_name = "MASK")]
    pub umask: Option<String>,
    /// Node name, for remote control and other beats; %h is the host (celerybeat@%h)
    #[arg(short = 'n', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Answer `celery inspect ping`; also beat_enable_remote_control
    #[arg(long, overrides_with = "no_enable_remote_control")]
    pub enable_remote_control: bool,
    /// Do not answer it, whatever the setting says
    #[arg(long, overrides_with = "enable_remote_control")]
    pub no_enable_remote_control: bool,
    /// Address of /livez, /readyz and /metrics; also CELERY_CELERIAC_PROBE_ADDRESS
    #[arg(long, value_name = "HOST:PORT")]
    pub probe_address: Option<String>,
}

/// `celeriac beat`, with or without one of its commands.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = false)]
pub struct Beat {
    /// The options.
    #[command(flatten)]
    pub options: BeatOptions,
    /// What to do instead of running.
    #[command(subcommand)]
    pub command: Option<BeatCommand>,
}
