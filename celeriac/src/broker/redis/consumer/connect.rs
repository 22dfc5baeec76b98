//! The beginning and the end of a consumer's connection.

use std::sync::Arc;

use redis::{Pipeline, PushInfo, Value};
use tokio::sync::mpsc;

use super::{Arrival, Consumer, Receiver};
use crate::broker::redis::connection::{Connection, replies, server_error};
use crate::broker::redis::inflight::SLOTS;
use crate::broker::redis::restore::renew_lease;

impl<R: Receiver> Consumer<R> {
    /// Connects, and finds out what became of the round trip during which an earlier connection broke.
    pub(super) async fn connect(
        &mut self,
        pushes: mpsc::UnboundedSender<PushInfo>,
    ) -> Result<Connection, String> {
        let mut connection = self.link.dedicated(Some(pushes)).await.map_err(|error| error.to_string())?;
        self.end_earlier(&mut connection).await?;
        let mut hello = Pipeline::new();
        hello.cmd("CLIENT").arg("TRACKING").arg("ON").arg("NOLOOP");
        hello.cmd("TIME");
        hello.cmd("GET").arg(self.keys.committed(&self.worker));
        hello.add_command(renew_lease(&self.keys, &self.worker, self.lease()));
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
        self.bindings.note_changes(None);
        self.adopt_inflight(&found[4..]);
        Ok(connection)
    }

    /// Ends the earlier connection on the server: what it sent may still be on its way, and must not be carried out after
    /// its messages and its transaction were looked for.
    ///
    /// A server that was started again, or another one, has given the number to somebody else: the name tells.
    async fn end_earlier(&mut self, connection: &mut Connection) -> Result<(), String> {
        let name = format!("celeriac:{}", self.worker);
        let mut introduction = Pipeline::new();
        introduction.cmd("CLIENT").arg("SETNAME").arg(&name);
        introduction.cmd("CLIENT").arg("ID");
        if let Some(earlier) = self.connection_id {
            introduction.cmd("CLIENT").arg("LIST").arg("ID").arg(earlier);
        }
        let found = replies(connection, &mut introduction).await.map_err(|error| error.to_string())?;
        if let (Some(earlier), Some(listed)) = (self.connection_id, found.get(2))
            && text(listed).split_whitespace().any(|field| field.strip_prefix("name=") == Some(&name))
        {
            let mut end = Pipeline::new();
            end.cmd("CLIENT").arg("KILL").arg("ID").arg(earlier);
            let ended = replies(connection, &mut end).await.map_err(|error| error.to_string())?;
            if let Some(reason) = ended.iter().find_map(server_error) {
                log::warn!(broker:% = self.link.endpoint(); "The connection before this one cannot be ended: {reason}");
            }
        }
        if let Some(Value::Int(id)) = found.get(1) {
            self.connection_id = Some(*id);
        }
        Ok(())
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
    pub(super) async fn leave(&mut self, connection: &mut Connection) -> Result<(), String> {
        let mut farewell = Pipeline::new();
        farewell.cmd("ZREM").arg(&self.keys.inflight_index).arg(&self.worker);
        farewell.cmd("DEL").arg(self.keys.committed(&self.worker));
        replies(connection, &mut farewell).await.map_err(|error| error.to_string())?;
        Ok(())
    }
}

fn text(reply: &Value) -> String {
    match reply {
        Value::BulkString(text) => String::from_utf8_lossy(text).into_owned(),
        Value::VerbatimString { text, .. } => text.clone(),
        _ => String::new(),
    }
}
