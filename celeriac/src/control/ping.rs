//! A node that is no worker and answers `inspect ping`, as beat does.
//!
//! Source: `BeatPidbox` in `celery/beat.py`, celery 5.7.

use super::Control;
use super::mailbox::Request;
use crate::message::{Map, Message, Value};

impl Control {
    /// Answers `ping` under that node name for as long as it runs, through outages of the broker. Every other command is
    /// passed over, since an error would stand among the answers of workers. As long as `silence` has a reason, nothing is
    /// answered, and the reason is logged: no answer is the only sign by which `celery inspect ping` fails.
    ///
    /// Cancel safe: dropping it ends the node.
    pub async fn answer_pings(&self, hostname: &str, silence: impl Fn() -> Option<String>) {
        let mut requests = self.shared.broker.subscribe(&[(self.shared.exchange.as_str(), "")]).await;
        while let Some(message) = requests.next().await {
            if let Err(error) = self.answer_ping(hostname, &message, &silence).await {
                log::warn!(error:% = error; "An answer to a control command was not sent: {error}");
            }
        }
    }

    async fn answer_ping(
        &self,
        hostname: &str,
        message: &Message,
        silence: &impl Fn() -> Option<String>,
    ) -> Result<(), crate::broker::BrokerError> {
        let shared = &self.shared;
        let sent_at = message.headers.extra.get("clock").and_then(Value::as_i64).unwrap_or(0);
        shared.clock.adjust(u64::try_from(sent_at).unwrap_or(0));
        // The workers say what is wrong with a command.
        let Ok(request) = Request::decode(message, &shared.accept) else { return Ok(()) };
        if request.method != "ping" || !request.is_for(hostname).unwrap_or(false) {
            return Ok(());
        }
        if let Some(reason) = silence() {
            log::warn!("A ping is not answered: {reason}");
            return Ok(());
        }
        let Some(reply_to) = request.reply_to else { return Ok(()) };
        let pong = Value::Map(Map::from([("ok".to_owned(), Value::from("pong"))]));
        let answer = reply_to.message(hostname, pong, shared.clock.forward(), shared.codec.clone())?;
        shared.broker.answer(&reply_to.address, &answer).await
    }
}
