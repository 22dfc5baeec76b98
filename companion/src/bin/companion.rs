//! Operations on the companion's database and settings.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use companion::{
    logging,
    settings::Settings,
    store::{DEMO_API_KEY, Store},
};

/// Prepares what the services of the companion need. Settings come from the environment.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring the database schema up to date; only adds, and may run several times or at once.
    Migrate,
    /// Make personas, feature flags and, in development or with --demo, the demo user with its API key.
    Seed {
        /// Make the demo user also outside development.
        #[arg(long)]
        demo: bool,
    },
    /// Read all settings and name what is wrong with them.
    CheckSettings,
}

fn main() -> ExitCode {
    match start(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(command: Command) -> anyhow::Result<()> {
    let settings = Settings::from_env()?;
    logging::init(&settings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(command, settings))
}

async fn run(command: Command, settings: Settings) -> anyhow::Result<()> {
    match command {
        Command::CheckSettings => {
            println!("{settings:#?}");
            return Ok(());
        }
        Command::Migrate => {
            let store = Store::open(&settings.database)?;
            let migrated = store.migrate().await?;
            store.close().await;
            let adopted = if migrated.adopted { " (adopted from the Python service)" } else { "" };
            match migrated.applied.as_slice() {
                [] => println!("{}{adopted}: the schema is up to date", settings.database),
                applied => println!("{}{adopted}: applied {}", settings.database, applied.join(", ")),
            }
        }
        Command::Seed { demo } => {
            let store = Store::open(&settings.database)?;
            let demo = demo || settings.is_development();
            let seeded = store.seed(demo).await?;
            store.close().await;
            println!(
                "seeded {} users, {} API keys, {} personas, {} feature flags",
                seeded.users, seeded.api_keys, seeded.personas, seeded.feature_flags
            );
            if demo {
                println!("the demo user's API key is {DEMO_API_KEY}");
            }
        }
    }
    Ok(())
}
