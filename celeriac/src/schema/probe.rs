//! How the macro asks for a type's schema without knowing whether it has one.

use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::Value as Json;

/// `Probe::<T>::new().schema(generator)`: the type's own schema, or, with [`Any`] in scope, one that takes anything.
pub struct Probe<T: ?Sized>(PhantomData<T>);

impl<T: ?Sized> Probe<T> {
    /// A probe of that type.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: JsonSchema + ?Sized> Probe<T> {
    /// Takes precedence over [`Any::schema`].
    pub fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

/// What a type without a schema has.
pub trait Any {
    /// A schema that takes anything.
    fn schema(&self, _: &mut SchemaGenerator) -> Schema {
        true.into()
    }
}

impl<T: ?Sized> Any for Probe<T> {}

/// The default of a parameter as JSON; `None` when it has no form there.
pub fn default_value<T: Serialize>(value: &T) -> Option<Json> {
    serde_json::to_value(value).ok()
}
