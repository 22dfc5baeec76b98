//! Sending tasks and timing their results.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;

use crate::wire::{Reply, Wire};

/// Where the id of a task stands in the template of its message.
const ID: &str = "@ID@";
/// Length of the number at the end of an id.
const DIGITS: usize = 12;

#[derive(Args)]
pub(crate) struct RateOptions {
    /// A message as Celery's client writes it, with `@ID@` for the task's id.
    #[arg(long)]
    template: String,
    /// Tasks a second.
    #[arg(long)]
    rate: f64,
    /// How long tasks are sent.
    #[arg(long)]
    seconds: f64,
}

#[derive(Args)]
pub(crate) struct RoundTripOptions {
    /// A message as Celery's client writes it, with `@ID@` for the task's id.
    #[arg(long)]
    template: String,
    /// How many tasks are sent.
    #[arg(long)]
    count: usize,
}

/// Sends tasks at fixed times, whether the results of earlier ones have come or not, and times each from the moment at
/// which it was to be sent.
pub(crate) fn rate(broker: &str, options: &RateOptions) -> anyhow::Result<String> {
    let count = (options.rate * options.seconds) as usize;
    let interval = Duration::from_secs_f64(1.0 / options.rate);
    let mut results = subscribe(broker)?;
    let (sender, times) = mpsc::channel();
    let began = Instant::now();
    let receiving = std::thread::spawn(move || -> anyhow::Result<()> {
        for _ in 0..count {
            let number = next_result(&mut results)?;
            sender.send((number, Instant::now()))?;
        }
        Ok(())
    });
    let mut wire = Wire::connect(broker)?;
    let mut sent = 0;
    while sent < count {
        let due = ((began.elapsed().as_secs_f64() * options.rate) as usize + 1).min(count);
        if due > sent {
            (sent..due).for_each(|number| {
                wire.command(&[b"LPUSH", b"celery", message(&options.template, number).as_bytes()])
            });
            wire.flush()?;
            wire.skip(due - sent)?;
            sent = due;
        }
        std::thread::sleep(Duration::from_micros(200).min(interval));
    }
    let patience = Instant::now() + Duration::from_secs(5);
    let mut latencies = Vec::with_capacity(count);
    let mut last = began;
    while latencies.len() < count {
        let Ok((number, finished)) = times.recv_timeout(patience.saturating_duration_since(Instant::now()))
        else {
            break;
        };
        last = finished;
        latencies.push(finished.saturating_duration_since(began + interval.mul_f64(number as f64)));
    }
    if latencies.len() == count {
        receiving.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
    }
    let seconds = (last - began).as_secs_f64();
    Ok(summary(latencies, count, seconds))
}

/// Sends tasks one after the other and times each until its result is there.
pub(crate) fn round_trip(broker: &str, options: &RoundTripOptions) -> anyhow::Result<String> {
    let mut results = subscribe(broker)?;
    let mut wire = Wire::connect(broker)?;
    let mut latencies = Vec::with_capacity(options.count);
    let began = Instant::now();
    for number in 0..options.count {
        let sent = Instant::now();
        wire.command(&[b"LPUSH", b"celery", message(&options.template, number).as_bytes()]);
        wire.flush()?;
        wire.skip(1)?;
        ensure!(next_result(&mut results)? == number, "the result of another task came");
        latencies.push(sent.elapsed());
    }
    Ok(summary(latencies, options.count, began.elapsed().as_secs_f64()))
}

fn message(template: &str, number: usize) -> String {
    template.replace(ID, &format!("00000000-0000-4000-8000-{number:0DIGITS$}"))
}

fn subscribe(broker: &str) -> anyhow::Result<Wire> {
    let mut wire = Wire::connect(broker)?;
    wire.command(&[b"PSUBSCRIBE", b"celery-task-meta-00000000-0000-4000-8000-*"]);
    wire.flush()?;
    wire.skip(1)?;
    Ok(wire)
}

/// Waits for a result and returns the number of its task: `pmessage`, pattern, channel, payload.
fn next_result(wire: &mut Wire) -> anyhow::Result<usize> {
    loop {
        ensure!(wire.reply()? == Reply::Array(4), "expected a message");
        wire.skip(2)?;
        let number = match wire.reply()? {
            Reply::Bulk(channel) => std::str::from_utf8(&channel[channel.len() - DIGITS..])?.parse()?,
            reply => anyhow::bail!("unexpected reply {reply:?}"),
        };
        let is_finished = match wire.reply()? {
            Reply::Bulk(payload) => payload.starts_with(b"{\"status\": \"SUCCESS\""),
            _ => false,
        };
        if is_finished {
            return Ok(number);
        }
    }
}

fn summary(mut latencies: Vec<Duration>, sent: usize, seconds: f64) -> String {
    latencies.sort_unstable();
    let at = |share: f64| {
        let index = ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
        latencies.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    };
    let finished = latencies.len();
    let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
    format!(
        "{{\"sent\": {sent}, \"finished\": {finished}, \"seconds\": {seconds:.4}, \"p50_ms\": {p50:.4}, \"p99_ms\": {p99:.4}, \"max_ms\": {max:.4}}}"
    )
}
