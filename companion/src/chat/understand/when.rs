//! From what a text says about time to the instant that it means.

use std::ops::Range;

use celeriac_timezone::Timezone;
use chrono::{
    DateTime, Datelike, Days, Duration, LocalResult, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta,
    TimeZone, Timelike, Weekday,
};

use super::{
    scan::{Clock, Day, Mentions, Part, scan},
    words::Unit,
};

/// The time that a text speaks of.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum When {
    /// No word of time.
    Unsaid,
    /// Something is said, but not which time.
    Unclear,
    /// A time that has gone by.
    Past,
    /// This time.
    At(DateTime<Timezone>),
}

/// A text taken apart.
#[derive(Debug)]
pub(super) struct Timed {
    pub(super) when: When,
    pub(super) repeating: bool,
    /// What is left of the text without the words of time.
    pub(super) rest: String,
    /// Where in the text the words of time stand.
    pub(super) spans: Vec<Range<usize>>,
}

/// The hour meant by a day without a time.
const DEFAULT_HOUR: u32 = 9;
const LONGEST: Duration = Duration::days(3660);

/// Takes the words of time out of a text and says which instant they mean at `now`.
pub(super) fn read(text: &str, now: DateTime<Timezone>) -> Timed {
    let mentions = scan(&text.to_ascii_lowercase());
    let mut rest = String::new();
    let mut from = 0;
    for span in &mentions.spans {
        rest.push_str(&text[from..span.start]);
        rest.push(' ');
        from = span.end;
    }
    rest.push_str(&text[from..]);
    let when = match resolve(&mentions, now) {
        When::At(at) if at - now > LONGEST => When::Unclear,
        when => when,
    };
    Timed { when, repeating: mentions.repeating, rest, spans: mentions.spans }
}

fn resolve(mentions: &Mentions, now: DateTime<Timezone>) -> When {
    if !mentions.delays.is_empty() {
        return after(mentions, now);
    }
    if mentions.vague && mentions.clock.is_none() {
        return When::Unclear;
    }
    match (mentions.day, mentions.clock, mentions.part) {
        (None, None, None) if mentions.repeating => day_and_time(None, at_hour(DEFAULT_HOUR), now, mentions),
        (None, None, None) if mentions.spans.is_empty() => When::Unsaid,
        (None, None, None) => When::Unclear,
        (Some(Day::FromToday(0)), None, None) => When::Unclear,
        (day, Some(clock), part) => with_clock(day, clock, part, now, mentions),
        (day, None, Some(Part::Tonight)) => {
            let evening = day_and_time(day, at_hour(20), now, mentions);
            match evening {
                When::Past => When::At(now + Duration::hours(1)),
                evening => evening,
            }
        }
        (day, None, Some(part)) => day_and_time(day, at_hour(hour_of(part)), now, mentions),
        (day, None, None) => day_and_time(day, at_hour(DEFAULT_HOUR), now, mentions),
    }
}

fn hour_of(part: Part) -> u32 {
    match part {
        Part::Morning => 9,
        Part::Afternoon => 15,
        Part::EndOfDay => 17,
        Part::Evening => 19,
        Part::Tonight => 20,
    }
}

/// "in 2 hours", "in 3 days at 9".
fn after(mentions: &Mentions, now: DateTime<Timezone>) -> When {
    let mut at = now;
    let mut whole_days = true;
    for &(count, unit) in &mentions.delays {
        let moved = match unit {
            Unit::Seconds(seconds) => {
                whole_days = false;
                span(count * seconds).and_then(|span| at.checked_add_signed(span))
            }
            // Whole days keep the time on the clock when the clocks change.
            Unit::Days(days) if (count * days).fract() == 0.0 => {
                at.checked_add_days(Days::new((count * days) as u64))
            }
            Unit::Days(days) => span(count * days * 86_400.0).and_then(|span| at.checked_add_signed(span)),
            Unit::Months => at.checked_add_months(Months::new(count as u32)),
        };
        match moved {
            Some(moved) => at = moved,
            None => return When::Unclear,
        }
    }
    match (mentions.clock, mentions.part) {
        (Some(clock), part) if whole_days => {
            with_clock(Some(Day::Date(at.date_naive())), clock, part, now, mentions)
        }
        (None, Some(part)) if whole_days => {
            day_and_time(Some(Day::Date(at.date_naive())), at_hour(hour_of(part)), now, mentions)
        }
        _ => When::At(at),
    }
}

fn span(seconds: f64) -> Option<TimeDelta> {
    (seconds.is_finite() && seconds < 1e10).then(|| TimeDelta::milliseconds((seconds * 1000.0) as i64))
}

fn with_clock(
    day: Option<Day>,
    clock: Clock,
    part: Option<Part>,
    now: DateTime<Timezone>,
    mentions: &Mentions,
) -> When {
    if clock.hour == 24 {
        // Midnight ends the day that is spoken of.
        let date = day.map_or(Some(now.date_naive()), |day| date_of(day, now, true));
        return match date.and_then(|date| date.checked_add_days(Days::new(1))) {
            Some(date) => future(date.and_time(NaiveTime::MIN), now),
            None => When::Unclear,
        };
    }
    let time = |hour: u32| NaiveTime::from_hms_opt(hour % 24, clock.minute, 0).unwrap_or(NaiveTime::MIN);
    let early = time(clock.hour % 12);
    let late = time(clock.hour % 12 + 12);
    if !clock.open {
        return day_and_time(day, time(clock.hour), now, mentions);
    }
    match part {
        Some(Part::Morning) => return day_and_time(day, early, now, mentions),
        Some(_) => return day_and_time(day, late, now, mentions),
        None => {}
    }
    let usual = if (7..=11).contains(&clock.hour) { early } else { late };
    let today = matches!(day, None | Some(Day::FromToday(0)));
    if !today {
        return day_and_time(day, usual, now, mentions);
    }
    let still_to_come = [early, late].into_iter().filter(|time| time.hour() >= 6 && *time > now.time()).min();
    match still_to_come {
        Some(time) => day_and_time(Some(Day::FromToday(0)), time, now, mentions),
        None => day_and_time(day, usual, now, mentions),
    }
}

fn at_hour(hour: u32) -> NaiveTime {
    NaiveTime::from_hms_opt(hour, 0, 0).unwrap_or(NaiveTime::MIN)
}

fn day_and_time(day: Option<Day>, time: NaiveTime, now: DateTime<Timezone>, mentions: &Mentions) -> When {
    let still_today = time > now.time();
    let date = match day {
        None => now.date_naive().checked_add_days(Days::new(u64::from(!still_today))),
        Some(day) => date_of(day, now, still_today && (mentions.clock.is_some() || mentions.part.is_some())),
    };
    date.map_or(When::Unclear, |date| future(date.and_time(time), now))
}

/// The date of a day; `today_counts` when today is meant by its own name.
fn date_of(day: Day, now: DateTime<Timezone>, today_counts: bool) -> Option<NaiveDate> {
    let today = now.date_naive();
    let past = |date: NaiveDate| date < today || (date == today && !today_counts);
    match day {
        Day::FromToday(days) => today.checked_add_days(Days::new(days)),
        Day::NextMonth => today.checked_add_months(Months::new(1)),
        Day::Date(date) => Some(date),
        Day::Weekday(weekday) => {
            let ahead = days_until(today.weekday(), weekday);
            let ahead = if ahead == 0 && !today_counts { 7 } else { ahead };
            today.checked_add_days(Days::new(ahead))
        }
        Day::WeekdayOfNextWeek(weekday) => {
            let monday =
                today.checked_add_days(Days::new(7 - u64::from(today.weekday().num_days_from_monday())))?;
            monday.checked_add_days(Days::new(u64::from(weekday.num_days_from_monday())))
        }
        Day::Anniversary(month, day) => (today.year()..today.year() + 9)
            .filter_map(|year| NaiveDate::from_ymd_opt(year, month, day))
            .find(|date| !past(*date)),
        Day::OfMonth(day) => (0..3)
            .filter_map(|months| today.with_day(1)?.checked_add_months(Months::new(months))?.with_day(day))
            .find(|date| !past(*date)),
    }
}

fn days_until(from: Weekday, to: Weekday) -> u64 {
    u64::from((to.num_days_from_monday() + 7 - from.num_days_from_monday()) % 7)
}

/// The instant of a local time: the earlier one when clocks are set back, the first that exists when forward.
pub(in crate::chat) fn local(naive: NaiveDateTime, zone: Timezone) -> Option<DateTime<Timezone>> {
    (0..8).find_map(|quarter_hours| {
        match zone.from_local_datetime(&(naive + Duration::minutes(15 * quarter_hours))) {
            LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at),
            LocalResult::None => None,
        }
    })
}

fn future(naive: NaiveDateTime, now: DateTime<Timezone>) -> When {
    match local(naive, now.timezone()) {
        None => When::Unclear,
        Some(at) if at <= now => When::Past,
        Some(at) => When::At(at),
    }
}
