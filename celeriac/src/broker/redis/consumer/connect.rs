//! The beginning and the end of a consumer's connection.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, PushInfo, Value};
use tokio::sync::mpsc;

use super::{Arrival, Consumer, Receiver};
use crate::broker::redis::inflight::SLOTS;
use crate::broker::redis::link::{replies, server_error};
use crate::broker::redis::restore::renew_lease;

impl<R: Receiver> Consumer<R> {
    /// Connects, and finds out what became of the round trip during which an earlier connection broke.
    pub(super) async fn connect(
        &mut self,
        pushes: mpsc::UnboundedSender<PushInfo>,
    ) -> Result<MultiplexedConnection, String> {
        let mut connection = self.link.dedicated(Some(pushes)).await.map_err(|error| error_chain(&error))?;
        let mut hello = Pipeline::new();
        hello.cmd("CLIENT").arg("TRACKING").arg("ON").arg("NOLOOP");
        hello.cmd("TIME");
        hello.cmd("GET").arg(self.keys.committed(&self.worker));
        hello.add_command(renew_lease(&self.keys, &self.worker));
        for slot in 0..SLOTS {
            hello.cmd("LRANGE").arg(self.keys.inflight(&self.worker, slot)).arg(0).arg(-1);
        }
        let found = replies(&mut connection, &mut hello).await.map_err(|error| error.to_string())?;
        if let Some(reason) = found[1..].iter().find_map(server_error) {
            return Err(reason);
        }
        self.clock.set(&found[1]);
        if let Value::BulkString(number) = &found[2]
            && let Some(transaction) = self
                .transaction
                .take_if(|transaction| transaction.number.to_string().as_bytes() == number.as_slice())
        {
            self.confirm(transaction, None);
        }
        self.renew_soon();
        self.sources.forget();
        self.adopt_inflight(&found[4..]);
        Ok(connection)
    }

    /// Takes what a round trip of which the reply was lost has moved into the in-flight lists.
    fn adopt_inflight(&mut self, lists: &[Value]) {
        for (slot, list) in lists.iter().enumerate() {
            let Value::Array(items) = list else { continue };
            let known = self.held.in_slot(slot);
            for item in items {
                if let Value::BulkString(raw) = item
                    && !known.iter().any(|held| held[..] == raw[..])
                    && !self.slots.is_settled(slot, raw)
                {
                    let queue = self.handle.queues().first().cloned().unwrap_or_else(|| Arc::from(""));
                    self.slots.add(slot);
                    self.arrived.push(Arrival { raw: raw.clone().into(), queue, slot: Some(slot) });
                }
            }
        }
    }

    /// Takes the worker's name off the server.
    pub(super) async fn leave(&mut self, connection: &mut MultiplexedConnection) -> Result<(), String> {
        let mut farewell = Pipeline::new();
        farewell.cmd("ZREM").arg(&self.keys.inflight_index).arg(&self.worker);
        farewell.cmd("DEL").arg(self.keys.committed(&self.worker));
        replies(connection, &mut farewell).await.map_err(|error| error.to_string())?;
        Ok(())
    }
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
