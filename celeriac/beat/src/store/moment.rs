//! Points in time as RedBeat writes them.

use celeriac::Timezone;
use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, NaiveDateTime, TimeZone, Timelike, Utc};
use serde_json::{Value, json};

/// RedBeat's datetime, with the wall time of a zone (celery-redbeat 2.4.2 `decoder.py`; samples `beat/redbeat_*.json`).
pub(super) fn encode(time: DateTime<Utc>, zone: Timezone) -> Value {
    let wall = time.with_timezone(&zone);
    json!({
        "__type__": "datetime",
        "year": wall.year(),
        "month": wall.month(),
        "day": wall.day(),
        "hour": wall.hour(),
        "minute": wall.minute(),
        "second": wall.second(),
        "microsecond": wall.nanosecond() / 1000 % 1_000_000,
        "timezone": zone.name(),
    })
}

/// Reads RedBeat's datetime: `timezone` is the name of a zone, or an offset from UTC in seconds; missing means UTC.
pub(super) fn decode(value: &Value) -> Option<DateTime<Utc>> {
    let number = |name: &str| u32::try_from(value.get(name)?.as_u64()?).ok();
    let date =
        NaiveDate::from_ymd_opt(i32::try_from(number("year")?).ok()?, number("month")?, number("day")?)?;
    let micros = number("microsecond").unwrap_or(0);
    let wall = date.and_hms_micro_opt(
        number("hour").unwrap_or(0),
        number("minute").unwrap_or(0),
        number("second").unwrap_or(0),
        micros,
    )?;
    match value.get("timezone") {
        None | Some(Value::Null) => Some(wall.and_utc()),
        Some(Value::String(zone)) => in_zone(wall, zone.parse().ok()?),
        Some(offset) => {
            let offset = FixedOffset::east_opt(offset.as_f64()? as i32)?;
            Some(offset.from_local_datetime(&wall).single()?.with_timezone(&Utc))
        }
    }
}

fn in_zone(wall: NaiveDateTime, zone: Timezone) -> Option<DateTime<Utc>> {
    // A wall time in a gap was never written by a clock; read it as UTC rather than not at all.
    let time = zone.from_local_datetime(&wall).earliest().map(|time| time.with_timezone(&Utc));
    time.or_else(|| Some(wall.and_utc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datetimes_are_those_of_redbeat() {
        let zone = json!({"__type__": "datetime", "year": 2026, "month": 6, "day": 1, "hour": 12, "minute": 0,
                          "second": 0, "microsecond": 123456, "timezone": "Europe/Warsaw"});
        let time = decode(&zone).unwrap();
        assert_eq!(time.to_rfc3339(), "2026-06-01T10:00:00.123456+00:00");
        assert_eq!(encode(time, "Europe/Warsaw".parse::<Timezone>().unwrap()), zone);
        for (timezone, instant) in [
            (json!("UTC"), "2026-06-01T12:00:00+00:00"),
            (json!(19800.0), "2026-06-01T06:30:00+00:00"),
            (json!(0), "2026-06-01T12:00:00+00:00"),
        ] {
            let value = json!({"__type__": "datetime", "year": 2026, "month": 6, "day": 1, "hour": 12, "minute": 0,
                               "second": 0, "microsecond": 0, "timezone": timezone});
            assert_eq!(decode(&value).unwrap().to_rfc3339(), instant);
        }
        assert_eq!(decode(&json!({"year": 2026})), None);
        assert_eq!(decode(&json!("2026-06-01")), None);
    }
}
