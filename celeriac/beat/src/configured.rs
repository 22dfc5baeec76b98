//! The entries that a beat was configured with, kept small: a schedule may have a hundred thousand of them.

#[cfg(feature = "cli")]
use serde_json::Map;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::entry::{Entry, EntryError, EntryErrors};

/// The configured entries, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// Sorted by name.
    items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    name: Box<str>,
    /// The whole definition, as JSON.
    text: Box<str>,
}

/// Takes entries one by one, so that a large schedule is never in memory twice.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    /// Named lists of days, which `exclude` of an entry may name.
    #[cfg(feature = "cli")]
    calendars: Map<String, Value>,
    items: Vec<Item>,
    wrong: Vec<EntryError>,
}

impl Builder {
    /// Entries may name those calendars.
    #[cfg(feature = "cli")]
    pub(crate) fn naming(calendars: Map<String, Value>) -> Self {
        Self { calendars, ..Self::default() }
    }

    #[cfg(feature = "cli")]
    pub(crate) fn calendars(&self) -> &Map<String, Value> {
        &self.calendars
    }

    /// Adds the entries of a mapping as settings have it.
    #[cfg(feature = "cli")]
    pub(crate) fn extend(&mut self, entries: Map<String, Value>) {
        for (name, mut value) in entries {
            self.spell_out(&mut value);
            match Entry::from_json(&name, &value) {
                Ok(entry) => self.push(&entry),
                Err(error) => self.wrong.push(error),
            }
        }
    }

    /// Puts the days of calendars into the place of their names.
    #[cfg(feature = "cli")]
    fn spell_out(&self, entry: &mut Value) {
        if self.calendars.is_empty() {
            return;
        }
        let Some(excluded) = entry.get_mut("exclude") else { return };
        let named = |item: &Value| self.calendars.get(item.as_str()?)?.as_array().cloned();
        // One name alone may stand without a list.
        let items = match &*excluded {
            Value::Array(items) => items.clone(),
            item => named(item).unwrap_or_else(|| vec![item.clone()]),
        };
        let days = items.iter().flat_map(|item| named(item).unwrap_or_else(|| vec![item.clone()]));
        *excluded = Value::Array(days.collect());
    }

    pub(crate) fn push(&mut self, entry: &Entry) {
        let text = entry.to_json().to_string().into_boxed_str();
        self.items.push(Item { name: entry.name.as_str().into(), text });
    }

    /// Adds entries that were read already.
    #[cfg(feature = "cli")]
    pub(crate) fn append(&mut self, entries: Configured) {
        self.items.extend(entries.items);
    }

    /// The entries; of two with one name, the later one.
    ///
    /// # Errors
    /// Every entry that is not valid.
    pub(crate) fn finish(self) -> Result<Configured, EntryErrors> {
        let Self { mut items, wrong, .. } = self;
        if !wrong.is_empty() {
            return Err(EntryErrors(wrong));
        }
        items.reverse();
        items.sort_by(|one, other| one.name.cmp(&other.name));
        items.dedup_by(|later, first| later.name == first.name);
        items.shrink_to_fit();
        Ok(Configured { items })
    }
}

impl Configured {
    /// Those entries; of two with one name, the later one.
    pub fn new(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut builder = Builder::default();
        entries.into_iter().for_each(|entry| builder.push(&entry));
        // Nothing was read, so nothing is wrong.
        builder.finish().unwrap_or_default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether there is one of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.place(name).is_some()
    }

    /// The entry of that name.
    pub fn get(&self, name: &str) -> Option<Entry> {
        self.items[self.place(name)?].entry()
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.items.iter().map(|item| &*item.name)
    }

    /// The entries from one place on, at most so many.
    pub(crate) fn part(&self, from: usize, count: usize) -> Vec<Entry> {
        let from = from.min(self.items.len());
        let to = (from + count).min(self.items.len());
        self.items[from..to].iter().filter_map(Item::entry).collect()
    }

    /// A text that is another one when anything of it is.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for item in &self.items {
            hash.update(item.text.as_bytes());
            hash.update([0]);
        }
        hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.items.binary_search_by(|item| (*item.name).cmp(name)).ok()
    }
}

impl Item {
    /// It was made of an entry, so it can be read.
    fn entry(&self) -> Option<Entry> {
        let value: Value = serde_json::from_str(&self.text).ok()?;
        Entry::from_json(&self.name, &value).ok()
    }
}
