//! Messages that were given up: why, where and when, with their original bytes.
//!
//! A list of JSON objects under the key of `celeriac_dead_letter_queue`, the newest first.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use redis::{Cmd, Pipeline, cmd};
use serde::{Deserialize, Serialize};

use super::Link;
use super::script::{eval, texts};
use crate::broker::BrokerError;
use crate::message::envelope;

/// Takes a record out of the list and, if a list is named, puts its message there, to be delivered last.
const TAKE: &str = r"
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
if KEYS[2] then redis.call('LPUSH', KEYS[2], ARGV[2]) end
return 1";

/// Why a message was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeadReason {
    /// It cannot be read.
    Malformed,
    /// No worker here has its task.
    Unregistered,
    /// Its task rejected it (`celeriac_dead_letter_rejected`).
    Rejected,
    /// It was delivered as often as `celeriac_max_deliveries` allows, and its worker died each time.
    Deliveries,
}

impl std::fmt::Display for DeadReason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            DeadReason::Malformed => "malformed",
            DeadReason::Unregistered => "unregistered",
            DeadReason::Rejected => "rejected",
            DeadReason::Deliveries => "deliveries",
        })
    }
}

/// One start of a message that had come back, or the attempt at which it was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Start {
    /// When, ISO 8601.
    pub date: String,
    /// Node name of the worker.
    pub hostname: String,
}

impl Start {
    /// One of now.
    pub(crate) fn now(hostname: &str) -> Self {
        Self { date: chrono::Utc::now().to_rfc3339(), hostname: hostname.to_owned() }
    }
}

/// One message that was given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// By which it is named.
    pub id: String,
    /// Why it was given up.
    pub reason: DeadReason,
    /// The list that it came from.
    pub list: String,
    /// Node name of the worker that gave it up.
    pub hostname: String,
    /// How often it came to its start: the first time, and those of `history`.
    pub deliveries: u32,
    /// When it was given up, ISO 8601.
    pub date: String,
    /// Its starts after the first, which is not recorded: nothing was wrong then.
    #[serde(default)]
    pub history: Vec<Start>,
    /// The message as it was delivered, in base64.
    message: String,
}

impl DeadLetter {
    /// A record of now.
    pub(crate) fn new(
        reason: DeadReason,
        list: String,
        hostname: &str,
        history: Vec<Start>,
        message: &[u8],
    ) -> Self {
        Self {
            id: uuid::Uuid::new_v4().to_string(),
            reason,
            list,
            hostname: hostname.to_owned(),
            deliveries: u32::try_from(history.len()).unwrap_or(u32::MAX).saturating_add(1),
            date: chrono::Utc::now().to_rfc3339(),
            history,
            message: STANDARD.encode(message),
        }
    }

    /// The message as it was delivered.
    pub fn message(&self) -> Vec<u8> {
        STANDARD.decode(&self.message).unwrap_or_default()
    }

    /// The same in base64.
    pub fn message_base64(&self) -> &str {
        &self.message
    }

    /// Id and name of the task, if the message can be read so far.
    pub fn task(&self) -> (Option<String>, Option<String>) {
        match envelope::decode(&self.message()) {
            Ok(message) => (message.headers.id, message.headers.task),
            Err(error) => (error.task_id().map(str::to_owned), error.task_name().map(str::to_owned)),
        }
    }

    /// The command that adds it to a list.
    pub(crate) fn command(&self, key: &str) -> Cmd {
        let mut push = cmd("LPUSH");
        push.arg(key).arg(self.encode());
        push
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // Texts and numbers always have a form in JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The messages that the workers of a broker have given up.
pub struct DeadLetters {
    link: Link,
    key: String,
}

impl DeadLetters {
    /// Those in the list of that name (`celeriac_dead_letter_queue`).
    pub fn new(link: Link, key: String) -> Self {
        Self { link, key }
    }

    /// All of them, the newest first.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn list(&self) -> Result<Vec<DeadLetter>, BrokerError> {
        Ok(self.records().await?.into_iter().map(|(letter, _)| letter).collect())
    }

    /// Puts a message back where it came from, byte by byte as it was delivered; `false` when it is not there.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn requeue(&self, id: &str) -> Result<bool, BrokerError> {
        match self.find(id).await? {
            Some((letter, record)) => self.take(&record, Some((&letter.list, &letter.message()))).await,
            None => Ok(false),
        }
    }

    /// Removes a message for good; `false` when it is not there.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn drop(&self, id: &str) -> Result<bool, BrokerError> {
        match self.find(id).await? {
            Some((_, record)) => self.take(&record, None).await,
            None => Ok(false),
        }
    }

    async fn take(&self, record: &str, to: Option<(&String, &[u8])>) -> Result<bool, BrokerError> {
        let (mut keys, mut arguments) = (vec![&self.key], vec![record.as_bytes()]);
        if let Some((list, message)) = to {
            keys.push(list);
            arguments.push(message);
        }
        let mut pipeline = Pipeline::new();
        pipeline.add_command(eval(TAKE, &keys, &arguments));
        Ok(self.link.call(&mut pipeline).await?[0] == redis::Value::Int(1))
    }

    async fn find(&self, id: &str) -> Result<Option<(DeadLetter, String)>, BrokerError> {
        Ok(self.records().await?.into_iter().find(|(letter, _)| letter.id == id))
    }

    async fn records(&self) -> Result<Vec<(DeadLetter, String)>, BrokerError> {
        let found = self.link.call(Pipeline::new().cmd("LRANGE").arg(&self.key).arg(0).arg(-1)).await?;
        let read = |record: String| Some((serde_json::from_str(&record).ok()?, record));
        Ok(texts(&found[0]).into_iter().filter_map(read).collect())
    }
}
