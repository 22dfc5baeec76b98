//! The words for numbers, units, days and months, and what they mean.

use chrono::{Month, Weekday};

/// A pattern for a number, in digits or in words.
pub(super) const NUMBER: &str = r"(?:\d+(?:\.\d+)?|an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty[- ]five|forty|fifty|sixty|ninety|half an?|a couple(?: of)?|a few|a quarter(?: of an)?)";
/// A pattern for a number that stands before a unit: only digits may touch it.
pub(super) const COUNT: &str = r"(?:\d+(?:\.\d+)?[\s-]*|(?:half an?|a couple(?: of)?|a few|a quarter(?: of an)?|an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty[- ]five|forty|fifty|sixty|ninety)[\s-]+)";
/// A pattern for a unit of time.
pub(super) const UNIT: &str = r"(?:seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|w|months?)";
/// A pattern for the full name of a weekday.
pub(super) const WEEKDAY: &str = r"(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday)";
/// A pattern for a short name of a weekday.
pub(super) const WEEKDAY_SHORT: &str = r"(?:mon|tues?|wed|thurs?|thu|fri|sat|sun)";
/// A pattern for the name of a month.
pub(super) const MONTH: &str = r"(?:january|jan|february|feb|march|mar|april|apr|may|june|jun|july|jul|august|aug|september|sept?|october|oct|november|nov|december|dec)";
/// A pattern for a part of the day.
pub(super) const DAY_PART: &str = r"(?:morning|afternoon|evening|night)";

/// The value of a text that matches [`NUMBER`] or [`COUNT`].
pub(super) fn number(text: &str) -> Option<f64> {
    let text = text.trim_end_matches([' ', '-']);
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    Some(match text {
        "a" | "an" | "one" => 1.0,
        "two" | "a couple" | "a couple of" => 2.0,
        "three" => 3.0,
        "four" => 4.0,
        "five" | "a few" => 5.0,
        "six" => 6.0,
        "seven" => 7.0,
        "eight" => 8.0,
        "nine" => 9.0,
        "ten" => 10.0,
        "eleven" => 11.0,
        "twelve" => 12.0,
        "fifteen" => 15.0,
        "twenty" => 20.0,
        "thirty" => 30.0,
        "forty" => 40.0,
        "forty-five" | "forty five" => 45.0,
        "fifty" => 50.0,
        "sixty" => 60.0,
        "ninety" => 90.0,
        "half a" | "half an" => 0.5,
        "a quarter" | "a quarter of an" => 0.25,
        _ => return None,
    })
}

/// What a unit is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Unit {
    Seconds(f64),
    Days(f64),
    Months,
}

/// The meaning of a text that matches [`UNIT`].
pub(super) fn unit(text: &str) -> Unit {
    match text {
        text if text.starts_with("mo") => Unit::Months,
        text if text.starts_with('s') => Unit::Seconds(1.0),
        text if text.starts_with('m') => Unit::Seconds(60.0),
        text if text.starts_with('h') => Unit::Seconds(3600.0),
        text if text.starts_with('d') => Unit::Days(1.0),
        _ => Unit::Days(7.0),
    }
}

/// The meaning of a text that matches [`WEEKDAY`] or [`WEEKDAY_SHORT`].
pub(super) fn weekday(text: &str) -> Option<Weekday> {
    Some(match text.get(..3)? {
        "mon" => Weekday::Mon,
        "tue" => Weekday::Tue,
        "wed" => Weekday::Wed,
        "thu" => Weekday::Thu,
        "fri" => Weekday::Fri,
        "sat" => Weekday::Sat,
        "sun" => Weekday::Sun,
        _ => return None,
    })
}

/// The number of the month of a text that matches [`MONTH`].
pub(super) fn month(text: &str) -> Option<u32> {
    let short = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let index = short.iter().position(|name| text.starts_with(name))?;
    Month::try_from(u8::try_from(index).ok()? + 1).ok().map(|month| month.number_from_month())
}

/// The hour of a text of digits or of a word from one to twelve.
pub(super) fn hour(text: &str) -> Option<u32> {
    let value = number(text)?;
    (value.fract() == 0.0 && (0.0..=24.0).contains(&value)).then_some(value as u32)
}
