//! The options as `clap` knows them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, Command};

use super::super::LogLevel;
use super::super::setting::Setting;
use super::super::table::settings;
use super::super::value::SettingValue;
use super::{Autoscale, Optimization};

/// Options that take no value.
pub(super) const FLAGS: &[&str] = &[
    "task-events",
    "disable-prefetch",
    "purge",
    "detach",
    "beat",
    "without-gossip",
    "without-mingle",
    "without-heartbeat",
    "no-color",
    "quiet",
];

/// Why `-B` is refused by programs that have no scheduler.
pub(super) const NO_BEAT: &str = "-B, --beat: this program has no scheduler of its own (celeriac_beat::run_worker gives it one)\n  hint: run one beside the workers, such as `celeriac beat`; all workers of the broker run what it sends";

/// Options of `celery worker` that are settings under a shorter name.
pub(super) const SETTINGS_BY_SHORT_NAME: &[(&str, &str)] = &[
    ("broker", "broker_url"),
    ("result-backend", "result_backend"),
    ("concurrency", "worker_concurrency"),
    ("pool", "worker_pool"),
    ("prefetch-multiplier", "worker_prefetch_multiplier"),
    ("time-limit", "task_time_limit"),
    ("soft-time-limit", "task_soft_time_limit"),
    ("max-tasks-per-child", "worker_max_tasks_per_child"),
    ("max-memory-per-child", "worker_max_memory_per_child"),
    ("pool-start-method", "worker_pool_start_method"),
    ("statedb", "worker_state_db"),
    ("probe-address", "celeriac_probe_address"),
    ("include", "include"),
    ("uid", "worker_uid"),
    ("gid", "worker_gid"),
    ("umask", "worker_umask"),
    ("executable", "worker_executable"),
];

/// The settings whose full name is an option besides those of `celery worker`.
pub(super) fn settings_with_own_option() -> impl Iterator<Item = Setting> {
    settings().into_iter().filter(|setting| !matches!(setting.name, "result_backend" | "include"))
}

pub(super) fn command() -> Command {
    Command::new("worker")
        .about("Runs tasks, as `celery worker` does")
        .version(env!("CARGO_PKG_VERSION"))
        .args_override_self(true)
        .after_long_help("Every setting is an option as well, and an environment variable CELERY_<SETTING>.")
        .next_help_heading("Global options")
        .args([
            value("app", 'A', "APP", "Name of the app"),
            value("broker", 'b', "URL", "Broker; also CELERY_BROKER_URL"),
            Arg::new("result-backend")
                .long("result-backend")
                .value_name("URL")
                .help("Result backend; also CELERY_RESULT_BACKEND"),
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help("TOML file of settings; also CELERY_CONFIG_FILE"),
            Arg::new("workdir").long("workdir").value_name("DIR").help("Directory to change into first"),
            flag("no-color", "No colours").short('C'),
            flag("quiet", "No banner").short('q'),
        ])
        .next_help_heading("Worker options")
        .args([
            value(
                "hostname",
                'n',
                "NAME",
                "Node name such as w1@%h; %h is the host, %n its name, %d its domain",
            ),
            value("statedb", 'S', "FILE", "File that keeps revoked tasks over a restart"),
            value("loglevel", 'l', "LEVEL", "DEBUG, INFO, WARNING, ERROR or CRITICAL [default: WARNING]")
                .value_parser(LogLevel::from_text),
            value("optimization", 'O', "PROFILE", "default or fair").value_parser(optimization),
            Arg::new("prefetch-multiplier")
                .long("prefetch-multiplier")
                .value_name("N")
                .help("Messages fetched ahead, per slot"),
            flag("disable-prefetch", "Fetch a message only for a free slot"),
        ])
        .next_help_heading("Daemonization options")
        .args([
            flag("detach", "Go on in the background").short('D'),
            value("logfile", 'f', "FILE", "File of the log, with %n, %h, %d; standard error if not given"),
            Arg::new("pidfile")
                .long("pidfile")
                .value_name("FILE")
                .help("File that gets the process id, with %n, %h, %d"),
            Arg::new("uid").long("uid").value_name("USER").help("User to become, by name or number"),
            Arg::new("gid").long("gid").value_name("GROUP").help("Group to become, by name or number"),
            Arg::new("umask")
                .long("umask")
                .value_name("MASK")
                .help("Permissions that new files do not get: 022"),
            Arg::new("executable")
                .long("executable")
                .value_name("PATH")
                .help("Without effect: there is no Python to go on in"),
        ])
        .next_help_heading("Embedded beat options")
        .args([
            flag("beat", "Run the scheduler too, where the program has one").short('B').hide_short_help(true),
            Arg::new("schedule-filename")
                .long("schedule-filename")
                .short('s')
                .alias("schedule")
                .value_name("FILE")
                .hide(true),
            Arg::new("scheduler").long("scheduler").value_name("CLASS").hide(true),
        ])
        .next_help_heading("Pool options")
        .args([
            value("concurrency", 'c', "N", "Tasks that run at once, or `auto`: the number of CPUs"),
            value("pool", 'P', "POOL", "prefork, solo, threads or processes"),
            flag("task-events", "Send task events for monitors such as Flower")
                .short('E')
                .visible_alias("events"),
            Arg::new("time-limit")
                .long("time-limit")
                .value_name("SECONDS")
                .help("Time after which a task is ended"),
            Arg::new("soft-time-limit")
                .long("soft-time-limit")
                .value_name("SECONDS")
                .help("Time after which a task is asked to end"),
            Arg::new("max-tasks-per-child")
                .long("max-tasks-per-child")
                .value_name("N")
                .help("Tasks after which a child process is replaced"),
            Arg::new("max-memory-per-child")
                .long("max-memory-per-child")
                .value_name("KIB")
                .help("Resident memory after which a child process is replaced"),
            Arg::new("pool-start-method").long("pool-start-method").value_name("METHOD").hide(true),
        ])
        .next_help_heading("Queue options")
        .args([
            flag("purge", "Empty the queues first").visible_alias("discard"),
            value("queues", 'Q', "QUEUES", "Queues to consume, comma-separated").value_delimiter(','),
            value("exclude-queues", 'X', "QUEUES", "Queues not to consume").value_delimiter(','),
            value("include", 'I', "MODULES", "Modules of a Python worker; without effect here")
                .hide_short_help(true),
        ])
        .next_help_heading("Features")
        .args([
            flag("without-gossip", "Do not listen to other workers' events"),
            flag("without-mingle", "Do not ask other workers for clock and revoked tasks at start"),
            flag("without-heartbeat", "Send no heartbeat events"),
            Arg::new("heartbeat-interval")
                .long("heartbeat-interval")
                .value_name("SECONDS")
                .value_parser(Duration::from_text)
                .help("Time between heartbeat events"),
            Arg::new("probe-address")
                .long("probe-address")
                .value_name("HOST:PORT")
                .help("Answer /livez, /readyz and /metrics there"),
            Arg::new("autoscale")
                .long("autoscale")
                .value_name("MAX,MIN")
                .value_parser(autoscale)
                .help("Bounds between which the number of slots follows the load"),
        ])
        .next_help_heading("Settings")
        .args(settings_with_own_option().map(setting_option))
        .arg(Arg::new("arguments").num_args(0..).value_parser(argument).hide(true))
}

fn value(name: &'static str, short: char, value_name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).short(short).long(name).value_name(value_name).help(help)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn setting_option(setting: Setting) -> Arg {
    let dashed: &'static str = Box::leak(setting.name.replace('_', "-").into_boxed_str());
    let option = Arg::new(setting.name)
        .long(dashed)
        .value_name("VALUE")
        .help(setting.doc)
        .allow_hyphen_values(!setting.is_switch)
        .hide_short_help(true)
        .hide(setting.section.starts_with("Taken without effect"));
    // One-word settings have one spelling.
    let option = if dashed == setting.name { option } else { option.alias(setting.name) };
    if setting.is_switch { option.num_args(0..=1).default_missing_value("true") } else { option }
}

fn optimization(text: &str) -> Result<Optimization, String> {
    match text {
        "default" => Ok(Optimization::Default),
        "fair" => Ok(Optimization::Fair),
        _ => Err("expected default or fair".into()),
    }
}

/// Celery takes the bounds in any order, and one number as the upper bound with the lower at 0.
fn autoscale(text: &str) -> Result<Autoscale, String> {
    let numbers: Result<Vec<u32>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    match numbers.as_deref() {
        Ok([max]) => Ok(Autoscale { min: 0, max: *max }),
        Ok([a, b]) => Ok(Autoscale { min: *a.min(b), max: *a.max(b) }),
        _ => Err("expected two comma-separated whole numbers or one".into()),
    }
}

/// The word `worker`, or Celery's `namespace.setting=value`.
fn argument(text: &str) -> Result<String, String> {
    if text == "worker" || text.contains('=') {
        return Ok(text.to_owned());
    }
    Err("expected `worker`, an option, or a setting as name=value".into())
}
