//! Stamps: values that travel in the headers of all messages of a canvas.
//!
//! Source: celery 5.7 `stamp`, `stamp_links` and `_stamp_headers` in `celery/canvas.py`; samples
//! `vectors/messages/stamped*.json`.

use super::node::{Kind, Node, maybe_list};
use crate::message::{Map, Value};
use crate::stack::deeper;

impl Node {
    /// Stamps the signature, its members and its links; stamps that it has under other names stay.
    pub(super) fn stamp(&mut self, stamps: &Map) {
        let stamps = &self.with_own_stamps(stamps);
        for option in ["link", "link_error"] {
            if let Some(links) = self.options.get_mut(option) {
                let stamped =
                    maybe_list(Some(std::mem::take(links))).into_iter().map(|link| stamped(link, stamps));
                *links = stamped.collect();
            }
        }
        match &mut self.kind {
            Kind::Task => {
                let names: Vec<&str> = stamps.keys().map(String::as_str).collect();
                self.options.insert("stamped_headers".to_owned(), Value::from(names));
                self.options.extend(stamps.clone());
            }
            Kind::Chain(tasks) | Kind::Group(tasks) => tasks.iter_mut().for_each(|task| task.stamp(stamps)),
            Kind::Chord(chord) => {
                chord.header.iter_mut().chain(&mut chord.body).for_each(|task| deeper(|| task.stamp(stamps)));
            }
        }
    }

    /// The given stamps and those that the signature has; of two lists under one name both are taken.
    fn with_own_stamps(&self, stamps: &Map) -> Map {
        let mut all = stamps.clone();
        for name in maybe_list(self.options.get("stamped_headers").cloned()) {
            let Some(name) = name.into_carried() else { continue };
            let Some(own) = self.options.get(&name) else { continue };
            match (all.get_mut(&name), own) {
                (Some(Value::List(items)), Value::List(own)) => {
                    let missing: Vec<Value> =
                        own.iter().filter(|item| !items.contains(item)).cloned().collect();
                    items.extend(missing);
                }
                (Some(_), _) => {}
                (None, own) => {
                    all.insert(name, own.clone());
                }
            }
        }
        all
    }
}

/// The stamped form of a signature's object.
fn stamped(signature: Value, stamps: &Map) -> Value {
    match Node::from_value(&signature) {
        Ok(mut node) => {
            deeper(|| node.stamp(stamps));
            node.to_value()
        }
        Err(_) => signature,
    }
}
