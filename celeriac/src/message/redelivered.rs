//! The mark of messages that were delivered before, put into their text.

use super::envelope::expect_object;
use super::error::ProtocolError;
use super::reader::{Fallible, Kind, Reader};

/// Marks a queue entry as delivered before, as kombu does when it puts one back; nothing else in it changes.
///
/// # Errors
/// The entry is not a JSON object.
pub fn mark_redelivered(raw: &[u8]) -> Result<Vec<u8>, ProtocolError> {
    let mut reader = Reader::new(raw)?;
    expect_object(&mut reader)?;
    let mut edits = Vec::new();
    reader.object(|reader, key| match (key.as_ref(), reader.peek()?) {
        ("headers", Kind::Object) => mark_object(reader, &mut edits),
        ("properties", Kind::Object) => reader.object(|reader, key| match (key.as_ref(), reader.peek()?) {
            ("delivery_info", Kind::Object) => mark_object(reader, &mut edits),
            _ => reader.skip(),
        }),
        _ => reader.skip(),
    })?;
    reader.finish()?;
    Ok(apply(raw, &edits))
}

/// A piece of the text to be replaced.
struct Edit {
    start: usize,
    end: usize,
    text: &'static [u8],
}

fn mark_object(reader: &mut Reader<'_>, edits: &mut Vec<Edit>) -> Fallible<()> {
    let mut found = false;
    let mut empty = true;
    reader.object(|reader, key| {
        reader.peek()?;
        let start = reader.index();
        reader.skip()?;
        empty = false;
        if key == "redelivered" {
            found = true;
            edits.push(Edit { start, end: reader.index(), text: b"true" });
        }
        Ok(())
    })?;
    if !found {
        let brace = reader.index() - 1;
        let text: &[u8] = if empty { b"\"redelivered\": true" } else { b", \"redelivered\": true" };
        edits.push(Edit { start: brace, end: brace, text });
    }
    Ok(())
}

fn apply(raw: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + 48);
    let mut done = 0;
    for edit in edits {
        out.extend_from_slice(&raw[done..edit.start]);
        out.extend_from_slice(edit.text);
        done = edit.end;
    }
    out.extend_from_slice(&raw[done..]);
    out
}
