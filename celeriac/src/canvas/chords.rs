//! The chords that wait for a task.

use std::collections::BTreeSet;

use crate::message::{Map, Signature, Value};
use crate::task::Request;

/// Most chords that are named of one task; a chain of thousands of chords waits for them one after the other.
const MOST: usize = 100;

/// The ids of the chords that cannot end before a task has: its own, those of what follows it in its chain, and those around
/// them.
pub(crate) fn waiting_chords(request: &Request) -> Vec<String> {
    let embed = &request.body.embed;
    let mut chords = BTreeSet::new();
    if embed.chord.is_some() {
        chords.extend(request.headers.group.clone());
    }
    let mut unread = Vec::new();
    let signatures = embed.chord.as_deref().into_iter().chain(embed.chain.iter().rev());
    for Signature { kwargs, options, .. } in signatures {
        note(options, &mut chords);
        unread.extend(kwargs.values().chain(options.values()));
    }
    while let Some(value) = unread.pop()
        && chords.len() < MOST
    {
        match value {
            Value::Map(map) => {
                note(map, &mut chords);
                unread.extend(map.values());
            }
            Value::List(list) => unread.extend(list),
            _ => {}
        }
    }
    chords.into_iter().collect()
}

/// Notes the chord of which a signature with such options is a part.
fn note(options: &Map, chords: &mut BTreeSet<String>) {
    let chord = options.get("chord").filter(|chord| !chord.is_null());
    let group_id = options.get("group_id").and_then(Value::as_str).filter(|group_id| !group_id.is_empty());
    if let (Some(_), Some(group_id)) = (chord, group_id) {
        chords.insert(group_id.to_owned());
    }
}
