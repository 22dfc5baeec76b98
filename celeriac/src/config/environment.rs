//! Which `CELERY_` variables are none of our settings, and why that is no mistake.

/// Variables of Celery's programs and of the scripts that start them, without the prefix `CELERY_`. Sources:
/// `celery/bin/*.py` (click's automatic names for each option), `extra/generic-init.d`, celery 5.7.
const FOREIGN: &[&str] = &[
    "APP",
    "LOADER",
    "CONFIG",
    "CONFIG_MODULE",
    "SKIP_CHECKS",
    "WORKDIR",
    "QUIET",
    "NO_COLOR",
    "BROKER",
    "VERSION",
    "BIN",
    "CREATE_DIRS",
    "CREATE_RUNDIR",
    "CREATE_LOGDIR",
    "RDB_HOST",
    "RDB_PORT",
    "RDBSIG",
    "CUSTOM_WORKER_POOL",
    "WORKER_REVOKES_MAX",
    "WORKER_REVOKE_EXPIRES",
    "WORKER_SUCCESSFUL_MAX",
    "WORKER_SUCCESSFUL_EXPIRES",
    "WORKER_UID",
    "WORKER_GID",
    "WORKER_UMASK",
    "WORKER_EXECUTABLE",
    "WORKER_INCLUDE",
    "WORKER_SCHEDULER",
    "WORKER_SCHEDULE_FILENAME",
    "TRACE_APP",
    "LOG_LEVEL",
    "LOG_FILE",
];

/// Programs of Celery whose options click reads from `CELERY_PROGRAM_OPTION`.
const OTHER_PROGRAMS: &[&str] =
    &["CALL_", "EVENTS_", "FLOWER_", "INSPECT_", "MULTI_", "PURGE_", "REPORT_", "SHELL_", "STATUS_"];

/// Options of `celery worker` that may also be given as `CELERY_WORKER_OPTION`.
pub(super) const WORKER_OPTIONS: &[(&str, &str)] = &[
    ("CELERY_WORKER_HOSTNAME", "hostname"),
    ("CELERY_WORKER_QUEUES", "queues"),
    ("CELERY_WORKER_EXCLUDE_QUEUES", "exclude-queues"),
    ("CELERY_WORKER_LOGLEVEL", "loglevel"),
    ("CELERY_WORKER_LOGFILE", "logfile"),
    ("CELERY_WORKER_PIDFILE", "pidfile"),
    ("CELERY_WORKER_STATEDB", "statedb"),
    ("CELERY_WORKER_OPTIMIZATION", "optimization"),
    ("CELERY_WORKER_TASK_EVENTS", "task-events"),
    ("CELERY_WORKER_TIME_LIMIT", "time-limit"),
    ("CELERY_WORKER_SOFT_TIME_LIMIT", "soft-time-limit"),
    ("CELERY_WORKER_PURGE", "purge"),
    ("CELERY_WORKER_DETACH", "detach"),
    ("CELERY_WORKER_BEAT", "beat"),
    ("CELERY_WORKER_WITHOUT_GOSSIP", "without-gossip"),
    ("CELERY_WORKER_WITHOUT_MINGLE", "without-mingle"),
    ("CELERY_WORKER_WITHOUT_HEARTBEAT", "without-heartbeat"),
    ("CELERY_WORKER_HEARTBEAT_INTERVAL", "heartbeat-interval"),
    ("CELERY_WORKER_AUTOSCALE", "autoscale"),
];

/// Whether a `CELERY_` variable that is no setting belongs to something else.
pub(super) fn is_foreign(variable: &str, value: &str) -> bool {
    let name = variable.strip_prefix("CELERY_").unwrap_or(variable);
    FOREIGN.contains(&name)
        || WORKER_OPTIONS.iter().any(|(option, _)| *option == variable)
        || OTHER_PROGRAMS.iter().any(|program| name.starts_with(program))
        || is_service_link(name, value)
}

/// Kubernetes and Docker describe a service called `celery` or `celery-worker` by such variables.
fn is_service_link(name: &str, value: &str) -> bool {
    name.ends_with("SERVICE_HOST")
        || name.contains("SERVICE_PORT")
        || name.ends_with("PORT") && value.contains("://")
        || name.contains("PORT_") && (name.contains("_TCP") || name.contains("_UDP"))
}

/// The environment of the process; what is no Unicode text is passed over.
pub(super) fn environment() -> Vec<(String, String)> {
    let variables = std::env::vars_os();
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
