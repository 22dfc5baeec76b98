use reqwest::Client;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ChannelError, Notification, exchange};
use crate::settings::ExpoSettings;

pub(super) const NAME: &str = "expo";
/// The phone does not take messages under this token any more.
const UNREGISTERED: &str = "DeviceNotRegistered";

/// Push messages through Expo's HTTP interface.
pub(super) struct Expo {
    settings: ExpoSettings,
    client: Client,
}

/// Expo answers 200 with a ticket even for messages that it did not take.
#[derive(Deserialize)]
struct Answer {
    data: Option<Value>,
    errors: Option<Value>,
}

impl Expo {
    pub(super) fn new(settings: &ExpoSettings, client: Client) -> Self {
        Self { settings: settings.clone(), client }
    }

    pub(super) async fn send(&self, notification: &Notification) -> Result<(), ChannelError> {
        let Some(token) = &notification.push_token else {
            return Err(refused("the user has no push token".to_owned()));
        };
        let mut request = self.client.post(&self.settings.push_url).json(&json!({
            "to": token,
            "title": "Reminder",
            "body": notification.text,
            "sound": "default",
            "data": { "reminder_id": notification.reminder_id },
        }));
        if let Some(access_token) = &self.settings.access_token {
            request = request.bearer_auth(access_token.expose());
        }
        judge(&exchange(NAME, request).await?)
    }
}

fn judge(body: &str) -> Result<(), ChannelError> {
    let Ok(answer) = serde_json::from_str::<Answer>(body) else { return Ok(()) };
    if let Some(errors) = answer.errors.filter(|errors| !errors.is_null()) {
        return Err(refused(errors.to_string()));
    }
    let tickets = match answer.data {
        Some(Value::Array(tickets)) => tickets,
        Some(ticket) => vec![ticket],
        None => vec![],
    };
    match tickets.iter().find(|ticket| ticket["status"] == "error") {
        Some(ticket) => {
            let message = ticket["message"].as_str().unwrap_or("no message");
            let code = ticket["details"]["error"].as_str().unwrap_or("no code");
            let reason = format!("{message} ({code})");
            match code {
                UNREGISTERED => Err(ChannelError::Unregistered { channel: NAME, reason }),
                _ => Err(refused(reason)),
            }
        }
        None => Ok(()),
    }
}

fn refused(reason: String) -> ChannelError {
    ChannelError::Refused { channel: NAME, reason }
}
