//! A message that was given up: why, where and when, with its original bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::message::envelope;

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
    /// The server refuses what is to be stored or sent for it.
    Refused,
}

impl std::fmt::Display for DeadReason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            DeadReason::Malformed => "malformed",
            DeadReason::Unregistered => "unregistered",
            DeadReason::Rejected => "rejected",
            DeadReason::Deliveries => "deliveries",
            DeadReason::Refused => "refused",
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
    /// The message as it was delivered, in base64; empty if it was too large to be kept.
    message: String,
    /// Bytes of a message that was too large to be kept (`celeriac_dead_letter_max_bytes`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub too_large: Option<u64>,
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
            too_large: None,
        }
    }

    /// The message as it was delivered.
    pub fn message(&self) -> Vec<u8> {
        STANDARD.decode(&self.message).unwrap_or_default()
    }

    /// The record without its message, if that takes more than `most` bytes in base64.
    pub(crate) fn within(&self, most: u64) -> Option<Self> {
        let size = self.message.len() as u64;
        let too_large = Some(size / 4 * 3);
        (size > most).then(|| Self { message: String::new(), too_large, ..self.clone() })
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

    /// The record as it stands in the list.
    pub(crate) fn encode(&self) -> Vec<u8> {
        // Texts and numbers always have a form in JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
