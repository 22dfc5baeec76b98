//! The health of beat: for probes, metrics and remote control.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::store::Change;

/// Most entries that have metrics of their own.
const ENTRIES: usize = 1000;

/// A tick that is later than this is overdue.
const OVERDUE: Duration = Duration::from_secs(10);

/// The health of beat; cheap to clone.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    leads: bool,
    is_reachable: bool,
    began: Option<Instant>,
    /// When the last tick ended, and how long the sleep after it is.
    ticked: Option<(Instant, Duration)>,
    lag: f64,
    entries: BTreeMap<String, Counts>,
    total: Counts,
}

/// A metric of entries: its name, its kind, its help, its value.
type Family = (&'static str, &'static str, &'static str, fn(&Counts) -> f64);

#[derive(Clone, Copy, Default)]
struct Counts {
    runs: u64,
    missed: u64,
    late: u64,
    refused: u64,
    last_run: f64,
}

impl Health {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn began(&self) {
        self.state().began.get_or_insert_with(Instant::now);
    }

    pub(crate) fn ticked(&self, leads: bool, sleep: Duration) {
        let mut state = self.state();
        state.leads = leads;
        state.is_reachable = true;
        state.ticked = Some((Instant::now(), sleep));
    }

    pub(crate) fn failed(&self) {
        let mut state = self.state();
        (state.leads, state.is_reachable) = (false, false);
    }

    pub(crate) fn settled(&self, change: &Change, missed: u64, now: DateTime<Utc>) {
        let mut state = self.state();
        let lag = change.runs.last().map(|run| (now - run.run_at).as_seconds_f64().max(0.0));
        state.count(&change.entry.name, |counts| {
            counts.missed += missed;
            for run in &change.runs {
                counts.runs += 1;
                counts.late += u64::from((now - run.run_at).num_milliseconds() > 1000);
                counts.last_run = now.timestamp_micros() as f64 / 1e6;
            }
        });
        state.lag = lag.unwrap_or(state.lag);
    }

    pub(crate) fn refused(&self, entry: &str) {
        self.state().count(entry, |counts| counts.refused += 1);
    }

    /// Returns whether this beat is the one that sends.
    pub fn leads(&self) -> bool {
        self.state().leads
    }

    /// The time since the last tick ended; `None` before the first one.
    pub fn tick_age(&self) -> Option<Duration> {
        self.state().ticked.map(|(ended, _)| ended.elapsed())
    }

    /// Returns why beat is to be taken for one that stalls: its last tick, or its start, is longer ago than that; zero has no
    /// limit.
    pub(crate) fn stalls(&self, limit: Duration) -> Option<String> {
        let state = self.state();
        let age = state.ticked.map(|(ended, _)| ended).or(state.began)?.elapsed();
        (!limit.is_zero() && age > limit).then(|| {
            let (age, limit) = (age.as_secs_f64(), limit.as_secs_f64());
            format!("the scheduler has not ticked for {age:.1} s (over the limit of {limit} s)")
        })
    }

    /// Returns why beat does not live: its next tick is overdue.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn lives(&self) -> Result<(), String> {
        let state = self.state();
        let age = match (state.ticked, state.began) {
            (Some((ended, sleep)), _) => ended.elapsed().saturating_sub(sleep),
            (None, Some(began)) => began.elapsed(),
            (None, None) => return Ok(()),
        };
        // An unreachable store is not this process's fault, and a restart does not help.
        if age > OVERDUE && (state.is_reachable || state.ticked.is_none()) {
            return Err(format!("the next tick is overdue by {:.1} s", age.as_secs_f64()));
        }
        Ok(())
    }

    /// Returns why beat is not ready: its store cannot be reached, or its next tick is overdue.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn is_ready(&self) -> Result<(), String> {
        self.lives()?;
        if !self.state().is_reachable {
            return Err("the store cannot be reached".to_owned());
        }
        Ok(())
    }

    /// The metrics in the text format of Prometheus.
    pub fn metrics(&self) -> String {
        let state = self.state();
        let mut text = String::new();
        let gauge = |text: &mut String, name: &str, help: &str, value: f64| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        };
        gauge(
            &mut text,
            "celeriac_beat_leader",
            "Whether this beat sends.",
            f64::from(u8::from(state.leads)),
        );
        gauge(&mut text, "celeriac_beat_lag_seconds", "How late the last run was sent.", state.lag);
        let age = state.ticked.map_or(0.0, |(ended, _)| ended.elapsed().as_secs_f64());
        gauge(&mut text, "celeriac_beat_tick_age_seconds", "Time since the last tick ended.", age);
        let families: [Family; 5] = [
            ("runs_total", "counter", "Runs that were sent.", |counts| counts.runs as f64),
            ("missed_total", "counter", "Runs that were missed and not sent.", |counts| counts.missed as f64),
            ("late_total", "counter", "Runs that were sent more than a second late.", |counts| {
                counts.late as f64
            }),
            ("refused_total", "counter", "Attempts to send that failed.", |counts| counts.refused as f64),
            ("last_run_timestamp_seconds", "gauge", "When the last run was sent.", |counts| counts.last_run),
        ];
        for (name, kind, help, value) in families {
            let _ = writeln!(text, "# HELP celeriac_beat_{name} {help}\n# TYPE celeriac_beat_{name} {kind}");
            for (entry, counts) in &state.entries {
                let entry = entry.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                let _ = writeln!(text, "celeriac_beat_{name}{{entry=\"{entry}\"}} {}", value(counts));
            }
            if state.entries.len() >= ENTRIES {
                let _ = writeln!(text, "celeriac_beat_{name}{{entry=\"\"}} {}", value(&state.total));
            }
        }
        text
    }
}

impl State {
    /// Counts for an entry; those beyond the first thousand are counted together.
    fn count(&mut self, entry: &str, count: impl Fn(&mut Counts)) {
        if let Some(counts) = self.entries.get_mut(entry) {
            count(counts);
        } else if self.entries.len() < ENTRIES {
            count(self.entries.entry(entry.to_owned()).or_default());
        } else {
            count(&mut self.total);
        }
    }
}
