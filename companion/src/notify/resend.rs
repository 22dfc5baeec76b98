use reqwest::Client;
use serde_json::json;

use super::{ChannelError, Notification, exchange};
use crate::settings::ResendSettings;

pub(super) const NAME: &str = "resend";

/// E-mail through Resend's HTTP interface (`POST /emails`).
pub(super) struct Resend {
    settings: ResendSettings,
    client: Client,
}

impl Resend {
    pub(super) fn new(settings: &ResendSettings, client: Client) -> Self {
        Self { settings: settings.clone(), client }
    }

    pub(super) async fn send(&self, notification: &Notification) -> Result<(), ChannelError> {
        let request = self
            .client
            .post(format!("{}/emails", self.settings.base_url))
            .bearer_auth(self.settings.api_key.expose())
            .header("Idempotency-Key", format!("reminder-{}", notification.reminder_id))
            .json(&json!({
                "from": self.settings.from_email,
                "to": [notification.email],
                "subject": format!("Reminder: {}", one_line(&notification.text)),
                "text": format!("{}\n\nYou asked to be reminded at {}.", notification.text, notification.due),
            }));
        exchange(NAME, request).await.map(drop)
    }
}

fn one_line(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(120).collect()
}
