//! Keys of mappings: Rust types to text.

use serde::ser::{Impossible, Serialize, Serializer};

use super::super::{Value, json, repr};
use super::ValueError;

/// Keys of a mapping as Python's JSON encoder turns them into text.
pub(super) struct KeySerializer;

type NoKey = Impossible<String, ValueError>;

fn no_key<T>(kind: &str) -> Result<T, ValueError> {
    Err(ValueError::new(format_args!("expected a text as a mapping's key, found {kind}")))
}

macro_rules! number_keys {
    ($($method:ident $type:ty),*) => {
        $(fn $method(self, number: $type) -> Result<String, ValueError> {
            Ok(number.to_string())
        })*
    };
}

impl Serializer for KeySerializer {
    type Ok = String;
    type Error = ValueError;
    type SerializeSeq = NoKey;
    type SerializeTuple = NoKey;
    type SerializeTupleStruct = NoKey;
    type SerializeTupleVariant = NoKey;
    type SerializeMap = NoKey;
    type SerializeStruct = NoKey;
    type SerializeStructVariant = NoKey;

    number_keys!(serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_i128 i128,
        serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64, serialize_u128 u128,
        serialize_bool bool, serialize_char char);

    fn serialize_f32(self, number: f32) -> Result<String, ValueError> {
        self.serialize_f64(number.into())
    }

    fn serialize_f64(self, number: f64) -> Result<String, ValueError> {
        Ok(json::dumps(&Value::Float(number)))
    }

    fn serialize_str(self, text: &str) -> Result<String, ValueError> {
        Ok(text.to_owned())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<String, ValueError> {
        no_key(&repr::repr(&Value::Bytes(bytes.to_owned())))
    }

    fn serialize_none(self) -> Result<String, ValueError> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<String, ValueError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<String, ValueError> {
        Ok("null".to_owned())
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<String, ValueError> {
        no_key(name)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<String, ValueError> {
        Ok(variant.to_owned())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<String, ValueError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Result<String, ValueError> {
        no_key(name)
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<NoKey, ValueError> {
        no_key("a list")
    }

    fn serialize_tuple(self, _length: usize) -> Result<NoKey, ValueError> {
        no_key("a tuple")
    }

    fn serialize_tuple_struct(self, name: &'static str, _length: usize) -> Result<NoKey, ValueError> {
        no_key(name)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<NoKey, ValueError> {
        no_key(name)
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<NoKey, ValueError> {
        no_key("a mapping")
    }

    fn serialize_struct(self, name: &'static str, _length: usize) -> Result<NoKey, ValueError> {
        no_key(name)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<NoKey, ValueError> {
        no_key(name)
    }
}
