//! What the companion can do for a user, whoever decides to do it: the rules or the model.

use celeriac_timezone::Timezone;
use chrono::{DateTime, Duration, NaiveDateTime, SecondsFormat, SubsecRound, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{ids::Ids, understand};
use crate::{
    Companion,
    notify::UNREACHABLE,
    reminders,
    store::{MemoryType, NewReminder, StoreError, User},
};

/// One use of a tool, as clients see it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Action {
    /// Name of the tool.
    pub tool: String,
    /// What it was called with.
    pub arguments: Value,
    /// What it answered.
    pub result: Value,
}

/// Why a tool did not do its work.
#[derive(Debug, thiserror::Error)]
pub(super) enum ToolError {
    /// The caller must call it differently.
    #[error("{0}")]
    Arguments(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// For whom and in whose words a tool is used.
pub(super) struct Workbench<'a> {
    pub(super) companion: &'a Companion,
    pub(super) user: &'a User,
    pub(super) message: &'a str,
    pub(super) correlation_id: &'a str,
    /// The time at which the message was said.
    pub(super) now: DateTime<Timezone>,
    pub(super) ids: Ids<'a>,
}

#[derive(Deserialize)]
struct ScheduleReminder {
    text: String,
    run_ts: String,
}

#[derive(Deserialize)]
struct SaveMemory {
    #[serde(rename = "type", default = "note")]
    kind: MemoryType,
    text: String,
}

#[derive(Deserialize)]
struct AddTask {
    title: String,
    due_ts: Option<String>,
}

#[derive(Deserialize)]
struct GetAgenda {
    from: String,
    to: String,
}

fn note() -> MemoryType {
    MemoryType::Note
}

impl Workbench<'_> {
    /// Uses a tool by its name.
    pub(super) async fn call(&self, tool: &str, arguments: Value) -> Result<Action, ToolError> {
        let result = match tool {
            "schedule_reminder" => self.schedule_reminder(parsed(&arguments)?).await?,
            "save_memory" => self.save_memory(parsed(&arguments)?).await?,
            "add_task" => self.add_task(parsed(&arguments)?).await?,
            "get_agenda" => self.get_agenda(parsed(&arguments)?).await?,
            other => return Err(ToolError::Arguments(format!("there is no tool {other:?}"))),
        };
        Ok(Action { tool: tool.to_owned(), arguments, result })
    }

    async fn schedule_reminder(&self, call: ScheduleReminder) -> Result<Value, ToolError> {
        let new = self.ids.next("reminder");
        if new.may_be_taken
            && let Some(made) = self.companion.store.reminder(new.id).await?
        {
            return Ok(self.scheduled(new.id, &made.text, self.local(made.run_ts)));
        }
        let at = self.instant(&call.run_ts)?;
        if at <= self.now - Duration::minutes(1) {
            return Err(ToolError::Arguments(format!("run_ts {} has gone by", call.run_ts)));
        }
        let text = required("text", &call.text)?;
        let reminder = NewReminder {
            user_id: self.user.id,
            text: text.clone(),
            due: at.with_timezone(&Utc),
            original_phrase: Some(self.message.to_owned()),
            correlation_id: self.correlation_id.to_owned(),
        };
        reminders::create_as(self.companion, new.id, &reminder).await?;
        Ok(self.scheduled(new.id, &text, iso(at)))
    }

    fn scheduled(&self, id: Uuid, text: &str, run_ts: String) -> Value {
        let mut result = json!({ "id": id, "text": text, "run_ts": run_ts });
        if !self.companion.reaches(self.user) {
            result["warning"] = UNREACHABLE.into();
        }
        result
    }

    async fn save_memory(&self, call: SaveMemory) -> Result<Value, ToolError> {
        let (new, store) = (self.ids.next("memory"), &self.companion.store);
        if new.may_be_taken
            && let Some((kind, text)) = store.memory(new.id, self.user.id).await?
        {
            return Ok(json!({ "id": new.id, "type": kind, "text": text }));
        }
        let text = required("text", &call.text)?;
        store.insert_memory(new.id, self.user.id, call.kind, &text).await?;
        Ok(json!({ "id": new.id, "type": call.kind, "text": text }))
    }

    async fn add_task(&self, call: AddTask) -> Result<Value, ToolError> {
        let (new, store) = (self.ids.next("task"), &self.companion.store);
        if new.may_be_taken
            && let Some(task) = store.task(new.id, self.user.id).await?
        {
            let due = task.due_ts.map(|due| self.local(due));
            return Ok(json!({ "id": new.id, "title": task.title, "due_ts": due }));
        }
        let due = call.due_ts.as_deref().map(|due| self.instant(due)).transpose()?;
        let title = required("title", &call.title)?;
        store.insert_task(new.id, self.user.id, &title, due.map(|due| due.with_timezone(&Utc))).await?;
        Ok(json!({ "id": new.id, "title": title, "due_ts": due.map(iso) }))
    }

    async fn get_agenda(&self, call: GetAgenda) -> Result<Value, ToolError> {
        let (from, to) = (self.instant(&call.from)?.to_utc(), self.instant(&call.to)?.to_utc());
        let store = &self.companion.store;
        let reminders = store.reminders_due_between(self.user.id, from, to).await?;
        let tasks = store.pending_tasks(self.user.id, to).await?;
        let reminders: Vec<Value> = reminders
            .iter()
            .map(|reminder| json!({ "id": reminder.id, "text": reminder.text, "run_ts": self.local(reminder.utc_ts) }))
            .collect();
        let tasks: Vec<Value> = tasks
            .iter()
            .map(|task| json!({ "id": task.id, "title": task.title, "due_ts": task.due_ts.map(|due| self.local(due)) }))
            .collect();
        Ok(json!({ "reminders": reminders, "tasks": tasks }))
    }

    /// ISO 8601 in the user's zone.
    fn local(&self, at: DateTime<Utc>) -> String {
        iso(at.with_timezone(&self.companion.settings.tz))
    }

    /// ISO 8601 with an offset, or without one in the user's zone.
    fn instant(&self, text: &str) -> Result<DateTime<Timezone>, ToolError> {
        let zone = self.companion.settings.tz;
        if let Ok(at) = DateTime::parse_from_rfc3339(text) {
            return Ok(at.with_timezone(&zone).trunc_subsecs(6));
        }
        let naive = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"]
            .iter()
            .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
        naive.and_then(|naive| understand::local(naive, zone)).ok_or_else(|| {
            ToolError::Arguments(format!(
                "{text:?} is not a time; expected ISO 8601 such as 2030-01-31T18:00:00+01:00"
            ))
        })
    }
}

/// ISO 8601 with the offset of the zone.
pub(super) fn iso(at: DateTime<Timezone>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, false)
}

/// The tools as an OpenAI-compatible model is told of them.
pub(super) fn descriptions() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let tool = |name: &str, description: &str, properties: Value, required: Value| {
        json!({ "type": "function", "function": {
            "name": name, "description": description,
            "parameters": { "type": "object", "properties": properties, "required": required },
        } })
    };
    let iso = "ISO 8601 with offset";
    let kinds = ["note", "goal", "habit", "preference", "contact"];
    json!([
        tool(
            "schedule_reminder",
            "Remind the user of something at a time in the future.",
            json!({ "text": text("What to be reminded of, in the user's words"), "run_ts": text(iso) }),
            json!(["text", "run_ts"]),
        ),
        tool(
            "save_memory",
            "Remember something about the user.",
            json!({ "type": { "type": "string", "enum": kinds }, "text": text("What to remember") }),
            json!(["type", "text"]),
        ),
        tool(
            "add_task",
            "Put a task on the user's list.",
            json!({ "title": text("What is to be done"), "due_ts": text(iso) }),
            json!(["title"]),
        ),
        tool(
            "get_agenda",
            "The user's reminders and tasks between two times.",
            json!({ "from": text(iso), "to": text(iso) }),
            json!(["from", "to"]),
        ),
    ])
}

fn parsed<T: for<'de> Deserialize<'de>>(arguments: &Value) -> Result<T, ToolError> {
    serde_json::from_value(arguments.clone()).map_err(|error| ToolError::Arguments(error.to_string()))
}

/// PostgreSQL keeps no NUL characters.
fn required(name: &str, text: &str) -> Result<String, ToolError> {
    let text = text.replace('\0', "").trim().to_owned();
    if text.is_empty() { Err(ToolError::Arguments(format!("{name} is empty"))) } else { Ok(text) }
}

/// The time now in this zone.
pub(super) fn now_in(zone: Timezone) -> DateTime<Timezone> {
    Utc::now().trunc_subsecs(6).with_timezone(&zone)
}
