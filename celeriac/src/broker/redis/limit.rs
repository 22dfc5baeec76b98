//! The most bytes that a server takes as one argument; what is larger ends the connection without a word.

use redis::{Pipeline, Value};

use super::script::bytes;

/// The question for that limit.
pub(crate) fn ask_for_limit() -> Pipeline {
    let mut ask = Pipeline::new();
    ask.cmd("CONFIG").arg("GET").arg("proto-max-bulk-len");
    ask
}

/// The limit in the answer; nothing when the server does not tell it.
pub(crate) fn limit(answer: &Value) -> Option<u64> {
    let value = match answer {
        Value::Map(pairs) => &pairs.first()?.1,
        Value::Array(items) => items.get(1)?,
        _ => return None,
    };
    std::str::from_utf8(bytes(value)?).ok()?.parse().ok()
}
