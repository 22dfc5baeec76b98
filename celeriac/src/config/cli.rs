//! The command line of `celery worker`, for every worker binary.
//!
//! Celery's global options may stand before or after the word `worker`, which may be left out; each setting is an
//! option, too: `--task-acks-late=1`. Source: `celery/bin/celery.py`, `celery/bin/worker.py`, celery 5.7.

mod options;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;
use clap::error::ErrorKind;

use super::environment::{WORKER_OPTIONS, environment};
use super::node_name::expand_node_format;
use super::setting::Input;
use super::value::SettingValue;
use super::{Concurrency, Config, ConfigError, LogLevel, NodeName};

/// What the command line of a worker says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerOptions {
    /// All settings: the program's own, the file's, the environment's, then the command line's.
    pub config: Config,
    /// `-A`: the app's name; Python workers load it, here it is just a name.
    pub app: Option<String>,
    /// `-n`: the node name, expanded.
    pub node_name: NodeName,
    /// `-Q`: the queues to consume; empty means those of `task_queues`, or the default queue.
    pub queues: Vec<String>,
    /// `-X`: queues not to consume.
    pub exclude_queues: Vec<String>,
    /// `-l`: how much the log says.
    pub loglevel: LogLevel,
    /// `-f` or the setting `worker_logfile`: file of the log, expanded; standard error if not given.
    pub logfile: Option<PathBuf>,
    /// `--pidfile` or the setting `worker_pidfile`: file that gets the process id, expanded.
    pub pidfile: Option<PathBuf>,
    /// `-D`: whether the worker goes on in the background.
    pub detach: bool,
    /// `--workdir`: directory to change into first.
    pub workdir: Option<PathBuf>,
    /// `-S` or the setting `worker_state_db`: file of revoked tasks, expanded.
    pub statedb: Option<PathBuf>,
    /// `-O`: how messages are spread over child processes.
    pub optimization: Optimization,
    /// `--autoscale`: bounds between which the number of slots follows the load.
    pub autoscale: Option<Autoscale>,
    /// `--purge`: whether the queues are emptied first.
    pub purge: bool,
    /// `--without-gossip`.
    pub without_gossip: bool,
    /// `--without-mingle`.
    pub without_mingle: bool,
    /// `--without-heartbeat`: no heartbeat events.
    pub without_heartbeat: bool,
    /// `--heartbeat-interval`: time between heartbeat events; 2 s by default.
    pub heartbeat_interval: Option<Duration>,
    /// `-C`: no colours.
    pub no_color: bool,
    /// `-q`: no banner.
    pub quiet: bool,
    /// `-B`: the scheduler that runs inside the worker; only [`WorkerOptions::parse_with_beat`] takes it.
    pub beat: Option<EmbeddedBeat>,
}

/// The options of a scheduler inside a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmbeddedBeat {
    /// `-s`: the file of the schedule.
    pub schedule: Option<PathBuf>,
    /// `--scheduler`: the class of the scheduler, under Python's name.
    pub scheduler: Option<String>,
}

/// Celery's `-O`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Optimization {
    /// The default, which here is fair already.
    #[default]
    Default,
    /// A message only goes to a free slot.
    Fair,
}

/// Bounds of the number of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Autoscale {
    /// Slots when idle.
    pub min: u32,
    /// Slots under load.
    pub max: u32,
}

/// A command line that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CliError {
    /// Not what the options take; also `--help` and `--version`.
    #[error("{0}")]
    Usage(#[from] clap::Error),
    /// A setting is unknown or not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl CliError {
    /// Prints the error, or the help that was asked for, and ends the process as `clap` does: status 0 for help, else 2.
    pub fn exit(self) -> ! {
        match self {
            CliError::Usage(error) => error.exit(),
            CliError::Config(error) => {
                eprintln!("error: {error}");
                std::process::exit(2)
            }
        }
    }
}

impl WorkerOptions {
    /// Reads the command line and the environment of the process over the program's own settings; prints an error or
    /// the help and ends the process where there is nothing to run.
    pub fn parse_over(base: Config) -> Self {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        Self::try_parse_over(base, arguments, environment()).unwrap_or_else(|error| error.exit())
    }

    /// As [`WorkerOptions::parse_over`] with Celery's defaults.
    pub fn parse() -> Self {
        Self::parse_over(Config::default())
    }

    /// As [`WorkerOptions::parse_over`], for a program that runs the scheduler that `-B` asks for.
    pub fn parse_with_beat(base: Config) -> Self {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        Self::read(base, arguments, environment(), true).unwrap_or_else(|error| error.exit())
    }

    /// Reads a command line (with the program's name first) and environment variables over the program's own settings.
    ///
    /// # Errors
    /// When an option or a setting is unknown or not valid, or help was asked for.
    pub fn try_parse_over<I, T>(
        base: Config,
        arguments: I,
        variables: Vec<(String, String)>,
    ) -> Result<Self, CliError>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString>,
    {
        Self::read(base, arguments, variables, false)
    }

    fn read<I, T>(
        base: Config,
        arguments: I,
        variables: Vec<(String, String)>,
        takes_beat: bool,
    ) -> Result<Self, CliError>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString>,
    {
        let mut arguments = arguments.into_iter().map(Into::into);
        let program = arguments.next().unwrap_or_else(|| "worker".into());
        let all = std::iter::once(program).chain(from_variables(&variables)).chain(arguments);
        let matches = options::command().try_get_matches_from(all)?;
        if matches.get_flag("beat") && !takes_beat {
            return Err(options::command().error(ErrorKind::InvalidValue, options::NO_BEAT).into());
        }

        let file: Option<PathBuf> = matches.get_one::<PathBuf>("config").cloned();
        let mut config = base.load_with(file.as_deref(), &variables)?;
        put_settings(&mut config, &matches)?;

        let node_name = NodeName::expand(text(&matches, "hostname"));
        let expanded = |path: &str| PathBuf::from(expand_node_format(path, &node_name));
        let path =
            |name: &str, setting: &Option<String>| text(&matches, name).or(setting.as_deref()).map(expanded);
        Ok(Self {
            app: text(&matches, "app").map(str::to_owned),
            queues: list(&matches, "queues"),
            exclude_queues: list(&matches, "exclude-queues"),
            loglevel: matches.get_one("loglevel").copied().unwrap_or(LogLevel::Warning),
            logfile: path("logfile", &config.worker_logfile),
            pidfile: path("pidfile", &config.worker_pidfile),
            detach: matches.get_flag("detach"),
            workdir: text(&matches, "workdir").map(PathBuf::from),
            statedb: config
                .worker_state_db
                .as_deref()
                .map(|path| expand_node_format(path, &node_name).into()),
            optimization: matches.get_one("optimization").copied().unwrap_or_default(),
            autoscale: matches.get_one("autoscale").copied(),
            purge: matches.get_flag("purge"),
            without_gossip: matches.get_flag("without-gossip"),
            without_mingle: matches.get_flag("without-mingle"),
            without_heartbeat: matches.get_flag("without-heartbeat"),
            heartbeat_interval: matches.get_one("heartbeat-interval").copied(),
            no_color: matches.get_flag("no-color"),
            quiet: matches.get_flag("quiet"),
            beat: matches.get_flag("beat").then(|| EmbeddedBeat {
                schedule: text(&matches, "schedule-filename").map(PathBuf::from),
                scheduler: text(&matches, "scheduler").map(str::to_owned),
            }),
            node_name,
            config,
        })
    }
}

/// Celery's `CELERY_WORKER_QUEUES=a,b` and the like, as the options that they stand for.
fn from_variables(variables: &[(String, String)]) -> Vec<OsString> {
    let given = WORKER_OPTIONS.iter().filter_map(|(variable, option)| {
        let (_, value) = variables.iter().find(|(name, value)| name == variable && !value.is_empty())?;
        if options::FLAGS.contains(option) {
            return bool::from_text(value).unwrap_or(true).then(|| format!("--{option}").into());
        }
        Some(format!("--{option}={value}").into())
    });
    given.collect()
}

/// Puts options that stand for settings, and those that are settings, into the configuration.
fn put_settings(config: &mut Config, matches: &ArgMatches) -> Result<(), CliError> {
    for (option, setting) in options::SETTINGS_BY_SHORT_NAME {
        if let Some(value) = text(matches, option) {
            config.put(setting, &Input::Text(value), &format!("option --{option}"))?;
        }
    }
    for (flag, setting) in
        [("task-events", "worker_send_task_events"), ("disable-prefetch", "worker_disable_prefetch")]
    {
        if matches.get_flag(flag) {
            config.put(setting, &Input::Text("1"), &format!("option --{flag}"))?;
        }
    }
    for setting in options::settings_with_own_option() {
        if let Some(value) = text(matches, setting.name) {
            config.put(setting.name, &Input::Text(value), &format!("option {}", setting.option()))?;
        }
    }
    for pair in matches.get_many::<String>("arguments").into_iter().flatten() {
        let Some((name, value)) = pair.split_once('=') else { continue };
        // Celery's form: `worker.prefetch_multiplier=3`, and the namespace `worker` may be left out.
        let name = name.replace('.', "_");
        let in_worker = format!("worker_{name}");
        let name =
            if config.get(&name).is_none() && config.get(&in_worker).is_some() { in_worker } else { name };
        config.put(&name, &Input::Text(value), &format!("argument {pair}"))?;
    }
    if config.worker_concurrency.is_none() && text(matches, "concurrency").is_some() {
        config.worker_concurrency = Some(Concurrency::Auto);
    }
    Ok(())
}

fn text<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_one::<String>(name).map(String::as_str)
}

fn list(matches: &ArgMatches, name: &str) -> Vec<String> {
    let values = matches.get_many::<String>(name).into_iter().flatten();
    values.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty()).collect()
}

#[cfg(test)]
mod tests;
