//! How the arguments of a call reach the parameters of a function: by Python's rules, and in Python's words.

use serde::Deserialize;

use super::{Parameter, ParameterKind, Request, TaskError, TaskResult};
use crate::message::repr::saferepr;
use crate::message::surrogates::shown;
use crate::message::{Map, Signature, Value, ValueError, from_value_ref};

/// Checks that a call with that many positional arguments and those keywords fits the parameters.
///
/// # Errors
/// The text of the `TypeError` that Python (3.11) raises for such a call, such as
/// `add() missing 1 required positional argument: 'y'`.
pub fn check_arity<'k>(
    function: &str,
    parameters: &[Parameter],
    positional: usize,
    keywords: impl Iterator<Item = &'k str> + Clone,
) -> Result<(), String> {
    let takes_any_keyword = parameters.iter().any(|parameter| parameter.kind == ParameterKind::VarKwargs);
    let named = || parameters.iter().filter(|parameter| is_named(parameter));

    for keyword in keywords.clone() {
        match named().position(|parameter| parameter.name == keyword) {
            Some(index) if index < positional => {
                return Err(format!("{function}() got multiple values for argument '{keyword}'"));
            }
            None if !takes_any_keyword => {
                return Err(format!("{function}() got an unexpected keyword argument '{}'", shown(keyword)));
            }
            _ => {}
        }
    }

    let most = named().count();
    let takes_any_number = parameters.iter().any(|parameter| parameter.kind == ParameterKind::VarArgs);
    if positional > most && !takes_any_number {
        return Err(too_many(function, parameters, most, positional));
    }

    let missing: Vec<&str> = named()
        .skip(positional)
        .filter(|parameter| parameter.kind == ParameterKind::Required)
        .map(|parameter| parameter.name)
        .filter(|name| !keywords.clone().any(|keyword| keyword == *name))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(too_few(function, &missing)) }
}

/// Whether a call of that signature leaves more than that many parameters to be filled by position.
///
/// By this Celery tells errbacks that take `(request, exc, traceback)` from those that take the task's id (celery 5.7
/// `celery/backends/base.py` `_errback_arity_greater`): arguments that a mutable signature brings along are not counted,
/// unless they do not fit.
pub fn takes_more_than(parameters: &[Parameter], signature: &Signature, count: usize) -> bool {
    let has_var_args = parameters.iter().any(|parameter| parameter.kind == ParameterKind::VarArgs);
    let named: Vec<Parameter> = parameters.iter().copied().filter(is_named).collect();
    let (args, kwargs) = (signature.args.len(), &signature.kwargs);
    let keywords = || kwargs.keys().map(String::as_str);
    let fits_in_part = || {
        let none_required: Vec<Parameter> = parameters
            .iter()
            .map(|parameter| match parameter.kind {
                ParameterKind::Required => Parameter { kind: ParameterKind::Optional, ..*parameter },
                _ => *parameter,
            })
            .collect();
        check_arity("", &none_required, args, keywords()).is_ok()
    };
    if signature.immutable || !fits_in_part() {
        return has_var_args || named.len() > count;
    }
    // From the first parameter that a keyword fills, all are filled by keyword only.
    let is_open = |parameter: &&Parameter| !kwargs.contains_key(parameter.name);
    let left = named.iter().skip(args).take_while(is_open).count();
    let any_number = has_var_args && named.iter().all(|parameter| is_open(&parameter));
    any_number || left > count
}

/// The arguments of one call, checked against the parameters of its function.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    function: &'static str,
    parameters: &'static [Parameter],
    request: &'a Request,
}

impl<'a> Arguments<'a> {
    /// The arguments of that request for a function of that name and with those parameters.
    ///
    /// # Errors
    /// A `TypeError` when the call does not fit; see [`check_arity`].
    pub fn bind(
        function: &'static str,
        parameters: &'static [Parameter],
        request: &'a Request,
    ) -> TaskResult<Self> {
        let (args, kwargs) = (request.body.args.as_slice(), &request.body.kwargs);
        check_arity(function, parameters, args.len(), kwargs.keys().map(String::as_str))
            .map_err(type_error)?;
        Ok(Self { function, parameters, request })
    }

    /// The argument of the required parameter at that index.
    ///
    /// # Errors
    /// A `TypeError` when the argument is of another type.
    pub fn required<T: Deserialize<'a>>(&self, index: usize) -> TaskResult<T> {
        // After `bind` only an index that is no required parameter finds nothing.
        self.read(index, self.find(index).unwrap_or(&Value::Null))
    }

    /// The argument of the optional parameter at that index, if it was given.
    ///
    /// # Errors
    /// A `TypeError` when the argument is of another type.
    pub fn optional<T: Deserialize<'a>>(&self, index: usize) -> TaskResult<Option<T>> {
        self.find(index).map(|value| self.read(index, value)).transpose()
    }

    /// The positional arguments that no other parameter takes, for the `*args` parameter at that index.
    ///
    /// # Errors
    /// A `TypeError` when one of them is of another type.
    pub fn var_args<T: Deserialize<'a>>(&self, index: usize) -> TaskResult<Vec<T>> {
        let named = self.parameters.iter().filter(|parameter| is_named(parameter)).count();
        self.args().iter().skip(named).map(|value| self.read(index, value)).collect()
    }

    /// The keyword arguments that no other parameter takes, for the `**kwargs` parameter at that index.
    ///
    /// # Errors
    /// A `TypeError` when one of them is of another type.
    pub fn var_kwargs<T: Deserialize<'a>, C: FromIterator<(String, T)>>(
        &self,
        index: usize,
    ) -> TaskResult<C> {
        let is_taken = |name: &str| self.parameters.iter().any(|taken| is_named(taken) && taken.name == name);
        self.kwargs()
            .iter()
            .filter(|(name, _)| !is_taken(name))
            .map(|(name, value)| Ok((name.clone(), self.read(index, value)?)))
            .collect()
    }

    fn args(&self) -> &'a [Value] {
        &self.request.body.args
    }

    fn kwargs(&self) -> &'a Map {
        &self.request.body.kwargs
    }

    /// Whether the caller hides the arguments, which no error may show then either.
    fn is_hidden(&self) -> bool {
        self.request.hidden_args().or(self.request.hidden_kwargs()).is_some()
    }

    /// Positional parameters come first, so a parameter's index is its position.
    fn find(&self, index: usize) -> Option<&'a Value> {
        self.args().get(index).or_else(|| self.kwargs().get(self.parameters.get(index)?.name))
    }

    fn read<T: Deserialize<'a>>(&self, index: usize, value: &'a Value) -> TaskResult<T> {
        from_value_ref(value).map_err(|error| {
            let name = self.parameters.get(index).map_or("", |parameter| parameter.name);
            let problem = if self.is_hidden() { expectation(&error) } else { mismatch(&error, value) };
            type_error(format!("{}() argument '{name}': {problem}", self.function))
        })
    }
}

fn is_named(parameter: &Parameter) -> bool {
    matches!(parameter.kind, ParameterKind::Required | ParameterKind::Optional)
}

fn type_error(text: String) -> TaskError {
    TaskError::builtin("TypeError", text)
}

fn too_many(function: &str, parameters: &[Parameter], most: usize, given: usize) -> String {
    let least = parameters.iter().filter(|parameter| parameter.kind == ParameterKind::Required).count();
    let range = if least < most { format!("from {least} to {most}") } else { most.to_string() };
    let arguments = if least == most && most == 1 { "argument" } else { "arguments" };
    let were = if given == 1 { "was" } else { "were" };
    format!("{function}() takes {range} positional {arguments} but {given} {were} given")
}

fn too_few(function: &str, missing: &[&str]) -> String {
    let quoted: Vec<String> = missing.iter().map(|name| format!("'{name}'")).collect();
    let names = match quoted.as_slice() {
        [] => String::new(),
        [name] => name.clone(),
        [first, second] => format!("{first} and {second}"),
        [others @ .., last] => format!("{}, and {last}", others.join(", ")),
    };
    let arguments = if missing.len() == 1 { "argument" } else { "arguments" };
    format!("{function}() missing {} required positional {arguments}: {names}", missing.len())
}

/// What the error expected, without what it found.
fn expectation(error: &ValueError) -> String {
    let text = error.to_string();
    match text.split_once(", found ") {
        Some((expected, _)) if text.starts_with("expected ") => expected.to_owned(),
        _ => "a value of another type was expected".to_owned(),
    }
}

/// What is wrong with a value: as the error says it, or with the value added when the error tells only of a part.
fn mismatch(error: &ValueError, value: &Value) -> String {
    const SHOWN: usize = 60;
    let text = error.to_string();
    if text.starts_with("expected ") { text } else { format!("{text}, found {}", saferepr(value, SHOWN, 2)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn parameter(name: &'static str, kind: ParameterKind) -> Parameter {
        Parameter { name, kind }
    }

    const X: Parameter = parameter("x", ParameterKind::Required);
    const Y: Parameter = parameter("y", ParameterKind::Required);
    const Z: Parameter = parameter("z", ParameterKind::Required);
    const OPTIONAL_X: Parameter = parameter("x", ParameterKind::Optional);
    const OPTIONAL_Y: Parameter = parameter("y", ParameterKind::Optional);
    const ARGS: Parameter = parameter("args", ParameterKind::VarArgs);
    const KWARGS: Parameter = parameter("kwargs", ParameterKind::VarKwargs);

    /// The right column is what CPython 3.11 prints for a function `f` with those parameters.
    #[test]
    fn calls_that_do_not_fit_are_refused_in_pythons_words() {
        let cases: &[(&[Parameter], usize, &[&str], &str)] = &[
            (&[X, Y], 1, &[], "f() missing 1 required positional argument: 'y'"),
            (&[X, Y], 0, &[], "f() missing 2 required positional arguments: 'x' and 'y'"),
            (&[X, Y, Z], 0, &[], "f() missing 3 required positional arguments: 'x', 'y', and 'z'"),
            (&[X, Y], 0, &["y"], "f() missing 1 required positional argument: 'x'"),
            (&[X, Y], 3, &[], "f() takes 2 positional arguments but 3 were given"),
            (&[X, OPTIONAL_Y], 3, &[], "f() takes from 1 to 2 positional arguments but 3 were given"),
            (
                &[OPTIONAL_X, OPTIONAL_Y],
                3,
                &[],
                "f() takes from 0 to 2 positional arguments but 3 were given",
            ),
            (&[OPTIONAL_X], 2, &[], "f() takes from 0 to 1 positional arguments but 2 were given"),
            (&[X], 2, &[], "f() takes 1 positional argument but 2 were given"),
            (&[], 1, &[], "f() takes 0 positional arguments but 1 was given"),
            (&[X, Y], 2, &["z"], "f() got an unexpected keyword argument 'z'"),
            (&[X, Y], 1, &["x"], "f() got multiple values for argument 'x'"),
            (&[X, Y], 1, &["z", "x"], "f() got an unexpected keyword argument 'z'"),
            (&[X, Y], 3, &["x"], "f() got multiple values for argument 'x'"),
            (&[X, ARGS], 0, &[], "f() missing 1 required positional argument: 'x'"),
            (&[X, ARGS], 1, &["y"], "f() got an unexpected keyword argument 'y'"),
            (&[X, KWARGS], 1, &["x", "y"], "f() got multiple values for argument 'x'"),
        ];
        for (parameters, positional, keywords, text) in cases {
            let result = check_arity("f", parameters, *positional, keywords.iter().copied());
            assert_eq!(result, Err((*text).to_owned()));
        }
    }

    /// The right column is what celery 5.7's `arity_greater(partial(f, *args, **kwargs), 1)` says.
    #[test]
    fn stored_arguments_of_an_errback_are_not_counted() {
        let cases: &[(&[Parameter], usize, &[&str], bool)] = &[
            (&[X], 0, &[], false),
            (&[X, Y], 0, &[], true),
            (&[X, OPTIONAL_Y], 0, &[], true),
            (&[X, ARGS], 0, &[], true),
            (&[X, Y, Z], 1, &[], true),
            (&[X, Y, Z], 2, &[], false),
            (&[X, Y, Z], 0, &["z"], true),
            (&[X, Y, Z], 0, &["y"], false),
            (&[X, Y, Z], 0, &["x"], false),
            (&[X, Y], 0, &["y"], false),
            (&[X, Y], 0, &["q"], true),
            (&[X, Y], 3, &[], true),
            (&[X, ARGS], 1, &[], true),
            (&[X, Y, ARGS, KWARGS], 0, &["x"], false),
            (&[X, Y, ARGS, KWARGS], 0, &["y"], false),
            (&[X, Y, ARGS, KWARGS], 0, &["q"], true),
            (&[X, ARGS], 0, &["x"], false),
        ];
        for (parameters, args, keywords, more) in cases {
            let signature = Signature {
                args: vec![Value::Null; *args],
                kwargs: keywords.iter().map(|name| ((*name).to_owned(), Value::Null)).collect(),
                ..Signature::default()
            };
            assert_eq!(takes_more_than(parameters, &signature, 1), *more, "{parameters:?} {signature:?}");
            let immutable = Signature { immutable: true, ..signature };
            let whole = takes_more_than(parameters, &Signature::default(), 1);
            assert_eq!(takes_more_than(parameters, &immutable, 1), whole);
        }
    }

    #[test]
    fn calls_that_fit_are_taken() {
        let cases: &[(&[Parameter], usize, &[&str])] = &[
            (&[X, Y], 2, &[]),
            (&[X, Y], 1, &["y"]),
            (&[X, Y], 0, &["y", "x"]),
            (&[X, OPTIONAL_Y], 1, &[]),
            (&[X, ARGS, KWARGS], 9, &["y", "z", "args"]),
            (&[], 0, &[]),
        ];
        for (parameters, positional, keywords) in cases {
            assert_eq!(check_arity("f", parameters, *positional, keywords.iter().copied()), Ok(()));
        }
    }
}
