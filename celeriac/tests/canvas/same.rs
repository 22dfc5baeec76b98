//! Comparing messages when the ids in them were made in another order.

use std::collections::HashMap;

use serde_json::Value;

/// Pairs of ids that stand for each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct SameIds {
    ours: HashMap<String, String>,
    theirs: HashMap<String, String>,
}

impl SameIds {
    /// Asserts that the values are the same but for made ids.
    pub(crate) fn assert(&mut self, path: &str, ours: &Value, theirs: &Value) {
        self.check(path, ours, theirs).unwrap_or_else(|difference| panic!("{difference}"));
    }

    /// Says how the values differ but for made ids; the pairs found on the way are kept.
    pub(crate) fn check(&mut self, path: &str, ours: &Value, theirs: &Value) -> Result<(), String> {
        match (ours, theirs) {
            (Value::Object(ours), Value::Object(theirs)) => {
                for (key, value) in theirs {
                    let own = ours.get(key).ok_or_else(|| format!("{path}.{key} is missing, not {value}"))?;
                    self.check(&format!("{path}.{key}"), own, value)?;
                }
                let further: Vec<_> = ours.iter().filter(|(key, _)| !theirs.contains_key(*key)).collect();
                if further.is_empty() {
                    Ok(())
                } else {
                    Err(format!("{path} has more than expected: {further:?}"))
                }
            }
            (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
                for (index, (own, value)) in ours.iter().zip(theirs).enumerate() {
                    self.check(&format!("{path}[{index}]"), own, value)?;
                }
                Ok(())
            }
            // An empty list of signatures is written as null.
            (Value::Null, Value::Array(theirs)) if theirs.is_empty() => Ok(()),
            (Value::String(ours), Value::String(theirs)) if is_made(ours) && is_made(theirs) => {
                let their_pair = self.ours.entry(ours.clone()).or_insert_with(|| theirs.clone());
                let our_pair = self.theirs.entry(theirs.clone()).or_insert_with(|| ours.clone());
                if their_pair == theirs && our_pair == ours {
                    Ok(())
                } else {
                    Err(format!("{path}: our {ours} is {their_pair}, and their {theirs} is {our_pair}"))
                }
            }
            _ if ours == theirs => Ok(()),
            _ => Err(format!("{path}: ours {ours}, theirs {theirs}")),
        }
    }
}

fn is_made(id: &str) -> bool {
    id.starts_with("00000000-0000-4000-8000-")
}
