//! Refusals of commands: which command, on which key.

use std::fmt;

use redis::{Arg, Cmd, Value};

use super::connection::server_error;
use super::exchange::largest;
use crate::broker::refusal::{self, CLOSED, Refusal, RefusalKind};

impl Refusal {
    /// A refusal of that command, in the server's words.
    pub(crate) fn of(command: &Cmd, reason: String) -> Self {
        let mut arguments = command.args_iter().filter_map(|argument| match argument {
            Arg::Simple(bytes) => Some(String::from_utf8_lossy(&bytes[..bytes.len().min(256)]).into_owned()),
            _ => None,
        });
        let name = arguments.next().unwrap_or_default();
        if name != "EVAL" {
            return Self { command: name, key: arguments.next(), reason };
        }
        // A script that carries out other commands says which one failed.
        let named = reason.strip_suffix(')').and_then(|reason| reason.rsplit_once(" ("));
        if let Some((reason, (command, key))) =
            named.and_then(|(reason, last)| Some((reason, last.split_once(' ')?)))
            && arguments.nth(1).as_deref() == Some("0")
        {
            return Self {
                command: command.to_owned(),
                key: Some(key.to_owned()),
                reason: reason.to_owned(),
            };
        }
        let mut arguments = command.args_iter().skip(3);
        let key = match arguments.next() {
            Some(Arg::Simple(key)) => Some(String::from_utf8_lossy(key).into_owned()),
            _ => None,
        };
        Self { command: name, key, reason }
    }

    /// A connection that is closed each time that those commands are sent; `limit` is the most bytes that the server
    /// takes as one argument, if it tells.
    pub(crate) fn closed<'a>(
        commands: impl IntoIterator<Item = &'a Cmd>,
        error: impl fmt::Display,
        limit: Option<u64>,
    ) -> Self {
        let Some((command, bytes)) = largest(commands) else { return Self::unknown(error.to_string()) };
        let limit = match limit.filter(|limit| bytes as u64 > *limit) {
            Some(limit) => format!(", more than its proto-max-bulk-len of {limit}"),
            None => String::new(),
        };
        Self::of(
            command,
            format!("{CLOSED} each time ({error}); the largest argument has {bytes} bytes{limit}"),
        )
    }
}

/// Returns whether the server, for now, refuses everything of that kind, whichever key or command it is about.
pub(crate) fn is_passing(reason: &str) -> bool {
    refusal::kind(reason) != RefusalKind::Lasting
}

/// Returns whether a reply says so.
pub(crate) fn refuses_everything(reply: &Value) -> bool {
    server_error(reply).is_some_and(|reason| is_passing(&reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_first_word_and_nothing_else() {
        assert!(is_passing("OOM command not allowed when used memory > 'maxmemory'."));
        assert!(!is_passing("NOPERM User OOM has no permissions to access the 'LOADING' key"));
        assert!(!is_passing("WRONGTYPE Operation against a key holding the wrong kind of value"));
    }

    #[test]
    fn a_refusal_names_the_command_and_its_key() {
        let mut push = redis::cmd("LPUSH");
        push.arg("queue").arg("message");
        let refusal = Refusal::of(&push, "WRONGTYPE no list".to_owned());
        assert_eq!(refusal.to_string(), "WRONGTYPE no list (LPUSH queue)");
        let mut script = redis::cmd("EVAL");
        script.arg("return 1").arg(1).arg("the key").arg("value");
        assert_eq!(Refusal::of(&script, "OOM".to_owned()).key.as_deref(), Some("the key"));
        let mut guarded = redis::cmd("EVAL");
        guarded.arg("return 1").arg(0).arg(3).arg("RPUSH").arg("queue").arg("message");
        let refusal = Refusal::of(&guarded, "WRONGTYPE no list (RPUSH queue)".to_owned());
        assert_eq!(refusal.to_string(), "WRONGTYPE no list (RPUSH queue)");
        assert_eq!((&*refusal.command, refusal.key.as_deref()), ("RPUSH", Some("queue")));
    }
}
