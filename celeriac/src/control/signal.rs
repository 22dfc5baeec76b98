//! Signals by name and number.

use super::commands::Failed;
use crate::message::Value;

/// Names and numbers of Linux on the common machines.
const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The number of a signal that is given by number or by name (`TERM`, `SIGTERM`); TERM when nothing is given.
///
/// # Errors
/// As from Celery's worker when there is no such signal.
pub(super) fn signum(signal: Option<&Value>) -> Result<i32, Failed> {
    let name = match signal {
        None | Some(Value::Null) => return Ok(15),
        Some(Value::Int(number)) => {
            return i32::try_from(*number)
                .map_err(|_| Failed::raised("ValueError", format!("no signal {number}")));
        }
        Some(Value::Str(name)) if name.is_empty() => return Ok(15),
        Some(Value::Str(name)) if !name.chars().any(char::is_lowercase) => name,
        Some(_) => return Err(Failed::raised("TypeError", "signal name must be uppercase string.")),
    };
    let short = name.strip_prefix("SIG").unwrap_or(name);
    let known = SIGNALS.iter().find(|(name, _)| *name == short);
    known.map(|(_, number)| *number).ok_or_else(|| {
        Failed::raised("AttributeError", format!("module 'signal' has no attribute 'SIG{short}'"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_found_by_name_and_number() {
        for (signal, number) in [("TERM", 15), ("SIGKILL", 9), ("SIGUSR1", 10)] {
            assert_eq!(signum(Some(&signal.into())).unwrap(), number);
        }
        assert_eq!(signum(None).unwrap(), 15);
        assert_eq!(signum(Some(&Value::Int(9))).unwrap(), 9);
        assert!(signum(Some(&"term".into())).is_err());
        assert!(signum(Some(&"FOO".into())).is_err());
    }
}
