//! Values to Rust types.

use serde::de::value::{MapDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, Unexpected, VariantAccess,
    Visitor,
};

use super::super::iso8601::{self, Precision};
use super::super::typed::{self, Payload};
use super::super::{Value, surrogates};
use super::key::Key;
use super::{BIG_INT_TYPE, SHOWN, VALUE, ValueError, saferepr};
use crate::stack::deeper;

/// Reads from a borrowed value; text is lent to whoever can take it so.
#[derive(Clone, Copy)]
pub(super) struct ValueDeserializer<'a>(pub(super) &'a Value);

impl ValueDeserializer<'_> {
    fn wrong<T>(&self, expected: &dyn de::Expected) -> Result<T, ValueError> {
        if let Value::Surrogates(text) = self.0 {
            return Err(lone_surrogate(&Value::Surrogates(text.clone()), expected));
        }
        Err(match text_of(self.0) {
            Some(text) => ValueError::invalid_type(Unexpected::Str(&text), expected),
            None => ValueError::invalid_type(unexpected(self.0), expected),
        })
    }
}

impl<'de> ValueDeserializer<'de> {
    fn visit_container<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.0 {
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
}

/// Rust's text is UTF-8.
pub(super) fn lone_surrogate(text: &Value, expected: &dyn de::Expected) -> ValueError {
    let error = ValueError::invalid_type(Unexpected::Other(&saferepr(text, SHOWN, 1)), expected);
    ValueError::new(format_args!("{error}, which has a lone surrogate"))
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
            Value::Surrogates(_) => self.wrong(&visitor),
            Value::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Value::List(_) | Value::Map(_) => deeper(|| self.visit_container(visitor)),
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
            // Text that looks like a carried form is carried itself, so that it stays what it is.
            (Value::Str(text), _) if surrogates::is_marked(text) => {
                return visitor.visit_str(&surrogates::carried(text.clone()));
            }
            (Value::Surrogates(text), _) => return visitor.visit_str(text.carried()),
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
                Some((variant, value)) => {
                    deeper(|| visitor.visit_enum(Variant { variant, content: Some(value) }))
                }
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

pub(super) fn visit_number<'de, V: Visitor<'de>>(number: &Value, visitor: V) -> Result<V::Value, ValueError> {
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
