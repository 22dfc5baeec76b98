//! What the companion's beat sends.

use std::time::Duration;

use celeriac::config::Config;

use crate::entry::{Entry, EntryError};
use crate::schedule::{Crontab, CrontabError, Schedule};

/// The queue of the companion's tasks.
pub const QUEUE: &str = "default";

/// Why the entries cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompanionScheduleError {
    /// The setting `beat_schedule` is not valid.
    #[error("setting `beat_schedule`: {0}")]
    Setting(#[from] EntryError),
    /// A crontab is not valid.
    #[error(transparent)]
    Crontab(#[from] CrontabError),
}

/// The companion's own entries, and those of the setting `beat_schedule`, which replace one of the same name.
///
/// # Errors
/// When the setting is not valid.
pub fn entries(config: &Config) -> Result<Vec<Entry>, CompanionScheduleError> {
    let mut entries = vec![
        Entry::new(
            "send-due-reminders",
            "app.tasks.reminders.send_due_reminders",
            Schedule::every(Duration::from_secs(60)),
        )
        .queue(QUEUE),
        Entry::new(
            "compute-daily-metrics",
            "app.tasks.analytics.compute_daily_metrics",
            Schedule::Crontab(Box::new(Crontab::from_text("0 1 * * *")?)),
        )
        .queue(QUEUE),
    ];
    for entry in Entry::from_settings(&config.beat_schedule)? {
        entries.retain(|own| own.name != entry.name);
        entries.push(entry);
    }
    Ok(entries)
}
