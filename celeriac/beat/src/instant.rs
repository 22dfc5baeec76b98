//! Points in time as people write them.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};

/// Reads RFC 3339 (`2026-12-24T18:00:00+01:00`), or the same without a zone, without seconds or without a time: UTC then.
pub(crate) fn parse(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.with_timezone(&Utc));
    }
    let naive = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let midnight = || Some(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_time(NaiveTime::MIN));
    Some(naive.or_else(midnight)?.and_utc())
}
