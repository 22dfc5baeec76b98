//! The lists that are consumed from, what is known of their lengths, and in which turn they are served.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Arg, Cmd, Pipeline, Value};

use crate::broker::redis::Keys;
use crate::broker::redis::exchange::move_one;
use crate::config::QueueOrder;

/// How often an idle consumer looks at its queues although nothing woke it.
pub(super) const IDLE_POLL: Duration = Duration::from_secs(1);

/// One list: a priority step of a queue.
struct Source {
    queue: Arc<str>,
    key: String,
    waiting: usize,
    /// Whether that is all, as far as the server has told.
    is_sure: bool,
    /// Whether its length is to be asked: somebody changed it, or this worker did, after which the server announces no
    /// further change until the list is read again.
    is_stale: bool,
}

impl Source {
    /// Notes that the list has changed.
    fn change(&mut self) {
        self.waiting = self.waiting.max(1);
        self.is_sure = false;
        self.is_stale = true;
    }
}

/// The lists of all queues: all queues' first steps, then all queues' second steps, as kombu serves them.
pub(super) struct Sources {
    /// In which order the queues of one step are served (`queue_order_strategy`).
    order: QueueOrder,
    lists: Vec<Source>,
    /// Where the list of a key stands among them.
    by_key: HashMap<Vec<u8>, usize>,
    queues: Arc<[Arc<str>]>,
    steps: usize,
    /// The queue that is served first in the next turn.
    first: usize,
    looked: Instant,
}

/// Messages that a round trip moves: from which list each, and to which in-flight list all of them.
pub(super) struct Fetch {
    pub(super) slot: usize,
    /// One number of a list for each message.
    pub(super) lists: Vec<usize>,
}

/// What was asked about the lists.
#[derive(Clone, Copy)]
pub(super) enum Look {
    /// The length of each that may have changed.
    Lengths,
    /// How many of them are not empty.
    Any,
}

impl Sources {
    pub(super) fn new(order: QueueOrder) -> Self {
        Self {
            order,
            lists: Vec::new(),
            by_key: HashMap::new(),
            queues: Arc::default(),
            steps: 0,
            first: 0,
            looked: Instant::now(),
        }
    }

    /// Consumes from those queues from now on; what is known of them stays unless they changed, which is returned.
    pub(super) fn set_queues(&mut self, queues: Arc<[Arc<str>]>, keys: &Keys) -> bool {
        if Arc::ptr_eq(&queues, &self.queues) && !self.lists.is_empty() {
            return false;
        }
        self.lists.clear();
        self.by_key.clear();
        self.steps = keys.steps();
        let mut served = queues.to_vec();
        if self.order == QueueOrder::Sorted {
            served.sort();
        }
        for step in 0..self.steps {
            for queue in &served {
                let (queue, key) = (Arc::clone(queue), keys.queue_steps(queue).swap_remove(step));
                self.by_key.insert(key.clone().into_bytes(), self.lists.len());
                self.lists.push(Source { queue, key, waiting: 1, is_sure: false, is_stale: true });
            }
        }
        self.queues = queues;
        self.first = 0;
        true
    }

    /// The queues that are consumed from.
    pub(super) fn queues(&self) -> &Arc<[Arc<str>]> {
        &self.queues
    }

    /// Forgets what is known, as the connection that was told of changes is gone.
    pub(super) fn forget(&mut self) {
        self.queues = Arc::default();
        self.lists.clear();
        self.by_key.clear();
    }

    /// Whether messages may be waiting.
    pub(super) fn is_waiting(&self) -> bool {
        self.lists.iter().any(|source| source.waiting > 0)
    }

    /// The queue of a list.
    pub(super) fn queue(&self, list: usize) -> Arc<str> {
        Arc::clone(&self.lists[list].queue)
    }

    /// Writes the commands that move up to `room` messages to the list `target`; returns from which list each comes.
    pub(super) fn fetch(
        &mut self,
        mut room: usize,
        target: &str,
        full: bool,
        commands: &mut Pipeline,
    ) -> Vec<usize> {
        let mut taken = Vec::new();
        let queues = self.queues.len();
        if self.order != QueueOrder::RoundRobin {
            for list in 0..self.lists.len() {
                let count = self.lists[list].waiting.min(room);
                (0..count).for_each(|_| self.take(list, target, full, commands, &mut taken));
                room -= count;
                // More may be waiting here, and nothing that is served later goes before it.
                if room == 0 || !self.lists[list].is_sure {
                    break;
                }
            }
            return taken;
        }
        for step in 0..self.steps {
            // Fair among the queues of one step: one message each in turn, starting behind the queue served last.
            while room > 0 {
                let before = taken.len();
                for offset in 0..queues {
                    let list = step * queues + (self.first + offset) % queues;
                    if self.lists[list].waiting > 0 && room > 0 {
                        room -= 1;
                        self.take(list, target, full, commands, &mut taken);
                    }
                }
                self.first = (self.first + 1) % queues.max(1);
                if taken.len() == before {
                    break;
                }
            }
            // More may be waiting here, and nothing of a lower priority goes before it.
            if self.lists[step * queues..(step + 1) * queues].iter().any(|source| !source.is_sure) {
                break;
            }
        }
        taken
    }

    /// Writes the command that moves one message of a list.
    fn take(
        &mut self,
        list: usize,
        target: &str,
        full: bool,
        commands: &mut Pipeline,
        taken: &mut Vec<usize>,
    ) {
        let source = &mut self.lists[list];
        source.waiting -= 1;
        source.is_stale = true;
        if full {
            commands.add_command(move_one(&source.key, target));
        } else {
            commands.cmd("LMOVE").arg(&source.key).arg(target).arg("RIGHT").arg("LEFT");
        }
        taken.push(list);
    }

    /// Notes the lists to which those commands of this worker push, which the server does not announce to it; returns
    /// whether there are any.
    pub(super) fn note_pushes<'a>(&mut self, commands: impl Iterator<Item = &'a Cmd>) -> bool {
        let mut any = false;
        for command in commands {
            let mut arguments = command.args_iter().filter_map(|argument| match argument {
                Arg::Simple(bytes) => Some(bytes),
                _ => None,
            });
            let count = match arguments.next() {
                Some(b"LPUSH" | b"RPUSH") => 1,
                Some(b"EVAL") => keys_of_script(arguments.nth(1)),
                _ => continue,
            };
            if count == 0 {
                // A script that carries out other commands.
                self.note_changes(None);
                return true;
            }
            for key in arguments.take(count) {
                any |= self.note_change(key);
            }
        }
        any
    }

    /// Asks how much waits in the lists that may have changed, and now and then while idle whether anything waits at all.
    pub(super) fn look(&mut self, changed: bool, has_room: bool, commands: &mut Pipeline) -> Option<Look> {
        let idle = has_room && self.looked.elapsed() >= IDLE_POLL;
        if !(changed || idle) || self.lists.is_empty() {
            return None;
        }
        if changed {
            for source in self.lists.iter().filter(|source| source.is_stale) {
                commands.cmd("LLEN").arg(&source.key);
            }
            return Some(Look::Lengths);
        }
        self.looked = Instant::now();
        let exist = commands.cmd("EXISTS");
        for source in &self.lists {
            exist.arg(&source.key);
        }
        Some(Look::Any)
    }

    /// Reads the replies to [`Sources::look`].
    pub(super) fn note_look(&mut self, look: Look, replies: &mut impl Iterator<Item = Value>) {
        match look {
            Look::Lengths => {
                // No list became stale since they were asked.
                for source in self.lists.iter_mut().filter(|source| source.is_stale) {
                    source.waiting = match replies.next() {
                        Some(Value::Int(length)) => usize::try_from(length).unwrap_or(0),
                        _ => 0,
                    };
                    source.is_sure = true;
                    source.is_stale = false;
                }
            }
            Look::Any => {
                if replies.next() != Some(Value::Int(0)) {
                    self.note_changes(None);
                }
            }
        }
    }

    /// Notes that the server announced changes of those keys, or of any if it does not say which.
    pub(super) fn note_changes(&mut self, keys: Option<&Value>) {
        let Some(Value::Array(keys)) = keys else {
            self.lists.iter_mut().for_each(Source::change);
            return;
        };
        for key in keys {
            if let Value::BulkString(key) = key {
                self.note_change(key);
            }
        }
    }

    /// Notes that the list of that key has changed; returns whether it is one of these.
    fn note_change(&mut self, key: &[u8]) -> bool {
        let list = self.by_key.get(key).copied();
        list.map(|list| self.lists[list].change()).is_some()
    }
}

/// How many keys a script is given.
fn keys_of_script(argument: Option<&[u8]>) -> usize {
    argument.and_then(|count| std::str::from_utf8(count).ok()?.parse().ok()).unwrap_or(0)
}
