use super::Value;
use super::error::ProtocolError;
pub(super) fn loads(_: &[u8]) -> Result<Value, ProtocolError> {
    Err(ProtocolError::decode("yaml", "x"))
}
pub(super) fn dumps(_: &Value) -> Result<String, ProtocolError> {
    Err(ProtocolError::decode("yaml", "x"))
}
