//! The ways in which a reminder reaches its user.

mod breaker;
mod expo;
mod file;
mod redact;
mod resend;

use std::time::Duration;

use uuid::Uuid;

use crate::{
    Companion,
    settings::Settings,
    store::{Begun, User},
};

/// The longest that a channel takes to deliver or to give up.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(15);

/// A configured channel.
pub struct Channel {
    way: Way,
    breaker: breaker::Breaker,
}

enum Way {
    /// E-mail through Resend.
    Resend(resend::Resend),
    /// A push message through Expo.
    Expo(expo::Expo),
    /// A line in a file, for development.
    File(file::FileChannel),
}

/// What is to be told to whom.
#[derive(Debug, Clone)]
pub struct Notification {
    /// The reminder; also the key under which servers recognise a repetition.
    pub reminder_id: Uuid,
    /// The user's address.
    pub email: String,
    /// The user's phone.
    pub push_token: Option<String>,
    /// What to be reminded of.
    pub text: String,
    /// When it was due, in the user's zone, ISO 8601.
    pub due: String,
}

impl Notification {
    /// What the user is told about a reminder.
    pub fn new(begun: &Begun, zone: celeriac_timezone::Timezone) -> Self {
        let reminder = &begun.reminder;
        Self {
            reminder_id: reminder.id,
            email: begun.email.clone(),
            push_token: begun.push_token.clone().filter(|token| !token.is_empty()),
            text: reminder.text.clone(),
            due: reminder.utc_ts.with_timezone(&zone).to_rfc3339(),
        }
    }
}

/// Why a channel did not deliver.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The server cannot be reached or is not well; nothing was delivered.
    #[error("{channel} is not available: {reason}")]
    Unavailable {
        /// Name of the channel.
        channel: &'static str,
        /// What was seen.
        reason: String,
    },
    /// The server does not want this message; nothing was delivered.
    #[error("{channel} refused the message: {reason}")]
    Refused {
        /// Name of the channel.
        channel: &'static str,
        /// What the server said.
        reason: String,
    },
    /// The user's phone does not take messages under this token any more; nothing was delivered.
    #[error("{channel} does not know the device any more: {reason}")]
    Unregistered {
        /// Name of the channel.
        channel: &'static str,
        /// What the server said.
        reason: String,
    },
    /// The message left, but no answer came: it may have been delivered.
    #[error("{channel} did not answer, the message may have been delivered: {reason}")]
    Unknown {
        /// Name of the channel.
        channel: &'static str,
        /// What was seen.
        reason: String,
    },
}

impl ChannelError {
    /// Whether the same message may be taken later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Unknown { .. } => true,
            Self::Refused { .. } | Self::Unregistered { .. } => false,
        }
    }

    /// Whether the message may have been delivered all the same.
    pub fn may_have_delivered(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    /// Hides what belongs to the user: the reason is logged and kept in `failed_jobs`.
    fn redacted(mut self, notification: &Notification) -> Self {
        let (Self::Unavailable { reason, .. }
        | Self::Refused { reason, .. }
        | Self::Unregistered { reason, .. }
        | Self::Unknown { reason, .. }) = &mut self;
        *reason = redact::redact(reason, notification);
        self
    }
}

impl Channel {
    /// The channels that the settings ask for.
    ///
    /// # Errors
    /// When the HTTP client or the file cannot be made.
    pub fn configured(settings: &Settings) -> Result<Vec<Self>, ChannelError> {
        let mut channels = Vec::new();
        if let Some(resend) = &settings.resend {
            channels.push(Way::Resend(resend::Resend::new(resend, http_client()?)));
        }
        if let Some(expo) = &settings.expo {
            channels.push(Way::Expo(expo::Expo::new(expo, http_client()?)));
        }
        if let Some(path) = &settings.notify_file {
            channels.push(Way::File(file::FileChannel::open(path)?));
        }
        let guarded = |way: Way| Self { breaker: breaker::Breaker::new(way.name()), way };
        Ok(channels.into_iter().map(guarded).collect())
    }

    /// The name in logs and in `reminder_deliveries.channel`.
    pub fn name(&self) -> &'static str {
        self.way.name()
    }

    /// Whether a user with this address and this push token can be reached by it.
    pub fn reaches(&self, email: &str, push_token: Option<&str>) -> bool {
        match self.way {
            Way::Resend(_) => !email.is_empty(),
            Way::Expo(_) => push_token.is_some_and(|token| !token.is_empty()),
            Way::File(_) => true,
        }
    }

    /// Whether this channel reaches people. The file does not: it stands in for the other channels during development,
    /// and beside them it only keeps a copy, which never counts as a delivery.
    pub fn reaches_people(&self) -> bool {
        match self.way {
            Way::Resend(_) | Way::Expo(_) => true,
            Way::File(_) => false,
        }
    }

    /// Whether a repeated message reaches the user only once: Resend honours an idempotency key, and the file channel
    /// looks for the reminder in the file. Expo offers nothing of the kind.
    pub fn recognises_repetition(&self) -> bool {
        match self.way {
            Way::Resend(_) | Way::File(_) => true,
            Way::Expo(_) => false,
        }
    }

    /// Delivers within [`SEND_TIMEOUT`]. A channel that has failed again and again is left alone for a while, unless the caller
    /// insists.
    ///
    /// The reason in an error never repeats the user's words, address or push token, even if the server's answer does.
    ///
    /// # Errors
    /// [`ChannelError::Unavailable`], [`ChannelError::Refused`] and [`ChannelError::Unregistered`] when nothing was delivered,
    /// [`ChannelError::Unknown`] when the message may have been delivered.
    pub async fn send(&self, notification: &Notification, insist: bool) -> Result<(), ChannelError> {
        if let Some(left) = self.breaker.refuses().filter(|_| !insist) {
            let reason =
                format!("it has failed again and again and is left alone for {} s", left.as_secs() + 1);
            return Err(ChannelError::Unavailable { channel: self.name(), reason });
        }
        let sent = match &self.way {
            Way::Resend(resend) => resend.send(notification).await,
            Way::Expo(expo) => expo.send(notification).await,
            Way::File(file) => file.send(notification).await,
        };
        let sent = sent.map_err(|error| error.redacted(notification));
        match &sent {
            Err(error) if error.is_retryable() => self.breaker.failed(&error.to_string()),
            _ => self.breaker.works(),
        }
        sent
    }
}

impl Way {
    fn name(&self) -> &'static str {
        match self {
            Self::Resend(_) => resend::NAME,
            Self::Expo(_) => expo::NAME,
            Self::File(_) => file::NAME,
        }
    }
}

/// What a user is told whom no channel reaches.
pub const UNREACHABLE: &str =
    "No notification can reach you yet: allow notifications in the app, or the reminder will not arrive.";

impl Companion {
    /// Returns whether a reminder can reach this user by any of the channels.
    pub fn reaches(&self, user: &User) -> bool {
        let people_can_be_reached = self.channels.iter().any(Channel::reaches_people);
        self.channels.iter().any(|channel| {
            (channel.reaches_people() || !people_can_be_reached)
                && channel.reaches(&user.email, user.push_token.as_deref())
        })
    }
}

/// An HTTP client with our timeouts and TLS.
pub(crate) fn http_client() -> Result<reqwest::Client, ChannelError> {
    crate::tls::install_provider();
    let client = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .timeout(SEND_TIMEOUT)
        .user_agent(concat!("ai-companion/", env!("CARGO_PKG_VERSION")))
        .build();
    client.map_err(|error| ChannelError::Unavailable { channel: "http", reason: chain(&error) })
}

/// Sends a request and returns the body of a success.
async fn exchange(channel: &'static str, request: reqwest::RequestBuilder) -> Result<String, ChannelError> {
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) if error.is_connect() || error.is_builder() => {
            return Err(ChannelError::Unavailable { channel, reason: chain(&error) });
        }
        Err(error) => return Err(ChannelError::Unknown { channel, reason: chain(&error) }),
    };
    let status = answer.status();
    match answer.text().await {
        Ok(body) if status.is_success() => Ok(body),
        // The status says enough when the rest is lost.
        Err(_) if status.is_success() => Ok(String::new()),
        body => {
            let body: String = body.unwrap_or_default().chars().take(300).collect();
            let reason = format!("HTTP status {status}: {body}");
            let may_pass = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
            Err(match may_pass {
                true => ChannelError::Unavailable { channel, reason },
                false => ChannelError::Refused { channel, reason },
            })
        }
    }
}

/// An error with its causes, without the URL, which may hold a token.
fn chain(error: &reqwest::Error) -> String {
    let mut text = match error {
        error if error.is_timeout() => "timeout".to_owned(),
        error if error.is_connect() => "cannot connect".to_owned(),
        _ => "the exchange failed".to_owned(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
