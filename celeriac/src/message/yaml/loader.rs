//! Reading, event by event.

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, StrInput, Tag};

use super::super::error::ProtocolError;
use super::super::reader::MAX_DEPTH;
use super::super::{Map, Value};
use super::resolve::{Kind, construct, construct_tagged, resolve};
use super::{NAME, escapes, key_text, plain, refused};
use crate::stack::deeper;

const TAG_PREFIX: &str = "tag:yaml.org,2002:";
/// Most bytes that anchored values and their aliases may take beyond the text: a few lines could stand for billions.
const MAX_COPIED: usize = 128 << 20;

/// Reads one document.
///
/// # Errors
/// The text is not YAML, or the safe loader would refuse it.
pub(in super::super) fn loads(data: &[u8]) -> Result<Value, ProtocolError> {
    let text = std::str::from_utf8(data).map_err(|error| ProtocolError::decode(NAME, error))?;
    let mut options = Options::default();
    (options.flow_nesting_limit, options.block_nesting_limit) = (MAX_DEPTH, MAX_DEPTH);
    let (text, mark) = escapes::hide(text);
    let parser = Parser::new_from_str_with_options(&text, options);
    let mut loader = Loader { parser, mark, anchors: Vec::new(), copied: 0 };
    loop {
        match loader.next()? {
            Event::StreamEnd => return Ok(Value::Null),
            Event::StreamStart | Event::DocumentStart(..) | Event::Comment(..) => {}
            event => {
                let value = loader.node(event, 0)?;
                return match (loader.next()?, loader.next()?) {
                    (Event::DocumentEnd, Event::StreamEnd) => Ok(value),
                    _ => Err(ProtocolError::decode(NAME, "more than one document")),
                };
            }
        }
    }
}

struct Loader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// What stands for the `\u` of a lone surrogate.
    mark: Option<char>,
    /// Anchored values by their ids.
    anchors: Vec<(usize, Value)>,
    /// Bytes that anchors and aliases took so far.
    copied: usize,
}

/// A mapping as it stands in the text.
#[derive(Default)]
struct Entries {
    own: Vec<(Value, Value)>,
    /// What `<<` names, in the order in which later ones replace earlier ones.
    merged: Vec<Map>,
}

impl<'a> Loader<'a> {
    fn next(&mut self) -> Result<Event<'a>, ProtocolError> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, _))) => return Ok(event),
                Some(Err(error)) => return Err(ProtocolError::decode(NAME, error)),
                None => return Ok(Event::StreamEnd),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Value, ProtocolError> {
        if depth > MAX_DEPTH {
            return Err(ProtocolError::TooDeep { limit: MAX_DEPTH });
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => match self.mark.filter(|mark| text.contains(*mark)) {
                None => (scalar(&text, style, tag.as_deref())?, anchor),
                Some(mark) => (escaped(&text, mark, style, tag.as_deref())?, anchor),
            },
            Event::SequenceStart(_, anchor, tag) => {
                let value = match suffix(tag.as_deref())?.as_deref() {
                    None | Some("seq" | "python/tuple") => deeper(|| self.sequence(depth))?,
                    Some("omap" | "pairs") => deeper(|| self.pairs(depth))?,
                    Some(_) => return Err(refused(tag.as_deref())),
                };
                (value, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                let entries = deeper(|| self.entries(depth))?;
                let value = match suffix(tag.as_deref())?.as_deref() {
                    None | Some("map") => entries.into_map().map(Value::Map)?,
                    Some("set") => entries.into_set(),
                    Some(_) => return Err(refused(tag.as_deref())),
                };
                (value, anchor)
            }
            Event::Alias(anchor) => return self.alias(anchor),
            event => return Err(ProtocolError::decode(NAME, format!("unexpected {event:?}"))),
        };
        if anchor != 0 {
            let copy = self.copy(&value)?;
            self.anchors.push((anchor, copy));
        }
        Ok(value)
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, ProtocolError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(Value::List(items)),
                event => items.push(self.node(event, depth + 1)?),
            }
        }
    }

    /// `!!omap` and `!!pairs`: a list of pairs, each written as a mapping of one entry.
    fn pairs(&mut self, depth: usize) -> Result<Value, ProtocolError> {
        let mut items = Vec::new();
        loop {
            let entries = match self.next()? {
                Event::SequenceEnd => return Ok(Value::List(items)),
                Event::MappingStart(_, 0, None) => self.entries(depth + 1)?.own,
                event => match self.node(event, depth + 1)? {
                    Value::Map(entries) => {
                        entries.into_iter().map(|(key, value)| (Value::from(key), value)).collect()
                    }
                    other => {
                        let found = format!("expected a mapping of one entry, found {}", other.kind());
                        return Err(ProtocolError::decode(NAME, found));
                    }
                },
            };
            let count = entries.len();
            let Ok([(key, value)]) = <[(Value, Value); 1]>::try_from(entries) else {
                return Err(ProtocolError::decode(NAME, format!("expected one entry, found {count}")));
            };
            items.push(Value::List(vec![key, value]));
        }
    }

    fn entries(&mut self, depth: usize) -> Result<Entries, ProtocolError> {
        let mut entries = Entries::default();
        loop {
            let event = match self.next()? {
                Event::MappingEnd => return Ok(entries),
                event => event,
            };
            let plain_key = match &event {
                Event::Scalar(text, ScalarStyle::Plain, _, None) => resolve(text),
                _ => Kind::Text,
            };
            let key = match (plain_key, event) {
                (Kind::Merge, _) => Value::Null,
                (Kind::Value, _) => Value::from("="),
                (_, event) => self.node(event, depth + 1)?,
            };
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            if plain_key == Kind::Merge {
                merge(&mut entries.merged, value)?;
            } else {
                entries.own.push((key, value));
            }
        }
    }

    fn alias(&mut self, anchor: usize) -> Result<Value, ProtocolError> {
        let found = self.anchors.iter().rposition(|(id, _)| *id == anchor);
        let place = found.ok_or_else(|| ProtocolError::decode(NAME, "an alias within what it stands for"))?;
        let (id, value) = std::mem::take(&mut self.anchors[place]);
        let copy = self.copy(&value);
        self.anchors[place] = (id, value);
        copy
    }

    /// A copy, within the bound for all of them.
    fn copy(&mut self, value: &Value) -> Result<Value, ProtocolError> {
        self.copied = self.copied.saturating_add(size(value));
        if self.copied > MAX_COPIED {
            return Err(ProtocolError::decode(
                NAME,
                format!("aliases stand for more than {} MiB", MAX_COPIED >> 20),
            ));
        }
        Ok(value.clone())
    }
}

impl Entries {
    /// The mapping; merged entries come first and give way to its own (`flatten_mapping`).
    fn into_map(self) -> Result<Map, ProtocolError> {
        let mut map = Map::with_capacity(self.own.len());
        map.extend(self.merged.into_iter().flatten());
        for (key, value) in self.own {
            map.insert(key_text(key)?, value);
        }
        Ok(map)
    }

    /// The members of a set, each once.
    fn into_set(self) -> Value {
        let merged = self.merged.into_iter().flatten().map(|(key, _)| Value::from(key));
        let mut seen = std::collections::HashSet::new();
        let members = merged.chain(self.own.into_iter().map(|(key, _)| key));
        members.filter(|member| seen.insert(super::super::json::dumps(member))).collect()
    }
}

/// `<<`: the entries of another mapping, or of several, of which the first counts.
fn merge(merged: &mut Vec<Map>, value: Value) -> Result<(), ProtocolError> {
    let wrong = |other: &Value| ProtocolError::decode(NAME, format!("cannot merge {}", other.kind()));
    match value {
        Value::Map(entries) => merged.push(entries),
        Value::List(items) => {
            for item in items.into_iter().rev() {
                match item {
                    Value::Map(entries) => merged.push(entries),
                    other => return Err(wrong(&other)),
                }
            }
        }
        other => return Err(wrong(&other)),
    }
    Ok(())
}

/// About how many bytes a value takes.
fn size(value: &Value) -> usize {
    let below = match value {
        Value::List(items) => deeper(|| items.iter().map(size).fold(0, usize::saturating_add)),
        Value::Map(entries) => deeper(|| {
            let entry = |(key, value): (&String, &Value)| 48 + key.len() + size(value);
            entries.iter().map(entry).fold(0, usize::saturating_add)
        }),
        Value::Str(text) | Value::BigInt(text) => text.len(),
        Value::Surrogates(text) => text.carried().len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 0,
    };
    below.saturating_add(size_of::<Value>())
}

/// The name of a tag of YAML's own.
fn suffix(tag: Option<&Tag>) -> Result<Option<String>, ProtocolError> {
    match tag {
        None => Ok(None),
        Some(known) => match known.suffix_in_namespace(TAG_PREFIX) {
            Some(suffix) => Ok(Some(suffix.into_owned())),
            None => Err(refused(tag)),
        },
    }
}

/// A scalar in which something stands for the `\u` of lone surrogates.
fn escaped(text: &str, mark: char, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, ProtocolError> {
    match suffix(tag)?.as_deref() {
        None | Some("str") if style == ScalarStyle::DoubleQuoted => Ok(escapes::quoted(text, mark)),
        _ => scalar(&escapes::literal(text, mark), style, tag),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, ProtocolError> {
    match suffix(tag)? {
        Some(name) => construct_tagged(&name, text),
        None if style == ScalarStyle::Plain => construct(resolve(text), text),
        None => Ok(plain(text)),
    }
}
