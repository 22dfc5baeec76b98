//! Which words of time are understood without a model. The clock of these tests stands at Wednesday, 14 January 2026,
//! 10:20 in Berlin.

use celeriac_timezone::Timezone;
use chrono::{DateTime, TimeZone};
use companion::chat::{Intent, understand};

fn berlin() -> Timezone {
    "Europe/Berlin".parse().expect("a time zone")
}

fn now() -> DateTime<Timezone> {
    berlin().with_ymd_and_hms(2026, 1, 14, 10, 20, 0).unwrap()
}

#[track_caller]
fn reminds(table: &[(&str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (message, expected_text, expected_at) in table {
        match understand(message, now()) {
            Intent::Remind { text, at, .. } if text == *expected_text && written(&at) == *expected_at => {}
            Intent::Remind { text, at, .. } => {
                wrong.push(format!(
                    "{message:?}: {text:?} at {} instead of {expected_text:?} at {expected_at}",
                    written(&at)
                ));
            }
            other => {
                wrong.push(format!("{message:?}: {other:?} instead of {expected_text:?} at {expected_at}"))
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn written(at: &DateTime<Timezone>) -> String {
    at.format("%Y-%m-%d %H:%M").to_string()
}

#[test]
fn delays_are_counted_from_now() {
    reminds(&[
        ("Remind me to drink water in 1 minute", "drink water", "2026-01-14 10:21"),
        ("remind me to stretch in 20 minutes.", "stretch", "2026-01-14 10:40"),
        ("Remind me in 2 hours to call Sam", "call Sam", "2026-01-14 12:20"),
        ("In 10 minutes, remind me to check the oven", "check the oven", "2026-01-14 10:30"),
        ("please remind me in an hour to stand up", "stand up", "2026-01-14 11:20"),
        ("remind me to stand up in half an hour", "stand up", "2026-01-14 10:50"),
        ("remind me to stand up in an hour and a half", "stand up", "2026-01-14 11:50"),
        ("remind me to move the car in 1 hour and 30 minutes", "move the car", "2026-01-14 11:50"),
        ("remind me to move the car in 1h30", "move the car", "2026-01-14 11:50"),
        ("remind me to move the car in 1.5 hours", "move the car", "2026-01-14 11:50"),
        ("remind me to breathe in 5 min", "breathe", "2026-01-14 10:25"),
        ("remind me to breathe in 5m", "breathe", "2026-01-14 10:25"),
        ("remind me to breathe 15 minutes from now", "breathe", "2026-01-14 10:35"),
        ("remind me to breathe in fifteen minutes", "breathe", "2026-01-14 10:35"),
        ("remind me to breathe in a couple of hours", "breathe", "2026-01-14 12:20"),
        ("remind me to pay rent in 3 days", "pay rent", "2026-01-17 10:20"),
        ("remind me to pay rent in 3 days at 9am", "pay rent", "2026-01-17 09:00"),
        ("remind me to renew the passport in two weeks", "renew the passport", "2026-01-28 10:20"),
        ("remind me to renew the passport in 2 months", "renew the passport", "2026-03-14 10:20"),
        ("remind me to check in and out in 5 minutes", "check in and out", "2026-01-14 10:25"),
        ("ping me in 30 seconds to blink", "blink", "2026-01-14 10:20"),
        ("Don't let me forget to eat in 2 hours", "eat", "2026-01-14 12:20"),
        ("set a reminder to eat in 2 hours", "eat", "2026-01-14 12:20"),
        ("Set a reminder for 2 hours from now to eat", "eat", "2026-01-14 12:20"),
    ]);
}

#[test]
fn times_on_the_clock_mean_their_next_coming() {
    reminds(&[
        ("remind me to call mom at 5pm", "call mom", "2026-01-14 17:00"),
        ("remind me to call mom at 5 p.m.", "call mom", "2026-01-14 17:00"),
        ("remind me to call mom at 5:30 pm", "call mom", "2026-01-14 17:30"),
        ("remind me at 17:30 to call mom", "call mom", "2026-01-14 17:30"),
        ("remind me to call mom at 5", "call mom", "2026-01-14 17:00"),
        ("remind me to call mom at 11", "call mom", "2026-01-14 11:00"),
        ("remind me to call mom at 9", "call mom", "2026-01-14 21:00"),
        ("remind me to call mom at 9am", "call mom", "2026-01-15 09:00"),
        ("remind me to call mom at 09:00", "call mom", "2026-01-15 09:00"),
        ("remind me to call mom at noon", "call mom", "2026-01-14 12:00"),
        ("remind me to call mom at midnight", "call mom", "2026-01-15 00:00"),
        ("remind me to call mom at half past 3", "call mom", "2026-01-14 15:30"),
        ("remind me to call mom at quarter to six", "call mom", "2026-01-14 17:45"),
        ("remind me to call mom at 6 o'clock", "call mom", "2026-01-14 18:00"),
        ("remind me to call mom at five", "call mom", "2026-01-14 17:00"),
        ("remind me to call mom @ 6pm", "call mom", "2026-01-14 18:00"),
        ("wake me up at 7", "wake up", "2026-01-14 19:00"),
        ("At 6pm remind me to leave", "leave", "2026-01-14 18:00"),
        ("remind me to read chapter 5 at 8pm", "read chapter 5", "2026-01-14 20:00"),
        ("remind me to buy 2 eggs and 3 apples at 6pm", "buy 2 eggs and 3 apples", "2026-01-14 18:00"),
    ]);
}

#[test]
fn days_have_names_and_parts() {
    reminds(&[
        ("remind me to pay rent tomorrow", "pay rent", "2026-01-15 09:00"),
        ("remind me tomorrow at 8:15 to pay rent", "pay rent", "2026-01-15 08:15"),
        ("remind me to pay rent tomorrow at 5", "pay rent", "2026-01-15 17:00"),
        ("remind me to pay rent tomorrow at 8", "pay rent", "2026-01-15 08:00"),
        ("remind me tomorrow morning to pay rent", "pay rent", "2026-01-15 09:00"),
        ("remind me to pay rent tomorrow evening at 8", "pay rent", "2026-01-15 20:00"),
        ("tomorrow at 9 remind me to pay rent", "pay rent", "2026-01-15 09:00"),
        ("remind me to pay rent at 9 tomorrow", "pay rent", "2026-01-15 09:00"),
        ("remind me the day after tomorrow to pay rent", "pay rent", "2026-01-16 09:00"),
        ("remind me tonight to water the plants", "water the plants", "2026-01-14 20:00"),
        ("remind me to water the plants tonight at 9", "water the plants", "2026-01-14 21:00"),
        ("remind me this afternoon to water the plants", "water the plants", "2026-01-14 15:00"),
        ("remind me in the morning to water the plants", "water the plants", "2026-01-15 09:00"),
        ("remind me to water the plants today at 6pm", "water the plants", "2026-01-14 18:00"),
        ("remind me to send the report by end of day", "send the report", "2026-01-14 17:00"),
        ("remind me on Friday to file taxes", "file taxes", "2026-01-16 09:00"),
        ("remind me to file taxes on friday at 17:30", "file taxes", "2026-01-16 17:30"),
        ("remind me to file taxes friday at 3", "file taxes", "2026-01-16 15:00"),
        ("remind me to file taxes on fri at 3pm", "file taxes", "2026-01-16 15:00"),
        ("remind me to file taxes Monday morning", "file taxes", "2026-01-19 09:00"),
        ("remind me next friday at 10 to file taxes", "file taxes", "2026-01-23 10:00"),
        ("remind me to file taxes on Wednesday at 8pm", "file taxes", "2026-01-14 20:00"),
        ("remind me to file taxes on Wednesday", "file taxes", "2026-01-21 09:00"),
        ("remind me next week to file taxes", "file taxes", "2026-01-21 09:00"),
        ("remind me to file taxes this weekend", "file taxes", "2026-01-17 09:00"),
    ]);
}

#[test]
fn dates_are_read_in_the_forms_that_are_not_ambiguous() {
    reminds(&[
        ("remind me on 2026-02-01 to pay rent", "pay rent", "2026-02-01 09:00"),
        ("remind me to pay rent on 2026-02-01 at 14:00", "pay rent", "2026-02-01 14:00"),
        ("remind me to pay rent 2026-02-01T14:05", "pay rent", "2026-02-01 14:05"),
        ("remind me on March 3 to pay rent", "pay rent", "2026-03-03 09:00"),
        ("remind me on the 3rd of March at 10am to pay rent", "pay rent", "2026-03-03 10:00"),
        ("remind me to pay rent on 3 March 2027", "pay rent", "2027-03-03 09:00"),
        ("remind me to pay rent on Jan 10th", "pay rent", "2027-01-10 09:00"),
        ("remind me to pay rent on the 20th", "pay rent", "2026-01-20 09:00"),
        ("remind me to pay rent on the 1st at 8am", "pay rent", "2026-02-01 08:00"),
        ("remind me to pay rent on 01.02.2026", "pay rent", "2026-02-01 09:00"),
        ("remind me to pay rent on 12/25", "pay rent", "2026-12-25 09:00"),
    ]);
}

#[test]
fn what_is_to_be_done_keeps_its_own_words() {
    reminds(&[
        (
            "remind me tomorrow to prepare for the meeting on Friday",
            "prepare for the meeting on Friday",
            "2026-01-15 09:00",
        ),
        ("Remind me to ask about Monday's meeting at 4pm", "ask about Monday's meeting", "2026-01-14 16:00"),
        ("remind me to buy Größe 42 Schuhe in 2 hours", "buy Größe 42 Schuhe", "2026-01-14 12:20"),
        ("Can you remind me to take out the trash at 7pm please?", "take out the trash", "2026-01-14 19:00"),
        (
            "hey coach, could you please remind me about the dentist tomorrow at 3pm",
            "the dentist",
            "2026-01-15 15:00",
        ),
        ("remind me that dinner is ready in 10 minutes", "dinner is ready", "2026-01-14 10:30"),
    ]);
}

#[test]
fn repeated_reminders_are_recognised_as_such() {
    for (message, expected) in [
        ("remind me every day at 8am to take vitamins", "2026-01-15 08:00"),
        ("remind me to take vitamins every morning", "2026-01-15 09:00"),
        ("remind me to take vitamins every monday at 8am", "2026-01-19 08:00"),
        ("remind me to take vitamins daily at 9pm", "2026-01-14 21:00"),
    ] {
        match understand(message, now()) {
            Intent::Remind { text, at, repeating: true } => {
                assert_eq!((text.as_str(), written(&at).as_str()), ("take vitamins", expected), "{message}");
            }
            other => panic!("{message}: {other:?}"),
        }
    }
}

#[test]
fn a_question_is_asked_when_no_time_is_understood() {
    for (message, text) in [
        ("remind me to call Sam", "call Sam"),
        ("remind me to call Sam later", "call Sam"),
        ("remind me to call Sam in a while", "call Sam"),
        ("remind me to call Sam today", "call Sam"),
        ("remind me to call Sam on 7/8", "call Sam"),
        ("remind me to call Sam on 2026-02-30", "call Sam"),
        ("remind me", ""),
    ] {
        assert_eq!(understand(message, now()), Intent::RemindWhen { text: text.into() }, "{message}");
    }
    for message in ["remind me to call Sam today at 9am", "remind me to call Sam on 2025-01-01"] {
        assert_eq!(
            understand(message, now()),
            Intent::RemindInThePast { text: "call Sam".into() },
            "{message}"
        );
    }
    assert_eq!(understand("remind me tomorrow at 9", now()), Intent::RemindOfWhat);
}

#[test]
fn clocks_that_are_set_forward_or_back_give_a_time_that_exists() {
    let before = |month, day| berlin().with_ymd_and_hms(2026, month, day, 10, 0, 0).unwrap();
    for (now, message, expected) in [
        (before(3, 28), "remind me tomorrow at 02:30 to sleep", "2026-03-29T03:00:00+02:00"),
        (before(10, 24), "remind me tomorrow at 02:30 to sleep", "2026-10-25T02:30:00+02:00"),
        (before(3, 28), "remind me to sleep in 1 day", "2026-03-29T10:00:00+02:00"),
    ] {
        match understand(message, now) {
            Intent::Remind { at, .. } => assert_eq!(at.to_rfc3339(), expected),
            other => panic!("{message}: {other:?}"),
        }
    }
}

#[test]
fn memories_tasks_and_the_agenda_are_understood() {
    use companion::store::MemoryType;
    let remember = |kind, text: &str| Intent::Remember { kind, text: text.to_owned() };
    let due = |month, day, hour| Some(berlin().with_ymd_and_hms(2026, month, day, hour, 0, 0).unwrap());
    let task = |title: &str, due| Intent::AddTask { title: title.to_owned(), due };
    let midnight = |day| berlin().with_ymd_and_hms(2026, 1, day, 0, 0, 0).unwrap();
    let agenda = |from, to| Intent::Agenda { from: midnight(from), to: midnight(to) };
    for (message, expected) in [
        ("Remember that I like green tea", remember(MemoryType::Preference, "I like green tea")),
        ("remember my locker is number 12", remember(MemoryType::Note, "my locker is number 12")),
        ("please note that my goal is to run 5 km", remember(MemoryType::Goal, "my goal is to run 5 km")),
        ("add a task to file the report by Friday", task("file the report", due(1, 16, 9))),
        ("add task: buy milk", task("buy milk", None)),
        ("Add buy milk to my to-do list", task("buy milk", None)),
        ("what's on my agenda today?", agenda(14, 15)),
        ("What's on my agenda?", agenda(14, 15)),
        ("what do I have tomorrow?", agenda(15, 16)),
        ("what's on my schedule this week", agenda(14, 21)),
        ("show my reminders", agenda(14, 21)),
        ("Hello!", Intent::Greeting),
        ("thanks!", Intent::Thanks),
        ("in 20 minutes", Intent::OnlyTime),
        ("tomorrow at 9", Intent::OnlyTime),
        ("I feel great about the plan", Intent::Other),
    ] {
        assert_eq!(understand(message, now()), expected, "{message}");
    }
}

#[test]
fn no_text_makes_it_panic() {
    let pieces = [
        "remind me",
        " to ",
        "in",
        " 99999999999999999999 ",
        "years",
        "at ",
        "25:99",
        "ß",
        "İ",
        "\u{0}",
        "on the 31st",
        "1e9 hours",
        "every",
        " tomorrow",
        "12/",
        "'s",
        "2026-13-45",
        "half past 99",
    ];
    for first in pieces {
        for second in pieces {
            let _ = understand(&format!("remind me to {first}{second}"), now());
            let _ = understand(&format!("{first} {second} remind me"), now());
        }
    }
}

#[test]
fn the_time_of_a_long_message_stands_at_either_end() {
    let story = "buy the things on the long list that hangs in the kitchen ".repeat(100);
    let text = story.trim_end();
    reminds(&[
        (&format!("Remind me tomorrow at 9 to {story}"), text, "2026-01-15 09:00"),
        (&format!("Remind me to {story} on Friday at 17:30"), text, "2026-01-16 17:30"),
        (&format!("In 20 minutes, remind me to {story}"), text, "2026-01-14 10:40"),
        (
            &format!("Remind me to ß{} tomorrow", "ü".repeat(2000)),
            &format!("ß{}", "ü".repeat(2000)),
            "2026-01-15 09:00",
        ),
    ]);
}

/// The shortest of several tries, so that other work on the machine does not count.
fn shortest(message: &str) -> std::time::Duration {
    let once = || {
        let start = std::time::Instant::now();
        let _ = understand(message, now());
        start.elapsed()
    };
    (0..3).map(|_| once()).min().unwrap_or_default()
}

#[test]
fn the_time_to_understand_a_message_grows_no_faster_than_the_message() {
    for piece in [
        "to ",
        "in 5 minutes ",
        "at 9 to ",
        "tomorrow, ",
        "remind me ",
        "a ",
        "please ",
        "add a task ",
        "on monday ",
    ] {
        let message = |bytes: usize| format!("remind me {}", piece.repeat(bytes / piece.len()));
        let (short, long) = (shortest(&message(2_000)), shortest(&message(32_000)));
        // Sixteen times as long; a quadratic effort would be 256 times as much.
        let bound = short.max(std::time::Duration::from_millis(2)) * 64;
        assert!(long < bound, "{piece:?}: {short:?} and {long:?}");
    }
}
