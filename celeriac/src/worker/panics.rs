//! Panics of task functions: caught, and told with their text and place.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::sync::Once;

use crate::backend::ExceptionInfo;
use crate::message::Value;
use crate::task::{Failure, TaskError};

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Makes panics remember where they happened, besides what the program's own hook does.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let place = info.location().map_or_else(String::new, |place| format!("at {place}\n"));
            LAST.set(Some(format!("{place}{}", Backtrace::force_capture())));
            previous(info);
        }));
    });
}

/// The failure that a caught panic is: its text, and its backtrace if it was on this thread.
pub(crate) fn failure(payload: &(dyn Any + Send)) -> TaskError {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is not text".to_owned());
    let exception = ExceptionInfo::new("celeriac", "Panic", vec![Value::Str(text)]);
    TaskError::Failure(Box::new(Failure { exception, traceback: LAST.take(), expected: false }))
}
