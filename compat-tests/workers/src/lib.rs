//! What the workers here have in common: their command line and their log.

pub mod conformance;

use celeriac::config::Config;
use celeriac::config::cli::WorkerOptions;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Reads the command line over the program's settings and starts the log.
pub fn start(base: Config) -> WorkerOptions {
    begin(WorkerOptions::parse_over(base))
}

/// As [`start`], for a worker that takes `-B`.
pub fn start_with_beat(base: Config) -> WorkerOptions {
    begin(WorkerOptions::parse_with_beat(base))
}

fn begin(options: WorkerOptions) -> WorkerOptions {
    if let Err(error) = options.enter() {
        eprintln!("error: {error}");
        std::process::exit(error.exit_code());
    }
    env_logger::Builder::new().filter_level(options.loglevel.filter()).format_timestamp_millis().init();
    options
}

/// The value of an environment variable, or a default.
pub fn variable(name: &str, default: &str) -> String {
    std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}
