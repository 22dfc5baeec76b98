//! Panics of task functions: caught, and told with their text and place.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::sync::Once;

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

/// The text of a caught panic, and its backtrace if it was on this thread.
pub(crate) fn describe(payload: &(dyn Any + Send)) -> (String, Option<String>) {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is not text".to_owned());
    (text, LAST.take())
}
