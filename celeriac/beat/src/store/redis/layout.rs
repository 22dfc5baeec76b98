//! Entries as they stand in Redis: a hash with RedBeat's `definition` and `meta`, a score, and celeriac's own history.

use chrono::{DateTime, Utc};
use log::error;
use redis::{FromRedisValue, ParsingError, Value as Reply};
use serde_json::{Value, json};

use super::super::moment;
use super::RedisStore;
use super::{Found, StoreError, keys::Keys, scripts};
use crate::entry::{Entry, History};

/// How many entries are read at a time.
pub(super) const AT_A_TIME: isize = 500;

/// What stands under the key of an entry.
pub(super) struct Stored {
    pub(super) key: String,
    pub(super) definition: Option<String>,
    pub(super) meta: Option<String>,
    pub(super) history: Option<String>,
    /// Where the script asks for it: when it is looked at next.
    pub(super) score: Option<f64>,
}

impl FromRedisValue for Stored {
    fn from_redis_value(value: Reply) -> Result<Self, ParsingError> {
        let mut fields = Vec::<Option<String>>::from_redis_value(value)?.into_iter();
        let mut next = || fields.next().flatten();
        Ok(Self {
            key: next().unwrap_or_default(),
            definition: next(),
            meta: next(),
            history: next(),
            score: next().and_then(|score| score.parse().ok()),
        })
    }
}

/// Why an entry is passed over.
pub(super) enum Unusable {
    Missing,
    Unreadable(String),
}

impl Stored {
    /// The entry with what is remembered of it.
    pub(super) fn read(&self, keys: &Keys) -> Result<Found, Unusable> {
        let Some(definition) = &self.definition else { return Err(Unusable::Missing) };
        let unreadable = Unusable::Unreadable;
        let definition: Value = serde_json::from_str(definition)
            .map_err(|error| unreadable(format!("its definition is not JSON: {error}")))?;
        let mut entry = Entry::from_json(keys.name(&self.key), &definition)
            .map_err(|error| unreadable(error.to_string()))?;
        let history: History =
            self.history.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        entry.read_extras(&history.policy).map_err(|error| unreadable(error.to_string()))?;
        let (last_run_at, count) = self.meta().map_err(unreadable)?;
        entry.remember(last_run_at, count);
        Ok(Found { entry, history })
    }

    /// The last run and the count of runs.
    pub(super) fn meta(&self) -> Result<(Option<DateTime<Utc>>, u64), String> {
        let meta: Option<Value> = self
            .meta
            .as_deref()
            .map(serde_json::from_str)
            .transpose()
            .map_err(|error: serde_json::Error| format!("its meta is not JSON: {error}"))?;
        let meta = meta.unwrap_or_default();
        let last_run_at = match meta.get("last_run_at") {
            None | Some(Value::Null) => None,
            Some(time) => {
                Some(moment::decode(time).ok_or_else(|| format!("last_run_at {time} is no point in time"))?)
            }
        };
        Ok((last_run_at, meta.get("total_run_count").and_then(Value::as_u64).unwrap_or(0)))
    }
}

impl RedisStore {
    /// RedBeat's `meta`.
    pub(super) fn meta(&self, entry: &Entry) -> String {
        let last_run_at = entry.last_run_at.map(|time| moment::encode(time, self.options.timezone));
        if entry.total_run_count == 0 {
            return json!({"last_run_at": last_run_at}).to_string();
        }
        json!({"last_run_at": last_run_at, "total_run_count": entry.total_run_count}).to_string()
    }

    /// Reads some entries of a schedule, from one rank on.
    pub(super) async fn slice(
        &self,
        schedule: &str,
        from: isize,
        count: isize,
    ) -> Result<Vec<Stored>, StoreError> {
        let mut slice = scripts::call(scripts::SLICE, &[schedule, &self.keys.history]);
        slice.arg(from).arg(from + count - 1);
        self.reply(slice).await
    }

    /// Says once that an entry is passed over.
    pub(super) fn tell_unreadable(&mut self, key: &str, reason: &str) {
        if self.unreadable.insert(format!("{key} {reason}")) {
            error!("entry {key} is not sent: {reason}");
        }
    }
}

/// The history as it is stored: empty where there is nothing to remember.
pub(super) fn history_text(history: &History) -> String {
    if history.is_empty() { String::new() } else { json!(history).to_string() }
}

/// A point in time as the score of `redbeat::schedule`: Unix seconds; -1 is never. RedBeat cuts fractions off; it reads them.
pub(super) fn score(time: Option<DateTime<Utc>>) -> String {
    match time {
        None => "-1".to_owned(),
        Some(time) => format!("{}.{:06}", time.timestamp(), time.timestamp_subsec_micros()),
    }
}

/// The point in time of a score.
pub(super) fn time_of(score: f64) -> Option<DateTime<Utc>> {
    (score >= 0.0).then(|| DateTime::from_timestamp_micros((score * 1e6) as i64)).flatten()
}

impl From<ParsingError> for StoreError {
    fn from(error: ParsingError) -> Self {
        StoreError::Layout(error.to_string())
    }
}
