//! A Python module made of schemas.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value as Json};

use super::{ParameterSchema, Schemas, TaskSchema};
use crate::message::repr::repr;
use crate::task::ParameterKind;

const HEAD: &str = include_str!("head.py");

/// Python's reserved words, none of which names a parameter or a variable.
const KEYWORDS: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def",
    "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is",
    "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// Names that the module itself uses.
const TAKEN: [&str; 13] = [
    "Any",
    "Callable",
    "Generic",
    "Literal",
    "NotRequired",
    "ParamSpec",
    "Protocol",
    "Task",
    "TypeAlias",
    "TypedDict",
    "TypeVar",
    "datetime",
    "uuid",
];

pub(super) fn module(schemas: &Schemas) -> String {
    let mut out = HEAD.to_owned();
    for (name, schema) in &schemas.definitions {
        define(name, schema, &mut out);
    }
    for (variable, name, task) in named(schemas) {
        let description = task.description.lines().map(str::trim).find(|line| !line.is_empty());
        let comment = description.map(|line| format!("# {line}\n")).unwrap_or_default();
        let parameters = parameters(task.parameters.as_deref());
        let returns = Typing::Out.of(&task.returns);
        let name = repr(&name.into());
        let _ = write!(
            out,
            "\n\n{comment}def _{variable}({parameters}) -> {returns}: ...\n\n\n{variable} = Task(_{variable}, {name})\n"
        );
    }
    out
}

/// A variable for each task: the last part of its name, or all of it where two would be the same.
fn named(schemas: &Schemas) -> impl Iterator<Item = (String, &str, &TaskSchema)> {
    let last = |name: &str| identifier(name.rsplit('.').next().unwrap_or(name));
    let mut uses = BTreeMap::<String, usize>::new();
    for name in schemas.tasks.keys() {
        *uses.entry(last(name)).or_default() += 1;
    }
    schemas.tasks.iter().map(move |(name, task)| {
        let short = last(name);
        let is_free = uses[&short] == 1 && !schemas.definitions.contains_key(&short);
        (if is_free { short } else { identifier(name) }, name.as_str(), task)
    })
}

fn identifier(name: &str) -> String {
    let mut text: String =
        name.chars().map(|letter| if letter.is_alphanumeric() { letter } else { '_' }).collect();
    if text.is_empty() || text.starts_with(|first: char| first.is_numeric()) {
        text.insert(0, '_');
    }
    if KEYWORDS.contains(&text.as_str()) || TAKEN.contains(&text.as_str()) {
        text.push('_');
    }
    text
}

/// `x: int, y: int = 2, *rest: str`
fn parameters(parameters: Option<&[ParameterSchema]>) -> String {
    let Some(parameters) = parameters else { return "*args: Any, **kwargs: Any".to_owned() };
    let mut texts = Vec::new();
    // A parameter whose name Python reserves can be given by position only, and so can those before it.
    let reserved = parameters.iter().rposition(|parameter| KEYWORDS.contains(&parameter.name.as_str()));
    let mut has_default = false;
    for (index, parameter) in parameters.iter().enumerate() {
        let name = identifier(&parameter.name);
        let of = |schema: &Json| Typing::In.of(schema);
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
        if reserved == Some(index) {
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
fn define(name: &str, schema: &Json, out: &mut String) {
    let name = identifier(name);
    let Some(fields) = schema.get("properties").and_then(Json::as_object) else {
        let _ = write!(out, "\n\n{name}: TypeAlias = {}\n", quoted(&Typing::Out.of(schema)));
        return;
    };
    let required = schema.get("required").and_then(Json::as_array);
    let is_required = |field: &str| required.is_some_and(|names| names.iter().any(|name| name == field));
    let _ = write!(out, "\n\n{name} = TypedDict({}, {{", repr(&name.as_str().into()));
    for (field, schema) in fields {
        let of = Typing::Out.of(schema);
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
#[derive(Clone, Copy)]
enum Typing {
    /// To the task: kombu carries dates and UUIDs.
    In,
    /// From the task, whose JSON has text for them.
    Out,
}

impl Typing {
    /// The Python type of what the schema admits.
    fn of(self, schema: &Json) -> String {
        let Some(schema) = schema.as_object() else { return "Any".to_owned() };
        if let Some(name) = schema.get("$ref").and_then(Json::as_str) {
            return identifier(name.rsplit('/').next().unwrap_or(name));
        }
        if let Some(value) = schema.get("const") {
            return format!("Literal[{}]", repr(&value.clone().into()));
        }
        if let Some(values) = schema.get("enum").and_then(Json::as_array) {
            let values: Vec<String> = values.iter().map(|value| repr(&value.clone().into())).collect();
            return format!("Literal[{}]", values.join(", "));
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
            "string" => match (self, schema.get("format").and_then(Json::as_str)) {
                (Typing::In, Some("date-time" | "partial-date-time")) => "datetime.datetime | str".to_owned(),
                (Typing::In, Some("date")) => "datetime.date | str".to_owned(),
                (Typing::In, Some("uuid")) => "uuid.UUID | str".to_owned(),
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
        match (self, parts, schema.get("items")) {
            (Typing::In, Some(parts), _) => {
                let parts: Vec<String> = parts.iter().map(|part| self.of(part)).collect();
                format!("tuple[{}]", parts.join(", "))
            }
            (_, None, Some(items)) => format!("list[{}]", self.of(items)),
            _ => "list[Any]".to_owned(),
        }
    }
}

fn union(types: impl Iterator<Item = String>) -> String {
    let mut distinct: Vec<String> = Vec::new();
    for one in types.collect::<Vec<_>>().iter().flat_map(|text| text.split(" | ")) {
        if one == "Any" {
            return "Any".to_owned();
        }
        if !distinct.iter().any(|known| known == one) {
            distinct.push(one.to_owned());
        }
    }
    distinct.join(" | ")
}
