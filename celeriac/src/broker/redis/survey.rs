//! Looking through the keys of a database for what nobody will take away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use redis::{Pipeline, Value};

use super::clock::ServerClock;
use super::script::{bytes, texts};
use super::{Link, Queues};
use crate::broker::{BrokerError, Survey};
use crate::finding::Finding;

const SUBJECT: &str = "keys";
/// The time after the end of a lease within which celeriac's workers have surely looked for it.
const SWEPT: Duration = Duration::from_secs(60);
/// The time beyond the visibility timeout for which a message may be held before it counts as forgotten.
const OVERDUE: Duration = Duration::from_secs(600);
/// Most keys that are looked at in one step.
const STEP: usize = 1000;
/// Replies to clients that are gone.
const REPLIES: &str = ".reply.celery.pidbox";
/// Bindings of an exchange.
const BINDINGS: &str = "_kombu.binding.";
/// Bindings of one exchange that are too many to have owners.
const MANY_BINDINGS: u64 = 1000;

/// Hands the names of all keys that match to `look`, a step at a time. Returns whether all were seen before the
/// deadline.
///
/// # Errors
/// [`BrokerError::Connection`], [`BrokerError::Timeout`], and [`BrokerError::Refused`] without the right to `SCAN`.
pub(crate) async fn each_key(
    link: &Link,
    pattern: &str,
    deadline: Instant,
    mut look: impl AsyncFnMut(&[String]) -> Result<(), BrokerError>,
) -> Result<bool, BrokerError> {
    let mut cursor = "0".to_owned();
    loop {
        let mut scan = Pipeline::new();
        scan.cmd("SCAN").arg(&cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(STEP);
        let answers = link.call(&mut scan).await?;
        let Some(Value::Array(parts)) = answers.first() else { return Ok(true) };
        let [next, names] = parts.as_slice() else { return Ok(true) };
        look(&texts(names)).await?;
        cursor = String::from_utf8_lossy(bytes(next).unwrap_or(b"0")).into_owned();
        if cursor == "0" {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
    }
}

/// Escapes what `MATCH` gives a meaning to.
pub(crate) fn literally(text: &str) -> String {
    let special = |letter: char| matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^');
    text.chars().flat_map(|letter| special(letter).then_some('\\').into_iter().chain([letter])).collect()
}

/// The keys that are looked into.
#[derive(Default)]
struct Found {
    /// Lists of messages between a queue and `unacked`, by worker.
    inflight: BTreeMap<String, Vec<String>>,
    replies: Vec<String>,
    bindings: Vec<String>,
}

impl Queues {
    /// Looks for messages that nobody will bring back and keys that nobody will delete, and for all bound queues.
    ///
    /// # Errors
    /// [`BrokerError::Connection`], [`BrokerError::Timeout`], and [`BrokerError::Refused`] without a right.
    pub(crate) async fn survey(
        &self,
        visibility: Duration,
        patience: Duration,
    ) -> Result<Survey, BrokerError> {
        if self.link().endpoint().is_cluster() {
            let text = "the keys of a cluster are not looked through";
            return Ok(Survey { findings: vec![Finding::note(SUBJECT, text)], ..Survey::default() });
        }
        let mut found = Found::default();
        let (prefix, keys) = (self.prefix().to_owned(), self.keys());
        let inflight = format!("{}.", keys.inflight_index);
        let sort = async |names: &[String]| {
            for name in names {
                let short = name.strip_prefix(&prefix).unwrap_or(name);
                if let Some((worker, slot)) =
                    name.strip_prefix(&inflight).and_then(|rest| rest.rsplit_once('.'))
                {
                    if slot.bytes().all(|letter| letter.is_ascii_digit()) {
                        found.inflight.entry(worker.to_owned()).or_default().push(name.clone());
                    }
                } else if short.ends_with(REPLIES) && !short.starts_with(BINDINGS) {
                    found.replies.push(name.clone());
                } else if short.starts_with(BINDINGS) {
                    found.bindings.push(name.clone());
                }
            }
            Ok(())
        };
        let pattern = format!("{}*", literally(&prefix));
        let is_whole = each_key(self.link(), &pattern, Instant::now() + patience, sort).await?;
        let now = self.server_time().await?;
        let mut findings = self.dead_workers(&found.inflight, now).await?;
        findings.extend(self.unacked(visibility, now).await?);
        findings.extend(self.stale_replies(&found.replies).await?);
        let (queues, crowded) = self.bound_queues(&found.bindings).await?;
        findings.extend(crowded);
        if !is_whole {
            let text = format!("not all keys were looked at within {} s", patience.as_secs());
            findings.push(Finding::note(SUBJECT, text).advising("give it more time with --patience"));
        } else if findings.is_empty() {
            findings.push(Finding::good(SUBJECT, "every message that is held has a worker"));
        }
        Ok(Survey { findings, queues })
    }

    /// Looks for messages of workers whose lease ended a good while ago, and that nobody has swept.
    async fn dead_workers(
        &self,
        inflight: &BTreeMap<String, Vec<String>>,
        now: f64,
    ) -> Result<Vec<Finding>, BrokerError> {
        if inflight.is_empty() {
            return Ok(Vec::new());
        }
        let mut ask = Pipeline::new();
        ask.cmd("ZRANGEBYSCORE").arg(&self.keys().inflight_index).arg(now - SWEPT.as_secs_f64()).arg("+inf");
        let answers = self.link().call(&mut ask).await?;
        let living: BTreeSet<String> = answers.first().map(texts).unwrap_or_default().into_iter().collect();
        let dead = inflight.iter().filter(|(worker, _)| !living.contains(*worker));
        let lists: Vec<&String> = dead.flat_map(|(_, keys)| keys).collect();
        let mut count = 0;
        for keys in lists.chunks(STEP) {
            let mut ask = Pipeline::new();
            keys.iter().for_each(|key| {
                ask.cmd("LLEN").arg(key);
            });
            count += self.link().call(&mut ask).await?.iter().map(number).sum::<u64>();
        }
        Ok(match count {
            0 => Vec::new(),
            count => vec![Finding::problem(
                SUBJECT,
                format!("{count} message(s) are held by celeriac workers that no longer exist"),
                "start a celeriac worker, which brings them back, or run celeriac recover",
            )],
        })
    }

    /// Looks for messages that kombu's bookkeeping has lost, or that nobody has brought back though their time is over.
    async fn unacked(&self, visibility: Duration, now: f64) -> Result<Vec<Finding>, BrokerError> {
        let keys = self.keys();
        let overdue = now - visibility.as_secs_f64() - OVERDUE.as_secs_f64();
        let mut ask = Pipeline::new();
        ask.atomic();
        ask.cmd("HLEN").arg(&keys.unacked);
        ask.cmd("ZCARD").arg(&keys.unacked_index);
        ask.cmd("ZCOUNT").arg(&keys.unacked_index).arg("-inf").arg(overdue);
        let answers = self.link().call(&mut ask).await?;
        let answers = match answers.last() {
            Some(Value::Array(answers)) if answers.len() == 3 => answers.clone(),
            _ => answers,
        };
        let [held, indexed, late] = [0, 1, 2].map(|index| answers.get(index).map_or(0, number));
        let mut findings = Vec::new();
        if held > indexed {
            findings.push(Finding::problem(
                SUBJECT,
                format!("{} message(s) of {} are not in {}: nobody brings them back", held - indexed, keys.unacked, keys.unacked_index),
                format!("stop all workers, and add each field of {} to {} with a score of 0 (ZADD): the next worker puts the messages back into their queues", keys.unacked, keys.unacked_index),
            ));
        }
        if late > 0 {
            findings.push(Finding::problem(
                SUBJECT,
                format!("{late} message(s) were held for longer than the visibility timeout of {} s, and no worker has brought them back", visibility.as_secs_f64()),
                "start a worker, or run celeriac recover",
            ));
        }
        Ok(findings)
    }

    /// Returns the server's time in Unix seconds; this machine's if it does not tell.
    async fn server_time(&self) -> Result<f64, BrokerError> {
        let mut ask = Pipeline::new();
        ask.cmd("TIME");
        let answers = self.link().send(&mut ask).await?;
        let mut clock = ServerClock::default();
        answers.first().into_iter().for_each(|time| clock.set(time));
        Ok(clock.now())
    }

    /// Looks for replies that nobody has read and that never expire.
    async fn stale_replies(&self, keys: &[String]) -> Result<Vec<Finding>, BrokerError> {
        let mut stale = 0;
        for keys in keys.chunks(STEP) {
            let mut ask = Pipeline::new();
            keys.iter().for_each(|key| {
                ask.cmd("TTL").arg(key);
            });
            let answers = self.link().call(&mut ask).await?;
            stale += answers.iter().filter(|answer| **answer == Value::Int(-1)).count();
        }
        Ok(match stale {
            0 => Vec::new(),
            stale => vec![Finding::warning(
                SUBJECT,
                format!("{stale} list(s) of replies to inspect commands (*{REPLIES}) never expire"),
                "delete those whose client is gone; clients of kombu before 5.7 leave them",
            )],
        })
    }

    /// Returns the queues that tasks are sent to, and how many messages wait in each.
    async fn bound_queues(
        &self,
        bindings: &[String],
    ) -> Result<(BTreeMap<String, u64>, Vec<Finding>), BrokerError> {
        let (mut names, mut findings) = (BTreeSet::new(), Vec::new());
        for key in bindings {
            let mut ask = Pipeline::new();
            ask.cmd("SCARD").arg(key);
            let answers = self.link().send(&mut ask).await?;
            let size = answers.first().map_or(0, number);
            if size > MANY_BINDINGS {
                findings.push(Finding::warning(
                    SUBJECT,
                    format!("{key} has {size} bindings: each message to it is copied that often"),
                    "clients that died have left them; one that asks celeriac's workers sweeps what is an hour old",
                ));
                continue;
            }
            if key.ends_with("pidbox") || key.ends_with(".celeryev") {
                continue;
            }
            let mut ask = Pipeline::new();
            ask.cmd("SMEMBERS").arg(key);
            let members = self.link().send(&mut ask).await?.first().map(texts).unwrap_or_default();
            names.extend(
                members.iter().filter_map(|member| Some(self.keys().parse_binding(member)?.2.to_owned())),
            );
        }
        let names: Vec<String> = names.into_iter().collect();
        let lengths = self.lengths(&names).await?.unwrap_or_default();
        Ok((names.into_iter().zip(lengths).collect(), findings))
    }
}

fn number(answer: &Value) -> u64 {
    if let Value::Int(number) = answer { u64::try_from(*number).unwrap_or(0) } else { 0 }
}

#[cfg(test)]
mod tests {
    #[test]
    fn prefixes_are_matched_literally() {
        assert_eq!(super::literally("{a}*b[1]?"), r"{a}\*b\[1\]\?");
    }
}
