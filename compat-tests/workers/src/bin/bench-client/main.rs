//! The client side of the benchmark: no more than moving messages, so that what is measured is the worker, or Redis.
//!
//! `drain` takes a queue's messages and settles them without running anything, in one of several designs: the upper
//! bound of what a worker can do. `rate` and `round-trip` send tasks and time their results. Each prints one JSON object.

mod drain;
mod load;
mod wire;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Arguments {
    /// The broker, and the result backend.
    #[arg(long, env = "BENCH_BROKER_URL")]
    broker: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Moves all messages of the queue `celery`.
    Drain(drain::Options),
    /// Sends tasks at a fixed rate.
    Rate(load::RateOptions),
    /// Sends one task after the other.
    RoundTrip(load::RoundTripOptions),
}

fn main() -> anyhow::Result<()> {
    let Arguments { broker, command } = Arguments::parse();
    let report = match command {
        Command::Drain(options) => drain::run(&broker, &options)?,
        Command::Rate(options) => load::rate(&broker, &options)?,
        Command::RoundTrip(options) => load::round_trip(&broker, &options)?,
    };
    println!("{report}");
    Ok(())
}
