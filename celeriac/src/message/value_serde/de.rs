//! Values to Rust types.

use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};

use super::super::iso8601::{self, Precision};
use super::super::typed::{self, Payload};
use super::super::{Map, Value, json};
use super::{BIG_INT_TYPE, VALUE, ValueError};

impl<'de> Deserialize<'de> for Value {
    /// Reads kombu's object form of typed values as well; [`from_value`](super::from_value) gives them as they are.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Seed { typed: true }.deserialize(deserializer)
    }
}

/// Reads a value; objects of kombu's typed form become typed values when `typed` is set.
#[derive(Clone, Copy)]
pub(in super::super) struct Seed {
    pub(in super::super) typed: bool,
}

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_newtype_struct(VALUE, self)
    }
}

impl<'de> Visitor<'de> for Seed {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or_else(|_| Value::BigInt(number.to_string()), Value::Int))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_u128<E>(self, number: u128) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or_else(|_| Value::BigInt(number.to_string()), Value::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Str(text))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(bytes.to_owned()))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Value, E> {
        Ok(Value::Bytes(bytes))
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::with_capacity(access.size_hint().unwrap_or(0).min(4096));
        while let Some(item) = access.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Map::with_capacity(access.size_hint().unwrap_or(0).min(4096));
        while let Some(key) = access.next_key()? {
            entries.insert(key, access.next_value_seed(self)?);
        }
        if !self.typed {
            return Ok(Value::Map(entries));
        }
        if entries.get("__type__").and_then(Value::as_str) == Some(BIG_INT_TYPE)
            && let Some(Value::Str(digits)) = entries.get("__value__")
        {
            return Ok(Value::BigInt(digits.clone()));
        }
        typed::read(entries).map_err(A::Error::custom)
    }
}

/// Reads from a borrowed value; text is lent to whoever can take it so.
#[derive(Clone, Copy)]
pub(super) struct ValueDeserializer<'a>(pub(super) &'a Value);

impl ValueDeserializer<'_> {
    fn wrong<T>(&self, expected: &dyn de::Expected) -> Result<T, ValueError> {
        Err(match text_of(self.0) {
            Some(text) => ValueError::invalid_type(Unexpected::Str(&text), expected),
            None => ValueError::invalid_type(unexpected(self.0), expected),
        })
    }
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(flag) => Unexpected::Bool(*flag),
        Value::Int(number) => Unexpected::Signed(*number),
        Value::BigInt(digits) => Unexpected::Other(digits),
        Value::Float(number) => Unexpected::Float(*number),
        Value::Str(text) => Unexpected::Str(text),
        Value::Bytes(bytes) => Unexpected::Bytes(bytes),
        Value::List(_) => Unexpected::Seq,
        Value::Map(_) => Unexpected::Map,
        other => Unexpected::Other(other.kind()),
    }
}

/// Typed values as the text from which Rust's types for them are read.
fn text_of(value: &Value) -> Option<String> {
    let mut text = String::new();
    match value {
        Value::DateTime(moment) => iso8601::write_aware(&mut text, moment, Precision::Nanos),
        Value::NaiveDateTime(moment) => iso8601::write_naive(&mut text, moment, Precision::Nanos),
        Value::Date(date) => iso8601::write_date(&mut text, date),
        Value::Time(time) => iso8601::write_time(&mut text, time, Precision::Nanos),
        Value::Decimal(digits) => text.push_str(digits),
        Value::Uuid(uuid) => return Some(uuid.hyphenated().to_string()),
        _ => return None,
    }
    Some(text)
}

impl<'de> IntoDeserializer<'de, ValueError> for ValueDeserializer<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! forward {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            self.deserialize_any(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for ValueDeserializer<'de> {
    type Error = ValueError;

    forward!(deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char
        deserialize_str deserialize_string deserialize_map deserialize_identifier);

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        if let Some(text) = text_of(self.0) {
            return visitor.visit_string(text);
        }
        match self.0 {
            Value::Bool(flag) => visitor.visit_bool(*flag),
            number @ (Value::Int(_) | Value::BigInt(_) | Value::Float(_)) => visit_number(number, visitor),
            Value::Str(text) => visitor.visit_borrowed_str(text),
            Value::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Value::List(items) => {
                let count = items.len();
                let mut access = SeqDeserializer::new(items.iter().map(ValueDeserializer));
                let value = visitor.visit_seq(&mut access)?;
                // A tuple or array that is shorter than the list must not drop the rest.
                access
                    .end()
                    .map_err(|_| ValueError::new(format_args!("expected fewer elements, found {count}")))?;
                Ok(value)
            }
            Value::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| (Key(key), ValueDeserializer(value)));
                visitor.visit_map(MapDeserializer::new(entries))
            }
            _ => visitor.visit_unit(),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.0 {
            Value::Str(text) => visitor.visit_borrowed_bytes(text.as_bytes()),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.0 {
            Value::Bytes(bytes) => visitor.visit_seq(SeqDeserializer::new(bytes.iter().copied())),
            Value::List(_) => self.deserialize_any(visitor),
            _ => self.wrong(&visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        if self.0.is_null() { visitor.visit_unit() } else { self.wrong(&"None") }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        if name != VALUE {
            return visitor.visit_newtype_struct(self);
        }
        let (name, payload) = match (self.0, typed::parts(self.0, Precision::Nanos)) {
            (Value::Bytes(_), _) => return self.deserialize_any(visitor),
            (_, Some((name, payload))) => (name, payload),
            (Value::BigInt(digits), None) => (BIG_INT_TYPE, Payload::Text(digits.clone())),
            _ => return self.deserialize_any(visitor),
        };
        let (Payload::Text(text) | Payload::Hex(text)) = payload;
        let entries = [("__type__", name.to_owned()), ("__value__", text)];
        visitor.visit_map(MapDeserializer::new(entries.into_iter()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self.0 {
            Value::Map(_) | Value::List(_) => self.deserialize_any(visitor),
            _ => self.wrong(&visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self.0 {
            Value::Str(variant) => visitor.visit_enum(Variant { variant, content: None }),
            Value::Map(entries) if entries.len() == 1 => match entries.first() {
                Some((variant, value)) => visitor.visit_enum(Variant { variant, content: Some(value) }),
                None => visitor.visit_unit(),
            },
            _ => {
                let expected = format!("one of {}", variants.join(", "));
                self.wrong(&expected.as_str())
            }
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_unit()
    }
}

fn visit_number<'de, V: Visitor<'de>>(number: &Value, visitor: V) -> Result<V::Value, ValueError> {
    match number {
        Value::Int(number) => visitor.visit_i64(*number),
        Value::Float(number) => visitor.visit_f64(*number),
        Value::BigInt(digits) => match (digits.parse(), digits.parse(), digits.parse()) {
            (Ok(number), _, _) => visitor.visit_u64(number),
            (_, Ok(number), _) => visitor.visit_i128(number),
            (_, _, Ok(number)) => visitor.visit_u128(number),
            _ => visitor.visit_str(digits),
        },
        other => Err(ValueError::invalid_type(unexpected(other), &visitor)),
    }
}

/// A mapping's key, which also reads as the number or boolean that its text shows.
struct Key<'a>(&'a str);

impl<'de> IntoDeserializer<'de, ValueError> for Key<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! number_keys {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            match json::loads(self.0.as_bytes()) {
                Ok(number @ (Value::Int(_) | Value::BigInt(_) | Value::Float(_))) => {
                    visit_number(&number, visitor)
                }
                _ => self.deserialize_any(visitor),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        let deserializer: StrDeserializer<'_, ValueError> = self.0.into_deserializer();
        deserializer.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.0 {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => self.deserialize_any(visitor),
        }
    }

    number_keys!(deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64);

    serde::forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Variant<'a> {
    variant: &'a str,
    content: Option<&'a Value>,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = ValueError;
    type Variant = Content<'de>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Content<'de>), ValueError> {
        let name: StrDeserializer<'_, ValueError> = self.variant.into_deserializer();
        Ok((seed.deserialize(name)?, Content(self.content)))
    }
}

struct Content<'a>(Option<&'a Value>);

impl<'de> VariantAccess<'de> for Content<'de> {
    type Error = ValueError;

    fn unit_variant(self) -> Result<(), ValueError> {
        match self.0 {
            None | Some(Value::Null) => Ok(()),
            Some(other) => ValueDeserializer(other).wrong(&"no content"),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, ValueError> {
        seed.deserialize(ValueDeserializer(self.0.unwrap_or(&Value::Null)))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, ValueError> {
        ValueDeserializer(self.0.unwrap_or(&Value::Null)).deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        ValueDeserializer(self.0.unwrap_or(&Value::Null)).deserialize_struct("", fields, visitor)
    }
}
