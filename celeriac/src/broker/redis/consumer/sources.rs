//! The lists that are consumed from, what is known of their lengths, and in which turn they are served.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Pipeline, Value};

use crate::broker::redis::Keys;
use crate::broker::redis::exchange::move_one;

/// How often an idle consumer looks at its queues although nothing woke it.
pub(super) const IDLE_POLL: Duration = Duration::from_secs(1);

/// One list: a priority step of a queue.
struct Source {
    queue: Arc<str>,
    key: String,
    waiting: usize,
    /// Whether that is all, as far as the server has told.
    is_sure: bool,
}

impl Source {
    /// Notes that the list has changed.
    fn change(&mut self) {
        self.waiting = self.waiting.max(1);
        self.is_sure = false;
    }
}

/// The lists of all queues: all queues' first steps, then all queues' second steps, as kombu serves them.
pub(super) struct Sources {
    lists: Vec<Source>,
    queues: Vec<Arc<str>>,
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
    /// The length of each.
    Lengths,
    /// How many of them are not empty.
    Any,
}

impl Sources {
    pub(super) fn new() -> Self {
        Self { lists: Vec::new(), queues: Vec::new(), steps: 0, first: 0, looked: Instant::now() }
    }

    /// Consumes from those queues from now on; what is known of them stays unless they changed, which is returned.
    pub(super) fn set_queues(&mut self, queues: Vec<Arc<str>>, keys: &Keys) -> bool {
        if queues == self.queues && !self.lists.is_empty() {
            return false;
        }
        self.lists.clear();
        self.steps = keys.steps();
        for step in 0..self.steps {
            for queue in &queues {
                let key = keys.queue_steps(queue).swap_remove(step);
                self.lists.push(Source { queue: Arc::clone(queue), key, waiting: 1, is_sure: false });
            }
        }
        self.queues = queues;
        self.first = 0;
        true
    }

    /// The queues that are consumed from.
    pub(super) fn queues(&self) -> &[Arc<str>] {
        &self.queues
    }

    /// Forgets what is known, as the connection that was told of changes is gone.
    pub(super) fn forget(&mut self) {
        self.queues.clear();
        self.lists.clear();
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
        for step in 0..self.steps {
            // Fair among the queues of one step: one message each in turn, starting behind the queue served last.
            while room > 0 {
                let before = taken.len();
                for offset in 0..queues {
                    let list = step * queues + (self.first + offset) % queues;
                    let source = &mut self.lists[list];
                    if source.waiting > 0 && room > 0 {
                        source.waiting -= 1;
                        room -= 1;
                        if full {
                            commands.add_command(move_one(&source.key, target));
                        } else {
                            commands.cmd("LMOVE").arg(&source.key).arg(target).arg("RIGHT").arg("LEFT");
                        }
                        taken.push(list);
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

    /// Asks how much waits in each list after a change, and now and then while idle whether anything waits at all.
    pub(super) fn look(&mut self, changed: bool, has_room: bool, commands: &mut Pipeline) -> Option<Look> {
        let idle = has_room && self.looked.elapsed() >= IDLE_POLL;
        if !(changed || idle) || self.lists.is_empty() {
            return None;
        }
        self.looked = Instant::now();
        if changed {
            for source in &self.lists {
                commands.cmd("LLEN").arg(&source.key);
            }
            return Some(Look::Lengths);
        }
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
                for source in &mut self.lists {
                    source.waiting = match replies.next() {
                        Some(Value::Int(length)) => usize::try_from(length).unwrap_or(0),
                        _ => 0,
                    };
                    source.is_sure = true;
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
            if let Value::BulkString(key) = key
                && let Some(source) = self.lists.iter_mut().find(|source| source.key.as_bytes() == &key[..])
            {
                source.change();
            }
        }
    }
}
