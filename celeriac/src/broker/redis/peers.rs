//! Traces of workers that use the same queues under other names: another `global_keyprefix`, another `sep`.

use std::sync::Arc;

use redis::{Pipeline, Value};

use super::{Queues, texts};
use crate::broker::{BrokerError, ForeignBindings};

/// How many keys are looked at for other prefixes: at a time, and how many times.
const SCANNED: (usize, usize) = (1000, 100);
/// How many other prefixes are looked into.
const PREFIXES: usize = 10;
/// What stands in front of an exchange's name in the key of its bindings.
const BINDINGS: &str = "_kombu.binding.";

impl Queues {
    /// Looks for bindings of those queues under other names at the same broker: within limits, and not in a cluster,
    /// where the keys of one node are not those of all.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker cannot be reached or refuses.
    pub(crate) async fn foreign_bindings(&self, queues: &[String]) -> Result<ForeignBindings, BrokerError> {
        let mut found = ForeignBindings::default();
        if self.link().endpoint().is_cluster() {
            return Ok(found);
        }
        let (count, times) = SCANNED;
        let mut cursor = "0".to_owned();
        for _ in 0..times {
            let mut scan = Pipeline::new();
            scan.cmd("SCAN").arg(&cursor).arg("MATCH").arg(format!("*{BINDINGS}*")).arg("COUNT").arg(count);
            let replies = self.link().call(&mut scan).await?;
            let Some(Value::Array(parts)) = replies.first() else { break };
            let [next, names] = parts.as_slice() else { break };
            for key in texts(names) {
                self.look_into(&key, queues, &mut found).await?;
            }
            cursor = match next {
                Value::BulkString(next) => String::from_utf8_lossy(next).into_owned(),
                _ => break,
            };
            if cursor == "0" {
                break;
            }
        }
        Ok(found)
    }

    async fn look_into(
        &self,
        key: &str,
        queues: &[String],
        found: &mut ForeignBindings,
    ) -> Result<(), BrokerError> {
        let Some((prefix, _)) = key.split_once(BINDINGS) else { return Ok(()) };
        if found.prefixes.len() == PREFIXES && !found.prefixes.contains_key(prefix) {
            return Ok(());
        }
        let mut read = Pipeline::new();
        read.cmd("SMEMBERS").arg(key);
        let members = self.link().call(&mut read).await?.first().map(texts).unwrap_or_default();
        for queue in queues {
            for separator in members.iter().filter_map(|member| separator_of(member, queue)) {
                if prefix != self.prefix() {
                    found.prefixes.entry(prefix.to_owned()).or_default().insert(queue.clone());
                } else if separator != self.separator() {
                    found.separators.entry(separator.to_owned()).or_default().insert(queue.clone());
                }
            }
        }
        Ok(())
    }

    /// Returns the prefix of all names at the broker (`global_keyprefix`).
    pub(crate) fn prefix(&self) -> &str {
        self.keys().global_prefix()
    }

    /// Returns the separator within names at the broker (`sep`).
    pub(crate) fn separator(&self) -> &str {
        self.keys().separator()
    }

    /// Returns the same broker as a node with another prefix sees it.
    pub(crate) fn under(&self, prefix: &str) -> Self {
        self.over(self.link().clone(), Arc::new(self.keys().under(prefix)))
    }
}

/// Returns the separator with which a member of a set of bindings binds that queue, if it does so without a pattern and
/// by the queue's own name, as queues usually are.
fn separator_of<'a>(member: &'a str, queue: &str) -> Option<&'a str> {
    let twice = member.strip_prefix(queue)?.strip_suffix(queue)?;
    let (first, second) = twice.split_at_checked(twice.len() / 2)?;
    (first == second && !first.is_empty()).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_tells_its_separator() {
        assert_eq!(separator_of("celery\u{6}\u{16}\u{6}\u{16}celery", "celery"), Some("\u{6}\u{16}"));
        assert_eq!(separator_of("celery::celery", "celery"), Some(":"));
        assert_eq!(separator_of("my-celery::my-celery", "celery"), None);
        assert_eq!(separator_of("celery", "celery"), None);
    }
}
