//! The part of a sweep that looks through kombu's `unacked`.

use std::collections::HashMap;

use redis::Pipeline;
use serde_json::value::RawValue;

use super::round::{Answer, Return, Round};
use super::{BATCH, Kept, SWEEP_LIMIT, Sweeper};
use crate::broker::BrokerError;
use crate::broker::redis::script::{bytes, eval};
use crate::failpoints::fail_point;
use crate::message::{self, json};

/// Moves one message from `unacked` to its lists, unless it was acknowledged or renewed meanwhile.
///
/// The removals come first in a form that removes nothing: they show that they are allowed, and a first write that
/// frees memory lets a full server pass the others. A list that refuses the message is named by its number, and what
/// was pushed to others before is taken back.
const RESTORE: &str = r"
local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not score or tonumber(score) > tonumber(ARGV[2]) then return 0 end
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[3] then return 0 end
redis.call('ZREM', KEYS[2], '')
redis.call('HDEL', KEYS[1], '')
for i = 3, #KEYS do
  local pushed = redis.pcall('RPUSH', KEYS[i], ARGV[4])
  if type(pushed) == 'table' and pushed.err then
    for j = 3, i - 1 do redis.call('LREM', KEYS[j], -1, ARGV[4]) end
    return {i - 3, pushed.err}
  end
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
return 1";

/// Removes an index entry that has no message.
const DROP_ORPHAN: &str = r"
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then redis.call('ZREM', KEYS[2], ARGV[1]) end
return 0";

/// Most overdue entries that one sweep looks through; the next one goes on behind them.
const LOOK_LIMIT: usize = 100_000;

impl Sweeper {
    /// Brings back what is recorded and was not renewed: what waits longest first, if there is much.
    pub(super) async fn sweep_unacked(&mut self, round: &mut Round) -> Result<(), BrokerError> {
        let cutoff = self.clock.now() - self.visibility_timeout.as_secs_f64();
        let index = self.keys.unacked_index.clone();
        let (mut kept, mut looked) = (HashMap::new(), 0);
        while looked < LOOK_LIMIT && round.restored < SWEEP_LIMIT as u64 {
            let mut find = Pipeline::new();
            find.cmd("ZRANGEBYSCORE").arg(&index).arg(0).arg(cutoff);
            find.arg("LIMIT").arg(self.offset).arg(SWEEP_LIMIT);
            let found = match self.link.call(&mut find).await {
                Ok(found) => found,
                Err(error) => return round.note_unread(&index, error),
            };
            let redis::Value::Array(tags) = &found[0] else { break };
            // What goes back last is taken first.
            let tags: Vec<&[u8]> = tags.iter().rev().filter_map(bytes).collect();
            let before = kept.len();
            for tags in tags.chunks(BATCH) {
                if let Err(error) = self.restore_unacked(tags, cutoff, round, &mut kept).await {
                    return round.note_unread(&self.keys.unacked, error);
                }
            }
            looked += tags.len();
            self.offset += kept.len() - before;
            if tags.len() < SWEEP_LIMIT {
                break;
            }
        }
        if looked < LOOK_LIMIT {
            self.offset = 0;
        }
        self.kept = kept;
        Ok(())
    }

    /// Brings back those entries, and notes which of them stay.
    async fn restore_unacked(
        &self,
        tags: &[&[u8]],
        cutoff: f64,
        round: &mut Round,
        kept: &mut HashMap<Vec<u8>, Kept>,
    ) -> Result<(), BrokerError> {
        let [unacked, index] = [&self.keys.unacked, &self.keys.unacked_index];
        let mut wanted = Vec::with_capacity(tags.len());
        for tag in tags {
            match self.kept.get(*tag) {
                Some(Kept::Foreign) => {
                    round.note_foreign(tag);
                    kept.insert(tag.to_vec(), Kept::Foreign);
                }
                Some(Kept::Refused(list)) if round.is_closed(list) => {
                    kept.insert(tag.to_vec(), Kept::Refused(list.clone()));
                }
                _ => wanted.push(*tag),
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let mut read = Pipeline::new();
        for tag in &wanted {
            read.cmd("HGET").arg(unacked).arg(*tag);
        }
        let found = self.link.call(&mut read).await?;
        let cutoff = cutoff.to_string();
        let mut restore = Pipeline::new();
        let mut returns: Vec<Option<(&[u8], Return)>> = Vec::new();
        for (tag, stored) in wanted.into_iter().zip(&found) {
            let Some(stored) = bytes(stored) else {
                restore.add_command(eval(DROP_ORPHAN, &[unacked, index], &[tag]));
                returns.push(None);
                continue;
            };
            let Some((raw, exchange, routing_key)) = split_unacked(stored) else {
                round.note_foreign(tag);
                kept.insert(tag.to_vec(), Kept::Foreign);
                continue;
            };
            match round.route(raw, exchange, routing_key).await? {
                Ok(back) => {
                    let mut keys = vec![unacked, index];
                    keys.extend(&back.lists);
                    restore.add_command(eval(
                        RESTORE,
                        &keys,
                        &[tag, cutoff.as_bytes(), stored, &back.payload],
                    ));
                    returns.push(Some((tag, back)));
                }
                Err(list) => {
                    kept.insert(tag.to_vec(), Kept::Refused(list));
                }
            }
        }
        if restore.is_empty() {
            return Ok(());
        }
        let replies = self.link.send(&mut restore).await?;
        for (reply, back) in replies.iter().zip(returns) {
            let Some((tag, back)) = back else { continue };
            match round.answer(reply, &back).map_err(|reason| self.refused(reason))? {
                Answer::Restored => {
                    fail_point!("sweep.restored");
                }
                Answer::Gone => {}
                Answer::Refused(list) => {
                    kept.insert(tag.to_vec(), Kept::Refused(list));
                }
            }
        }
        Ok(())
    }

    /// The server refuses everything for now.
    pub(super) fn refused(&self, reason: String) -> BrokerError {
        let (url, command) = (self.link.endpoint().to_string(), "EVAL".to_owned());
        BrokerError::Refused { url, command, reason }
    }
}

/// The message, exchange and routing key of a value of the hash of unacknowledged messages.
pub(crate) fn split_unacked(stored: &[u8]) -> Option<(&[u8], String, String)> {
    let parts: Vec<&RawValue> = serde_json::from_slice(stored).ok()?;
    let [raw, exchange, routing_key] = parts.as_slice() else { return None };
    let text = |part: &RawValue| match json::loads(part.get().as_bytes()) {
        Ok(message::Value::Str(text)) => Some(text),
        Ok(message::Value::Null) => Some(String::new()),
        _ => None,
    };
    Some((raw.get().as_bytes(), text(exchange)?, text(routing_key)?))
}
