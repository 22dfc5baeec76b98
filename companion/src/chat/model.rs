//! The companion with a model: an OpenAI-compatible server that may use the tools.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::{
    Reply,
    tools::{self, ToolError, Workbench, iso},
};
use crate::{
    settings::OpenAiSettings,
    store::{Persona, StoreError, Turn},
};

/// Why the model gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ModelError {
    #[error("the exchange with the model failed: {0}")]
    Http(#[from] reqwest::Error),
    #[error("the model answered with HTTP status {0}")]
    Status(reqwest::StatusCode),
    #[error("the model gave no answer within {LONGEST:?}")]
    Slow,
    #[error("the model gave no answer within {MAX_ROUNDS} rounds of tool calls")]
    Rounds,
    #[error("the model gave an empty answer")]
    Empty,
    #[error(transparent)]
    Store(#[from] StoreError),
}

const MAX_ROUNDS: usize = 4;
/// The longest that all rounds together may take. An api that stops waits longer.
const LONGEST: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Usage,
}

#[derive(Deserialize)]
struct Choice {
    message: Value,
}

#[derive(Deserialize, Default)]
struct Usage {
    #[serde(default)]
    total_tokens: i64,
}

#[derive(Deserialize)]
struct ToolCall {
    id: String,
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    arguments: String,
}

/// Answers a message, and says how many tokens it took. When an error follows a tool's use, what the tool did stands,
/// so the answer is then made of that rather than given up.
pub(super) async fn answer(
    bench: &Workbench<'_>,
    client: &reqwest::Client,
    settings: &OpenAiSettings,
    persona: &Persona,
    history: &[Turn],
) -> Result<(Reply, i64), ModelError> {
    let zone = bench.companion.settings.tz;
    let system =
        format!("{}\nIt is {} in the user's time zone {zone}.", persona.system_prompt, iso(bench.now));
    let mut messages = vec![json!({ "role": "system", "content": system })];
    messages.extend(history.iter().map(|turn| json!({ "role": turn.role, "content": turn.content })));
    messages.push(json!({ "role": "user", "content": bench.message }));
    let mut actions = Vec::new();
    let mut tokens = 0;
    let deadline = Instant::now() + LONGEST;
    for _ in 0..MAX_ROUNDS {
        let completed = timeout_at(deadline, complete(client, settings, &messages)).await;
        let completion = match completed.unwrap_or(Err(ModelError::Slow)) {
            Ok(completion) => completion,
            Err(error) if actions.is_empty() => return Err(error),
            Err(error) => {
                log::warn!(error:% = error; "The model failed after its tools had been used");
                break;
            }
        };
        tokens += completion.usage.total_tokens;
        let message = completion.choices.into_iter().next().ok_or(ModelError::Empty)?.message;
        let calls: Vec<ToolCall> = serde_json::from_value(message["tool_calls"].clone()).unwrap_or_default();
        if calls.is_empty() {
            let text = message["content"].as_str().map(str::trim).unwrap_or_default().to_owned();
            if text.is_empty() && actions.is_empty() {
                return Err(ModelError::Empty);
            }
            let assistant_message = if text.is_empty() { "Done.".to_owned() } else { text };
            return Ok((Reply { assistant_message, actions }, tokens));
        }
        messages.push(message);
        for call in calls {
            let arguments = serde_json::from_str(&call.function.arguments).unwrap_or(Value::Null);
            let content = match bench.call(&call.function.name, arguments).await {
                Ok(action) => {
                    let content = action.result.to_string();
                    actions.push(action);
                    content
                }
                Err(ToolError::Arguments(problem)) => json!({ "error": problem }).to_string(),
                Err(ToolError::Store(error)) => return Err(error.into()),
            };
            messages.push(json!({ "role": "tool", "tool_call_id": call.id, "content": content }));
        }
    }
    if actions.is_empty() {
        return Err(ModelError::Rounds);
    }
    Ok((Reply { assistant_message: "Done.".to_owned(), actions }, tokens))
}

async fn complete(
    client: &reqwest::Client,
    settings: &OpenAiSettings,
    messages: &[Value],
) -> Result<Completion, ModelError> {
    let answer = client
        .post(format!("{}/chat/completions", settings.base_url))
        .bearer_auth(settings.api_key.expose())
        .json(&json!({ "model": settings.model, "messages": messages, "tools": tools::descriptions() }))
        .send()
        .await
        .map_err(reqwest::Error::without_url)?;
    if !answer.status().is_success() {
        return Err(ModelError::Status(answer.status()));
    }
    Ok(answer.json().await.map_err(reqwest::Error::without_url)?)
}
