//! The names of the keys.

use super::RedisOptions;

/// The keys of a schedule. Those of RedBeat are named by celery-redbeat 2.4.2 `schedulers.py`; the others are celeriac's own.
pub(super) struct Keys {
    prefix: String,
    /// RedBeat's entries, by the time at which they are looked at.
    pub(super) schedule: String,
    /// Entries that RedBeat cannot run, by the same.
    pub(super) own_schedule: String,
    /// RedBeat's names of configured entries.
    pub(super) statics: String,
    /// The names of entries that the configuration has switched off.
    pub(super) off: String,
    /// What is remembered of entries beside RedBeat's `meta`, by key.
    pub(super) history: String,
    /// Runs that are recorded and not sent yet.
    pub(super) pending: String,
    /// The beat that leads: its clock, name and configuration.
    pub(super) leader: String,
    /// Any key where there is no lock; it is not read then.
    pub(super) lock: String,
}

impl Keys {
    pub(super) fn new(options: &RedisOptions) -> Self {
        let prefix = &options.key_prefix;
        let lock = options.lock_key.clone().unwrap_or_else(|| ":lock".to_owned());
        let named = |name: &str| format!("{prefix}:{name}");
        Self {
            schedule: named("schedule"),
            own_schedule: named("own"),
            statics: named("statics"),
            off: named("off"),
            history: named("history"),
            pending: named("pending"),
            leader: named("leader"),
            lock: if lock.starts_with(prefix.as_str()) { lock } else { format!("{prefix}{lock}") },
            prefix: prefix.clone(),
        }
    }

    /// The key of an entry: RedBeat's, or one that RedBeat does not see.
    pub(super) fn entry(&self, name: &str, is_redbeat: bool) -> String {
        if is_redbeat { format!("{}{name}", self.prefix) } else { format!("{}:own:{name}", self.prefix) }
    }

    /// The name of an entry by its key.
    pub(super) fn name<'a>(&self, key: &'a str) -> &'a str {
        let rest = key.strip_prefix(self.prefix.as_str()).unwrap_or(key);
        rest.strip_prefix(":own:").unwrap_or(rest)
    }

    /// The sorted set in which the key of an entry stands.
    pub(super) fn schedule_of(&self, key: &str) -> &str {
        let rest = key.strip_prefix(self.prefix.as_str()).unwrap_or(key);
        if rest.starts_with(":own:") { &self.own_schedule } else { &self.schedule }
    }
}
