//! A turn of conversation: safe answers first, then the model where one is configured, else the rules.

mod aside;
mod ids;
mod model;
mod offline;
pub mod personas;
pub mod safety;
mod tools;
mod understand;

use chrono::SubsecRound;
use serde::Serialize;
use serde_json::json;

pub use tools::Action;
pub use understand::{Intent, understand};

use crate::{
    Companion,
    notify::UNREACHABLE,
    store::{Once, Persona, StoreError, Turn, User},
};
use aside::aside;
use ids::Ids;
use tools::{ToolError, Workbench, now_in};

/// What a user says.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Who says it.
    pub user: &'a User,
    /// The words.
    pub message: &'a str,
    /// The persona that should answer; else the one that the user chose last, else `coach`.
    pub persona_key: Option<&'a str>,
    /// Identifies the request in logs and reminders; cut to 64 characters.
    pub correlation_id: &'a str,
    /// Of a request that must not take effect twice. Its answer is kept with the exchange.
    pub once: Option<&'a Once>,
}

/// What the companion answers.
#[derive(Debug, Clone, Serialize)]
pub struct Reply {
    /// The words.
    pub assistant_message: String,
    /// What was done.
    pub actions: Vec<Action>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// There is no such persona.
    #[error("Persona {0:?} not found.")]
    UnknownPersona(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How many earlier exchanges a model is told.
const REMEMBERED_EXCHANGES: i64 = 6;
/// The width of `reminders.correlation_id`.
const CORRELATION_ID_LENGTH: usize = 64;

/// Answers what a user says, and does what is asked for.
///
/// # Errors
/// When the persona is not known or the database is not available. A model that fails is logged, and the rules answer
/// in its place.
pub async fn chat(companion: &Companion, request: Request<'_>) -> Result<Reply, ChatError> {
    let persona = persona(companion, &request).await?;
    // PostgreSQL keeps no NUL characters.
    let message = request.message.replace('\0', "");
    let checked = message.clone();
    let (mut reply, tokens) = match aside(move || safety::check(&checked)).await {
        None => (too_long(), 0),
        Some(Some(subject)) => {
            log::info!(user:% = request.user.id, subject:? = subject; "A message got the safe answer");
            (Reply { assistant_message: subject.answer().to_owned(), actions: Vec::new() }, 0)
        }
        Some(None) => answer(companion, &request, &message, &persona).await?,
    };
    warn_of_silence(&mut reply);
    let turns = [turn("user", &message), turn("assistant", &reply.assistant_message)];
    let tokens = i32::try_from(tokens).unwrap_or(i32::MAX);
    // A reply is plain JSON.
    let answer = request.once.and_then(|once| Some((&once.key, serde_json::to_string(&reply).ok()?)));
    let answer = answer.as_ref().map(|(key, text)| (*key, text.as_str()));
    companion.store.insert_session(request.user.id, &turns, tokens, answer).await?;
    let properties = json!({ "persona": persona.key, "actions": reply.actions.len() });
    companion.store.insert_event(request.user.id, "chat_message", properties).await?;
    Ok(reply)
}

/// Tells a user whom no channel reaches that a reminder will not arrive, whoever wrote the answer.
fn warn_of_silence(reply: &mut Reply) {
    let is_in_vain = |action: &Action| action.result.get("warning").is_some();
    if reply.actions.iter().any(is_in_vain) && !reply.assistant_message.contains(UNREACHABLE) {
        reply.assistant_message = format!("{} {UNREACHABLE}", reply.assistant_message.trim_end());
    }
}

async fn answer(
    companion: &Companion,
    request: &Request<'_>,
    message: &str,
    persona: &Persona,
) -> Result<(Reply, i64), StoreError> {
    let correlation_id = match request.correlation_id.char_indices().nth(CORRELATION_ID_LENGTH) {
        Some((end, _)) => &request.correlation_id[..end],
        None => request.correlation_id,
    };
    let zone = companion.settings.tz;
    // One that is made again means the time at which it was first made.
    let now =
        request.once.map_or_else(|| now_in(zone), |once| once.asked_at.trunc_subsecs(6).with_timezone(&zone));
    let ids = Ids::new(request.once);
    let bench = Workbench { companion, user: request.user, message, correlation_id, now, ids };
    let history = companion.store.last_turns(request.user.id, REMEMBERED_EXCHANGES).await?;
    if let (Some(settings), Some(client)) = (&companion.settings.openai, &companion.http) {
        match model::answer(&bench, client, settings, persona, &history).await {
            Ok(answered) => return Ok(answered),
            Err(model::ModelError::Store(error)) => return Err(error),
            Err(error) => log::warn!(error:% = error; "The model gave no answer, the rules answer instead"),
        }
    }
    let before = history.iter().rev().find(|turn| turn.role == "user").map(|turn| turn.content.as_str());
    match offline::answer(&bench, before).await {
        Ok(reply) => Ok((reply, 0)),
        Err(ToolError::Store(error)) => Err(error),
        Err(ToolError::Arguments(problem)) => {
            let assistant_message = format!("I could not do that: {problem}.");
            Ok((Reply { assistant_message, actions: Vec::new() }, 0))
        }
    }
}

async fn persona(companion: &Companion, request: &Request<'_>) -> Result<Persona, ChatError> {
    let chosen = request.persona_key.or(request.user.current_persona_key.as_deref());
    let key = chosen.unwrap_or(personas::DEFAULT);
    if let Some(persona) = companion.store.persona(key).await? {
        return Ok(persona);
    }
    let built_in = personas::built_in();
    let found = built_in.iter().find(|persona| persona.key == key);
    // Only a persona that the request itself names can be the client's mistake.
    let fallback = || built_in.iter().find(|persona| persona.key == personas::DEFAULT);
    let found = if request.persona_key.is_some() { found } else { found.or_else(fallback) };
    found.cloned().ok_or_else(|| ChatError::UnknownPersona(key.to_owned()))
}

/// The answer to a message that took too long to understand.
fn too_long() -> Reply {
    let assistant_message = "I could not follow that. Please say it again in fewer words.".to_owned();
    Reply { assistant_message, actions: Vec::new() }
}

fn turn(role: &str, content: &str) -> Turn {
    // A model may answer with NUL characters, which PostgreSQL does not keep.
    Turn { role: role.to_owned(), content: content.replace('\0', "") }
}
