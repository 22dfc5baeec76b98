//! ISO 8601 as Python reads and writes it.

use std::fmt::Write;

use crate::Timezone;
use chrono::{
    DateTime, Datelike, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone, Timelike, Utc,
};

/// A date and time with or without an offset: Python's aware and naive `datetime`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Moment {
    Aware(DateTime<FixedOffset>),
    Naive(NaiveDateTime),
}

/// Reads a date with an optional time of day and offset; `None` when the text is not one.
///
/// Accepts what `datetime.fromisoformat` of Python 3.11 and dateutil's `isoparse` have in common and clients send:
/// extended and basic form, any separator, a fraction of any length, `Z`, `+HH`, `+HHMM`, `+HH:MM`, `+HH:MM:SS`.
pub(super) fn parse_moment(text: &str) -> Option<Moment> {
    let mut rest = text.trim().as_bytes();
    let date = take_date(&mut rest)?;
    if rest.is_empty() {
        return Some(Moment::Naive(date.and_time(NaiveTime::MIN)));
    }
    if !matches!(rest[0], b'T' | b't' | b' ' | b'_') {
        return None;
    }
    rest = &rest[1..];
    let (time, offset) = take_time(&mut rest)?;
    if !rest.is_empty() {
        return None;
    }
    let naive = date.and_time(time);
    match offset {
        None => Some(Moment::Naive(naive)),
        Some(offset) => Some(Moment::Aware(offset.from_local_datetime(&naive).single()?)),
    }
}

/// Reads a time of day with an optional offset.
pub(super) fn parse_time(text: &str) -> Option<(NaiveTime, Option<FixedOffset>)> {
    let mut rest = text.trim().as_bytes();
    if let [b'T' | b't', tail @ ..] = rest {
        rest = tail;
    }
    let time = take_time(&mut rest)?;
    rest.is_empty().then_some(time)
}

/// Reads the time that a header or a setting names; one without an offset is local to `tz`.
///
/// Of a local time that occurs twice the first is taken; one that a clock change skips is read with the offset before it.
pub fn parse_iso8601(text: &str, tz: Timezone) -> Option<DateTime<Utc>> {
    match parse_moment(text)? {
        Moment::Aware(moment) => Some(moment.to_utc()),
        Moment::Naive(naive) => Some(local_to_utc(naive, tz)),
    }
}

/// Writes the time as Python's `isoformat` does: `+00:00`, and no fraction when the microseconds are zero.
pub fn format_iso8601(moment: DateTime<Utc>) -> String {
    let mut text = String::with_capacity(32);
    write_aware(&mut text, &moment.fixed_offset(), Precision::Micros);
    text
}

/// How many digits of the fraction are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Precision {
    /// Six, as Python has no more.
    Micros,
    /// Nine when the nanoseconds are not whole microseconds.
    Nanos,
}

pub(super) fn write_aware(text: &mut String, moment: &DateTime<FixedOffset>, precision: Precision) {
    write_naive(text, &moment.naive_local(), precision);
    write_offset(text, moment.offset().fix().local_minus_utc());
}

pub(super) fn write_naive(text: &mut String, moment: &NaiveDateTime, precision: Precision) {
    write_date(text, &moment.date());
    text.push('T');
    write_time(text, &moment.time(), precision);
}

pub(super) fn write_date(text: &mut String, date: &NaiveDate) {
    match u32::try_from(date.year()) {
        Ok(year) => write_digits(text, year, 4),
        Err(_) => {
            let _ = write!(text, "{:04}", date.year());
        }
    }
    text.push('-');
    write_digits(text, date.month(), 2);
    text.push('-');
    write_digits(text, date.day(), 2);
}

pub(super) fn write_time(text: &mut String, time: &NaiveTime, precision: Precision) {
    write_digits(text, time.hour(), 2);
    text.push(':');
    write_digits(text, time.minute(), 2);
    text.push(':');
    write_digits(text, time.second(), 2);
    let nanos = time.nanosecond().min(999_999_999);
    if precision == Precision::Nanos && !nanos.is_multiple_of(1000) {
        text.push('.');
        write_digits(text, nanos, 9);
    } else if nanos >= 1000 {
        text.push('.');
        write_digits(text, nanos / 1000, 6);
    }
}

/// Appends a number with at least that many digits; every result has a time, and `write!` would take longer than all else.
fn write_digits(text: &mut String, number: u32, width: usize) {
    let mut digits = [b'0'; 10];
    let (mut start, mut rest) = (digits.len() - width, number);
    for (place, digit) in digits.iter_mut().enumerate().rev() {
        if rest == 0 {
            break;
        }
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        start = start.min(place);
    }
    text.push_str(std::str::from_utf8(&digits[start..]).unwrap_or_default());
}

fn write_offset(text: &mut String, seconds: i32) {
    text.push(if seconds < 0 { '-' } else { '+' });
    let seconds = seconds.unsigned_abs();
    write_digits(text, seconds / 3600, 2);
    text.push(':');
    write_digits(text, seconds / 60 % 60, 2);
    if !seconds.is_multiple_of(60) {
        text.push(':');
        write_digits(text, seconds % 60, 2);
    }
}

/// Reads a naive time as local to `tz`.
pub(super) fn local_to_utc(naive: NaiveDateTime, tz: Timezone) -> DateTime<Utc> {
    let before = naive - chrono::Duration::hours(3);
    match tz.from_local_datetime(&naive).earliest() {
        Some(moment) => moment.to_utc(),
        None => {
            let offset = tz.offset_from_utc_datetime(&before).fix().local_minus_utc();
            (naive - chrono::Duration::seconds(offset.into())).and_utc()
        }
    }
}

fn take_date(rest: &mut &[u8]) -> Option<NaiveDate> {
    let year = take_digits(rest, 4)?;
    let extended = take_byte(rest, b'-');
    let month = take_digits(rest, 2)?;
    if extended && !take_byte(rest, b'-') {
        return NaiveDate::from_ymd_opt(year as i32, month, 1);
    }
    let day = take_digits(rest, 2)?;
    NaiveDate::from_ymd_opt(year as i32, month, day)
}

fn take_time(rest: &mut &[u8]) -> Option<(NaiveTime, Option<FixedOffset>)> {
    let hour = take_digits(rest, 2)?;
    let (mut minute, mut second, mut nanos) = (0, 0, 0);
    let extended = take_byte(rest, b':');
    if extended || rest.first().is_some_and(u8::is_ascii_digit) {
        minute = take_digits(rest, 2)?;
        if (extended && take_byte(rest, b':')) || (!extended && rest.first().is_some_and(u8::is_ascii_digit))
        {
            second = take_digits(rest, 2)?;
            if take_byte(rest, b'.') || take_byte(rest, b',') {
                nanos = take_fraction(rest)?;
            }
        }
    }
    let time = NaiveTime::from_hms_nano_opt(hour, minute, second, nanos)?;
    Some((time, take_offset(rest)?))
}

/// The fraction of a second in nanoseconds; further digits are dropped.
fn take_fraction(rest: &mut &[u8]) -> Option<u32> {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (fraction, tail) = rest.split_at(digits);
    *rest = tail;
    if digits == 0 {
        return None;
    }
    Some(
        (0..9).fold(0, |nanos, place| {
            nanos * 10 + u32::from(fraction.get(place).map_or(0, |byte| byte - b'0'))
        }),
    )
}

fn take_offset(rest: &mut &[u8]) -> Option<Option<FixedOffset>> {
    let sign = match rest.first() {
        None => return Some(None),
        Some(b'Z' | b'z') => {
            *rest = &rest[1..];
            return Some(FixedOffset::east_opt(0));
        }
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) => return None,
    };
    *rest = &rest[1..];
    let mut seconds = take_digits(rest, 2)? * 3600;
    let extended = take_byte(rest, b':');
    if extended || !rest.is_empty() {
        seconds += take_digits(rest, 2)? * 60;
        if take_byte(rest, b':') || (!extended && !rest.is_empty()) {
            seconds += take_digits(rest, 2)?;
        }
    }
    FixedOffset::east_opt(sign * seconds as i32).map(Some)
}

fn take_digits(rest: &mut &[u8], count: usize) -> Option<u32> {
    let (digits, tail) = rest.split_at_checked(count)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    *rest = tail;
    Some(digits.iter().fold(0, |number, byte| number * 10 + u32::from(byte - b'0')))
}

fn take_byte(rest: &mut &[u8], byte: u8) -> bool {
    match rest.split_first() {
        Some((first, tail)) if *first == byte => {
            *rest = tail;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> Option<String> {
        parse_iso8601(text, Timezone::UTC).map(format_iso8601)
    }

    #[test]
    fn all_usual_forms_are_read() {
        for (text, expected) in [
            ("2026-01-01T12:00:10+00:00", "2026-01-01T12:00:10+00:00"),
            ("2026-01-01T12:00:10Z", "2026-01-01T12:00:10+00:00"),
            ("2026-01-01T12:00:10", "2026-01-01T12:00:10+00:00"),
            ("2026-01-01 12:00", "2026-01-01T12:00:00+00:00"),
            ("2026-01-01", "2026-01-01T00:00:00+00:00"),
            ("2026-01", "2026-01-01T00:00:00+00:00"),
            ("20260101T120010Z", "2026-01-01T12:00:10+00:00"),
            ("2026-01-01T12:00:10.5+0200", "2026-01-01T10:00:10.500000+00:00"),
            ("2026-01-01T12:00:10.123456789-05:30", "2026-01-01T17:30:10.123456+00:00"),
            ("2026-01-01T12:00:10+02", "2026-01-01T10:00:10+00:00"),
        ] {
            assert_eq!(utc(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "tomorrow",
            "1234.5",
            "2026-13-01",
            "2026-01-01T25:00:00",
            "2026-01-01T12:00:10+",
            "2026-01-01X12",
            "2026-01-01T12:00:10+99:00",
            "2026-01-01T12:00:10 PM",
            "２０２６-01-01",
            "2026-01-01T12:00:00.Z",
        ] {
            assert_eq!(utc(text), None, "{text}");
        }
    }

    #[test]
    fn a_naive_time_is_local_to_the_given_zone() {
        let paris = "Europe/Paris".parse::<Timezone>().unwrap();
        let read = |text| parse_iso8601(text, paris).map(format_iso8601);
        assert_eq!(read("2026-07-01T12:00:00").as_deref(), Some("2026-07-01T10:00:00+00:00"));
        assert_eq!(
            read("2026-03-29T02:30:00").as_deref(),
            Some("2026-03-29T01:30:00+00:00"),
            "skipped by the clock change"
        );
        assert_eq!(read("2026-10-25T02:30:00").as_deref(), Some("2026-10-25T00:30:00+00:00"), "occurs twice");
    }
}
