//! How records are written: by `result_serializer`, and compressed by `result_compression`.
//!
//! Source: celery 5.7 `encode`, `decode` and `compress_payload` in `celery/backends/base.py`.

use crate::config::Config;
use crate::message::compression::DEFAULT_LIMIT;
use crate::message::{Compression, ProtocolError, Serializer, Value, json};

/// What a compressed record begins with; the mime type of its compression and a zero byte follow.
const COMPRESSED: &[u8] = b"\0celery-compressed\0";

/// A serializer and, perhaps, a compression.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Encoding {
    serializer: Serializer,
    compression: Option<Compression>,
}

impl Encoding {
    /// The encoding of those settings.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            // Signed and encrypted results are refused by the application.
            serializer: config.result_serializer.plain().unwrap_or_default(),
            compression: config.result_compression,
        }
    }

    /// Whether records are JSON, which is what they are made as.
    pub(crate) fn is_json(self) -> bool {
        self.serializer == Serializer::Json && self.compression.is_none()
    }

    /// The stored form of a record that was written as JSON.
    ///
    /// # Errors
    /// The serializer has no form for one of its values.
    pub(crate) fn encode(self, record: Vec<u8>) -> Result<Vec<u8>, ProtocolError> {
        let payload = match self.serializer {
            Serializer::Json => record,
            serializer => serializer.dumps(&json::loads(&record)?)?,
        };
        let Some(compression) = self.compression else { return Ok(payload) };
        let compressed = compression.compress(&payload)?;
        Ok([COMPRESSED, compression.mime_type().as_bytes(), b"\0", &compressed].concat())
    }

    /// Reads a record; whether it is compressed it says itself.
    ///
    /// # Errors
    /// It is not of that serializer, or its compression is unknown or damaged.
    pub(crate) fn decode(self, stored: &[u8]) -> Result<Value, ProtocolError> {
        let Some(compressed) = stored.strip_prefix(COMPRESSED) else { return self.serializer.loads(stored) };
        let end = compressed.iter().position(|byte| *byte == 0).unwrap_or(compressed.len());
        let (name, payload) = compressed.split_at(end);
        let compression = Compression::from_name(&String::from_utf8_lossy(name))?;
        let payload = compression.decompress(payload.get(1..).unwrap_or_default(), DEFAULT_LIMIT)?;
        self.serializer.loads(&payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_in_every_encoding() {
        let record = br#"{"status": "SUCCESS", "result": [1, "two", null], "task_id": "a"}"#;
        let value = json::loads(record).unwrap();
        for serializer in [Serializer::Json, Serializer::Msgpack, Serializer::Yaml] {
            for compression in [None, Some(Compression::Gzip), Some(Compression::Zstd)] {
                let encoding = Encoding { serializer, compression };
                let stored = encoding.encode(record.to_vec()).unwrap();
                assert_eq!(encoding.decode(&stored).unwrap(), value, "{encoding:?}");
                let reader = Encoding { serializer, compression: None };
                assert_eq!(reader.decode(&stored).unwrap(), value, "without the setting, {encoding:?}");
            }
        }
    }
}
