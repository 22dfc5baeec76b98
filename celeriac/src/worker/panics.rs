//! Panics of task functions: caught, and reported with their text, place and backtrace.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::sync::Once;

use crate::backend::ExceptionInfo;
use crate::heavy::aside;
use crate::message::Value;
use crate::task::{Failure, TaskError};

thread_local! {
    /// Whether this thread is running a task's code.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<(String, Backtrace)>> = const { RefCell::new(None) };
}

/// Adds to the program's panic hook that a panic of a task remembers where it happened. Panics of other code are left
/// to the hook that was there before, which is called for all of them.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if WATCHED.get() {
                let place = info.location().map_or_else(String::new, |place| format!("at {place}\n"));
                LAST.set(Some((place, Backtrace::force_capture())));
            }
            previous(info);
        }));
    });
}

/// Runs a task's code, which must not unwind, so that its panics are remembered.
pub(crate) fn watched<T>(call: impl FnOnce() -> T) -> T {
    let before = WATCHED.replace(true);
    let value = call();
    WATCHED.set(before);
    value
}

/// The failure that a caught panic is: its text, and its backtrace if [`watched`] code of this thread has panicked.
pub(crate) fn failure(payload: &(dyn Any + Send)) -> TaskError {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is not text".to_owned());
    let exception = ExceptionInfo::new("celeriac", "Panic", vec![Value::Str(text)]);
    // Finding the names of the frames takes long.
    let traceback = LAST.take().map(|(place, backtrace)| aside(|| format!("{place}{backtrace}")));
    TaskError::Failure(Box::new(Failure { exception, traceback, expected: false }))
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    fn traceback(failure: TaskError) -> Option<String> {
        match failure {
            TaskError::Failure(failure) => failure.traceback,
            other => panic!("{other} is no failure"),
        }
    }

    #[test]
    fn only_panics_of_tasks_leave_a_backtrace() {
        install();
        let own = catch_unwind(|| panic!("of the program")).unwrap_err();
        assert_eq!(traceback(failure(&*own)), None);
        let task = watched(|| catch_unwind(|| panic!("of a task"))).unwrap_err();
        let text = traceback(failure(&*task)).unwrap();
        assert!(text.contains("panics.rs"), "{text}");
        let later = catch_unwind(|| panic!("of the program, later")).unwrap_err();
        assert_eq!(traceback(failure(&*later)), None);
    }
}
