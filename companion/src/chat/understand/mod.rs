//! What a message wants, understood by rules alone, so that the companion works without any model.
//!
//! The words that are understood are listed in `docs/chat-phrases.md`; the table in `tests/phrases.rs` proves them.

mod scan;
mod when;
mod words;

use std::sync::LazyLock;

use celeriac_timezone::Timezone;
use chrono::{DateTime, Days, NaiveTime};
use regex::Regex;

use crate::store::MemoryType;
pub(super) use when::local;
use when::{Timed, When};

/// What a message wants.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Intent {
    /// To be reminded.
    Remind {
        /// Of what.
        text: String,
        /// When.
        at: DateTime<Timezone>,
        /// Whether it should happen again and again.
        repeating: bool,
    },
    /// To be reminded at a time that was not said, or not clearly.
    RemindWhen {
        /// Of what; empty when that was not said either.
        text: String,
    },
    /// To be reminded at a time that has gone by.
    RemindInThePast {
        /// Of what.
        text: String,
    },
    /// To be reminded of something that was not said.
    RemindOfWhat,
    /// That something is remembered.
    Remember {
        /// What kind of thing.
        kind: MemoryType,
        /// What.
        text: String,
    },
    /// A new entry on the task list.
    AddTask {
        /// What is to be done.
        title: String,
        /// By when.
        due: Option<DateTime<Timezone>>,
    },
    /// What is ahead.
    Agenda {
        /// From when.
        from: DateTime<Timezone>,
        /// Until when, exclusive.
        to: DateTime<Timezone>,
    },
    /// A greeting.
    Greeting,
    /// Thanks.
    Thanks,
    /// Only a time, as in an answer to "When?".
    OnlyTime,
    /// Something else.
    Other,
}

/// Understands a message that was written at `now`, in the user's time zone.
pub fn understand(message: &str, now: DateTime<Timezone>) -> Intent {
    let message = one_line(message);
    let lower = message.to_ascii_lowercase();
    if let Some(reminder) = PATTERNS.remind.find(&lower) {
        let otherwise = if reminder.as_str().starts_with("wake") { "wake up" } else { "" };
        return remind(&message[..reminder.start()], &message[reminder.end()..], otherwise, now);
    }
    if let Some(found) = PATTERNS.remember.find(&lower) {
        let text = trimmed(&message[found.end()..]);
        return Intent::Remember { kind: memory_kind(&text), text };
    }
    if let Some(found) = PATTERNS.task.captures(&lower) {
        let text = found.get(1).or_else(|| found.get(2)).map_or("", |text| &message[text.range()]);
        return add_task(text, now);
    }
    if PATTERNS.agenda.is_match(&lower) {
        return agenda(&lower, now);
    }
    if PATTERNS.greeting.is_match(&lower) {
        return Intent::Greeting;
    }
    if PATTERNS.thanks.is_match(&lower) {
        return Intent::Thanks;
    }
    let timed = when::read(&message, now);
    match timed.when {
        When::At(_) | When::Past if without_filler(&timed.rest).is_empty() => Intent::OnlyTime,
        _ => Intent::Other,
    }
}

struct Patterns {
    remind: Regex,
    connector: Regex,
    remember: Regex,
    task: Regex,
    agenda: Regex,
    greeting: Regex,
    thanks: Regex,
    filler: Regex,
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let compile = |pattern: &str| {
        Regex::new(pattern).unwrap_or_else(|error| unreachable!("the patterns are constant: {error}"))
    };
    Patterns {
        remind: compile(
            r"\b(?:remind me(?: again)?|(?:set|create|make|add|schedule)(?: me)? (?:a |another |the )?reminder|(?:i |i'd |we )?need a reminder|(?:don'?t|do not|never) let me forget|ping me|nudge me|notify me|wake me(?: up)?|remember to)\b",
        ),
        connector: compile(r"\b(?:to|that|about|of|for)\b"),
        remember: compile(
            r"^(?:please |hey |can you |could you )*(?:remember(?: that|:| this:?)?|(?:save|take|make) (?:a |this )?(?:note|memory)(?: that| of|:)?|note(?: that|:| to self:?)|keep in mind(?: that|:)?|don'?t forget(?: that|:))\s+",
        ),
        task: compile(
            r"\b(?:add|create|put|make)\b(?: me)?(?: a| an| the| new| this)*\s+(?:task|to-?do|todo item)s?(?: list| item)?\b\s*(?:to|:|called|named|that|-|for)?\s*(.+)$|\b(?:add|put)\s+(.+?)\s+(?:to|on) my (?:tasks?|to-?do|todo)(?: list)?\b",
        ),
        agenda: compile(
            r"\b(?:agenda|schedule|my day look|my week look|my tasks|my reminders|my to-?dos?|to-?do list|(?:what|anything)(?:'s| is| do i have| have i got)?(?: there)? (?:on|planned|scheduled|coming up|due)|what do i have (?:to do|today|tomorrow|this|next|on))\b",
        ),
        greeting: compile(
            r"^(?:hi|hello|hey|good (?:morning|afternoon|evening)|greetings|yo)\b[^a-z]*(?:there|coach|friend)?[^a-z]*$",
        ),
        thanks: compile(
            r"^(?:ok(?:ay)?,? )?(?:many )?(?:thanks|thank you|thx|cheers|great|perfect|awesome)\b.{0,20}$",
        ),
        filler: compile(
            r"^(?:[\s,.;:!?-]+|(?:please|can you|could you|would you|will you|hey|hi|hello|coach|ok|okay|and|also|then|i want you to|i need you to|you to|just|again|at|on|in|by|for|around|to|that|about|of|me)\b)+|(?:[\s,.;:!?-]+|\b(?:please|thanks|thank you|ok|okay|at|on|in|by|for|around|from|and))+$",
        ),
    }
});

/// So many words such as "to" may stand before the one that begins what to be reminded of.
const MOST_CONNECTORS: usize = 8;

/// "BEFORE remind me AFTER": the time may stand in front, between "me" and "to", or at the end.
fn remind(before: &str, after: &str, otherwise: &str, now: DateTime<Timezone>) -> Intent {
    let lower_after = after.to_ascii_lowercase();
    let whole = when::read(after, now);
    let within_time = |at: usize| whole.spans.iter().any(|span| span.contains(&at));
    let connectors = PATTERNS.connector.find_iter(&lower_after).filter(|found| !within_time(found.start()));
    for connector in connectors.take(MOST_CONNECTORS) {
        let between = when::read(&after[..connector.start()], now);
        if !without_filler(&between.rest).is_empty() {
            break;
        }
        if between.when != When::Unsaid {
            return reminder(&after[connector.end()..], &between, otherwise);
        }
    }
    let in_front = when::read(before, now);
    if !matches!(in_front.when, When::Unsaid) && without_filler(&in_front.rest).is_empty() {
        return reminder(after, &in_front, otherwise);
    }
    reminder(&whole.rest, &whole, otherwise)
}

fn reminder(text: &str, timed: &Timed, otherwise: &str) -> Intent {
    let text = match without_filler(text) {
        text if text.is_empty() => otherwise.to_owned(),
        text => text,
    };
    match timed.when {
        When::At(_) if text.is_empty() => Intent::RemindOfWhat,
        When::At(at) => Intent::Remind { text, at, repeating: timed.repeating },
        When::Past => Intent::RemindInThePast { text },
        When::Unsaid | When::Unclear => Intent::RemindWhen { text },
    }
}

fn add_task(text: &str, now: DateTime<Timezone>) -> Intent {
    let timed = when::read(text, now);
    let due = match timed.when {
        When::At(at) => Some(at),
        When::Unsaid | When::Unclear | When::Past => None,
    };
    let title = without_filler(if due.is_some() { &timed.rest } else { text });
    if title.is_empty() { Intent::Other } else { Intent::AddTask { title, due } }
}

fn agenda(lower: &str, now: DateTime<Timezone>) -> Intent {
    let midnight = |days: u64| {
        let date = now.date_naive().checked_add_days(Days::new(days))?;
        when::local(date.and_time(NaiveTime::MIN), now.timezone())
    };
    let span = |from: u64, to: u64| match (midnight(from), midnight(to)) {
        (Some(from), Some(to)) => Intent::Agenda { from, to },
        _ => Intent::Other,
    };
    if lower.contains("week") {
        return span(0, 7);
    }
    match when::read(lower, now).when {
        When::At(at) if at.date_naive() != now.date_naive() => {
            let days = (at.date_naive() - now.date_naive()).num_days().unsigned_abs();
            span(days, days + 1)
        }
        _ if lower.contains("today") || lower.contains("agenda") || lower.contains("day look") => span(0, 1),
        _ => span(0, 7),
    }
}

fn memory_kind(text: &str) -> MemoryType {
    let lower = text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    match () {
        () if says(&["goal", "i want to ", "i'm aiming", "my aim"]) => MemoryType::Goal,
        () if says(&["i like", "i love", "i prefer", "i hate", "i don't like", "favorite", "favourite"]) => {
            MemoryType::Preference
        }
        () if says(&["every day", "every morning", "every week", "habit", "usually"]) => MemoryType::Habit,
        () if says(&["phone number", "email is", "@", "lives at", "birthday"]) => MemoryType::Contact,
        () => MemoryType::Note,
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn trimmed(text: &str) -> String {
    text.trim_matches(|character: char| character.is_whitespace() || ",.;:!?".contains(character)).to_owned()
}

/// The text without politeness and dangling small words at either end.
fn without_filler(text: &str) -> String {
    let mut text = one_line(text);
    loop {
        let lower = text.to_ascii_lowercase();
        let mut kept = 0..text.len();
        for filler in PATTERNS.filler.find_iter(&lower) {
            if filler.start() == 0 {
                kept.start = filler.end();
            } else if filler.end() == text.len() {
                kept.end = filler.start().max(kept.start);
            }
        }
        if kept == (0..text.len()) {
            return text;
        }
        text = text[kept].to_owned();
    }
}
