//! Comparing messages when the ids in them were made in another order.

use std::collections::HashMap;

use serde_json::Value;

/// Pairs of ids that stand for each other.
#[derive(Debug, Default)]
pub(crate) struct SameIds {
    ours: HashMap<String, String>,
    theirs: HashMap<String, String>,
}

impl SameIds {
    /// Asserts that the values are the same but for made ids.
    pub(crate) fn assert(&mut self, path: &str, ours: &Value, theirs: &Value) {
        match (ours, theirs) {
            (Value::Object(ours), Value::Object(theirs)) => {
                for (key, value) in theirs {
                    let own = ours.get(key).unwrap_or_else(|| panic!("{path}.{key} is missing, not {value}"));
                    self.assert(&format!("{path}.{key}"), own, value);
                }
                let further: Vec<_> = ours.iter().filter(|(key, _)| !theirs.contains_key(*key)).collect();
                assert!(further.is_empty(), "{path} has more than expected: {further:?}");
            }
            (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
                for (index, (own, value)) in ours.iter().zip(theirs).enumerate() {
                    self.assert(&format!("{path}[{index}]"), own, value);
                }
            }
            // An empty list of signatures is written as null.
            (Value::Null, Value::Array(theirs)) if theirs.is_empty() => {}
            (Value::String(ours), Value::String(theirs)) if is_made(ours) && is_made(theirs) => {
                let expected = self.ours.entry(ours.clone()).or_insert_with(|| theirs.clone());
                assert_eq!(expected, theirs, "{path}: our {ours} is another id");
                let expected = self.theirs.entry(theirs.clone()).or_insert_with(|| ours.clone());
                assert_eq!(expected, ours, "{path}: their {theirs} is another id");
            }
            _ => assert_eq!(ours, theirs, "{path}"),
        }
    }
}

fn is_made(id: &str) -> bool {
    id.starts_with("00000000-0000-4000-8000-")
}
