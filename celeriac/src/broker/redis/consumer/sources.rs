//! The lists that are consumed from, what is known of their lengths, and in which turn they are served.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Pipeline, Value};

use crate::broker::redis::Keys;

/// How often an idle consumer looks at its queues although nothing woke it.
pub(super) const IDLE_POLL: Duration = Duration::from_secs(1);

/// One list: a priority step of a queue.
struct Source {
    queue: Arc<str>,
    key: String,
    waiting: usize,
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

impl Sources {
    pub(super) fn new() -> Self {
        Self { lists: Vec::new(), queues: Vec::new(), steps: 0, first: 0, looked: Instant::now() }
    }

    /// Consumes from those queues from now on; what is known of them stays unless they changed.
    pub(super) fn set_queues(&mut self, queues: Vec<Arc<str>>, keys: &Keys) {
        if queues == self.queues && !self.lists.is_empty() {
            return;
        }
        self.lists.clear();
        self.steps = keys.steps();
        for step in 0..self.steps {
            for queue in &queues {
                let key = keys.queue_steps(queue).swap_remove(step);
                self.lists.push(Source { queue: Arc::clone(queue), key, waiting: 1 });
            }
        }
        self.queues = queues;
        self.first = 0;
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
    pub(super) fn fetch(&mut self, mut room: usize, target: &str, commands: &mut Pipeline) -> Vec<usize> {
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
                        commands.cmd("LMOVE").arg(&source.key).arg(target).arg("RIGHT").arg("LEFT");
                        taken.push(list);
                    }
                }
                self.first = (self.first + 1) % queues.max(1);
                if taken.len() == before {
                    break;
                }
            }
        }
        taken
    }

    /// Asks how much waits in each list: after each change, and now and then while idle.
    pub(super) fn look(&mut self, changed: bool, has_room: bool, commands: &mut Pipeline) -> bool {
        let idle = has_room && self.looked.elapsed() >= IDLE_POLL;
        if !(changed || idle) || self.lists.is_empty() {
            return false;
        }
        self.looked = Instant::now();
        for source in &self.lists {
            commands.cmd("LLEN").arg(&source.key);
        }
        true
    }

    /// Reads the replies to [`Sources::look`].
    pub(super) fn note_lengths(&mut self, replies: &mut impl Iterator<Item = Value>) {
        for source in &mut self.lists {
            source.waiting = match replies.next() {
                Some(Value::Int(length)) => usize::try_from(length).unwrap_or(0),
                _ => 0,
            };
        }
    }

    /// Notes that the server announced changes of those keys, or of any if it does not say which.
    pub(super) fn note_changes(&mut self, keys: Option<&Value>) {
        let Some(Value::Array(keys)) = keys else {
            self.lists.iter_mut().for_each(|source| source.waiting = source.waiting.max(1));
            return;
        };
        for key in keys {
            if let Value::BulkString(key) = key
                && let Some(source) = self.lists.iter_mut().find(|source| source.key.as_bytes() == &key[..])
            {
                source.waiting = source.waiting.max(1);
            }
        }
    }
}
