//! MessagePack as kombu reads and writes it: text and binary apart, mappings with text keys only.

use serde::de::DeserializeSeed;
use serde::ser::{Error as _, Serialize, Serializer};

use super::Value;
use super::error::ProtocolError;
use super::reader::MAX_DEPTH;
use super::surrogates::is_carried;
use super::value_serde::Seed;
use crate::stack::deeper;

const NAME: &str = "msgpack";

pub(super) fn loads(data: &[u8]) -> Result<Value, ProtocolError> {
    let mut rest = data;
    let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
    deserializer.set_max_depth(MAX_DEPTH);
    let value = match (Seed { typed: false }).deserialize(&mut deserializer) {
        Ok(value) => value,
        Err(rmp_serde::decode::Error::DepthLimitExceeded) => {
            return Err(ProtocolError::TooDeep { limit: MAX_DEPTH });
        }
        Err(error) => return Err(ProtocolError::decode(NAME, error)),
    };
    match rest.len() {
        0 => Ok(value),
        count => Err(ProtocolError::decode(NAME, format!("{count} bytes follow the value"))),
    }
}

pub(super) fn dumps(value: &Value) -> Result<Vec<u8>, ProtocolError> {
    rmp_serde::to_vec(&Plain(value)).map_err(|error| ProtocolError::encode(NAME, error))
}

/// A value without kombu's typed values, which MessagePack does not know.
struct Plain<'a>(&'a Value);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Value::List(items) => deeper(|| serializer.collect_seq(items.iter().map(Plain))),
            Value::Map(entries) => match entries.keys().find(|key| is_carried(key)) {
                None => {
                    deeper(|| serializer.collect_map(entries.iter().map(|(key, value)| (key, Plain(value)))))
                }
                Some(key) => {
                    Err(S::Error::custom(ProtocolError::lone_surrogate(NAME, &Value::from(key.as_str()))))
                }
            },
            Value::Surrogates(_) => Err(S::Error::custom(ProtocolError::lone_surrogate(NAME, self.0))),
            Value::BigInt(digits) => match digits.parse::<u64>() {
                Ok(number) => serializer.serialize_u64(number),
                Err(_) => Err(S::Error::custom("integer does not fit into 64 bits")),
            },
            scalar @ (Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Str(_)) => {
                scalar.serialize(serializer)
            }
            other => Err(S::Error::custom(format_args!("has no form for {}", other.kind()))),
        }
    }
}
