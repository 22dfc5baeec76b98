//! The beginning and the end of a consumer's connection.

use std::sync::Arc;

use redis::{Pipeline, PushInfo, Value};
use tokio::sync::mpsc;

use super::lease::renew_lease;
use super::{Arrival, Consumer};
use crate::broker::Receiver;
use crate::broker::redis::connection::{Connection, replies, server_error};
use crate::broker::redis::inflight::SLOTS;
use crate::broker::redis::refusal::is_passing;
use crate::broker::redis::rights::{Missing, Need, Rights};
use crate::broker::refusals::Work;
use crate::message::envelope;

/// The number of a connection that no server gives, to ask whether a command is allowed.
const NOBODY: i64 = i64::MAX;
/// What follows when the server may not be asked to end an earlier connection.
const UNENDED: &str =
    "a connection that was given up cannot be ended: after a lost reply a task may run twice";
/// What follows when the server announces no changes.
const UNANNOUNCED: &str = "queues are looked at up to 100 times a second instead of being announced";

impl<R: Receiver> Consumer<R> {
    /// Connects, and finds out what became of the round trip during which an earlier connection broke.
    pub(super) async fn connect(
        &mut self,
        pushes: mpsc::UnboundedSender<PushInfo>,
    ) -> Result<Connection, String> {
        let mut connection = self.link.dedicated(Some(pushes)).await.map_err(|error| error.to_string())?;
        let mut missing = self.end_earlier(&mut connection).await?;
        missing.extend(self.ask_for_selection(&mut connection).await?);
        let queues = self.handle.queues();
        let queue = queues.first().map(|queue| &**queue);
        let rights = Rights::of_worker(&self.keys, &self.worker, queue, self.result_key.as_deref());
        let mut hello = Pipeline::new();
        rights.ask(&mut hello);
        hello.cmd("CLIENT").arg("TRACKING").arg("ON").arg("NOLOOP");
        hello.cmd("TIME");
        hello.cmd("GET").arg(self.keys.committed(&self.worker));
        hello.add_command(renew_lease(&self.keys, &self.worker, self.lease()));
        for slot in 0..SLOTS {
            hello.cmd("LRANGE").arg(self.keys.inflight(&self.worker, slot)).arg(0).arg(-1);
        }
        let found = replies(&mut connection, &mut hello).await.map_err(|error| error.to_string())?;
        let (answers, found) = found.split_at(rights.replies());
        missing.extend(rights.missing(answers));
        let [tracking, time, committed, lease, lists @ ..] = found else {
            return Err("the server did not answer everything".to_owned());
        };
        let announces = match server_error(tracking) {
            Some(reason) if is_passing(&reason) => return Err(reason),
            Some(reason) => {
                missing.push(Missing::comfort("CLIENT TRACKING", UNANNOUNCED, reason));
                false
            }
            None => true,
        };
        self.check_rights(&missing)?;
        if let Some(reason) = std::iter::once(committed).chain(lists).find_map(server_error) {
            return Err(reason);
        }
        self.clock.set(time);
        // A script that may not ask for the time leaves it to the renewal that comes next.
        self.is_leased = match server_error(lease) {
            Some(reason) if is_passing(&reason) => return Err(reason),
            refused => refused.is_none(),
        };
        self.sources.set_rights(announces, !missing.iter().any(|right| right.name == "LMOVE"));
        if let Value::BulkString(number) = committed
            && let Some(transaction) = self
                .transaction
                .take_if(|transaction| transaction.number.to_string().as_bytes() == number.as_slice())
        {
            self.confirm(transaction, None);
        }
        if self.is_apart() {
            self.part_present_ways();
        }
        self.renew_soon();
        self.sources.forget();
        self.bindings.note_changes(None);
        self.adopt_inflight(lists);
        self.unanswered = None;
        Ok(connection)
    }

    /// Notes which rights are missing.
    ///
    /// # Errors
    /// The rights without which nothing can be consumed.
    fn check_rights(&self, missing: &[Missing]) -> Result<(), String> {
        self.refusals.replace(Work::Right, missing.iter().map(|right| right.refusal(Work::Right)).collect());
        let needed = missing.iter().filter(|right| right.need == Need::Everything);
        let needed: Vec<&str> = needed.map(|right| right.name.as_str()).collect();
        if needed.is_empty() {
            return Ok(());
        }
        Err(format!(
            "the user has no right to {}\nhint: docs/connections.md lists the rights that a worker needs",
            needed.join(", ")
        ))
    }

    /// Ends the earlier connection on the server: what it sent may still be on its way, and must not be carried out after
    /// its messages and its transaction were looked for.
    ///
    /// A server that was started again, or another one, has given the number to somebody else: the name tells.
    ///
    /// Returns the rights to do so that are missing.
    async fn end_earlier(&mut self, connection: &mut Connection) -> Result<Vec<Missing>, String> {
        let mut name = format!("celeriac:{}", self.worker);
        if let Some(own) = self.link.endpoint().client_name() {
            name = format!("{own}:{name}");
        }
        let mut introduction = Pipeline::new();
        introduction.cmd("CLIENT").arg("SETNAME").arg(&name);
        introduction.cmd("CLIENT").arg("ID");
        introduction.cmd("CLIENT").arg("LIST").arg("ID").arg(self.connection_id.unwrap_or(NOBODY));
        introduction.cmd("CLIENT").arg("KILL").arg("ID").arg(NOBODY);
        let found = replies(connection, &mut introduction).await.map_err(|error| error.to_string())?;
        let commands = ["CLIENT SETNAME", "CLIENT ID", "CLIENT LIST", "CLIENT KILL"];
        let missing = commands.into_iter().zip(&found).filter_map(|(command, reply)| {
            let reason = server_error(reply).filter(|reason| !is_passing(reason))?;
            Some(Missing::comfort(command, UNENDED, reason))
        });
        let missing: Vec<Missing> = missing.collect();
        if let (Some(earlier), Some(listed)) = (self.connection_id, found.get(2))
            && text(listed).split_whitespace().any(|field| field.strip_prefix("name=") == Some(&name))
        {
            let mut end = Pipeline::new();
            end.cmd("CLIENT").arg("KILL").arg("ID").arg(earlier);
            // One that has ended by itself meanwhile is as good.
            replies(connection, &mut end).await.map_err(|error| error.to_string())?;
        }
        if let Some(Value::Int(id)) = found.get(1) {
            self.connection_id = Some(*id);
        }
        Ok(missing)
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
                    let queue = self.queue_of(slot, raw);
                    self.slots.add(slot);
                    self.arrived.push(Arrival { raw: raw.clone().into(), queue, slot: Some(slot) });
                }
            }
        }
    }

    /// Returns the queue from which a message was moved: by the message, among the queues that were asked for the messages
    /// of that in-flight list.
    fn queue_of(&self, slot: usize, raw: &[u8]) -> Arc<str> {
        let asked = match &self.unanswered {
            Some((asked, queues)) if *asked == slot => queues.as_slice(),
            _ => &[],
        };
        let info = envelope::decode(raw).ok().map(|message| message.properties.delivery_info);
        let named: Vec<Arc<str>> = match info {
            Some(info) if !info.exchange.is_empty() => {
                self.bindings.queues(&info.exchange, &info.routing_key, &self.keys)
            }
            Some(info) if !info.routing_key.is_empty() => vec![info.routing_key.into()],
            _ => Vec::new(),
        };
        let queue = named.iter().find(|queue| asked.contains(queue)).or(named.first()).or(asked.first());
        queue.or(self.handle.queues().first()).cloned().unwrap_or_else(|| Arc::from(""))
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
