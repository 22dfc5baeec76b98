//! What operators ask of a schedule: `celeriac beat list`, `show`, `run`, `pause`, `resume`, `preview`, `backfill`.

use std::io::Write;
use std::sync::Arc;

use celeriac::{Celery, Timezone};
use chrono::{DateTime, Utc};
use clap::Subcommand;
use serde_json::{Value, json};

use super::keeper::{Keeper, terms, with_store};
use super::table::{Table, ago, describe, moment, shown};
use super::{BeatError, BeatOptions, Source};
use crate::entry::Run;
use crate::instant;
use crate::publish::Publish;
use crate::store::{Listed, ScheduleStore};

/// A command of `celeriac beat`.
#[derive(Subcommand, Clone, Debug)]
pub enum BeatCommand {
    /// The entries, with their next and last runs
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// One entry, with its latest runs
    Show {
        /// Name of the entry
        entry: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Send an entry now; its schedule goes on as before
    Run {
        /// Name of the entry
        entry: String,
    },
    /// Switch an entry off
    Pause {
        /// Name of the entry
        entry: String,
    },
    /// Switch an entry on again
    Resume {
        /// Name of the entry
        entry: String,
    },
    /// The next times at which an entry runs, with the changes of its clock
    Preview {
        /// Name of the entry
        entry: String,
        /// How many
        #[arg(short = 'c', long, default_value_t = 10)]
        count: usize,
        /// From this time on, if not from now
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
    },
    /// Send the runs of a range of time
    Backfill {
        /// Name of the entry
        entry: String,
        /// The first time
        #[arg(long, value_name = "TIME")]
        from: String,
        /// The last time (now)
        #[arg(long, value_name = "TIME")]
        to: Option<String>,
        /// No more than so many
        #[arg(long, default_value_t = 1000)]
        limit: usize,
        /// Only say which runs these are
        #[arg(long)]
        dry_run: bool,
    },
}

impl BeatCommand {
    /// Carries the command out, on the store that options and settings name, whichever beat runs or none.
    ///
    /// If it is cancelled, the command may have taken effect.
    ///
    /// # Errors
    /// When there is no such entry, the store cannot be reached, or a run cannot be sent.
    pub async fn carry_out(
        &self,
        options: &BeatOptions,
        app: &Celery,
        source: Source,
        out: &mut impl Write,
    ) -> Result<(), BeatError> {
        let source = options.entries.iter().fold(source, |source, path| source.path(path));
        with_store!(Keeper::choose(options, app)?, store => {
            let mut store = store;
            // A file has what it remembers, and the configuration the entries.
            store.configure(Arc::new(source.read()?));
            self.act(&mut store, app, out).await
        })
    }

    async fn act(
        &self,
        store: &mut impl ScheduleStore,
        app: &Celery,
        out: &mut impl Write,
    ) -> Result<(), BeatError> {
        match self {
            BeatCommand::List { json } => list(&store.list().await?, *json, app, out),
            BeatCommand::Show { entry, json } => show(&find(store, entry).await?, *json, app, out),
            BeatCommand::Run { entry } => {
                let listed = find(store, entry).await?;
                let run = listed.entry.run_now();
                send(app, &run).await?;
                Ok(writeln!(out, "{}", run.id)?)
            }
            BeatCommand::Pause { entry } => switch(store, entry, false, out).await,
            BeatCommand::Resume { entry } => switch(store, entry, true, out).await,
            BeatCommand::Preview { entry, count, from } => {
                let listed = find(store, entry).await?;
                let from = from.as_deref().map(time).transpose()?;
                preview(listed, *count, from, app, out)
            }
            BeatCommand::Backfill { entry, from, to, limit, dry_run } => {
                let listed = find(store, entry).await?;
                let to = to.as_deref().map(time).transpose()?.unwrap_or_else(Utc::now);
                let slots = listed.entry.slots(time(from)?, to, &terms(app), *limit);
                for slot in &slots {
                    let run = listed.entry.run_at(*slot);
                    if !dry_run {
                        send(app, &run).await?;
                    }
                    writeln!(out, "{} {}", slot.to_rfc3339(), run.id)?;
                }
                let what = if *dry_run { "would be sent" } else { "sent" };
                Ok(writeln!(out, "{} runs {what}", slots.len())?)
            }
        }
    }
}

async fn find(store: &mut impl ScheduleStore, name: &str) -> Result<Listed, BeatError> {
    let found = store.list().await?.into_iter().find(|listed| listed.entry.name == name);
    found.ok_or_else(|| BeatError::NoEntry(name.to_owned()))
}

async fn send(app: &Celery, run: &Run) -> Result<(), BeatError> {
    app.publish(run).await.map_err(|error| BeatError::Publish(error.to_string()))
}

async fn switch(
    store: &mut impl ScheduleStore,
    name: &str,
    enabled: bool,
    out: &mut impl Write,
) -> Result<(), BeatError> {
    if !store.enable(name, enabled).await? {
        return Err(BeatError::NoEntry(name.to_owned()));
    }
    Ok(writeln!(out, "{name} is {}", if enabled { "on" } else { "off" })?)
}

fn time(text: &str) -> Result<DateTime<Utc>, BeatError> {
    instant::parse(text).ok_or_else(|| BeatError::Time(text.to_owned()))
}

/// The zone of an entry.
fn zone(listed: &Listed, app: &Celery) -> Timezone {
    listed.entry.timezone.unwrap_or_else(|| terms(app).timezone)
}

/// The time at which an entry last ran; an entry that never did remembers when it was made.
fn last_run(listed: &Listed) -> Option<DateTime<Utc>> {
    let has_run = listed.entry.total_run_count > 0 || !listed.history.runs.is_empty();
    listed.entry.last_run_at.filter(|_| has_run)
}

fn list(entries: &[Listed], as_json: bool, app: &Celery, out: &mut impl Write) -> Result<(), BeatError> {
    if as_json {
        let all: Vec<Value> = entries.iter().map(Listed::to_json).collect();
        return Ok(writeln!(out, "{}", Value::Array(all))?);
    }
    let now = Utc::now();
    let mut table =
        Table::new(["ENTRY", "ON", "SCHEDULE", "NEXT", "LAST", "RUNS", "MISSED", "LATE", "TROUBLE"]);
    for listed in entries {
        let Listed { entry, history, next } = listed;
        let next = if entry.enabled { next.as_ref() } else { None };
        table.row([
            entry.name.clone(),
            if entry.enabled { "yes" } else { "no" }.to_owned(),
            describe(&entry.schedule),
            next.map_or("-".to_owned(), |next| moment(*next, zone(listed, app))),
            last_run(listed).map_or("never".to_owned(), |last| ago(now - last)),
            entry.total_run_count.to_string(),
            history.missed.to_string(),
            history.late.to_string(),
            history.trouble.clone().unwrap_or_default(),
        ]);
    }
    Ok(write!(out, "{table}")?)
}

fn show(listed: &Listed, as_json: bool, app: &Celery, out: &mut impl Write) -> Result<(), BeatError> {
    if as_json {
        return Ok(writeln!(out, "{}", listed.to_json())?);
    }
    let Listed { entry, history, next } = listed;
    let zone = zone(listed, app);
    let or_never = |time: Option<DateTime<Utc>>| time.map_or("never".to_owned(), |time| moment(time, zone));
    let mut line = |name: &str, value: String| writeln!(out, "{name:<10} {value}");
    line("entry", entry.name.clone())?;
    line("task", entry.task.clone())?;
    line("schedule", describe(&entry.schedule))?;
    line("zone", zone.name().to_owned())?;
    line("on", if entry.enabled { "yes" } else { "no" }.to_owned())?;
    line("args", json!(entry.args).to_string())?;
    line("kwargs", json!(entry.kwargs).to_string())?;
    line("options", json!(entry.options).to_string())?;
    let policy = entry.extras();
    if !policy.is_null() {
        line("policy", policy.to_string())?;
    }
    line("next", or_never(next.filter(|_| entry.enabled)))?;
    line("last", or_never(last_run(listed)))?;
    line("runs", entry.total_run_count.to_string())?;
    line("missed", history.missed.to_string())?;
    line("late", history.late.to_string())?;
    line("skipped", history.skipped.to_string())?;
    line("refused", history.refused.to_string())?;
    if let Some(trouble) = &history.trouble {
        line("trouble", trouble.clone())?;
    }
    for run in &history.runs {
        let sent = DateTime::from_timestamp_millis(run.sent).unwrap_or_default();
        let outcome = run.outcome.map_or_else(String::new, |outcome| format!(" {}", shown(outcome)));
        writeln!(
            out,
            "  {} {} {:.3} s late{outcome}",
            moment(sent, zone),
            run.id,
            (run.sent - run.slot) as f64 / 1e3
        )?;
    }
    Ok(())
}

fn preview(
    mut listed: Listed,
    count: usize,
    from: Option<DateTime<Utc>>,
    app: &Celery,
    out: &mut impl Write,
) -> Result<(), BeatError> {
    let zone = zone(&listed, app);
    if from.is_some() {
        listed.entry.last_run_at = from;
    }
    let mut before: Option<DateTime<Utc>> = None;
    for slot in listed.entry.preview(from.unwrap_or_else(Utc::now), &terms(app), count) {
        let change =
            before.map_or(0, |before| super::table::offset(slot, zone) - super::table::offset(before, zone));
        let mark = match change {
            0 => String::new(),
            ahead if ahead > 0 => format!("  (the clock was put forward by {} min)", ahead / 60),
            back => format!("  (the clock was put back by {} min)", -back / 60),
        };
        writeln!(out, "{}{mark}", moment(slot, zone))?;
        before = Some(slot);
    }
    if before.is_none() {
        writeln!(out, "{} does not run again", listed.entry.name)?;
    }
    Ok(())
}
