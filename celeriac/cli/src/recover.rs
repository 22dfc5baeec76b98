//! `recover`: one sweep without a worker, after the last celeriac worker is gone.

use std::time::{Duration, Instant};

use celeriac::{Celery, Recovered};
use clap::Args;

use crate::failure::Failure;
use crate::out::say;

/// How often `--wait` sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How much longer than the leases `--wait` waits.
const MARGIN: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(crate) struct Recover {
    /// Wait until the leases of workers that were killed just now have ended, at most 42 s
    #[arg(short, long)]
    wait: bool,
    /// One JSON object
    #[arg(short, long)]
    json: bool,
}

impl Recover {
    pub(crate) async fn run(self, app: &Celery) -> Result<(), Failure> {
        let begin = Instant::now();
        let mut found = app.recover().await?;
        let mut restored = found.restored;
        let deadline = found.lease.map(|lease| lease + MARGIN);
        while self.wait && found.workers > 0 && deadline.is_some_and(|deadline| begin.elapsed() < deadline) {
            tokio::time::sleep(SWEEP_EVERY).await;
            found = app.recover().await?;
            restored += found.restored;
        }
        found.restored = restored;
        if self.json {
            say(json(&found))?;
        } else {
            print(&found)?;
        }
        match found.refused.len() {
            0 => Ok(()),
            count => Err(Failure::failed(format!("{count} queue(s) or key(s) refused something"))),
        }
    }
}

fn json(found: &Recovered) -> serde_json::Value {
    serde_json::json!({
        "restored": found.restored, "refused": found.refused, "workers": found.workers,
        "lease": found.lease.map(|lease| lease.as_secs_f64()), "unacked": found.unacked, "chords": found.chords,
    })
}

fn print(found: &Recovered) -> Result<(), Failure> {
    say(format_args!("restored {}", found.restored))?;
    for refused in &found.refused {
        say(format_args!("stays: {refused}"))?;
    }
    if found.workers > 0 {
        let seconds = found.lease.unwrap_or_default().as_secs_f64().ceil();
        say(format_args!(
            "{} worker(s) live, or were killed less than {seconds} s before their lease ends\nhint: stop them, and wait with celeriac recover --wait",
            found.workers
        ))?;
    }
    if found.unacked > 0 {
        say(format_args!(
            "{} message(s) are held by workers or wait for their eta in unacked",
            found.unacked
        ))?;
    }
    if found.chords > 0 {
        say(format_args!(
            "{} chord(s) are registered whose body was not sent yet\nhint: run one celeriac worker until this is 0",
            found.chords
        ))?;
    }
    Ok(())
}
