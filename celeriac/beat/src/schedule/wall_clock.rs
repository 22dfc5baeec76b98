//! Wall time and the absolute time line, where clocks are put forward and back.

use celeriac::Timezone;
use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};

/// The wall time of a zone at an instant.
pub(super) fn wall(instant: DateTime<Utc>, zone: Timezone) -> NaiveDateTime {
    instant.with_timezone(&zone).naive_local()
}

/// The instant of a wall time: the first one where it occurs twice; shifted forward by the gap where it does not occur
/// (02:30 becomes 03:30), as Python's `fold=0` does.
pub(super) fn instant(wall: NaiveDateTime, zone: Timezone) -> DateTime<Utc> {
    match zone.from_local_datetime(&wall) {
        MappedLocalTime::Single(time) | MappedLocalTime::Ambiguous(time, _) => time.with_timezone(&Utc),
        MappedLocalTime::None => {
            // The offset before the gap; the longest gap known is a day (Samoa, 2011).
            let before = zone.offset_from_utc_datetime(&(wall - TimeDelta::hours(26))).fix();
            DateTime::from_naive_utc_and_offset(
                wall - TimeDelta::seconds(before.local_minus_utc().into()),
                Utc,
            )
        }
    }
}

/// All instants of a wall time: two where it occurs twice.
pub(super) fn instants(wall: NaiveDateTime, zone: Timezone) -> [DateTime<Utc>; 2] {
    let first = instant(wall, zone);
    match zone.from_local_datetime(&wall) {
        MappedLocalTime::Ambiguous(_, second) => [first, second.with_timezone(&Utc)],
        _ => [first, first],
    }
}

/// Whether the clock of a zone is put back within three hours before or after an instant.
pub(super) fn is_put_back_around(instant: DateTime<Utc>, zone: Timezone) -> bool {
    let offset = |hours| {
        let near = instant.naive_utc() + TimeDelta::hours(hours);
        zone.offset_from_utc_datetime(&near).fix().local_minus_utc()
    };
    let [before, now, after] = [offset(-3), offset(0), offset(3)];
    after < now || now < before
}
