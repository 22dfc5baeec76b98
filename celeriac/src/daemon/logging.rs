//! The log of a worker that its program leaves to us, in the form of Celery's (`worker_log_format`).

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use chrono::Local;
use env_logger::{Builder, Target};
use log::Level;

use super::ProcessError;
use crate::config::LogLevel;
use crate::worker::is_child_process;

/// Starts the log, to standard error or to the end of a file; `RUST_LOG`, where set, refines the level per module. A
/// logger that the program has set stays.
///
/// # Errors
/// [`ProcessError::Logfile`] when the file cannot be written.
pub(crate) fn start(level: LogLevel, file: Option<&Path>) -> Result<(), ProcessError> {
    let mut builder = Builder::new();
    builder.filter_level(level.filter());
    if let Ok(filters) = std::env::var("RUST_LOG") {
        builder.parse_filters(&filters);
    }
    if let Some(path) = file {
        let opened = OpenOptions::new().append(true).create(true).open(path);
        let file = opened.map_err(|source| ProcessError::Logfile { path: path.to_owned(), source })?;
        builder.target(Target::Pipe(Box::new(file)));
    }
    let process = if is_child_process() { "ChildProcess" } else { "MainProcess" };
    builder.format(move |out, record| {
        let (time, level) = (Local::now().format("%Y-%m-%d %H:%M:%S,%3f"), name(record.level()));
        writeln!(out, "[{time}: {level}/{process}] {}", record.args())
    });
    let _already_set = builder.try_init();
    Ok(())
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "ERROR",
        Level::Warn => "WARNING",
        Level::Info => "INFO",
        Level::Debug | Level::Trace => "DEBUG",
    }
}
