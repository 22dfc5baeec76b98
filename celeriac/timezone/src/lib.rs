//! Time zones by the names of the IANA database, for `chrono`.
//!
//! `chrono-tz` has its rules as tables full of pointers, which every process relocates when it starts: a megabyte of memory
//! of its own. Here they are bytes, of which a process reads those of the zones that it asks for.

#![deny(missing_docs)]

use std::fmt;
use std::str::FromStr;
use std::sync::{LazyLock, Mutex, PoisonError};

use chrono::{Datelike, FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use jiff::tz::{AmbiguousOffset, TimeZoneDatabase};
use jiff::{Timestamp, civil};

/// A time zone, as the setting `timezone` names it; a [`chrono::TimeZone`].
///
/// The rules are those that the program was built with, whatever the machine has; a zone's are read when it is first
/// asked for.
///
/// ```
/// use celeriac_timezone::Timezone;
/// use chrono::TimeZone;
///
/// let warsaw: Timezone = "Europe/Warsaw".parse()?;
/// let noon = warsaw.with_ymd_and_hms(2026, 7, 1, 12, 0, 0).unwrap();
/// assert_eq!(noon.to_rfc3339(), "2026-07-01T12:00:00+02:00");
/// # Ok::<(), celeriac_timezone::UnknownTimezone>(())
/// ```
#[derive(Clone, Copy)]
pub struct Timezone(&'static Rules);

struct Rules {
    name: &'static str,
    zone: jiff::tz::TimeZone,
}

/// No time zone has that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time zone of the IANA database; they are named like UTC or Europe/Warsaw")]
pub struct UnknownTimezone(String);

impl Timezone {
    /// Coordinated Universal Time.
    pub const UTC: Timezone = Timezone(&UTC);

    /// The name: `Europe/Warsaw`.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    fn offset(self, offset: jiff::tz::Offset) -> TimezoneOffset {
        let offset =
            FixedOffset::east_opt(offset.seconds()).unwrap_or_else(|| chrono::Offset::fix(&chrono::Utc));
        TimezoneOffset { timezone: self, offset }
    }
}

static UTC: Rules = Rules { name: "UTC", zone: jiff::tz::TimeZone::UTC };

impl FromStr for Timezone {
    type Err = UnknownTimezone;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        // There are some 600 names; each that is asked for is kept.
        static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
        static KNOWN: Mutex<Vec<&'static Rules>> = Mutex::new(Vec::new());
        if name == "UTC" {
            return Ok(Self::UTC);
        }
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rules) = known.iter().find(|rules| rules.name == name) {
            return Ok(Self(rules));
        }
        let zone = DATABASE.get(name).ok().filter(|zone| zone.iana_name() == Some(name));
        let zone = zone.ok_or_else(|| UnknownTimezone(name.to_owned()))?;
        let rules: &'static Rules = Box::leak(Box::new(Rules { name: name.to_owned().leak(), zone }));
        known.push(rules);
        Ok(Self(rules))
    }
}

impl PartialEq for Timezone {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Timezone {}

impl fmt::Debug for Timezone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl fmt::Display for Timezone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The offset from UTC that a [`Timezone`] has at some time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TimezoneOffset {
    timezone: Timezone,
    offset: FixedOffset,
}

impl chrono::Offset for TimezoneOffset {
    fn fix(&self) -> FixedOffset {
        self.offset
    }
}

impl fmt::Debug for TimezoneOffset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.offset, formatter)
    }
}

impl fmt::Display for TimezoneOffset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.offset, formatter)
    }
}

impl chrono::TimeZone for Timezone {
    type Offset = TimezoneOffset;

    fn from_offset(offset: &TimezoneOffset) -> Self {
        offset.timezone
    }

    fn offset_from_local_date(&self, local: &NaiveDate) -> MappedLocalTime<TimezoneOffset> {
        self.offset_from_local_datetime(&local.and_time(NaiveTime::MIN))
    }

    fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> MappedLocalTime<TimezoneOffset> {
        match self.0.zone.to_ambiguous_timestamp(civil(local)).offset() {
            AmbiguousOffset::Unambiguous { offset } => MappedLocalTime::Single(self.offset(offset)),
            AmbiguousOffset::Fold { before, after } => {
                MappedLocalTime::Ambiguous(self.offset(before), self.offset(after))
            }
            AmbiguousOffset::Gap { .. } => MappedLocalTime::None,
        }
    }

    fn offset_from_utc_date(&self, utc: &NaiveDate) -> TimezoneOffset {
        self.offset_from_utc_datetime(&utc.and_time(NaiveTime::MIN))
    }

    fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> TimezoneOffset {
        let utc = utc.and_utc();
        let bound = if utc.timestamp() < 0 { Timestamp::MIN } else { Timestamp::MAX };
        self.offset(self.0.zone.to_offset(Timestamp::from_second(utc.timestamp()).unwrap_or(bound)))
    }
}

/// The wall time; beyond the year 9999 on either side, the last that the rules are asked for.
fn civil(local: &NaiveDateTime) -> civil::DateTime {
    let bound = if local.year() < 0 { civil::DateTime::MIN } else { civil::DateTime::MAX };
    let Ok(year) = i16::try_from(local.year()) else { return bound };
    let [month, day, hour, minute, second] =
        [local.month(), local.day(), local.hour(), local.minute(), local.second()].map(|part| part as i8);
    civil::DateTime::new(year, month, day, hour, minute, second, 0).unwrap_or(bound)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Offset, TimeZone, Utc};

    use super::*;

    fn warsaw() -> Timezone {
        "Europe/Warsaw".parse().unwrap()
    }

    fn at(text: &str) -> NaiveDateTime {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_that_of_the_database_exactly() {
        assert_eq!(warsaw().name(), "Europe/Warsaw");
        assert_eq!(warsaw(), warsaw());
        assert_eq!("UTC".parse(), Ok(Timezone::UTC));
        assert_eq!(Timezone::UTC.to_string(), "UTC");
        assert_ne!(warsaw(), Timezone::UTC);
        for name in ["Etc/UTC", "EST5EDT", "US/Pacific", "America/Argentina/Buenos_Aires", "Asia/Kolkata"] {
            assert_eq!(name.parse::<Timezone>().unwrap().name(), name);
        }
        for name in ["", "europe/warsaw", "Europe/Nowhere", "../etc/passwd", "+02:00"] {
            let error = name.parse::<Timezone>().unwrap_err();
            assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        }
    }

    #[test]
    fn clocks_are_put_forward_and_back() {
        let offset = |text: &str| {
            warsaw().offset_from_local_datetime(&at(text)).map(|offset| offset.fix().to_string())
        };
        let single = |text: &str| MappedLocalTime::Single(text.to_owned());
        assert_eq!(offset("2026-01-01T00:00:00"), single("+01:00"));
        assert_eq!(offset("2026-03-29T01:59:59"), single("+01:00"));
        assert_eq!(offset("2026-03-29T02:30:00"), MappedLocalTime::None);
        assert_eq!(offset("2026-03-29T03:00:00"), single("+02:00"));
        assert_eq!(
            offset("2026-10-25T02:30:00"),
            MappedLocalTime::Ambiguous("+02:00".to_owned(), "+01:00".to_owned())
        );
        assert_eq!(offset("2150-07-01T00:00:00"), single("+02:00"), "the rules have no end");
        let summer: DateTime<Utc> = "2026-07-01T10:00:00.25Z".parse().unwrap();
        assert_eq!(summer.with_timezone(&warsaw()).to_rfc3339(), "2026-07-01T12:00:00.250+02:00");
    }

    #[test]
    fn any_time_that_chrono_knows_has_an_offset() {
        for time in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            for zone in [warsaw(), Timezone::UTC] {
                zone.offset_from_utc_datetime(&time.naive_utc());
                assert!(zone.offset_from_local_datetime(&time.naive_utc()).earliest().is_some());
            }
        }
    }
}
