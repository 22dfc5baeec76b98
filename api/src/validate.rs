//! Checks bodies and reports what is wrong with them in the form that clients of FastAPI know: a list of
//! `{"type", "loc", "msg"}`.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::error::ApiError;

/// The fields of a body, and what was found wrong with them so far.
pub(crate) struct Fields {
    fields: Map<String, Value>,
    problems: Vec<Value>,
}

impl Fields {
    pub(crate) fn of(body: Value) -> Result<Self, ApiError> {
        match body {
            Value::Object(fields) => Ok(Self { fields, problems: Vec::new() }),
            _ => Err(ApiError::Invalid(vec![problem(
                "model_attributes_type",
                json!(["body"]),
                "Input should be a valid dictionary or object to extract fields from",
            )])),
        }
    }

    /// A text of `least` to `most` characters, not counting white space around it.
    pub(crate) fn text(&mut self, name: &str, least: usize, most: usize) -> String {
        let text = match self.fields.get(name) {
            None => return self.missing(name),
            Some(Value::String(text)) => text.clone(),
            Some(_) => return self.wrong(name, "string_type", "Input should be a valid string"),
        };
        self.length(name, text, least, most)
    }

    /// As [`Fields::text`], where `null` and absence are `None`.
    pub(crate) fn optional_text(&mut self, name: &str, least: usize, most: usize) -> Option<String> {
        match self.fields.get(name) {
            None | Some(Value::Null) => None,
            Some(_) => Some(self.text(name, least, most)),
        }
    }

    /// As [`Fields::optional_text`], but the field must be there.
    pub(crate) fn nullable_text(&mut self, name: &str, least: usize, most: usize) -> Option<String> {
        if !self.fields.contains_key(name) {
            return self.missing(name);
        }
        self.optional_text(name, least, most)
    }

    pub(crate) fn boolean(&mut self, name: &str) -> bool {
        match self.fields.get(name) {
            None => self.missing(name),
            Some(Value::Bool(value)) => *value,
            Some(_) => self.wrong(name, "bool_type", "Input should be a valid boolean"),
        }
    }

    /// One of some texts.
    pub(crate) fn choice(&mut self, name: &str, choices: &[&'static str]) -> &'static str {
        let given = self.fields.get(name).and_then(Value::as_str);
        match choices.iter().find(|choice| Some(**choice) == given) {
            Some(choice) => choice,
            None if !self.fields.contains_key(name) => self.missing(name),
            None => {
                let (last, others) = choices.split_last().unwrap_or((&"", &[]));
                let others: Vec<String> = others.iter().map(|choice| format!("'{choice}'")).collect();
                self.wrong(
                    name,
                    "literal_error",
                    &format!("Input should be {} or '{last}'", others.join(", ")),
                )
            }
        }
    }

    /// A list of 1 to `most` ids.
    pub(crate) fn ids(&mut self, name: &str, most: usize) -> Vec<Uuid> {
        let items = match self.fields.get(name) {
            None => return self.missing(name),
            Some(Value::Array(items)) => items.clone(),
            Some(_) => return self.wrong(name, "list_type", "Input should be a valid list"),
        };
        if items.is_empty() {
            return self.wrong(name, "too_short", "List should have at least 1 item after validation, not 0");
        }
        if items.len() > most {
            let message =
                format!("List should have at most {most} items after validation, not {}", items.len());
            return self.wrong(name, "too_long", &message);
        }
        let mut ids = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match item.as_str().and_then(|text| text.parse().ok()) {
                Some(id) => ids.push(id),
                None => self.problems.push(problem("uuid_parsing", json!(["body", name, index]), NOT_A_UUID)),
            }
        }
        ids
    }

    /// Ends the checks.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        if self.problems.is_empty() { Ok(()) } else { Err(ApiError::Invalid(self.problems)) }
    }

    fn length(&mut self, name: &str, text: String, least: usize, most: usize) -> String {
        // PostgreSQL keeps no NUL characters.
        if text.contains('\0') {
            return self.wrong(name, "string_nul", "String should not contain NUL characters");
        }
        if text.trim().chars().count() < least {
            let plural = if least == 1 { "" } else { "s" };
            let message = format!("String should have at least {least} character{plural}");
            return self.wrong(name, "string_too_short", &message);
        }
        if text.chars().count() > most {
            return self.wrong(
                name,
                "string_too_long",
                &format!("String should have at most {most} characters"),
            );
        }
        text
    }

    fn missing<T: Default>(&mut self, name: &str) -> T {
        self.wrong(name, "missing", "Field required")
    }

    fn wrong<T: Default>(&mut self, name: &str, kind: &str, message: &str) -> T {
        self.problems.push(problem(kind, json!(["body", name]), message));
        T::default()
    }
}

/// The parameters of a query, and what was found wrong with them so far. Where one is given twice, the last one counts.
pub(crate) struct Query {
    parameters: Vec<(String, String)>,
    problems: Vec<Value>,
}

impl Query {
    pub(crate) fn new(parameters: Vec<(String, String)>) -> Self {
        Self { parameters, problems: Vec::new() }
    }

    /// A whole number from `least` to `most`.
    pub(crate) fn number(&mut self, name: &str, least: i64, most: i64) -> Option<i64> {
        let expected = format!("Input should be a whole number from {least} to {most}");
        self.parsed(name, "int_parsing", &expected, |text| {
            text.parse().ok().filter(|number| (least..=most).contains(number))
        })
    }

    /// An id.
    pub(crate) fn id(&mut self, name: &str) -> Option<Uuid> {
        self.parsed(name, "uuid_parsing", NOT_A_UUID, |text| text.parse().ok())
    }

    /// One of some values, by its name.
    pub(crate) fn one_of<T: Copy>(
        &mut self,
        name: &str,
        values: impl IntoIterator<Item = T> + Clone,
        name_of: fn(T) -> &'static str,
    ) -> Option<T> {
        let names: Vec<&str> = values.clone().into_iter().map(name_of).collect();
        let expected = format!("Input should be {}", names.join(", "));
        self.parsed(name, "enum", &expected, |text| values.into_iter().find(|value| name_of(*value) == text))
    }

    /// Ends the checks.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        if self.problems.is_empty() { Ok(()) } else { Err(ApiError::Invalid(self.problems)) }
    }

    fn parsed<T>(
        &mut self,
        name: &str,
        kind: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let (_, text) = self.parameters.iter().rev().find(|(given, _)| given == name)?;
        let parsed = parse(text);
        if parsed.is_none() {
            self.problems.push(problem(kind, json!(["query", name]), expected));
        }
        parsed
    }
}

const NOT_A_UUID: &str = "Input should be a valid UUID";

/// The id in a path.
pub(crate) fn path_id(name: &str, text: &str) -> Result<Uuid, ApiError> {
    let invalid = |_| ApiError::Invalid(vec![problem("uuid_parsing", json!(["path", name]), NOT_A_UUID)]);
    text.parse().map_err(invalid)
}

pub(crate) fn missing_body() -> ApiError {
    ApiError::Invalid(vec![problem("missing", json!(["body"]), "Field required")])
}

pub(crate) fn invalid_json(error: &serde_json::Error) -> ApiError {
    let message = format!("JSON decode error: {error}");
    ApiError::Invalid(vec![problem("json_invalid", json!(["body", error.column()]), &message)])
}

fn problem(kind: &str, location: Value, message: &str) -> Value {
    json!({ "type": kind, "loc": location, "msg": message })
}
