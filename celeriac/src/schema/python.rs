//! A Python module made of schemas.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Map, Value as Json};

use super::names::{self, Names, is_name};
use super::{ParameterSchema, Schemas};
use crate::message::repr::repr;
use crate::task::ParameterKind;

const HEAD: &str = include_str!("head.py");

pub(super) fn module(schemas: &Schemas) -> String {
    let names = Names::of(schemas);
    let (to, from) = (Typing { way: Way::In, names: &names }, Typing { way: Way::Out, names: &names });
    let mut out = HEAD.to_owned();
    for (name, schema) in &schemas.definitions {
        if let Some(name) = names.definition(name) {
            define(name, schema, from, &mut out);
        }
    }
    for (variable, name, task) in &names.tasks {
        let description = task.description.lines().map(str::trim).find(|line| !line.is_empty());
        let comment = description
            .map(|line| format!("# {}\n", line.replace(char::is_control, " ")))
            .unwrap_or_default();
        let parameters = parameters(task.parameters.as_deref(), to);
        let returns = from.of(&task.returns);
        let name = repr(&(*name).into());
        let _ = write!(
            out,
            "\n\n{comment}def _{variable}({parameters}) -> {returns}: ...\n\n\n{variable} = Task(_{variable}, {name})\n"
        );
    }
    out
}

/// `x: int, y: int = 2, *rest: str`
fn parameters(parameters: Option<&[ParameterSchema]>, typing: Typing<'_>) -> String {
    let Some(parameters) = parameters else { return "*args: Any, **kwargs: Any".to_owned() };
    let mut texts = Vec::new();
    // A parameter that Python cannot name can be given by position only, and so can those before it.
    let has_place = |parameter: &ParameterSchema| {
        matches!(parameter.kind, ParameterKind::Required | ParameterKind::Optional)
    };
    let unnamed = parameters.iter().rposition(|parameter| has_place(parameter) && !is_name(&parameter.name));
    let mut used = BTreeSet::new();
    // What can be given by name keeps it.
    used.extend(parameters.iter().filter(|parameter| is_name(&parameter.name)).map(|it| it.name.clone()));
    let mut has_default = false;
    for (index, parameter) in parameters.iter().enumerate() {
        let name = if is_name(&parameter.name) {
            parameter.name.clone()
        } else {
            names::parameter(&parameter.name, &mut used)
        };
        let of = |schema: &Json| typing.of(schema);
        texts.push(match parameter.kind {
            // Python wants a default after one that has it.
            ParameterKind::Required if has_default => format!("{name}: {} = ...", of(&parameter.schema)),
            ParameterKind::Required => format!("{name}: {}", of(&parameter.schema)),
            ParameterKind::Optional => {
                has_default = true;
                let default = match &parameter.default {
                    Some(default) => literal(default),
                    None if admits_null(&parameter.schema) => "None".to_owned(),
                    None => "...".to_owned(),
                };
                format!("{name}: {} = {default}", of(&parameter.schema))
            }
            ParameterKind::VarArgs => {
                format!("*{name}: {}", parameter.schema.get("items").map_or("Any".to_owned(), of))
            }
            ParameterKind::VarKwargs => {
                let values = parameter.schema.get("additionalProperties");
                format!("**{name}: {}", values.map_or("Any".to_owned(), of))
            }
        });
        if unnamed == Some(index) {
            texts.push("/".to_owned());
        }
    }
    texts.join(", ")
}

/// Only what cannot be changed by a callee is written out.
fn literal(default: &Json) -> String {
    match default {
        Json::Array(_) | Json::Object(_) => "...".to_owned(),
        plain => repr(&plain.clone().into()),
    }
}

fn admits_null(schema: &Json) -> bool {
    let is_null = |kind: &Json| kind == "null";
    match schema.get("type") {
        Some(Json::Array(kinds)) => kinds.iter().any(is_null),
        Some(kind) => is_null(kind),
        None => {
            schema.get("anyOf").and_then(Json::as_array).is_none_or(|choices| choices.iter().any(admits_null))
        }
    }
}

/// A class for an object of known fields, an alias for any other type.
fn define(name: &str, schema: &Json, typing: Typing<'_>, out: &mut String) {
    let Some(fields) = schema.get("properties").and_then(Json::as_object) else {
        let _ = write!(out, "\n\n{name}: TypeAlias = {}\n", quoted(&typing.of(schema)));
        return;
    };
    let required = schema.get("required").and_then(Json::as_array);
    let is_required = |field: &str| required.is_some_and(|names| names.iter().any(|name| name == field));
    let _ = write!(out, "\n\n{name} = TypedDict({}, {{", repr(&name.into()));
    for (field, schema) in fields {
        let of = typing.of(schema);
        let of = if is_required(field) { of } else { format!("NotRequired[{of}]") };
        let _ = write!(out, "\n    {}: {},", repr(&field.as_str().into()), quoted(&of));
    }
    out.push_str("\n})\n");
}

/// A type that may name classes which come later.
fn quoted(of: &str) -> String {
    repr(&of.into())
}

/// Which way values go.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// To the task: kombu carries dates and UUIDs.
    In,
    /// From the task, whose JSON has text for them.
    Out,
}

/// How types are written.
#[derive(Clone, Copy)]
struct Typing<'a> {
    way: Way,
    names: &'a Names<'a>,
}

impl Typing<'_> {
    /// The Python type of what the schema admits.
    fn of(self, schema: &Json) -> String {
        let Some(schema) = schema.as_object() else { return "Any".to_owned() };
        if let Some(name) = schema.get("$ref").and_then(Json::as_str) {
            let known = self.names.definition(name.rsplit('/').next().unwrap_or(name));
            return known.unwrap_or("Any").to_owned();
        }
        if let Some(value) = schema.get("const") {
            return one_of(std::slice::from_ref(value));
        }
        if let Some(values) = schema.get("enum").and_then(Json::as_array) {
            return one_of(values);
        }
        if let Some(choices) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array) {
            return union(choices.iter().map(|choice| self.of(choice)));
        }
        match schema.get("type") {
            Some(Json::String(kind)) => self.of_kind(kind, schema),
            Some(Json::Array(kinds)) => {
                union(kinds.iter().filter_map(Json::as_str).map(|kind| self.of_kind(kind, schema)))
            }
            _ => "Any".to_owned(),
        }
    }

    fn of_kind(self, kind: &str, schema: &Map<String, Json>) -> String {
        match kind {
            "integer" => "int".to_owned(),
            "number" => "float".to_owned(),
            "boolean" => "bool".to_owned(),
            "null" => "None".to_owned(),
            "string" => match (self.way, schema.get("format").and_then(Json::as_str)) {
                (Way::In, Some("date-time" | "partial-date-time")) => "datetime.datetime | str".to_owned(),
                (Way::In, Some("date")) => "datetime.date | str".to_owned(),
                (Way::In, Some("uuid")) => "uuid.UUID | str".to_owned(),
                _ => "str".to_owned(),
            },
            "array" => self.of_array(schema),
            "object" => match schema.get("additionalProperties") {
                Some(values) if values != &Json::Bool(false) => format!("dict[str, {}]", self.of(values)),
                _ => "dict[str, Any]".to_owned(),
            },
            _ => "Any".to_owned(),
        }
    }

    /// A tuple comes back as a list, whose parts Python cannot tell apart.
    fn of_array(self, schema: &Map<String, Json>) -> String {
        let parts = schema.get("prefixItems").and_then(Json::as_array);
        match (self.way, parts, schema.get("items")) {
            (Way::In, Some(parts), _) => {
                let parts: Vec<String> = parts.iter().map(|part| self.of(part)).collect();
                format!("tuple[{}]", parts.join(", "))
            }
            (_, None, Some(items)) => format!("list[{}]", self.of(items)),
            _ => "list[Any]".to_owned(),
        }
    }
}

/// A type of those values.
fn one_of(values: &[Json]) -> String {
    // Literals are of no other types.
    let is_literal =
        |value: &Json| value.is_string() || value.is_boolean() || value.is_null() || value.is_i64();
    if values.is_empty() || !values.iter().all(is_literal) {
        return "Any".to_owned();
    }
    let values: Vec<String> = values.iter().map(|value| repr(&value.clone().into())).collect();
    format!("Literal[{}]", values.join(", "))
}

fn union(types: impl Iterator<Item = String>) -> String {
    let mut distinct: Vec<String> = Vec::new();
    for one in types {
        if one == "Any" {
            return one;
        }
        if !distinct.contains(&one) {
            distinct.push(one);
        }
    }
    if distinct.is_empty() { "Any".to_owned() } else { distinct.join(" | ") }
}
