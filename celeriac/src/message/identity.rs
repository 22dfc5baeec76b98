//! Finding out whose message it is that cannot be read, so that its caller hears of it.

use super::ProtocolError;
use super::envelope::expect_object;
use super::reader::{Kind, Reader};
use super::surrogates::is_carried;

/// The error for an entry that cannot be read, with the task that its headers name all the same.
pub(super) fn unreadable(error: ProtocolError, raw: &[u8]) -> ProtocolError {
    match identity(raw) {
        (None, _) => error,
        (id, task) => {
            ProtocolError::BadEnvelope { field: "envelope", found: format!("unreadable: {error}"), id, task }
        }
    }
}

/// Task id and name, as far as the entry can be read.
fn identity(raw: &[u8]) -> (Option<String>, Option<String>) {
    let (mut id, mut task) = (None, None);
    let Ok(mut reader) = Reader::new(raw) else { return (id, task) };
    // What was found before the text breaks off counts.
    let _ = expect_object(&mut reader).and_then(|()| {
        reader.object(|reader, key| match (key.as_ref(), reader.peek()?) {
            ("headers", Kind::Object) => reader.object(|reader, name| {
                let found = match (name.as_ref(), reader.peek()?) {
                    ("id", Kind::Text) => &mut id,
                    ("task", Kind::Text) => &mut task,
                    _ => return reader.pass_over(),
                };
                *found = Some(reader.text()?.into_owned()).filter(|text| !is_carried(text));
                Ok(())
            }),
            _ => reader.pass_over(),
        })
    });
    (id, task)
}
