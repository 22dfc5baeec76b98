//! Which store keeps the schedule.

use std::path::PathBuf;

use celeriac::Celery;
use celeriac::config::NodeName;

use super::{BeatError, BeatOptions};
use crate::schedule::Terms;
#[cfg(feature = "database")]
use crate::store::DatabaseStore;
use crate::store::{FileStore, RedisStore};

/// The store that keeps the schedule.
pub(super) enum Keeper {
    Redis(Box<RedisStore>),
    File(Box<FileStore>, PathBuf),
    #[cfg(feature = "database")]
    Database(Box<DatabaseStore>),
}

/// Runs the same with whichever store it is.
macro_rules! with_store {
    ($keeper:expr, $store:ident => $run:expr) => {
        match $keeper {
            Keeper::Redis(store) => {
                let $store = *store;
                $run
            }
            Keeper::File(store, _) => {
                let $store = *store;
                $run
            }
            #[cfg(feature = "database")]
            Keeper::Database(store) => {
                let $store = *store;
                $run
            }
        }
    };
}
pub(super) use with_store;

impl Keeper {
    /// The one that options and settings name: `--schedule` a file, `--scheduler` or `beat_scheduler` what they say, else
    /// Redis.
    pub(super) fn choose(options: &BeatOptions, app: &Celery) -> Result<Self, BeatError> {
        let config = app.config();
        // Its default is Celery's, which says nothing of what is wanted here.
        let given = config.to_map(false, true).contains_key("beat_scheduler");
        let class = options.scheduler.clone().or_else(|| given.then(|| config.beat_scheduler.clone()));
        let class = class.unwrap_or_default();
        let is_file =
            class.ends_with("PersistentScheduler") || class.is_empty() && options.schedule.is_some();
        if is_file {
            let default = if config.beat_schedule_filename == "celerybeat-schedule" {
                PathBuf::from("celerybeat-schedule.json")
            } else {
                PathBuf::from(&config.beat_schedule_filename)
            };
            let path = options.schedule.clone().unwrap_or(default);
            return Ok(Keeper::File(Box::new(FileStore::new(&path)), path));
        }
        #[cfg(feature = "database")]
        if class.ends_with("DatabaseScheduler") || class.is_empty() && options.database.is_some() {
            let url = options.database.as_deref().ok_or(BeatError::NoDatabase)?;
            let store = DatabaseStore::new(url, app);
            return Ok(Keeper::Database(Box::new(store?)));
        }
        if !class.is_empty() && !class.ends_with("RedBeatScheduler") {
            return Err(BeatError::Scheduler(class));
        }
        let store = RedisStore::of_app(app, node(options));
        Ok(Keeper::Redis(Box::new(store.map_err(|error| BeatError::Settings(error.to_string()))?)))
    }

    /// Where the schedule is, for the log.
    pub(super) fn place(&self) -> String {
        match self {
            Keeper::Redis(store) => store.place(),
            Keeper::File(_, path) => path.display().to_string(),
            #[cfg(feature = "database")]
            Keeper::Database(store) => store.place(),
        }
    }
}

/// What schedules are computed under.
pub(super) fn terms(app: &Celery) -> Terms {
    Terms {
        timezone: app.config().timezone_or_utc(),
        cron_starting_deadline: app.config().beat_cron_starting_deadline,
    }
}

/// The node name, as `beat_nodename` in `celery/beat.py` makes it, celery 5.7: a host alone gains the name `celerybeat`.
pub(super) fn node_name(options: &BeatOptions) -> String {
    let name = options.hostname.as_deref().unwrap_or("%h");
    let name = if name.contains('@') { name.to_owned() } else { format!("celerybeat@{name}") };
    NodeName::expand(Some(&name)).to_string()
}

/// The name under which other beats see this one: with the process id, since several may share a host.
fn node(options: &BeatOptions) -> String {
    let name = node_name(options);
    if options.hostname.is_some() { name } else { format!("{name} (process {})", std::process::id()) }
}
