//! Answering the commands that a worker receives.

use std::sync::{Arc, Mutex};

use super::commands::{Commands, Failed};
use super::mailbox::{ReplyTo, Request};
use super::panel::Panel;
use crate::broker::Broker;
use crate::events::LogicalClock;
use crate::message::{Accept, Codec, Map, Message, Value};
use crate::node::lock;
use crate::repeats::Repeats;

/// The mailbox of one worker; cheap to clone.
#[derive(Clone)]
pub(super) struct Pidbox {
    pub(super) panel: Panel,
    pub(super) commands: Arc<Commands>,
    pub(super) broker: Broker,
    pub(super) accept: Accept,
    pub(super) codec: Codec,
    /// The mailbox's own time: as in Celery's worker, clients do not move the worker's clock, they only step it.
    pub(super) clock: LogicalClock,
    /// What cannot be read comes as often as somebody sends it.
    pub(super) unreadable: Arc<Mutex<Repeats>>,
}

impl Pidbox {
    /// Takes a message: carries its command out if this worker is meant, and answers if that is wanted.
    pub(super) async fn receive(self, message: Message) {
        self.panel.state().clock.forward();
        let sent_at = message.headers.extra.get("clock").and_then(Value::as_i64).unwrap_or(0);
        self.clock.adjust(u64::try_from(sent_at).unwrap_or(0));
        let request = match Request::decode(&message, &self.accept) {
            Ok(request) => request,
            Err(error) => {
                if let Some(count) = lock(&self.unreadable).note("unreadable") {
                    log::error!(error:% = error, count; "Control command error ({count} message(s) that cannot be read so far): {error}");
                }
                return;
            }
        };
        match request.is_for(&self.panel.state().hostname) {
            Ok(true) => self.carry_out(request).await,
            Ok(false) => {}
            Err(error) => {
                if let Some(count) = lock(&self.unreadable).note("matcher") {
                    log::error!(error:% = error, count; "Control command error ({count} such pattern(s) so far): {error}");
                }
                if let Some(reply_to) = request.reply_to {
                    self.answer(&reply_to, error.answer()).await;
                }
            }
        }
    }

    async fn carry_out(self, request: Request) {
        let Request { method, arguments, reply_to, .. } = request;
        log::debug!(command = method.as_str(); "pidbox received method {method}");
        let answer = match self.commands.call(&method, arguments, &self.panel).await {
            Ok(answer) => answer,
            Err(Failed::NoAnswer) => return,
            Err(Failed::Raised(error)) => {
                log::error!(command = method.as_str(), error = error.as_str(); "pidbox command error: {error}");
                Value::Map(Map::from([("error".to_owned(), Value::Str(error))]))
            }
        };
        if let Some(reply_to) = reply_to {
            self.answer(&reply_to, answer).await;
        }
    }

    async fn answer(&self, reply_to: &ReplyTo, answer: Value) {
        let hostname = &self.panel.state().hostname;
        let message = reply_to.message(hostname, answer, self.clock.forward(), self.codec.clone());
        let outcome = match message {
            Ok(message) => self.broker.answer(&reply_to.address, &message).await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            log::warn!(error:% = error; "An answer to a control command was not sent: {error}");
        }
    }
}
