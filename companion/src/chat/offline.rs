//! The companion without a model: rules decide which tool to use, and fixed sentences answer.

use celeriac_timezone::Timezone;
use chrono::{DateTime, Duration};
use serde_json::{Value, json};

use super::{
    Reply,
    aside::aside,
    too_long,
    tools::{Action, ToolError, Workbench, iso},
    understand::{Intent, understand},
};

/// Answers a message. `before` is what the user said last, in case this is the answer to a question of ours.
pub(super) async fn answer(bench: &Workbench<'_>, before: Option<&str>) -> Result<Reply, ToolError> {
    let now = bench.now;
    let (message, before) = (bench.message.to_owned(), before.map(str::to_owned));
    let understood =
        aside(move || with_question(understand(&message, now), &message, before.as_deref(), now)).await;
    let Some(intent) = understood else { return Ok(too_long()) };
    match intent {
        Intent::Remind { text, at, repeating } => {
            let arguments = json!({ "text": text, "run_ts": iso(at) });
            let action = bench.call("schedule_reminder", arguments).await?;
            let once = if repeating {
                " I can't repeat reminders yet, so this is for the first time only."
            } else {
                ""
            };
            Ok(done(format!("Okay, I'll remind you to {text} {}.{once}", spoken(at, now)), action))
        }
        Intent::RemindWhen { text } if text.is_empty() => Ok(said(
            "What should I remind you of, and when? For example: \"Remind me to stretch in 20 minutes\".",
        )),
        Intent::RemindWhen { text } => Ok(said(format!(
            "When should I remind you to {text}? For example \"in 20 minutes\", \"tomorrow at 9\" or \"on Friday at 17:30\"."
        ))),
        Intent::RemindInThePast { text } => {
            Ok(said(format!("That time has already gone by. When should I remind you to {text}?")))
        }
        Intent::RemindOfWhat => Ok(said("What should I remind you of?")),
        Intent::Remember { kind, text } => {
            let action = bench.call("save_memory", json!({ "type": kind, "text": text })).await?;
            Ok(done(format!("Noted: {text}."), action))
        }
        Intent::AddTask { title, due } => {
            let action = bench.call("add_task", json!({ "title": title, "due_ts": due.map(iso) })).await?;
            let by = due.map(|due| format!(", due {}", spoken(due, now))).unwrap_or_default();
            Ok(done(format!("Added to your tasks: {title}{by}."), action))
        }
        Intent::Agenda { from, to } => {
            let action = bench.call("get_agenda", json!({ "from": iso(from), "to": iso(to) })).await?;
            Ok(done(agenda(&action.result, now), action))
        }
        Intent::Greeting => Ok(said("Hello! What would you like to get done? I can remind you of things.")),
        Intent::Thanks => Ok(said("You're welcome!")),
        Intent::OnlyTime => {
            Ok(said("What should I do at that time? For example: \"Remind me to call Sam tomorrow at 9\"."))
        }
        Intent::Other => Ok(said(
            "I'm here to help you to keep your word to yourself. You can say \"Remind me to drink water in 20 minutes\", \
             \"Remember that I like tea\", \"Add a task to file the report by Friday\" or \"What's on my agenda today?\".",
        )),
    }
}

/// "In 10 minutes" answers the question that "Remind me to stretch" was met with.
fn with_question(intent: Intent, message: &str, before: Option<&str>, now: DateTime<Timezone>) -> Intent {
    let (Intent::OnlyTime, Some(before)) = (&intent, before) else { return intent };
    match understand(before, now) {
        Intent::RemindWhen { text } | Intent::RemindInThePast { text } if !text.is_empty() => {
            match understand(&format!("remind me {message} to {text}"), now) {
                answered @ Intent::Remind { .. } => answered,
                _ => intent,
            }
        }
        _ => intent,
    }
}

fn said(text: impl Into<String>) -> Reply {
    Reply { assistant_message: text.into(), actions: Vec::new() }
}

fn done(text: String, action: Action) -> Reply {
    Reply { assistant_message: text, actions: vec![action] }
}

/// "in 20 minutes", "today at 17:30", "on Friday, 3 May at 09:00".
fn spoken(at: DateTime<Timezone>, now: DateTime<Timezone>) -> String {
    let minutes = (at - now + Duration::seconds(30)).num_minutes();
    let days = (at.date_naive() - now.date_naive()).num_days();
    match (minutes, days) {
        (0, _) => "in less than a minute".to_owned(),
        (1, _) => "in 1 minute".to_owned(),
        (2..=59, _) => format!("in {minutes} minutes"),
        (_, 0) => format!("today at {}", at.format("%H:%M")),
        (_, 1) => format!("tomorrow at {}", at.format("%H:%M")),
        _ => format!("on {}", at.format("%A, %-d %B %Y at %H:%M")),
    }
}

fn agenda(result: &Value, now: DateTime<Timezone>) -> String {
    let time = |value: &Value| {
        let at = DateTime::parse_from_rfc3339(value.as_str()?).ok()?;
        Some(spoken(at.with_timezone(&now.timezone()), now))
    };
    let entries = |list: &str, title: &str, at: &str| -> Vec<String> {
        let list = result[list].as_array().map(Vec::as_slice).unwrap_or_default();
        let line = |entry: &Value| {
            let title = entry[title].as_str().unwrap_or_default();
            time(&entry[at]).map_or(format!("- {title}"), |time| format!("- {title}, {time}"))
        };
        list.iter().map(line).collect()
    };
    let lines = [entries("reminders", "text", "run_ts"), entries("tasks", "title", "due_ts")].concat();
    if lines.is_empty() {
        return "There is nothing on your agenda for that time.".to_owned();
    }
    format!("This is on your agenda:\n{}", lines.join("\n"))
}
