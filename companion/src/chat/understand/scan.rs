//! Finds the words of a text that speak of time, without asking yet which instant they mean.

use std::{ops::Range, sync::LazyLock};

use chrono::{NaiveDate, Weekday};
use regex::{Captures, Regex};

use super::words::{self, COUNT, DAY_PART, MONTH, NUMBER, UNIT, Unit, WEEKDAY, WEEKDAY_SHORT};

/// What a text says about time.
#[derive(Debug, Default)]
pub(super) struct Mentions {
    pub(super) delays: Vec<(f64, Unit)>,
    pub(super) day: Option<Day>,
    pub(super) clock: Option<Clock>,
    pub(super) part: Option<Part>,
    pub(super) repeating: bool,
    /// Words that speak of time but do not say when: "later", "7/8".
    pub(super) vague: bool,
    /// Where in the text all this stands.
    pub(super) spans: Vec<Range<usize>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Day {
    /// So many days from today.
    FromToday(u64),
    Weekday(Weekday),
    WeekdayOfNextWeek(Weekday),
    NextMonth,
    Date(NaiveDate),
    /// Month and day of this year or the next.
    Anniversary(u32, u32),
    /// A day of this month or the next.
    OfMonth(u32),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Clock {
    pub(super) hour: u32,
    pub(super) minute: u32,
    /// Whether the half of the day is left open, as in "at 5".
    pub(super) open: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Part {
    Morning,
    Afternoon,
    EndOfDay,
    Evening,
    Tonight,
}

type Take = fn(&mut Mentions, &Captures<'_>) -> Option<()>;

struct Rule {
    pattern: Regex,
    take: Take,
}

/// The bytes at either end of a long text in which words of time are looked for: a time stands at the beginning or at
/// the end of what people say.
const READ_AT_EITHER_END: usize = 500;

/// Reads a text in lower case. Where several expressions of one kind are found, the last one counts, since people put
/// the time of a reminder at its end.
pub(super) fn scan(text: &str) -> Mentions {
    let mut mentions = Mentions::default();
    for part in ends(text) {
        for rule in RULES.iter() {
            for captures in rule.pattern.captures_iter(&text[part.clone()]) {
                let Some(found) = captures.get(0) else { continue };
                let found = part.start + found.start()..part.start + found.end();
                let overlaps =
                    mentions.spans.iter().any(|span| span.start < found.end && found.start < span.end);
                // "monday's meeting" is a name and not a time.
                let possessive = text[found.end..].starts_with(['\'', '’', '-', '%', '$', '€']);
                if !overlaps && !possessive && (rule.take)(&mut mentions, &captures).is_some() {
                    mentions.spans.push(found);
                }
            }
        }
    }
    mentions.spans.sort_by_key(|span| span.start);
    mentions
}

/// The parts of a text that are read: all of it, or both ends of a long one, cut between words where there are any.
fn ends(text: &str) -> [Range<usize>; 2] {
    if text.len() <= 2 * READ_AT_EITHER_END {
        return [0..text.len(), text.len()..text.len()];
    }
    let head = text.floor_char_boundary(READ_AT_EITHER_END);
    let tail = text.ceil_char_boundary(text.len() - READ_AT_EITHER_END);
    let head = text[..head].rfind(' ').unwrap_or(head);
    let tail = text[tail..].find(' ').map_or(tail, |space| tail + space);
    [0..head, tail..text.len()]
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let more = format!(r"(?:(?:,|,? and)?\s*{COUNT}{UNIT}\b|\d{{1,2}}\b)?(?: and a half)?");
    let rules: [(String, Take); 24] = [
        (
            r"\b(?:in|after) (?:a bit|a while|a moment|some time)\b|\b(?:later|sometime|soon|someday)\b"
                .into(),
            |found, _| {
                found.vague = true;
                Some(())
            },
        ),
        (format!(r"\b(?:in|after|within)\s+(?:about\s+|around\s+)?({COUNT})({UNIT})\b({more})"), delay),
        (r"\bin\s+(\d+)(h)(\d{1,2})(?:m|min)?\b".into(), hours_and_minutes),
        (r"\bin\s+(\d+)(m)()\b".into(), delay),
        (format!(r"\b({COUNT})({UNIT})\b({more}) from now\b"), delay),
        (
            r"\b(\d{4})-(\d{2})-(\d{2})(?:t|\s+(?:at\s+)?)(\d{1,2}):(\d{2})(?::\d{2}(?:\.\d+)?)?\b".into(),
            date_and_clock,
        ),
        (r"\b(?:on\s+)?(\d{4})-(\d{1,2})-(\d{1,2})\b".into(), |found, words| {
            date(found, at(words, 1)?, at(words, 2)?, at(words, 3)?)
        }),
        (r"\b(?:on\s+)?(\d{1,2})\.(\d{1,2})\.(\d{4})\b".into(), |found, words| {
            date(found, at(words, 3)?, at(words, 2)?, at(words, 1)?)
        }),
        (r"\b(?:on\s+)(\d{1,2})/(\d{1,2})(?:/(\d{4}))?\b".into(), slashes),
        (
            format!(
                r"\b(?:on\s+)?(?:the\s+)?(\d{{1,2}})(?:st|nd|rd|th)?(?:\s+of)?\s+({MONTH})\b(?:,?\s+(\d{{4}})\b)?"
            ),
            |found, words| month_and_day(found, words.get(2)?.as_str(), at(words, 1)?, at(words, 3)),
        ),
        (
            format!(r"\b(?:on\s+)?({MONTH})\s+(?:the\s+)?(\d{{1,2}})(?:st|nd|rd|th)?\b(?:,?\s+(\d{{4}})\b)?"),
            |found, words| month_and_day(found, words.get(1)?.as_str(), at(words, 2)?, at(words, 3)),
        ),
        (r"\bon the (\d{1,2})(?:st|nd|rd|th)\b".into(), |found, words| {
            found.day = Some(Day::OfMonth(at(words, 1).filter(|day| (1..=31).contains(day))?));
            Some(())
        }),
        (r"\b(?:every|each)\s+(?:single\s+|other\s+)?(\w+)\b|\b(daily)\b|\b(weekly)\b".into(), every),
        (format!(r"\bthe day after tomorrow(?:\s+(?:in the\s+)?({DAY_PART}))?\b"), |found, words| {
            day(found, Day::FromToday(2), words.get(1).map(|part| part.as_str()))
        }),
        (
            format!(r"\b(?:tomorrow|tomorow|tommorow|tmrw)(?:\s+(?:in the\s+)?({DAY_PART}))?\b"),
            |found, words| day(found, Day::FromToday(1), words.get(1).map(|part| part.as_str())),
        ),
        (r"\b(?:tonight|this night)\b".into(), |found, _| {
            found.part = Some(Part::Tonight);
            day(found, Day::FromToday(0), None)
        }),
        (format!(r"\b(?:later\s+)?today\b|\bthis\s+({DAY_PART})\b"), |found, words| {
            day(found, Day::FromToday(0), words.get(1).map(|part| part.as_str()))
        }),
        (
            format!(
                r"\b(?:(?:(on|this|next|coming|by|for)\s+)({WEEKDAY}|{WEEKDAY_SHORT})|()({WEEKDAY}))(?:\s+(?:in the\s+)?({DAY_PART}))?\b"
            ),
            weekday,
        ),
        (r"\bnext (week|month)\b|\b(?:this|on the|at the|the) (weekend)\b".into(), |found, words| {
            let next = words.get(1).map(|word| word.as_str());
            let meant = match next {
                Some("week") => Day::FromToday(7),
                Some(_) => Day::NextMonth,
                None => Day::Weekday(Weekday::Sat),
            };
            day(found, meant, None)
        }),
        (
            r"\b(?:at|by|around|@)?\s*(\d{1,2})(?::|h)(\d{2})(?::\d{2})?(?:\s*(a\.?m\b\.?|p\.?m\b\.?)|\b)"
                .into(),
            clock,
        ),
        (r"(?:\b(?:at|by|around)|@)\s*(\d{1,2})\.?(\d{2})(?:\s*(a\.?m\b\.?|p\.?m\b\.?)|\b)".into(), clock),
        (
            format!(
                r"(?:\b(half|(?:a )?quarter|ten|five|twenty) (past|to)\s+({NUMBER}))(?:\s*(a\.?m\b\.?|p\.?m\b\.?)|\b)"
            ),
            spoken_clock,
        ),
        (
            format!(
                r"(?:(?:\b(?:at|by|around)|@)\s*)?\b({NUMBER})\s*(?:o'?\s?clock\b\s*)?()(a\.?m\b\.?|p\.?m\b\.?|o'?\s?clock\b)|(?:\b(?:at|by|around)\s+|@\s*)({NUMBER})(?:\s+(thirty|fifteen|forty[- ]five))?\b"
            ),
            hour,
        ),
        (
            format!(
                r"\b(?:at\s+|by\s+|around\s+)?(noon|midday|lunch ?time|midnight)\b|\b(?:at\s+(?:the\s+)?|by\s+)?(end of (?:the |my )?day|eod)\b|\b(?:in the|at)\s+({DAY_PART})\b"
            ),
            |found, words| {
                if let Some(word) = words.get(1) {
                    let hour = if word.as_str() == "midnight" { 24 } else { 12 };
                    found.clock = Some(Clock { hour, minute: 0, open: false });
                    return Some(());
                }
                found.part = match words.get(3) {
                    Some(part) => self::part(part.as_str()),
                    None => Some(Part::EndOfDay),
                };
                Some(())
            },
        ),
    ];
    let compile = |(pattern, take): (String, Take)| Rule {
        pattern: Regex::new(&pattern)
            .unwrap_or_else(|error| unreachable!("the patterns are constant: {error}")),
        take,
    };
    rules.into_iter().map(compile).collect()
});

fn at<T: std::str::FromStr>(words: &Captures<'_>, group: usize) -> Option<T> {
    words.get(group)?.as_str().parse().ok()
}

fn part(word: &str) -> Option<Part> {
    Some(match word {
        "morning" => Part::Morning,
        "afternoon" => Part::Afternoon,
        "evening" => Part::Evening,
        "night" => Part::Tonight,
        _ => return None,
    })
}

fn day(found: &mut Mentions, day: Day, part_of_day: Option<&str>) -> Option<()> {
    found.day = Some(day);
    found.part = part_of_day.and_then(part).or(found.part);
    Some(())
}

fn delay(found: &mut Mentions, words: &Captures<'_>) -> Option<()> {
    static MORE: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(&format!(r"^(?:,|,? and)?\s*({COUNT})({UNIT})$")).ok());
    let unit = words::unit(words.get(2)?.as_str());
    let mut delays = vec![(words::number(words.get(1)?.as_str())?, unit)];
    let rest = words.get(3).map_or("", |rest| rest.as_str());
    let (rest, half) = match rest.strip_suffix(" and a half") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    if half {
        delays.push((0.5, unit));
    }
    if let Some(more) = MORE.as_ref().and_then(|more| more.captures(rest)) {
        delays.push((words::number(more.get(1)?.as_str())?, words::unit(more.get(2)?.as_str())));
    }
    found.delays = delays;
    Some(())
}

fn hours_and_minutes(found: &mut Mentions, words: &Captures<'_>) -> Option<()> {
    found.delays = vec![(at(words, 1)?, Unit::Seconds(3600.0)), (at(words, 3)?, Unit::Seconds(60.0))];
    Some(())
}

fn date(found: &mut Mentions, year: i32, month: u32, day: u32) -> Option<()> {
    match NaiveDate::from_ymd_opt(year, month, day) {
        Some(date) => found.day = Some(Day::Date(date)),
        None => found.vague = true,
    }
    Some(())
}

fn date_and_clock(found: &mut Mentions, words: &Captures<'_>) -> Option<()> {
    date(found, at(words, 1)?, at(words, 2)?, at(words, 3)?)?;
    found.clock = Some(Clock { hour: at(words, 4)?, minute: at(words, 5)?, open: false });
    Some(())
}

/// Month first in some countries, day first in others: only a number above 12 tells.
fn slashes(found: &mut Mentions, words: &Captures<'_>) -> Option<()> {
    let (first, second): (u32, u32) = (at(words, 1)?, at(words, 2)?);
    let (month, day) = match (first > 12, second > 12) {
        (false, true) => (first, second),
        (true, false) => (second, first),
        _ => {
            found.vague = true;
            return Some(());
        }
    };
    anniversary(found, month, day, at(words, 3))
}

fn month_and_day(found: &mut Mentions, month: &str, day: u32, year: Option<i32>) -> Option<()> {
    anniversary(found, words::month(month)?, day, year)
}

fn anniversary(found: &mut Mentions, month: u32, day: u32, year: Option<i32>) -> Option<()> {
    if let Some(year) = year {
        return date(found, year, month, day);
    }
    // 2024 is a leap year: the 29th of February is a day as well.
    NaiveDate::from_ymd_opt(2024, month, day)?;
    found.day = Some(Day::Anniversary(month, day));
    Some(())
}

fn every(found: &mut Mentions, words: &Captures<'_>) -> Option<()> {
    let Some(word) = words.get(1).map(|word| word.as_str()) else {
        found.repeating = true;
        return Some(());
    };
    match word {
        "day" | "weekday" | "week" | "month" | "year" => {}
        "hour" => found.delays = vec![(1.0, Unit::Seconds(3600.0))],
        "minute" => found.delays = vec![(1.0, Unit::Seconds(60.0))],
        word => match (part(word), words::weekday(word.trim_end_matches('s'))) {
            (Some(part), _) => found.part = Some(part),
            (None, Some(weekday)) if word.contains("day") || word.len() <= 4 => {
                found.day = Some(Day::Weekday(weekday));
            }
            _ => return None,
        },
    }
    found.repeating = true;
    Some(())
}

fn weekday(found: &mut Mentions, words: &Captures<'_>) -> Option<()> {
    let name = words.get(2).or_else(|| words.get(4))?;
    let weekday = words::weekday(name.as_str())?;
    let next = words.get(1).is_some_and(|word| word.as_str() == "next");
    let meant = if next { Day::WeekdayOfNextWeek(weekday) } else { Day::Weekday(weekday) };
    day(found, meant, words.get(5).map(|part| part.as_str()))
}

fn clock(found: &mut Mentions, words: &Captures<'_>) -> Option<()> {
    let (text, minute) = (words.get(1)?.as_str(), at(words, 2)?);
    let half = words.get(3).map(|half| half.as_str());
    set_clock(found, text.parse().ok()?, minute, half, text.starts_with('0'))
}

fn hour(found: &mut Mentions, words: &Captures<'_>) -> Option<()> {
    let text = words.get(1).or_else(|| words.get(4))?.as_str();
    if text.starts_with("a ") || text == "a" || text == "an" {
        return None;
    }
    let minute = words.get(5).and_then(|word| words::number(&word.as_str().replace(' ', "-"))).unwrap_or(0.0);
    let half = words.get(3).map(|half| half.as_str()).filter(|half| !half.starts_with('o'));
    set_clock(found, words::hour(text)?, minute as u32, half, false)
}

fn spoken_clock(found: &mut Mentions, words: &Captures<'_>) -> Option<()> {
    let minutes = match words.get(1)?.as_str() {
        "half" => 30,
        "five" => 5,
        "ten" => 10,
        "twenty" => 20,
        _ => 15,
    };
    let hour = words::hour(words.get(3)?.as_str())?;
    let (hour, minute) = match words.get(2)?.as_str() {
        "past" => (hour, minutes),
        _ => (if hour == 1 { 12 } else { hour.checked_sub(1)? }, 60 - minutes),
    };
    set_clock(found, hour, minute, words.get(4).map(|half| half.as_str()), false)
}

fn set_clock(found: &mut Mentions, hour: u32, minute: u32, half: Option<&str>, exact: bool) -> Option<()> {
    if hour > 23 || minute > 59 || (half.is_some() && hour > 12) {
        return None;
    }
    let hour_of_day = match half.map(|half| half.starts_with('p')) {
        Some(true) => hour % 12 + 12,
        Some(false) => hour % 12,
        None => hour,
    };
    let open = half.is_none() && !exact && (1..=12).contains(&hour);
    found.clock = Some(Clock { hour: hour_of_day, minute, open });
    Some(())
}
