//! The HTTP API of the AI companion.

use std::process::ExitCode;

use clap::Parser;
use companion::{Companion, logging, settings::Settings};
use companion_api::State;

/// Serves the HTTP API of the companion. Settings come from the environment.
#[derive(Parser)]
#[command(version)]
struct Arguments {}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments {} = Arguments::parse();
    let settings = match Settings::from_env() {
        Ok(settings) => settings,
        Err(error) => {
            logging::report(&error);
            return ExitCode::FAILURE;
        }
    };
    match run(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    logging::init(&settings);
    let address = (settings.api_host.clone(), settings.api_port);
    let state = State::new(Companion::open(settings)?)?;
    companion_api::serve(state, address).await?;
    Ok(())
}
