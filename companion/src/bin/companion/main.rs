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
    /// Show the revisions of the schema, as Alembic does.
    #[command(subcommand)]
    Schema(Schema),
    /// Make personas, feature flags and, with --demo, the demo user.
    Seed {
        /// Make the demo user, whose API key is public; with `--demo=if-empty` only in a database without other users.
        #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "always")]
        demo: Option<WhenDemo>,
    },
    /// Read all settings and name what is wrong with them.
    CheckSettings,
    /// Decide about reminders that may have been delivered: a channel did not say, or the worker died.
    Uncertain {
        #[command(subcommand)]
        command: Uncertain,
    },
    /// Jobs that were given up (the table `failed_jobs`).
    FailedJobs {
        #[command(subcommand)]
        command: FailedJobs,
    },
}

#[derive(Subcommand)]
enum Schema {
    /// Show the revision that the database has; nothing when it has none.
    Current,
    /// Show all revisions, the newest first.
    History,
    /// Show the newest revision.
    Heads,
    /// Tell whether the database has all revisions; the exit status is 1 when it has not.
    Check,
    /// Record that the database has a revision, and all before it, without changing anything else.
    Stamp {
        /// A revision, `head`, or `base` for none.
        revision: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum WhenDemo {
    Always,
    IfEmpty,
}

mod decide;
use decide::{FailedJobs, Uncertain};

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
        Command::Uncertain { command } => command.run(settings).await?,
        Command::FailedJobs { command } => command.run(settings).await?,
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
        Command::Schema(command) => return schema(command, &settings).await,
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

async fn schema(command: Schema, settings: &Settings) -> anyhow::Result<()> {
    let store = Store::open(settings)?;
    if let Schema::Stamp { revision } = &command {
        let head = store.revisions().await?.head();
        let revision = match revision.as_str() {
            "head" | "heads" => Some(head),
            "base" => None,
            name => Some(name),
        };
        store.stamp(revision).await?;
        println!("{}: stamped {}", settings.database, revision.unwrap_or("base"));
        store.close().await;
        return Ok(());
    }
    let revisions = store.revisions().await?;
    store.close().await;
    let is_head = |name: &str| if name == revisions.head() { " (head)" } else { "" };
    let missing = revisions.missing();
    match command {
        Schema::Current => {
            // As in a chain of revisions: the last one that is applied with all before it.
            let reached = revisions.all.iter().take_while(|name| !missing.contains(name)).last();
            if let Some(name) = reached {
                println!("{name}{}", is_head(name));
            }
            if let Some(version) = &revisions.adopted_from {
                println!("{version} (left by the Python service)");
            }
            for later in revisions.applied.iter().filter(|name| !revisions.all.contains(&name.as_str())) {
                println!("{later} (of a later release)");
            }
        }
        Schema::History => {
            for (index, name) in revisions.all.iter().enumerate().rev() {
                let before = index.checked_sub(1).map_or("<base>", |before| revisions.all[before]);
                let state = if missing.contains(name) { ", not applied" } else { "" };
                println!("{before} -> {name}{}{state}", is_head(name));
            }
        }
        Schema::Heads => println!("{} (head)", revisions.head()),
        Schema::Check if missing.is_empty() => println!("the schema is up to date"),
        Schema::Check => anyhow::bail!(
            "the schema is not up to date: {} not applied\nhint: run `companion migrate`",
            missing.join(", ")
        ),
        Schema::Stamp { .. } => {}
    }
    Ok(())
}
