//! The lists that are consumed from, their lengths as far as they are known, and the turn in which they are served.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Arg, Cmd, Pipeline, Value};

use super::sizes::Size;
use super::source::{Asks, Source};
use crate::broker::Room;
use crate::broker::redis::Keys;
use crate::broker::redis::exchange::move_one;
use crate::config::QueueOrder;

/// How often an idle consumer looks at its queues although nothing woke it.
pub(super) const IDLE_POLL: Duration = Duration::from_secs(1);
/// How often an idle consumer looks at its queues that no announcement reaches: at most, just after a change.
const FIRST_POLL: Duration = Duration::from_millis(10);
/// The longest pause between two such looks.
const LAST_POLL: Duration = Duration::from_millis(200);
/// Most messages that are asked for at a time of a list whose length the server does not tell.
const MOST_GUESSED: usize = 64;

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
    /// Whether the server refuses some lists, or does not tell their lengths.
    is_limited: bool,
    /// Whether the server tells nothing of some lists.
    is_blind: bool,
    /// The pause between two looks while idle, if the server announces no changes.
    poll: Option<Duration>,
    /// Whether messages are moved by a script, as `LMOVE` is refused.
    moves_by_script: bool,
    /// The sizes of the messages of all lists.
    size: Size,
}

/// Messages that a round trip moves: from which list each, and to which in-flight list all of them.
pub(super) struct Fetch {
    pub(super) slot: usize,
    /// One number of a list for each message.
    pub(super) lists: Vec<usize>,
}

/// A question about the lists.
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
            is_limited: false,
            is_blind: false,
            poll: None,
            moves_by_script: false,
            size: Size::default(),
        }
    }

    /// Consumes from those queues from now on; what is known of them stays unless they changed, which is returned.
    pub(super) fn set_queues(&mut self, queues: Arc<[Arc<str>]>, keys: &Keys) -> bool {
        if Arc::ptr_eq(&queues, &self.queues) && !queues.is_empty() {
            return false;
        }
        let refused: Vec<Source> = self.lists.drain(..).filter(|source| source.refused.is_some()).collect();
        self.is_limited = !refused.is_empty();
        self.is_blind = false;
        self.by_key.clear();
        self.steps = keys.steps();
        let mut served = queues.to_vec();
        if self.order == QueueOrder::Sorted {
            served.sort();
        }
        for step in 0..self.steps {
            for queue in &served {
                let key = keys.queue_steps(queue).swap_remove(step);
                let refused =
                    refused.iter().find(|source| source.key == key).and_then(|source| source.refused);
                self.by_key.insert(key.clone().into_bytes(), self.lists.len());
                self.lists.push(Source {
                    queue: Arc::clone(queue),
                    key,
                    waiting: usize::from(refused.is_none()),
                    is_sure: refused.is_some(),
                    is_stale: true,
                    is_asked: false,
                    asks: Asks::Length,
                    size: Size::default(),
                    refused,
                });
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
    }

    /// Notes whether the server announces changes, and whether it takes `LMOVE`.
    pub(super) fn set_rights(&mut self, announces: bool, moves: bool) {
        self.poll = (!announces).then_some(FIRST_POLL);
        self.moves_by_script = !moves;
    }

    /// Whether messages may be waiting.
    pub(super) fn is_waiting(&self) -> bool {
        self.lists.iter().any(|source| source.waiting > 0)
            || (self.is_limited && self.lists.iter().any(Source::is_due))
    }

    /// When there is something to look at although nothing was announced.
    pub(super) fn wake_in(&self, has_room: bool) -> Duration {
        match self.poll {
            _ if !has_room => IDLE_POLL,
            Some(poll) => poll,
            None if self.is_blind => LAST_POLL,
            None => IDLE_POLL,
        }
    }

    /// Notes the size of a message that came from elsewhere.
    pub(super) fn note_size(&mut self, size: usize) {
        self.size.note(size);
    }

    /// Returns the size that a message is expected to have, in bytes, whichever list it comes from.
    pub(super) fn expected_size(&self) -> usize {
        self.size.expected(Size::default())
    }

    /// Writes the commands that move messages to the list `target`, as many as there is room for as far as their sizes can
    /// be expected; returns from which list each comes.
    pub(super) fn fetch(
        &mut self,
        mut room: Room,
        target: &str,
        full: bool,
        commands: &mut Pipeline,
    ) -> Vec<usize> {
        let mut taken = Vec::new();
        let queues = self.queues.len();
        let by_script = full || self.moves_by_script;
        if self.is_limited {
            self.lists.iter_mut().filter(|source| source.is_due()).for_each(|source| source.waiting = 1);
        }
        if self.order != QueueOrder::RoundRobin {
            for list in 0..self.lists.len() {
                let size = self.lists[list].size.expected(self.size);
                let count = self.lists[list].waiting.min(room.count(size));
                (0..count).for_each(|_| self.take(list, target, by_script, commands, &mut taken));
                room = room.without(Room::new(count, count * size));
                // More may be waiting here, and nothing that is served later goes before it.
                if room.is_empty() || self.lists[list].waiting > 0 || !self.lists[list].is_sure {
                    break;
                }
            }
            return taken;
        }
        for step in 0..self.steps {
            // Fair among the queues of one step: one message each in turn, starting behind the queue served last.
            while !room.is_empty() {
                let before = taken.len();
                for offset in 0..queues {
                    let list = step * queues + (self.first + offset) % queues;
                    if self.lists[list].waiting > 0 && !room.is_empty() {
                        room = room.without(Room::new(1, self.lists[list].size.expected(self.size)));
                        self.take(list, target, by_script, commands, &mut taken);
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
        by_script: bool,
        commands: &mut Pipeline,
        taken: &mut Vec<usize>,
    ) {
        let source = &mut self.lists[list];
        source.waiting -= 1;
        source.is_stale = true;
        if by_script {
            commands.add_command(move_one(&source.key, target));
        } else {
            commands.cmd("LMOVE").arg(&source.key).arg(target).arg("RIGHT").arg("LEFT");
        }
        taken.push(list);
    }

    /// The queues of lists.
    pub(super) fn queues_of(&self, lists: &[usize]) -> Vec<Arc<str>> {
        let mut queues: Vec<Arc<str>> =
            lists.iter().map(|list| Arc::clone(&self.lists[*list].queue)).collect();
        queues.dedup();
        queues
    }

    /// Notes that the server has moved a message of that size from a list; returns its queue.
    pub(super) fn note_moved(&mut self, list: usize, size: usize) -> Arc<str> {
        self.size.note(size);
        let source = &mut self.lists[list];
        source.size.note(size);
        match &mut source.asks {
            Asks::Length => {}
            Asks::Existence(guess) => *guess = (*guess * 2).min(MOST_GUESSED),
            Asks::Nothing(guess) => {
                *guess = (*guess * 2).min(MOST_GUESSED);
                source.waiting = *guess;
            }
        }
        Arc::clone(&source.queue)
    }

    /// Notes that the server has nothing more in a list.
    pub(super) fn note_empty(&mut self, list: usize) {
        let source = &mut self.lists[list];
        if let Asks::Existence(guess) | Asks::Nothing(guess) = &mut source.asks {
            (*guess, source.waiting, source.is_sure) = (1, 0, true);
        }
    }

    /// Notes that the server takes the list as one; returns its queue if that is new and holds for all its lists.
    pub(super) fn note_taken(&mut self, list: usize) -> Option<Arc<str>> {
        if !self.is_limited {
            return None;
        }
        self.lists[list].refused.take()?;
        self.lists[list].change();
        let queue = &self.lists[list].queue;
        let still = self.lists.iter().any(|source| source.refused.is_some() && source.queue == *queue);
        (!still).then(|| Arc::clone(queue))
    }

    /// Leaves a list alone for a while, as the server refuses to move a message from it; returns its queue.
    pub(super) fn note_refused(&mut self, list: usize) -> Arc<str> {
        self.is_limited = true;
        let source = &mut self.lists[list];
        (source.waiting, source.is_sure, source.refused) = (0, true, Some(Instant::now()));
        Arc::clone(&source.queue)
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
        let idle = has_room && self.looked.elapsed() >= self.wake_in(true);
        if !(changed || idle) || self.lists.is_empty() {
            return None;
        }
        if changed {
            for source in self.lists.iter_mut().filter(|source| source.is_stale && source.refused.is_none()) {
                match source.asks {
                    Asks::Length => commands.cmd("LLEN").arg(&source.key),
                    Asks::Existence(_) => commands.cmd("EXISTS").arg(&source.key),
                    Asks::Nothing(_) => continue,
                };
                source.is_asked = true;
            }
            return Some(Look::Lengths);
        }
        self.looked = Instant::now();
        let mut exist = redis::cmd("EXISTS");
        for source in &mut self.lists {
            match source.asks {
                Asks::Nothing(guess) if source.refused.is_none() => source.waiting = guess,
                _ if source.refused.is_none() => {
                    exist.arg(&source.key);
                }
                _ => {}
            }
        }
        if exist.args_iter().len() == 1 {
            return None;
        }
        commands.add_command(exist);
        Some(Look::Any)
    }

    /// Reads the replies to [`Sources::look`].
    pub(super) fn note_look(&mut self, look: Look, replies: &mut impl Iterator<Item = Value>) {
        match look {
            Look::Lengths => {
                for source in self.lists.iter_mut().filter(|source| source.is_asked) {
                    source.note(replies.next());
                    self.is_limited |= source.asks != Asks::Length;
                    self.is_blind |= matches!(source.asks, Asks::Nothing(_));
                }
            }
            Look::Any => {
                if replies.next() != Some(Value::Int(0)) {
                    self.note_changes(None);
                } else if let Some(poll) = &mut self.poll {
                    *poll = (*poll * 2).min(LAST_POLL);
                }
            }
        }
    }

    /// Notes that the server announced changes of those keys, or of any if it does not say which.
    pub(super) fn note_changes(&mut self, keys: Option<&Value>) {
        let Some(Value::Array(keys)) = keys else {
            self.poll = self.poll.map(|_| FIRST_POLL);
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
