//! Operations on the companion's database and settings.

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use companion::{
    logging,
    settings::Settings,
    store::{DEMO_API_KEY, Demo, Store},
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
    /// Make personas, feature flags and, with --demo, the demo user.
    Seed {
        /// Make the demo user, whose API key is public; with `--demo=if-empty` only in a database without other users.
        #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "always")]
        demo: Option<WhenDemo>,
    },
    /// Read all settings and name what is wrong with them.
    CheckSettings,
}

#[derive(Clone, Copy, ValueEnum)]
enum WhenDemo {
    Always,
    IfEmpty,
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
            let store = Store::open(&settings)?;
            let migrated = store.migrate().await?;
            store.close().await;
            let adopted = if migrated.adopted { " (adopted from the Python service)" } else { "" };
            match migrated.applied.as_slice() {
                [] => println!("{}{adopted}: the schema is up to date", settings.database),
                applied => println!("{}{adopted}: applied {}", settings.database, applied.join(", ")),
            }
        }
        Command::Seed { demo } => {
            let store = Store::open(&settings)?;
            let demo = match demo {
                None => Demo::Never,
                Some(WhenDemo::IfEmpty) => Demo::IfEmpty,
                Some(WhenDemo::Always) => Demo::Always,
            };
            let seeded = store.seed(demo).await?;
            store.close().await;
            println!(
                "seeded {} users, {} API keys, {} personas, {} feature flags",
                seeded.users, seeded.api_keys, seeded.personas, seeded.feature_flags
            );
            if seeded.demo {
                println!("the demo user's API key is {DEMO_API_KEY}");
            }
        }
    }
    Ok(())
}
