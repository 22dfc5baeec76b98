//! Batches for a Redis server: commands and their replies.

use redis::{Cmd, Value};

use super::exchange::{arguments, guarded};
use super::selection::Selection;
use crate::broker::{Answers, Batch};

/// Commands that take effect together.
///
/// Those of broker and result backend may be for two databases, which share no keys: only the order among those of each
/// matters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commands {
    /// For the broker's database.
    pub(super) broker: Vec<Cmd>,
    /// For the database of the results.
    pub(super) results: Vec<Cmd>,
    /// How many of those for results stand before the first one for the broker.
    ahead: usize,
}

/// The replies to commands, in their order.
#[derive(Debug, Default)]
pub(crate) struct Replies(Vec<Value>);

impl Commands {
    pub(crate) fn is_empty(&self) -> bool {
        self.broker.is_empty() && self.results.is_empty()
    }

    /// Those for the results that stand in front of those for the broker, these, and those that stand behind.
    pub(crate) fn into_steps(self) -> [Batch; 3] {
        let Self { broker, mut results, ahead } = self;
        let behind = results.split_off(if broker.is_empty() { 0 } else { ahead.min(results.len()) });
        [Batch::of_results(results), broker.into(), Batch::of_results(behind)]
    }

    /// All of them, those for the broker first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Cmd> {
        self.broker.iter().chain(&self.results)
    }

    /// That one of all.
    pub(super) fn get(&self, index: usize) -> Option<&Cmd> {
        self.iter().nth(index)
    }

    /// Keeps only those for which that holds.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Cmd) -> bool) {
        let ahead = self.results.iter().take(self.ahead).filter(|command| keep(command)).count();
        self.broker.retain(&mut keep);
        self.results.retain(&mut keep);
        self.ahead = ahead;
    }

    /// Those with these numbers among all.
    pub(super) fn only(&self, numbers: impl Iterator<Item = usize>) -> Self {
        let mut only = Self::default();
        for number in numbers {
            match number.checked_sub(self.broker.len()) {
                None => only.broker.push(self.broker[number].clone()),
                Some(number) => {
                    only.ahead += usize::from(number < self.ahead);
                    only.results.extend(self.results.get(number).cloned());
                }
            }
        }
        only
    }

    pub(crate) fn append(&mut self, others: Self) {
        if self.broker.is_empty() && !others.broker.is_empty() {
            self.ahead = self.results.len() + others.ahead;
        }
        append(&mut self.broker, others.broker);
        append(&mut self.results, others.results);
    }
}

impl From<Vec<Cmd>> for Commands {
    fn from(commands: Vec<Cmd>) -> Self {
        Self { broker: commands, ..Self::default() }
    }
}

fn append(commands: &mut Vec<Cmd>, others: Vec<Cmd>) {
    if commands.is_empty() {
        *commands = others;
    } else {
        commands.extend(others);
    }
}

impl From<Vec<Cmd>> for Batch {
    fn from(commands: Vec<Cmd>) -> Self {
        if commands.is_empty() { Self::Empty } else { Self::Redis(commands.into()) }
    }
}

impl From<Cmd> for Batch {
    fn from(command: Cmd) -> Self {
        vec![command].into()
    }
}

impl From<Vec<Value>> for Answers {
    fn from(replies: Vec<Value>) -> Self {
        Self::Redis(Replies(replies))
    }
}

impl Batch {
    /// The writes as the arguments of Redis commands, for a program that commits them with its own.
    pub(crate) fn into_arguments(self) -> Vec<Vec<Vec<u8>>> {
        let bytes = |command: &Cmd| arguments(command).map(<[u8]>::to_vec).collect();
        let Commands { broker, results, .. } = self.into_commands();
        results.iter().chain(&broker).map(bytes).collect()
    }

    /// Commands of the result backend.
    pub(crate) fn of_results(commands: Vec<Cmd>) -> Self {
        if commands.is_empty() {
            Self::Empty
        } else {
            Self::Redis(Commands { results: commands, ..Commands::default() })
        }
    }

    /// The commands, for the consumer and the links of this folder.
    pub(crate) fn into_commands(self) -> Commands {
        match self {
            Self::Redis(commands) => commands,
            // A batch of another kind never comes here.
            _ => Commands::default(),
        }
    }

    /// The commands, for a result backend that carries them out by itself.
    pub(crate) fn into_results(self) -> Vec<Cmd> {
        let Commands { mut broker, results, .. } = self.into_commands();
        append(&mut broker, results);
        broker
    }
}

impl Replies {
    /// Whether the guard in front allowed what was behind it.
    pub(crate) fn were_allowed(&self) -> bool {
        self.0.first() != Some(&Value::Int(0))
    }
}

impl Answers {
    /// The replies, none when they were lost.
    pub(crate) fn into_replies(self) -> Vec<Value> {
        match self {
            Self::Redis(Replies(replies)) => replies,
            _ => Vec::new(),
        }
    }
}

/// Returns the commands of `then`, in that order, behind a guard of one command, as one command for the broker.
pub(crate) fn guarded_batch<const N: usize>(
    selection: Option<&Selection>,
    guard: Batch,
    then: [Batch; N],
) -> Batch {
    if guard.is_empty() {
        return then.into_iter().fold(Batch::Empty, Batch::and);
    }
    let mut all = Vec::new();
    for Commands { broker, results, .. } in std::iter::once(guard).chain(then).map(Batch::into_commands) {
        all.extend(broker.into_iter().map(|command| (command, false)));
        all.extend(results.into_iter().map(|command| (command, true)));
    }
    guarded(&select(selection, all)).into()
}

/// The commands with those in between that select the database of each.
fn select(selection: Option<&Selection>, commands: Vec<(Cmd, bool)>) -> Vec<Cmd> {
    let Some(selection) = selection.filter(|_| commands.iter().any(|(_, is_result)| *is_result)) else {
        return commands.into_iter().map(|(command, _)| command).collect();
    };
    let mut all: Vec<Cmd> = selection.probe().into();
    let mut at_results = true;
    for (command, is_result) in commands {
        if is_result != at_results {
            all.push(if is_result { selection.to_results() } else { selection.to_broker() });
            at_results = is_result;
        }
        all.push(command);
    }
    all
}

#[cfg(test)]
mod tests {
    use redis::cmd;

    use super::*;

    fn names(batch: &Batch) -> Vec<String> {
        let Commands { broker, results, .. } = batch.clone().into_commands();
        let name = |command: &Cmd| String::from_utf8_lossy(&command.get_packed_command()).into_owned();
        broker.iter().chain(&results).map(name).collect()
    }

    #[test]
    fn a_batch_is_taken_apart_into_the_steps_in_which_it_was_put_together() {
        let store = |name| Batch::of_results(vec![cmd(name)]);
        let batch = store("SIZE").and(Batch::Empty).and(cmd("LPUSH").into()).and(store("SETEX"));
        let batch = batch.and(store("EVAL")).and(cmd("DEL").into());
        let steps = batch.into_steps();
        let expected = [
            names(&store("SIZE")),
            names(&Batch::from(vec![cmd("LPUSH"), cmd("DEL")])),
            names(&store("SETEX").and(store("EVAL"))),
        ];
        assert_eq!(steps.each_ref().map(names), expected);
        let [ahead, messages, behind] = store("SETEX").into_steps();
        assert!(ahead.is_empty() && messages.is_empty(), "what no message relies on is stored last");
        assert_eq!(names(&behind), names(&store("SETEX")));
    }
}
