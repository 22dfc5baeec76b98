//! Rust types to values.

use serde::ser::{self, Error as _, Serialize, SerializeMap, Serializer};

use super::super::iso8601::Precision;
use super::super::typed::{self, Payload};
use super::super::{Map, Value};
use super::ser_key::KeySerializer;
use super::{BIG_INT, VALUE, ValueError};
use crate::stack::deeper;

impl Serialize for Value {
    /// Serializes typed values in kombu's object form, and text with lone surrogates in its carried form; [`to_value`](super::to_value) takes them as they are.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(flag) => serializer.serialize_bool(*flag),
            Value::Int(number) => serializer.serialize_i64(*number),
            Value::BigInt(digits) => match (digits.parse::<i128>(), digits.parse::<u128>()) {
                (Ok(number), _) => serializer.serialize_i128(number),
                (_, Ok(number)) => serializer.serialize_u128(number),
                _ => serializer.serialize_newtype_struct(BIG_INT, digits),
            },
            Value::Float(number) => serializer.serialize_f64(*number),
            Value::Str(text) => serializer.serialize_str(text),
            Value::Surrogates(text) => serializer.serialize_str(text.carried()),
            Value::List(items) => deeper(|| serializer.collect_seq(items)),
            Value::Map(entries) => deeper(|| serializer.collect_map(entries)),
            _ => serializer.serialize_newtype_struct(VALUE, &Typed(self)),
        }
    }
}

/// kombu's object form of a typed value.
struct Typed<'a>(&'a Value);

impl Serialize for Typed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, payload) = typed::parts(self.0, Precision::Nanos)
            .ok_or_else(|| S::Error::custom(format_args!("{} is not a typed value", self.0.kind())))?;
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("__type__", name)?;
        match payload {
            Payload::Text(text) => map.serialize_entry("__value__", &text)?,
            Payload::Hex(hex) => {
                map.serialize_entry("__value__", &Map::from_iter([("hex".to_owned(), Value::Str(hex))]))?
            }
        }
        map.end()
    }
}

pub(super) struct ValueSerializer;

impl Serializer for ValueSerializer {
    type Ok = Value;
    type Error = ValueError;
    type SerializeSeq = List;
    type SerializeTuple = List;
    type SerializeTupleStruct = List;
    type SerializeTupleVariant = List;
    type SerializeMap = Entries;
    type SerializeStruct = Entries;
    type SerializeStructVariant = Entries;

    fn serialize_bool(self, flag: bool) -> Result<Value, ValueError> {
        Ok(Value::Bool(flag))
    }

    fn serialize_i8(self, number: i8) -> Result<Value, ValueError> {
        Ok(Value::from(number))
    }

    fn serialize_i16(self, number: i16) -> Result<Value, ValueError> {
        Ok(Value::from(number))
    }

    fn serialize_i32(self, number: i32) -> Result<Value, ValueError> {
        Ok(Value::from(number))
    }

    fn serialize_i64(self, number: i64) -> Result<Value, ValueError> {
        Ok(Value::Int(number))
    }

    fn serialize_i128(self, number: i128) -> Result<Value, ValueError> {
        Ok(i64::try_from(number).map_or_else(|_| Value::BigInt(number.to_string()), Value::Int))
    }

    fn serialize_u8(self, number: u8) -> Result<Value, ValueError> {
        Ok(Value::from(number))
    }

    fn serialize_u16(self, number: u16) -> Result<Value, ValueError> {
        Ok(Value::from(number))
    }

    fn serialize_u32(self, number: u32) -> Result<Value, ValueError> {
        Ok(Value::from(number))
    }

    fn serialize_u64(self, number: u64) -> Result<Value, ValueError> {
        Ok(Value::from(number))
    }

    fn serialize_u128(self, number: u128) -> Result<Value, ValueError> {
        Ok(i64::try_from(number).map_or_else(|_| Value::BigInt(number.to_string()), Value::Int))
    }

    fn serialize_f32(self, number: f32) -> Result<Value, ValueError> {
        Ok(Value::from(number))
    }

    fn serialize_f64(self, number: f64) -> Result<Value, ValueError> {
        Ok(Value::Float(number))
    }

    fn serialize_char(self, character: char) -> Result<Value, ValueError> {
        Ok(Value::Str(character.to_string()))
    }

    fn serialize_str(self, text: &str) -> Result<Value, ValueError> {
        Ok(Value::from(text))
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<Value, ValueError> {
        Ok(Value::Bytes(bytes.to_owned()))
    }

    fn serialize_none(self) -> Result<Value, ValueError> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, ValueError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, ValueError> {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<Value, ValueError> {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Value, ValueError> {
        Ok(Value::from(variant))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Value, ValueError> {
        match (name, value.serialize(self)?) {
            (VALUE, Value::Map(entries)) => typed::read(entries).map_err(ValueError::custom),
            (BIG_INT, Value::Str(digits)) => Ok(Value::BigInt(digits)),
            (_, value) => Ok(value),
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, ValueError> {
        Ok(tagged(variant, nested(value)?))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<List, ValueError> {
        Ok(List::new(None, length.unwrap_or(0)))
    }

    fn serialize_tuple(self, length: usize) -> Result<List, ValueError> {
        Ok(List::new(None, length))
    }

    fn serialize_tuple_struct(self, _name: &'static str, length: usize) -> Result<List, ValueError> {
        Ok(List::new(None, length))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<List, ValueError> {
        Ok(List::new(Some(variant), length))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Entries, ValueError> {
        Ok(Entries::new(None, length.unwrap_or(0)))
    }

    fn serialize_struct(self, _name: &'static str, length: usize) -> Result<Entries, ValueError> {
        Ok(Entries::new(None, length))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Entries, ValueError> {
        Ok(Entries::new(Some(variant), length))
    }
}

/// A value within another one.
fn nested<T: Serialize + ?Sized>(value: &T) -> Result<Value, ValueError> {
    deeper(|| value.serialize(ValueSerializer))
}

fn tagged(variant: &str, value: Value) -> Value {
    Value::Map(Map::from_iter([(variant.to_owned(), value)]))
}

pub(super) struct List {
    variant: Option<&'static str>,
    items: Vec<Value>,
}

impl List {
    fn new(variant: Option<&'static str>, capacity: usize) -> Self {
        List { variant, items: Vec::with_capacity(capacity.min(4096)) }
    }

    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueError> {
        self.items.push(nested(value)?);
        Ok(())
    }

    fn finish(self) -> Value {
        let list = Value::List(self.items);
        match self.variant {
            Some(variant) => tagged(variant, list),
            None => list,
        }
    }
}

macro_rules! list {
    ($($trait:ident $method:ident),*) => {
        $(impl ser::$trait for List {
            type Ok = Value;
            type Error = ValueError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueError> {
                self.push(value)
            }

            fn end(self) -> Result<Value, ValueError> {
                Ok(self.finish())
            }
        })*
    };
}

list!(SerializeSeq serialize_element, SerializeTuple serialize_element, SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field);

pub(super) struct Entries {
    variant: Option<&'static str>,
    key: Option<String>,
    entries: Map,
}

impl Entries {
    fn new(variant: Option<&'static str>, capacity: usize) -> Self {
        Entries { variant, key: None, entries: Map::with_capacity(capacity.min(4096)) }
    }

    fn finish(self) -> Value {
        let map = Value::Map(self.entries);
        match self.variant {
            Some(variant) => tagged(variant, map),
            None => map,
        }
    }
}

impl SerializeMap for Entries {
    type Ok = Value;
    type Error = ValueError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), ValueError> {
        self.key = Some(key.serialize(KeySerializer)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueError> {
        let key = self.key.take().ok_or_else(|| ValueError::new("a mapping's value came before its key"))?;
        self.entries.insert(key, nested(value)?);
        Ok(())
    }

    fn end(self) -> Result<Value, ValueError> {
        Ok(self.finish())
    }
}

macro_rules! fields {
    ($($trait:ident),*) => {
        $(impl ser::$trait for Entries {
            type Ok = Value;
            type Error = ValueError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), ValueError> {
                self.entries.insert(key.to_owned(), nested(value)?);
                Ok(())
            }

            fn end(self) -> Result<Value, ValueError> {
                Ok(self.finish())
            }
        })*
    };
}

fields!(SerializeStruct, SerializeStructVariant);
