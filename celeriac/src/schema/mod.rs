//! What the registered tasks take and return, as data: for `inspect`, for `celeriac schema`, and for the Python stubs made
//! of it.
//!
//! `#[celeriac::task]` describes each argument whose type implements [`JsonSchema`]; any other type counts as one that takes
//! anything. `#[derive(JsonSchema)]` on a type describes its fields.
//!
//! ```
//! use celeriac::prelude::*;
//!
//! #[derive(serde::Serialize, serde::Deserialize, celeriac::schema::JsonSchema)]
//! #[schemars(crate = "celeriac::schema::schemars")]
//! struct Size { width: u32, height: u32 }
//!
//! #[celeriac::task(name = "images.resize")]
//! async fn resize(id: u64, size: Size, #[default(80)] quality: u8) -> String { String::new() }
//!
//! let schemas = celeriac::schema::Schemas::of([&celeriac::task::Task::definition(&resize)]);
//! let quality = &schemas.tasks["images.resize"].parameters.as_ref().unwrap()[2];
//! assert_eq!((quality.name.as_str(), &quality.default), ("quality", &Some(80.into())));
//! assert!(schemas.python().contains("def _resize(id: int, size: Size, quality: int = 80) -> str: ..."));
//! ```

mod names;
mod probe;
mod python;

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
pub use schemars::{self, JsonSchema};
pub use schemars::{Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

#[doc(hidden)]
pub use probe::{Any, Probe, default_value};

use crate::message::Value;
use crate::task::{ParameterKind, TaskDefinition};

/// The tasks of an application or of a worker, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schemas {
    /// What each task takes and returns.
    pub tasks: BTreeMap<String, TaskSchema>,
    /// The JSON schemas of the types that the others refer to as `#/$defs/NAME`.
    #[serde(rename = "$defs", default)]
    pub definitions: Map<String, Json>,
}

/// What one task takes and returns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskSchema {
    /// The task's documentation.
    #[serde(default)]
    pub description: String,
    /// Its parameters in their order; `None` when it takes any arguments.
    pub parameters: Option<Vec<ParameterSchema>>,
    /// JSON schema of what it returns; `true` is anything.
    pub returns: Json,
    /// What the task declares about itself, under the names of Celery's task attributes.
    pub options: Map<String, Json>,
}

/// One parameter of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParameterSchema {
    /// Its name.
    pub name: String,
    /// How arguments reach it.
    pub kind: ParameterKind,
    /// JSON schema of its argument; of one with [`ParameterKind::VarArgs`] or [`ParameterKind::VarKwargs`] that of all of
    /// them together; `true` is anything.
    pub schema: Json,
    /// What it is when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Json>,
}

/// The types of one task function: what `#[celeriac::task]` knows of them.
#[derive(Clone, Debug)]
pub struct Types {
    /// The function's documentation.
    pub description: &'static str,
    /// The type of each parameter, and its default.
    pub parameters: Vec<(Schema, Option<Json>)>,
    /// The type of what it returns.
    pub returns: Schema,
}

/// Tells the types of a task function; a type that is used more than once is described once, in the generator.
pub type Describe = fn(&mut SchemaGenerator) -> Types;

impl Schemas {
    /// Those of the given tasks, without Celery's own (`celery.*`).
    pub fn of<'a>(tasks: impl IntoIterator<Item = &'a TaskDefinition>) -> Self {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        let tasks: BTreeMap<_, _> = tasks
            .into_iter()
            .filter(|task| !task.name.starts_with("celery."))
            .map(|task| (task.name.to_string(), TaskSchema::of(task, &mut generator)))
            .collect();
        Self { tasks, definitions: generator.take_definitions(true) }
    }

    /// Adds the tasks of another worker; the names of those that are known already and differ.
    pub fn merge(&mut self, other: Schemas) -> Vec<String> {
        let mut differ = Vec::new();
        for (name, definition) in other.definitions {
            if *self.definitions.entry(name.clone()).or_insert_with(|| definition.clone()) != definition {
                differ.push(name);
            }
        }
        for (name, task) in other.tasks {
            if *self.tasks.entry(name.clone()).or_insert_with(|| task.clone()) != task {
                differ.push(name);
            }
        }
        differ
    }

    /// A Python module with a typed object for each task, so that a type checker sees what is wrong with a call:
    /// `resize.delay(7, {"width": 1, "height": 2})`, `resize.s(..)`, `resize.apply(..)`.
    pub fn python(&self) -> String {
        python::module(self)
    }
}

impl TaskSchema {
    fn of(task: &TaskDefinition, generator: &mut SchemaGenerator) -> Self {
        let types = task.describe.map(|describe| describe(generator));
        let (description, described, returns) = match types {
            Some(Types { description, parameters, returns }) => (description, parameters, returns.to_value()),
            None => ("", Vec::new(), Json::Bool(true)),
        };
        let mut described = described.into_iter();
        let parameter = |parameter: &crate::task::Parameter| {
            let (schema, default) = described.next().unwrap_or((true.into(), None));
            ParameterSchema {
                name: parameter.name.to_owned(),
                kind: parameter.kind,
                schema: schema.to_value(),
                default,
            }
        };
        Self {
            description: description.trim().to_owned(),
            parameters: task.parameters.map(|parameters| parameters.iter().map(parameter).collect()),
            returns,
            options: task.options.declared(),
        }
    }
}

/// Takes anything.
impl JsonSchema for Value {
    fn schema_name() -> Cow<'static, str> {
        "AnyValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        true.into()
    }

    fn inline_schema() -> bool {
        true
    }
}
