//! Signatures: task calls as data.

use super::error::{ProtocolError, shown};
use super::{Map, Signature, Value, json};

/// Options that a later call never replaces (`Signature._IMMUTABLE_OPTIONS`, celery 5.7).
const KEPT_OPTIONS: [&str; 2] = ["group_id", "stamped_headers"];

impl Signature {
    /// A call of the task of that name, without arguments.
    pub fn new(task: impl Into<String>) -> Self {
        Signature { task: task.into(), ..Signature::default() }
    }

    /// Replaces the positional arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Appends a positional argument.
    #[must_use]
    pub fn arg(mut self, value: impl Into<Value>) -> Self {
        self.args.push(value.into());
        self
    }

    /// Sets a keyword argument.
    #[must_use]
    pub fn kwarg(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.kwargs.insert(name.into(), value.into());
        self
    }

    /// Sets an option of `apply_async`: `queue`, `countdown`, `task_id`, ...
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.options.insert(name.into(), value.into());
        self
    }

    /// Sets whether partial arguments are ignored.
    #[must_use]
    pub fn immutable(mut self, immutable: bool) -> Self {
        self.immutable = immutable;
        self
    }

    /// Whether this is a chain.
    pub fn is_chain(&self) -> bool {
        self.is_type("chain")
    }

    /// Whether this is a group.
    pub fn is_group(&self) -> bool {
        self.is_type("group")
    }

    /// Whether this is a chord.
    pub fn is_chord(&self) -> bool {
        self.is_type("chord")
    }

    fn is_type(&self, name: &str) -> bool {
        self.subtask_type.as_deref() == Some(name)
    }

    /// The signature as it is called: `args` stand before the stored ones, `kwargs` and `options` replace stored ones.
    ///
    /// The group id, the stamps and their names stay when the signature has them; options that are null are not taken;
    /// an immutable signature takes no arguments. Source: `Signature._merge`, celery 5.7 `celery/canvas.py`.
    #[must_use]
    pub fn merge(&self, args: &[Value], kwargs: &Map, options: &Map) -> Signature {
        let stamps = self.options.get("stamped_headers").and_then(Value::as_list).unwrap_or_default();
        let is_kept = |name: &str| {
            let is_fixed = KEPT_OPTIONS.contains(&name)
                || self.options.contains_key("stamped_headers")
                    && stamps.iter().any(|stamp| stamp.as_str() == Some(name));
            is_fixed && self.options.contains_key(name)
        };
        let mut merged = self.clone();
        for (name, value) in options {
            if !value.is_null() && !is_kept(name) {
                merged.options.insert(name.clone(), value.clone());
            }
        }
        if !self.immutable {
            merged.args.splice(0..0, args.iter().cloned());
            merged.kwargs.extend(kwargs.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        merged
    }

    /// Reads a signature's object. Keys other than the task name may be missing or null; unknown ones are dropped.
    ///
    /// # Errors
    /// The value is not an object, names no task, or a key has a value of a wrong type.
    pub fn from_value(value: &Value) -> Result<Self, ProtocolError> {
        Self::take_value(value.clone())
    }

    pub(super) fn take_value(value: Value) -> Result<Self, ProtocolError> {
        let Value::Map(mut entries) = value else { return Err(bad("signature", "an object", &value)) };
        let mut take = |key: &str| entries.swap_remove(key).unwrap_or_default();
        let task = match take("task") {
            Value::Str(task) => task,
            other => return Err(bad("task", "a task name", &other)),
        };
        let args = match take("args") {
            Value::Null => Vec::new(),
            Value::List(args) => args,
            other => return Err(bad("args", "a list", &other)),
        };
        let subtask_type = match take("subtask_type") {
            Value::Null => None,
            Value::Str(name) => Some(name),
            other => return Err(bad("subtask_type", "text or null", &other)),
        };
        let immutable = match take("immutable") {
            Value::Null => false,
            Value::Bool(flag) => flag,
            other => return Err(bad("immutable", "a boolean", &other)),
        };
        let kwargs = object("kwargs", take("kwargs"))?;
        let options = object("options", take("options"))?;
        Ok(Signature { task, args, kwargs, options, subtask_type, immutable })
    }

    /// The signature's object, with Celery's keys in Celery's order.
    pub fn to_value(&self) -> Value {
        self.clone().into()
    }

    /// Appends the signature's object as JSON.
    pub(super) fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"task\": ");
        json::write_str(&self.task, out);
        out.extend_from_slice(b", \"args\": ");
        json::write_list(&self.args, out);
        out.extend_from_slice(b", \"kwargs\": ");
        json::write_map(&self.kwargs, out);
        out.extend_from_slice(b", \"options\": ");
        json::write_map(&self.options, out);
        out.extend_from_slice(b", \"subtask_type\": ");
        match &self.subtask_type {
            Some(name) => json::write_str(name, out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(if self.immutable {
            b", \"immutable\": true}"
        } else {
            b", \"immutable\": false}"
        });
    }
}

impl From<Signature> for Value {
    fn from(signature: Signature) -> Self {
        let Signature { task, args, kwargs, options, subtask_type, immutable } = signature;
        let entries = [
            ("task", Value::Str(task)),
            ("args", Value::List(args)),
            ("kwargs", Value::Map(kwargs)),
            ("options", Value::Map(options)),
            ("subtask_type", subtask_type.into()),
            ("immutable", Value::Bool(immutable)),
        ];
        Value::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }
}

fn object(field: &'static str, value: Value) -> Result<Map, ProtocolError> {
    match value {
        Value::Null => Ok(Map::new()),
        Value::Map(entries) => Ok(entries),
        other => Err(bad(field, "an object", &other)),
    }
}

fn bad(field: &'static str, expected: &'static str, found: &Value) -> ProtocolError {
    ProtocolError::BadSignature { field, expected, found: shown(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map {
        match value {
            Value::Map(entries) => entries,
            other => panic!("not an object: {other:?}"),
        }
    }

    #[test]
    fn partial_arguments_come_first_and_keywords_replace_stored_ones() {
        let stored = Signature::new("t").args([2, 3]).kwarg("a", 1).kwarg("b", 2);
        let merged = stored.merge(&[Value::Int(1)], &map(crate::value!({"b": 3})), &Map::new());
        assert_eq!(merged.args, [1, 2, 3].map(Value::Int));
        assert_eq!(merged.kwargs, map(crate::value!({"a": 1, "b": 3})));
    }

    #[test]
    fn an_immutable_signature_takes_options_only() {
        let stored = Signature::new("t").args([2]).immutable(true);
        let options = map(crate::value!({"queue": "q", "countdown": null}));
        let merged = stored.merge(&[Value::Int(1)], &map(crate::value!({"b": 3})), &options);
        assert_eq!(merged, Signature::new("t").args([2]).immutable(true).option("queue", "q"));
    }

    #[test]
    fn group_id_and_stamps_stay_as_stored() {
        let stored =
            Signature::new("t").option("group_id", "g").option("stamped_headers", vec!["x"]).option("x", 1);
        let options =
            crate::value!({"group_id": "h", "stamped_headers": ["y"], "x": 2, "y": 3, "priority": 5});
        let merged = stored.merge(&[], &Map::new(), &map(options));
        assert_eq!(
            Value::Map(merged.options),
            crate::value!({"group_id": "g", "stamped_headers": ["x"], "x": 1, "y": 3, "priority": 5})
        );
    }

    #[test]
    fn wrong_shapes_are_named() {
        for (value, field) in [
            (crate::value!([]), "signature"),
            (crate::value!({"args": []}), "task"),
            (crate::value!({"task": "t", "args": 1}), "args"),
            (crate::value!({"task": "t", "kwargs": []}), "kwargs"),
            (crate::value!({"task": "t", "options": "x"}), "options"),
        ] {
            match Signature::from_value(&value) {
                Err(ProtocolError::BadSignature { field: named, .. }) => assert_eq!(named, field),
                other => panic!("{value:?} gave {other:?}"),
            }
        }
    }
}
