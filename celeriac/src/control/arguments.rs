//! The arguments of a command, checked as Python checks those of a function.

use indexmap::IndexSet;

use super::commands::{Argument, Failed};
use super::python::{is_true, listed};
use crate::message::{Map, Value};

/// The arguments that a command was called with.
#[derive(Clone, Debug, Default)]
pub struct Arguments(Map);

impl Arguments {
    /// Checks arguments as they were sent for the command of that name. With `takes_others` unknown ones are passed over.
    ///
    /// # Errors
    /// The `TypeError` of Celery's worker.
    pub(super) fn bind(
        name: &str,
        known: &[Argument],
        takes_others: bool,
        sent: Value,
    ) -> Result<Self, Failed> {
        let wrong = |text: String| Err(Failed::raised("TypeError", text));
        let arguments = match sent {
            Value::Map(arguments) => arguments,
            sent if !is_true(&sent) => Map::new(),
            sent => {
                let kind = sent.kind();
                return wrong(format!(
                    "celery.worker.control.{name}() argument after ** must be a mapping, not {kind}"
                ));
            }
        };
        if arguments.contains_key("state") {
            return wrong(format!("{name}() got multiple values for argument 'state'"));
        }
        let is_known = |argument: &str| known.iter().any(|known| known.name == argument);
        if let Some(unknown) = arguments.keys().find(|argument| !takes_others && !is_known(argument)) {
            return wrong(format!("{name}() got an unexpected keyword argument '{unknown}'"));
        }
        let missing: Vec<String> = known
            .iter()
            .filter(|argument| argument.is_required && !arguments.contains_key(argument.name))
            .map(|argument| argument.name.to_owned())
            .collect();
        if !missing.is_empty() {
            let plural = if missing.len() == 1 { "" } else { "s" };
            return wrong(format!(
                "{name}() missing {} required positional argument{plural}: {}",
                missing.len(),
                listed(&missing)
            ));
        }
        Ok(Self(arguments))
    }

    /// Takes any arguments.
    ///
    /// # Errors
    /// The `TypeError` of Celery's worker, for what is no mapping.
    pub(super) fn any(name: &str, sent: Value) -> Result<Self, Failed> {
        Self::bind(name, &[], true, sent)
    }

    /// Any argument; `None` when it was not given or is null.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// An argument that is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// An argument that is a number, or text that is one.
    pub fn number(&self, name: &str) -> Option<f64> {
        let value = self.get(name)?;
        value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
    }

    /// Whether an argument was given and counts as true in Python.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(is_true)
    }

    /// An argument that is one text or a list of texts, without repetitions.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let items = match self.get(name) {
            None => &[],
            Some(Value::List(items)) => items.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        let texts: IndexSet<String> = items.iter().map(super::python::str).collect();
        texts.into_iter().collect()
    }

    /// All arguments.
    pub fn as_map(&self) -> &Map {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::commands::COMMANDS;

    fn bind(name: &str, sent: Value) -> Result<Arguments, Failed> {
        let spec = COMMANDS.iter().find(|spec| spec.name == name).unwrap();
        Arguments::bind(name, spec.arguments, spec.takes_others, sent)
    }

    fn refusal(name: &str, sent: Value) -> String {
        bind(name, sent).unwrap_err().to_string()
    }

    #[test]
    fn wrong_arguments_are_refused_in_pythons_words() {
        assert_eq!(
            refusal("rate_limit", crate::value!({"task_name": "vec.add"})),
            "TypeError(\"rate_limit() missing 1 required positional argument: 'rate_limit'\")"
        );
        assert_eq!(
            refusal("rate_limit", crate::value!({})),
            "TypeError(\"rate_limit() missing 2 required positional arguments: 'task_name' and 'rate_limit'\")"
        );
        assert_eq!(
            refusal("enable_events", crate::value!({"surprise": 1})),
            "TypeError(\"enable_events() got an unexpected keyword argument 'surprise'\")"
        );
        assert_eq!(
            refusal("report", crate::value!([1])),
            "TypeError('celery.worker.control.report() argument after ** must be a mapping, not list')"
        );
    }

    #[test]
    fn others_are_passed_over_where_python_does() {
        let sent = crate::value!({"task_name": "a", "rate_limit": 5, "surprise": 1});
        let arguments = bind("rate_limit", sent).unwrap();
        assert_eq!((arguments.text("task_name"), arguments.number("rate_limit")), (Some("a"), Some(5.0)));
        assert!(bind("report", Value::Null).is_ok());
    }
}
