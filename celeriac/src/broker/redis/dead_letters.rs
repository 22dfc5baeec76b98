//! The list of the messages that were given up: kept within bounds, read, put back into their queues, dropped.
//!
//! A list of JSON objects under the key of `celeriac_dead_letter_queue`, the newest first.

use std::time::Duration;

use redis::{Cmd, Pipeline, Value, cmd};

use super::script::eval;
use super::{Keys, Link, Queues};
use crate::broker::{BrokerError, DeadLetter, DeadLetterCount, Fate};
use crate::config::Config;

/// Takes a record out of the list and, if a list is named, puts its message there, to be delivered last.
const TAKE: &str = r"
if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then return 0 end
if KEYS[2] then redis.call('LPUSH', KEYS[2], ARGV[2]) end
return 1";

/// Deals with the oldest records, each recognised by its beginning: puts a message into a list and removes the record,
/// removes it (target 0), or moves it to the other end (target -1), so that a pass over the whole list keeps its order.
/// Ends at a record that is not the expected one. Returns how many were dealt with.
///
/// Keys: the list, targets. Arguments: beginning, number of the target, message, for each record.
const SIFT: &str = r"
local done = 0
for i = 1, #ARGV, 3 do
  local record = redis.call('LINDEX', KEYS[1], -1)
  if not record or string.sub(record, 1, #ARGV[i]) ~= ARGV[i] then return done end
  local target = tonumber(ARGV[i + 1])
  if target > 0 then redis.call('LPUSH', KEYS[target + 1], ARGV[i + 2]) end
  redis.call('RPOP', KEYS[1])
  if target < 0 then redis.call('LPUSH', KEYS[1], record) end
  done = done + 1
end
return done";

/// Drops the oldest records that are beyond the bounds, as far as their number, their bytes at the server and their date
/// go. The newest is always kept. Returns how many there are, their bytes (-1 where the server does not say), and how
/// many were dropped. Never fails: it stands in transactions, and what a user may not ask for is no bound.
///
/// Arguments: most records, most bytes, oldest date (each 0 or empty for no bound), samples for the bytes.
const TRIM: &str = r#"
local function ask(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then return nil end
  return reply
end
local count, most, most_bytes = ask('LLEN', KEYS[1]) or 0, tonumber(ARGV[1]), tonumber(ARGV[2])
local before = count
if count == 0 then return {0, 0, 0} end
if most > 0 and count > most and ask('LTRIM', KEYS[1], 0, most - 1) then count = most end
local bytes = ask('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', ARGV[4]) or -1
-- A few samples say little about records of different sizes: nothing is dropped before all of them are counted.
if most_bytes > 0 and bytes > most_bytes then bytes = ask('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', 0) or -1 end
while count > 1 and before - count < 10000 do
  local oldest = ask('LINDEX', KEYS[1], -1)
  local date = oldest and string.match(oldest, '"date":"([^"]*)"')
  local is_old = date and date < ARGV[3]
  if not oldest or not is_old and (most_bytes == 0 or bytes <= most_bytes) then break end
  if not ask('RPOP', KEYS[1]) then break end
  count = count - 1
  if bytes > 0 then bytes = bytes - #oldest end
end
return {count, bytes, before - count}"#;

/// How many records are read or dealt with at a time.
const PAGE: usize = 100;
/// How many bytes of a record it is recognised by: its id is among them.
const BEGINNING: usize = 64;

/// The list into which workers put the messages that they give up, and its bounds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DeadLetterQueue {
    /// Key of the list.
    pub(crate) key: String,
    /// Most records; 0 for no bound.
    pub(crate) max_count: u64,
    /// Most bytes at the server; 0 for no bound.
    pub(crate) max_bytes: u64,
    /// How long a record is kept; `None` for ever.
    expires: Option<Duration>,
}

impl DeadLetterQueue {
    /// The one of those settings; `None` when messages that are given up are dropped.
    pub(crate) fn new(config: &Config, keys: &Keys) -> Option<Self> {
        let expires = config.celeriac_dead_letter_expires;
        Some(Self {
            key: keys.dead_letters(config.celeriac_dead_letter_queue.as_deref()?),
            max_count: config.celeriac_dead_letter_max_count,
            max_bytes: config.celeriac_dead_letter_max_bytes,
            expires: (!expires.is_zero()).then_some(expires),
        })
    }

    /// Returns the commands that add a record and drop the oldest ones beyond the bounds.
    ///
    /// A message that takes more than half of the bound is not kept: it would drop most of the others. Its record is.
    pub(crate) fn push(&self, letter: &DeadLetter) -> [Cmd; 2] {
        let without_message = if self.max_bytes > 0 { letter.within(self.max_bytes / 2) } else { None };
        if let Some(DeadLetter { id, reason, too_large: Some(bytes), .. }) = &without_message {
            log::error!(dead_letter = id.as_str(), bytes = bytes; "Dead letter {id} ({reason}) is kept without its message of {bytes} bytes, which would drop most of the others\nhint: raise celeriac_dead_letter_max_bytes, or set it to 0");
        }
        let mut push = cmd("LPUSH");
        push.arg(&self.key).arg(without_message.as_ref().unwrap_or(letter).encode());
        // A few samples: this may be one of thousands.
        [push, self.trim_command(5)]
    }

    fn trim_command(&self, samples: usize) -> Cmd {
        let oldest = self.expires.and_then(|expires| {
            let age = chrono::TimeDelta::from_std(expires).ok()?;
            Some(chrono::Utc::now().checked_sub_signed(age)?.to_rfc3339())
        });
        let [count, bytes, samples] =
            [self.max_count, self.max_bytes, samples as u64].map(|number| number.to_string());
        let oldest = oldest.unwrap_or_default();
        let arguments = [count.as_bytes(), bytes.as_bytes(), oldest.as_bytes(), samples.as_bytes()];
        eval(TRIM, &[&self.key], &arguments)
    }

    /// Drops what is beyond the bounds, and counts what is left.
    ///
    /// # Errors
    /// [`BrokerError`] when the server cannot be reached or refuses the command.
    pub(crate) async fn trim(&self, link: &Link) -> Result<DeadLetterCount, BrokerError> {
        let mut trim = Pipeline::new();
        trim.add_command(self.trim_command(0));
        let replies = link.call(&mut trim).await?;
        let Some(Value::Array(numbers)) = replies.first() else { return Ok(DeadLetterCount::default()) };
        let number = |index: usize| match numbers.get(index) {
            Some(Value::Int(number)) => u64::try_from(*number).ok(),
            _ => None,
        };
        let [count, dropped] = [0, 2].map(|index| number(index).unwrap_or(0));
        Ok(DeadLetterCount { count, bytes: number(1), dropped })
    }
}

impl Queues {
    /// Drops the dead letters that are beyond the bounds, and counts what is left; `None` when none are kept.
    ///
    /// # Errors
    /// [`BrokerError`] when the server cannot be reached or refuses the command.
    pub(crate) async fn trim_dead_letters(&self) -> Result<Option<DeadLetterCount>, BrokerError> {
        match self.dead_letters() {
            Some(dead_letters) => dead_letters.trim(self.link()).await.map(Some),
            None => Ok(None),
        }
    }

    /// Counts the dead letters and drops none; `None` when none are kept.
    ///
    /// # Errors
    /// [`BrokerError`] when the server cannot be reached or refuses to count.
    pub(crate) async fn count_dead_letters(&self) -> Result<Option<DeadLetterCount>, BrokerError> {
        let Some(DeadLetterQueue { key, .. }) = self.dead_letters() else { return Ok(None) };
        let mut ask = Pipeline::new();
        ask.cmd("LLEN").arg(key);
        let count = self.link().call(&mut ask).await?;
        let mut ask = Pipeline::new();
        ask.cmd("MEMORY").arg("USAGE").arg(key);
        // A server that does not tell of bytes tells of records.
        let bytes = self.link().send(&mut ask).await?;
        let number = |answers: &[Value]| match answers.first() {
            Some(Value::Int(number)) => u64::try_from(*number).ok(),
            _ => None,
        };
        let (count, bytes) = (number(&count).unwrap_or(0), number(&bytes));
        Ok(Some(DeadLetterCount { count, bytes, dropped: 0 }))
    }
}

/// The messages that the workers of a broker have given up.
pub(crate) struct DeadLetters {
    link: Link,
    key: String,
}

impl DeadLetters {
    /// Returns those in the list under that key.
    pub(crate) fn new(link: Link, key: String) -> Self {
        Self { link, key }
    }

    /// Returns all of them, the newest first.
    ///
    /// # Errors
    /// [`BrokerError`] when the server cannot be reached or refuses the command.
    pub(crate) async fn list(&self) -> Result<Vec<DeadLetter>, BrokerError> {
        Ok(self.records().await?.into_iter().map(|(letter, _)| letter).collect())
    }

    /// Returns how many records the list has.
    ///
    /// # Errors
    /// [`BrokerError`] when the server cannot be reached or refuses the command.
    pub(crate) async fn count(&self) -> Result<u64, BrokerError> {
        let replies = self.link.call(Pipeline::new().cmd("LLEN").arg(&self.key)).await?;
        Ok(match replies[0] {
            Value::Int(count) => u64::try_from(count).unwrap_or(0),
            _ => 0,
        })
    }

    /// Puts one message back where it came from; `false` when it is not there or was too large to be kept.
    ///
    /// # Errors
    /// [`BrokerError`] when the server cannot be reached or refuses the command.
    pub(crate) async fn requeue(&self, id: &str) -> Result<bool, BrokerError> {
        match self.find(id).await? {
            Some((letter, record)) if letter.too_large.is_none() => {
                self.take(&record, Some((&letter.list, &letter.message()))).await
            }
            _ => Ok(false),
        }
    }

    /// Removes one message for good; `false` when it is not there.
    ///
    /// # Errors
    /// [`BrokerError`] when the server cannot be reached or refuses the command.
    pub(crate) async fn drop(&self, id: &str) -> Result<bool, BrokerError> {
        match self.find(id).await? {
            Some((_, record)) => self.take(&record, None).await,
            None => Ok(false),
        }
    }

    /// Decides on each of those that there are now, the oldest first, so that they are queued again in their order; a
    /// hundred at a time, in one pass. `progress` is told how many of them were decided on. Returns how many do not stay.
    ///
    /// Records that are no dead letters stay. Somebody else may add and remove some meanwhile; the order of those that
    /// stay is kept unless this is cancelled in the middle.
    ///
    /// # Errors
    /// [`BrokerError`] when the server cannot be reached or refuses the command. What was dealt with before stays so.
    pub(crate) async fn sift(
        &self,
        mut decide: impl FnMut(&DeadLetter) -> Fate,
        mut progress: impl FnMut(u64),
    ) -> Result<u64, BrokerError> {
        let (mut taken, mut left) = (0, self.count().await?);
        while left > 0 {
            let page = usize::try_from(left).unwrap_or(PAGE).min(PAGE);
            let (mut keys, mut arguments) = (vec![self.key.clone()], Vec::new());
            let mut fates = Vec::new();
            for record in self.page(0, page).await?.iter().rev() {
                let letter: Option<DeadLetter> = serde_json::from_slice(record).ok();
                let fate = letter.as_ref().map_or(Fate::Keep, &mut decide);
                let (target, message) = match (fate, letter) {
                    (Fate::Requeue, Some(letter)) if letter.too_large.is_none() => {
                        let known = keys.iter().skip(1).position(|key| *key == letter.list);
                        let target = known.map_or(keys.len(), |known| known + 1);
                        if target == keys.len() {
                            keys.push(letter.list.clone());
                        }
                        (i64::try_from(target).unwrap_or(0), letter.message())
                    }
                    (Fate::Drop, _) => (0, Vec::new()),
                    _ => (-1, Vec::new()),
                };
                fates.push(if target < 0 { Fate::Keep } else { fate });
                let beginning = record[..record.len().min(BEGINNING)].to_vec();
                arguments.extend([beginning, target.to_string().into_bytes(), message]);
            }
            if fates.is_empty() {
                break;
            }
            let keys: Vec<&String> = keys.iter().collect();
            let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
            let mut sift = Pipeline::new();
            sift.add_command(eval(SIFT, &keys, &arguments));
            let done = match self.link.call(&mut sift).await?[0] {
                Value::Int(done) => usize::try_from(done).unwrap_or(0),
                _ => 0,
            };
            taken += fates.iter().take(done).filter(|fate| **fate != Fate::Keep).count() as u64;
            // If somebody else took the oldest record meanwhile, there is one less to decide on.
            let done = done.max(1) as u64;
            left = left.saturating_sub(done);
            progress(done);
        }
        Ok(taken)
    }

    async fn take(&self, record: &[u8], to: Option<(&String, &[u8])>) -> Result<bool, BrokerError> {
        let (mut keys, mut arguments) = (vec![&self.key], vec![record]);
        if let Some((list, message)) = to {
            keys.push(list);
            arguments.push(message);
        }
        let mut pipeline = Pipeline::new();
        pipeline.add_command(eval(TAKE, &keys, &arguments));
        Ok(self.link.call(&mut pipeline).await?[0] == Value::Int(1))
    }

    async fn find(&self, id: &str) -> Result<Option<(DeadLetter, Vec<u8>)>, BrokerError> {
        Ok(self.records().await?.into_iter().find(|(letter, _)| letter.id == id))
    }

    /// The letters with their records, the newest first.
    async fn records(&self) -> Result<Vec<(DeadLetter, Vec<u8>)>, BrokerError> {
        let mut found = Vec::new();
        // From the end, where nothing is added meanwhile.
        for first in (0..).step_by(PAGE) {
            let page = self.page(first, PAGE).await?;
            let is_last = page.len() < PAGE;
            let letter = |record: Vec<u8>| Some((serde_json::from_slice(&record).ok()?, record));
            found.extend(page.into_iter().rev().filter_map(letter));
            if is_last {
                break;
            }
        }
        found.reverse();
        Ok(found)
    }

    /// Up to `count` records, the oldest last, behind the `first` oldest ones.
    async fn page(&self, first: usize, count: usize) -> Result<Vec<Vec<u8>>, BrokerError> {
        let mut read = Pipeline::new();
        let [from, to] = [first + count, first + 1].map(|place| format!("-{place}"));
        read.cmd("LRANGE").arg(&self.key).arg(from).arg(to);
        let Some(Value::Array(records)) = self.link.call(&mut read).await?.pop() else {
            return Ok(Vec::new());
        };
        let bytes = |record| match record {
            Value::BulkString(bytes) => Some(bytes),
            _ => None,
        };
        Ok(records.into_iter().filter_map(bytes).collect())
    }
}
