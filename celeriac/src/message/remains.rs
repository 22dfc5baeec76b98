//! The part of a refused body that can still be read: what was to follow its task.
//!
//! Whoever waits for a task that is refused has to be told, and who that is stands in the body.

use super::parts::Encoded;
use super::reader::{Fallible, Kind, Reader};
use super::{Accept, Body, Embed, EncodedBody, Serializer, Signature, Value};

/// The keys of what follows a task.
const KEYS: [&str; 4] = ["callbacks", "errbacks", "chain", "chord"];

/// The readable part of a refused body.
#[derive(Default)]
pub(crate) struct Remains {
    /// The body without the arguments.
    pub(crate) body: Body,
    /// Whether the task may be a part of a chord that could not be read.
    pub(crate) lacks_chord: bool,
}

impl EncodedBody {
    /// What was to follow the task: all that is readable of it, without the arguments.
    ///
    /// A serializer that is not in `accept` is read all the same where its bodies prove no more about their sender than
    /// those that are; where all must be signed or encrypted, nothing else is believed.
    pub(crate) fn remains(&self, accept: &Accept) -> Remains {
        let accept = accept.of_any_serializer();
        let encoded = self.encoded();
        let embed = match embed_of_triple(encoded, &accept) {
            Ok(embed) => Some(embed),
            // Anything but a list in JSON is read as a whole.
            Err(_) => match encoded.payload(&accept) {
                Ok(Value::List(items)) => items.into_iter().nth(2),
                Ok(object) => Some(object),
                Err(_) => None,
            },
        };
        let Some(Value::Map(mut entries)) = embed else {
            return Remains { body: Body::default(), lacks_chord: true };
        };
        let has_chord = entries.get("chord").is_some_and(|chord| !chord.is_null());
        let [callbacks, errbacks, chain, chord] =
            KEYS.map(|key| signatures_of(entries.swap_remove(key).unwrap_or_default()));
        let chord = chord.into_iter().next().map(Box::new);
        let lacks_chord = has_chord && chord.is_none();
        let embed = Embed { callbacks, errbacks, chain, chord };
        Remains { body: Body { embed, ..Body::default() }, lacks_chord }
    }
}

/// The third of the values in a JSON list, the two before it may be anything; or a value that is no list.
fn embed_of_triple(encoded: Encoded<'_>, accept: &Accept) -> Fallible<Value> {
    accept.check(encoded.content_type)?;
    if encoded.content_type != Serializer::Json.content_type() {
        return Err(super::ProtocolError::ContentDisallowed {
            content_type: encoded.content_type.to_owned(),
        }
        .into());
    }
    let bytes = encoded.uncompressed(accept)?;
    let mut reader = Reader::new(&bytes)?;
    if reader.peek()? != Kind::List {
        return reader.value();
    }
    let (mut embed, mut count) = (Value::Null, 0);
    reader.list(|reader| {
        match count {
            2 => embed = reader.value()?,
            _ => reader.pass_over()?,
        }
        count += 1;
        Ok(())
    })?;
    Ok(embed)
}

/// The signatures that can be read; the others are left out.
fn signatures_of(value: Value) -> Vec<Signature> {
    let items = match value {
        Value::List(items) => items,
        item => vec![item],
    };
    items.into_iter().filter_map(|item| Signature::take_value(item).ok()).collect()
}
