//! The names of all keys and channels that the transport uses.

use crate::config::Config;

/// The separator between a queue's name and its priority step, and between the parts of a binding.
const SEPARATOR: &str = "\u{6}\u{16}";

/// The part of `broker_transport_options` that decides names.
#[derive(Clone, Debug, PartialEq)]
pub struct KeysOptions {
    /// Put in front of every key and channel.
    pub global_keyprefix: String,
    /// Separator of priority keys and bindings.
    pub sep: String,
    /// Lowest priority of each step; the first is served first and has the bare queue name as its key.
    pub priority_steps: Vec<u8>,
    /// Hash of messages that are delivered and not acknowledged.
    pub unacked_key: String,
    /// Sorted set of their delivery times.
    pub unacked_index_key: String,
    /// Lock of the sweep that brings them back.
    pub unacked_mutex_key: String,
    /// Template of the prefix of fanout channels, `None` for no prefix.
    pub fanout_prefix: Option<String>,
    /// Whether fanout channels end in the routing key.
    pub fanout_patterns: bool,
    /// Whether fanout messages also go by the channels of kombu before 5.4 behind Sentinels, which did not put the number
    /// of the database into the prefix (`sentinel_fanout_compat`).
    pub sentinel_fanout_compat: bool,
}

impl Default for KeysOptions {
    fn default() -> Self {
        Self {
            global_keyprefix: String::new(),
            sep: SEPARATOR.to_owned(),
            priority_steps: vec![0, 3, 6, 9],
            unacked_key: "unacked".to_owned(),
            unacked_index_key: "unacked_index".to_owned(),
            unacked_mutex_key: "unacked_mutex".to_owned(),
            fanout_prefix: Some("/{db}.".to_owned()),
            fanout_patterns: true,
            sentinel_fanout_compat: false,
        }
    }
}

impl KeysOptions {
    /// The options of those settings.
    pub(crate) fn new(config: &Config) -> Self {
        let options = &config.broker_transport_options;
        let text = |name: &str, default: String| options.text(name).map_or(default, str::to_owned);
        let defaults = KeysOptions::default();
        let behind_sentinels = config.read_url().is_some_and(|url| url.scheme() == "sentinel");
        Self {
            global_keyprefix: text("global_keyprefix", defaults.global_keyprefix),
            sep: text("sep", defaults.sep),
            priority_steps: options.priority_steps(),
            unacked_key: text("unacked_key", defaults.unacked_key),
            unacked_index_key: text("unacked_index_key", defaults.unacked_index_key),
            unacked_mutex_key: text("unacked_mutex_key", defaults.unacked_mutex_key),
            fanout_prefix: match (options.text("fanout_prefix"), options.flag("fanout_prefix")) {
                (_, Some(false)) => None,
                (Some(prefix), None) => Some(prefix.to_owned()),
                _ => defaults.fanout_prefix,
            },
            fanout_patterns: options.flag("fanout_patterns").unwrap_or(defaults.fanout_patterns),
            sentinel_fanout_compat: behind_sentinels
                && options.flag("sentinel_fanout_compat").unwrap_or(false),
        }
    }
}

/// The keys of one broker database.
#[derive(Clone, Debug)]
pub struct Keys {
    options: KeysOptions,
    database: i64,
    /// The prefixes of fanout channels: ours, and then that of older peers if they are wanted too.
    fanout_prefixes: Vec<String>,
    /// Hash of messages that are delivered and not acknowledged.
    pub unacked: String,
    /// Sorted set of their delivery times.
    pub unacked_index: String,
    /// Lock of the sweep that brings them back.
    pub unacked_mutex: String,
    /// Sorted set of the workers that move messages through in-flight lists, by the end of their lease.
    pub inflight_index: String,
    /// Sorted set of revoked task ids, by the time of the revocation.
    pub revoked: String,
    /// Sorted set of revoked stamps, by the time of the revocation.
    pub revoked_stamps: String,
}

impl Keys {
    /// The keys under those options in that database.
    pub fn new(options: KeysOptions, database: i64) -> Self {
        let prefix = &options.global_keyprefix;
        let template = options.fanout_prefix.as_deref().unwrap_or("");
        let ours = template.replace("{db}", &database.to_string());
        let mut fanout_prefixes = vec![format!("{prefix}{ours}")];
        if options.sentinel_fanout_compat && ours != template {
            fanout_prefixes.push(format!("{prefix}{template}"));
        }
        Self {
            fanout_prefixes,
            unacked: format!("{prefix}{}", options.unacked_key),
            unacked_index: format!("{prefix}{}", options.unacked_index_key),
            unacked_mutex: format!("{prefix}{}", options.unacked_mutex_key),
            inflight_index: format!("{prefix}celeriac.inflight"),
            revoked: format!("{prefix}celeriac.revoked"),
            revoked_stamps: format!("{prefix}celeriac.revoked.stamps"),
            options,
            database,
        }
    }

    /// What stands in front of every key (`global_keyprefix`).
    pub fn global_prefix(&self) -> &str {
        &self.options.global_keyprefix
    }

    /// What stands between a queue's name and its priority step (`sep`).
    pub(crate) fn separator(&self) -> &str {
        &self.options.sep
    }

    /// The same keys under another prefix.
    pub(crate) fn under(&self, prefix: &str) -> Self {
        let options = KeysOptions { global_keyprefix: prefix.to_owned(), ..self.options.clone() };
        Self::new(options, self.database)
    }

    /// The list of a queue's messages of that priority.
    pub fn queue(&self, queue: &str, priority: u8) -> String {
        self.queue_step(queue, self.step(priority))
    }

    /// The priority step of a priority: the largest that is not above it.
    pub fn step(&self, priority: u8) -> u8 {
        let steps = &self.options.priority_steps;
        steps.iter().rev().find(|step| **step <= priority).or(steps.first()).copied().unwrap_or(0)
    }

    /// The lists of a queue, the one that is served first in front.
    pub fn queue_steps(&self, queue: &str) -> Vec<String> {
        self.options.priority_steps.iter().map(|step| self.queue_step(queue, *step)).collect()
    }

    /// How many priority steps there are.
    pub fn steps(&self) -> usize {
        self.options.priority_steps.len()
    }

    fn queue_step(&self, queue: &str, step: u8) -> String {
        let Self { options: KeysOptions { global_keyprefix, sep, priority_steps, .. }, .. } = self;
        if priority_steps.first() == Some(&step) {
            format!("{global_keyprefix}{queue}")
        } else {
            format!("{global_keyprefix}{queue}{sep}{step}")
        }
    }

    /// The set of an exchange's bindings.
    pub fn bindings(&self, exchange: &str) -> String {
        format!("{}_kombu.binding.{exchange}", self.options.global_keyprefix)
    }

    /// The set of an exchange's bindings that never expire (kombu 5.7).
    pub fn permanent_bindings(&self, exchange: &str) -> String {
        format!("{}_kombu.binding_permanent.{exchange}", self.options.global_keyprefix)
    }

    /// A member of a set of bindings.
    pub fn binding(&self, routing_key: &str, pattern: &str, queue: &str) -> String {
        [routing_key, pattern, queue].join(&self.options.sep)
    }

    /// The routing key, pattern and queue of a member of a set of bindings.
    pub fn parse_binding<'a>(&self, member: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
        let mut parts = member.split(self.options.sep.as_str());
        Some((parts.next()?, parts.next()?, parts.next()?))
    }

    /// The channels of a fanout message: one, unless older peers are to hear it too.
    pub fn fanout_channels(&self, exchange: &str, routing_key: &str) -> Vec<String> {
        let channel = |prefix: &String| {
            if routing_key.is_empty() || !self.options.fanout_patterns {
                format!("{prefix}{exchange}")
            } else {
                format!("{prefix}{exchange}/{routing_key}")
            }
        };
        self.fanout_prefixes.iter().map(channel).collect()
    }

    /// The channel patterns of a fanout binding: `#` stands for anything.
    pub fn fanout_patterns(&self, exchange: &str, routing_key: &str) -> Vec<String> {
        self.fanout_channels(exchange, &routing_key.replace('#', "*"))
    }

    /// Whether a fanout message may come by several channels.
    pub fn fanout_repeats(&self) -> bool {
        self.fanout_prefixes.len() > 1
    }

    /// One of the lists in which a worker's messages are between queue and bookkeeping.
    pub fn inflight(&self, worker: &str, slot: usize) -> String {
        format!("{}.{worker}.{slot}", self.inflight_index)
    }

    /// The sorted set of a queue's messages that are put aside, by eta.
    pub fn parked(&self, queue: &str) -> String {
        format!("{}celeriac.eta.{queue}", self.options.global_keyprefix)
    }

    /// The number of starts of a message that came back.
    pub fn deliveries(&self, delivery_tag: &str) -> String {
        format!("{}celeriac.deliveries.{delivery_tag}", self.options.global_keyprefix)
    }

    /// The message that brought a run of beat.
    pub(crate) fn run(&self, id: &str) -> String {
        format!("{}celeriac.beat.run.{id}", self.options.global_keyprefix)
    }

    /// The mark of a chord's body that was sent, by the message that completed the chord.
    pub(crate) fn sent(&self, group_id: &str, delivery_tag: &str) -> String {
        format!("{}celeriac.sent.{group_id}.{delivery_tag}", self.options.global_keyprefix)
    }

    /// The list of the messages that were given up, under that name.
    pub fn dead_letters(&self, name: &str) -> String {
        format!("{}{name}", self.options.global_keyprefix)
    }

    /// A key of a worker that is never set, only deleted.
    pub(crate) fn scratch(&self, worker: &str) -> String {
        format!("{}.{worker}.scratch", self.inflight_index)
    }

    /// The number of the last transaction that a worker committed.
    pub fn committed(&self, worker: &str) -> String {
        format!("{}.{worker}.committed", self.inflight_index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_fall_into_kombus_steps() {
        let keys = Keys::new(KeysOptions::default(), 0);
        assert_eq!(keys.queue("celery", 0), "celery");
        assert_eq!(keys.queue("celery", 2), "celery");
        assert_eq!(keys.queue("celery", 5), "celery\u{6}\u{16}3");
        assert_eq!(keys.queue("celery", 9), "celery\u{6}\u{16}9");
    }

    #[test]
    fn older_peers_behind_sentinels_have_channels_of_their_own() {
        let options = KeysOptions { sentinel_fanout_compat: true, ..KeysOptions::default() };
        let keys = Keys::new(options.clone(), 3);
        assert_eq!(keys.fanout_channels("celery.pidbox", ""), ["/3.celery.pidbox", "/{db}.celery.pidbox"]);
        assert!(keys.fanout_repeats());
        let shared = Keys::new(KeysOptions { fanout_prefix: Some("/mine.".to_owned()), ..options }, 3);
        assert!(!shared.fanout_repeats());
    }

    #[test]
    fn every_name_carries_the_global_prefix() {
        let options = KeysOptions { global_keyprefix: "p:".to_owned(), ..KeysOptions::default() };
        let keys = Keys::new(options, 3);
        assert_eq!(keys.queue_steps("q")[1], "p:q\u{6}\u{16}3");
        assert_eq!(keys.fanout_channels("celeryev", "task.sent"), ["p:/3.celeryev/task.sent"]);
        assert_eq!(keys.fanout_patterns("celeryev", "#"), ["p:/3.celeryev/*"]);
        assert_eq!(keys.unacked, "p:unacked");
        assert_eq!(keys.bindings("celery"), "p:_kombu.binding.celery");
    }
}
