//! What a server refuses, told apart by the code of its error.

use std::fmt;

/// What the reason of a refusal begins with for which the server only closed the connection; in place of a code.
pub(crate) const CLOSED: &str = "CLOSED the connection";

/// The code of an error of a script that cannot reach broker and results, so that nothing was done.
pub(crate) const UNSELECTED: &str = "UNSELECTED";

/// A command that the server did not carry out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The name of the command; nothing for one that is not known, as when the connection was closed.
    pub(crate) command: String,
    /// The first key of the command.
    pub(crate) key: Option<String>,
    /// The server's words, which begin with a code.
    pub(crate) reason: String,
}

/// What can be done about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    /// The server has no memory for it.
    Memory,
    /// The server takes it later, or another one does.
    Passing,
    /// The server refuses it each time, until somebody changes the right, the key or the command.
    Lasting,
}

impl Refusal {
    /// Returns the refusal of a command that is named together with its key, as errors name it.
    pub(crate) fn of_words(command: &str, reason: &str) -> Self {
        let (command, key) = command.split_once(' ').map_or((command, None), |(name, key)| (name, Some(key)));
        Self { command: command.to_owned(), key: key.map(str::to_owned), reason: reason.to_owned() }
    }

    /// A refusal for which no command is known.
    pub(crate) fn unknown(reason: String) -> Self {
        Self { command: String::new(), key: None, reason }
    }

    /// Whether the server has closed the connection instead of an answer.
    pub(crate) fn is_closed(&self) -> bool {
        self.reason.starts_with(CLOSED)
    }

    /// Whether it is only refused since it reaches broker and results in one step.
    pub(crate) fn is_of_joining(&self) -> bool {
        self.code() == UNSELECTED
    }

    /// The code of the error.
    pub(crate) fn code(&self) -> &str {
        code(&self.reason)
    }

    pub(crate) fn kind(&self) -> RefusalKind {
        kind(&self.reason)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason)?;
        match (&*self.command, &self.key) {
            ("", _) => Ok(()),
            (command, None) => write!(formatter, " ({command})"),
            (command, Some(key)) => write!(formatter, " ({command} {key})"),
        }
    }
}

/// Returns the code of an error: its first word.
///
/// Redis 6.2 wraps the error of a command in a script, `ERR Error running script (call to f_...): @user_script:1: -OOM
/// ...` (`luaCallFunction` in `scripting.c`): there the code is the word behind the last colon that a hyphen begins.
pub(crate) fn code(reason: &str) -> &str {
    let first = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_uppercase()).len();
    let wrapped = reason.strip_prefix("ERR Error running script ");
    let inner = wrapped.and_then(|rest| rest.split(": -").nth(1));
    let text = inner.unwrap_or(reason);
    &text[..first(text)]
}

/// Returns what can be done about an error of the server.
pub(crate) fn kind(reason: &str) -> RefusalKind {
    match code(reason) {
        "OOM" => RefusalKind::Memory,
        "LOADING" | "READONLY" | "MISCONF" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "BUSY"
        | "EXECABORT" | "NOREPLICAS" | "NOMASTERLINK" | "MOVED" | "ASK" | "UNKILLABLE" | "UNBLOCKED"
        | "NOAUTH" | "WRONGPASS" => RefusalKind::Passing,
        _ => RefusalKind::Lasting,
    }
}

/// Whether an error of the server says that writes go to another server now.
pub(crate) fn is_elsewhere(reason: &str) -> bool {
    matches!(code(reason), "READONLY" | "MOVED" | "MASTERDOWN" | "CLUSTERDOWN")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart_by_their_code_alone() {
        for (reason, expected) in [
            ("OOM command not allowed when used memory > 'maxmemory'.", RefusalKind::Memory),
            (
                "ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed",
                RefusalKind::Memory,
            ),
            ("READONLY You can't write against a read only replica.", RefusalKind::Passing),
            ("LOADING Redis is loading the dataset in memory", RefusalKind::Passing),
            ("NOPERM User LOADING has no permissions to access a key OOM", RefusalKind::Lasting),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", RefusalKind::Lasting),
            ("ERR unknown command 'READONLY '", RefusalKind::Lasting),
            ("BUSYGROUP Consumer Group name already exists", RefusalKind::Lasting),
            ("", RefusalKind::Lasting),
        ] {
            assert_eq!(kind(reason), expected, "{reason}");
        }
        assert!(is_elsewhere("READONLY You can't write"));
        assert!(!is_elsewhere("NOPERM User READONLY has no permissions"));
    }
}
