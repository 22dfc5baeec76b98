//! What a node of a cluster says when a key is not, or not quite, its own.

use redis::{Pipeline, Value};

use super::connection::server_error;
use super::dial::Address;
use crate::broker::BrokerError;
use crate::broker::refusal::code;

/// What a node said instead of carrying out a command.
#[derive(Debug, PartialEq)]
pub(super) enum Redirect {
    /// The slot belongs to another node now.
    Moved,
    /// The slot is on its way to that node, and this key is there.
    Ask(Address),
    /// The slot is on its way with some of the keys, or the cluster is choosing a master: later.
    Later,
}

impl Redirect {
    fn read(reason: &str) -> Option<Self> {
        match code(reason) {
            "MOVED" => Some(Redirect::Moved),
            "ASK" => {
                let (host, port) = reason.split_whitespace().nth(2)?.rsplit_once(':')?;
                Some(Redirect::Ask(Address::Tcp(host.to_owned(), port.parse().ok()?)))
            }
            "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" => Some(Redirect::Later),
            _ => None,
        }
    }
}

/// Where the first command that was not carried out is to go; `None` when all were, or failed for another reason.
pub(super) fn of(outcome: &Result<Vec<Value>, BrokerError>) -> Option<Redirect> {
    match outcome {
        Ok(replies) => replies.iter().filter_map(server_error).find_map(|reason| Redirect::read(&reason)),
        Err(BrokerError::Refused { reason, .. }) => Redirect::read(reason),
        Err(_) => None,
    }
}

/// The commands that were not carried out, and their places among all: every one of a transaction.
pub(super) fn unanswered(
    commands: &Pipeline,
    outcome: &Result<Vec<Value>, BrokerError>,
) -> (Pipeline, Vec<usize>) {
    let mut rest = Pipeline::new();
    let mut places = Vec::new();
    let replies = outcome.as_ref().ok();
    if commands.is_transaction() {
        rest.atomic();
    }
    for (place, command) in commands.cmd_iter().enumerate() {
        let redirected =
            |reply: &Value| server_error(reply).is_some_and(|reason| Redirect::read(&reason).is_some());
        let answered = |replies: &Vec<Value>| replies.get(place).is_some_and(|reply| !redirected(reply));
        if commands.is_transaction() || !replies.is_some_and(answered) {
            rest.add_command(command.clone());
            places.push(place);
        }
    }
    (rest, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_node_are_read() {
        assert_eq!(Redirect::read("MOVED 3999 127.0.0.1:6381"), Some(Redirect::Moved));
        let asked = Redirect::Ask(Address::Tcp("127.0.0.1".to_owned(), 6381));
        assert_eq!(Redirect::read("ASK 3999 127.0.0.1:6381"), Some(asked));
        assert_eq!(Redirect::read("CLUSTERDOWN The cluster is down"), Some(Redirect::Later));
        assert_eq!(Redirect::read("OOM command not allowed"), None);
    }
}
