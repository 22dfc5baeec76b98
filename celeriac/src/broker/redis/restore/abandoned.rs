//! The part of a sweep that empties the in-flight lists of dead workers.

use redis::{Pipeline, Value};

use super::round::{Answer, Return, Round};
use super::{BATCH, Sweeper};
use crate::broker::BrokerError;
use crate::broker::redis::inflight::SLOTS;
use crate::broker::redis::script::{bytes, eval};
use crate::failpoints::fail_point;
use crate::message::envelope;

/// Takes a message of an abandoned in-flight list back to its lists, if it is still there.
///
/// As with `unacked`, a removal of nothing comes first, and nothing is removed before the message is pushed.
const RESTORE: &str = r"
redis.call('LREM', KEYS[1], 0, '')
local function undo(last)
  for j = 2, last do redis.call('LREM', KEYS[j], -1, ARGV[2]) end
end
for i = 2, #KEYS do
  local pushed = redis.pcall('RPUSH', KEYS[i], ARGV[2])
  if type(pushed) == 'table' and pushed.err then
    undo(i - 1)
    return {i - 2, pushed.err}
  end
end
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 1 then return 1 end
undo(#KEYS)
return 0";

/// Removes a worker whose lease is over.
const FORGET_WORKER: &str = r"
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if lease and tonumber(lease) <= tonumber(ARGV[2]) then return redis.call('ZREM', KEYS[1], ARGV[1]) end
return 0";

impl Sweeper {
    /// Brings back what stands in the in-flight lists of workers whose lease is over.
    pub(super) async fn sweep_abandoned(&self, round: &mut Round) -> Result<(), BrokerError> {
        let index = &self.keys.inflight_index;
        let mut find = Pipeline::new();
        let cutoff = self.clock.now();
        find.cmd("ZRANGEBYSCORE").arg(index).arg("-inf").arg(cutoff);
        let found = match self.link.call(&mut find).await {
            Ok(found) => found,
            Err(error) => return round.note_unread(index, error),
        };
        let Value::Array(workers) = &found[0] else { return Ok(()) };
        for worker in workers.iter().filter_map(bytes).map(String::from_utf8_lossy) {
            let mut is_empty = true;
            for slot in 0..SLOTS {
                let list = self.keys.inflight(&worker, slot);
                is_empty &= match self.restore_list(&list, round).await {
                    Ok(is_empty) => is_empty,
                    Err(error) => {
                        round.note_unread(&list, error)?;
                        false
                    }
                };
            }
            if !is_empty {
                continue;
            }
            fail_point!("sweep.emptied");
            let mut forget = Pipeline::new();
            forget.add_command(eval(
                FORGET_WORKER,
                &[index],
                &[worker.as_bytes(), cutoff.to_string().as_bytes()],
            ));
            self.link.call(&mut forget).await.map(drop).or_else(|error| round.note_unread(index, error))?;
        }
        Ok(())
    }

    /// Empties one list, the newest message first, so that the oldest is delivered first; returns whether nothing stays.
    async fn restore_list(&self, list: &String, round: &mut Round) -> Result<bool, BrokerError> {
        let mut kept = 0;
        loop {
            let mut read = Pipeline::new();
            read.cmd("LRANGE").arg(list).arg(kept).arg(kept + BATCH - 1);
            let found = self.link.call(&mut read).await?;
            let Value::Array(messages) = &found[0] else { return Ok(kept == 0) };
            if messages.is_empty() {
                return Ok(kept == 0);
            }
            let mut restore = Pipeline::new();
            let mut returns: Vec<Return> = Vec::new();
            for raw in messages.iter().filter_map(bytes) {
                let (exchange, routing_key) = match envelope::decode(raw) {
                    Ok(message) => {
                        let info = message.properties.delivery_info;
                        (info.exchange, info.routing_key)
                    }
                    Err(_) => (String::new(), String::new()),
                };
                match round.route(raw, exchange, routing_key).await? {
                    Ok(back) => {
                        let mut keys = vec![list];
                        keys.extend(&back.lists);
                        restore.add_command(eval(RESTORE, &keys, &[raw, &back.payload]));
                        returns.push(back);
                    }
                    Err(_) => kept += 1,
                }
            }
            let mut is_shared = false;
            let replies = if restore.is_empty() { Vec::new() } else { self.link.send(&mut restore).await? };
            for (reply, back) in replies.iter().zip(&returns) {
                match round.answer(reply, back).map_err(|reason| self.refused(reason))? {
                    Answer::Restored => {
                        fail_point!("sweep.moved");
                    }
                    Answer::Gone => is_shared = true,
                    Answer::Refused(_) => kept += 1,
                }
            }
            // Somebody else empties the list, too.
            if is_shared {
                return Ok(false);
            }
        }
    }
}
