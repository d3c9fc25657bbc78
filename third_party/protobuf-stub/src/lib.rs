//! The three names of rust-protobuf 2 that `raft` 0.7.0 uses. Nothing here speaks protobuf: what implements
//! [`Message`] chooses its own encoding.

use std::fmt;

/// Bytes that are not an encoded value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProtobufError;

impl fmt::Display for ProtobufError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed membership change")
    }
}

impl std::error::Error for ProtobufError {}

/// What `raft` asks of a value that it measures or stores in an entry.
pub trait Message {
    /// An estimate of the encoded size in bytes; called once per entry, so it is arithmetic only.
    fn compute_size(&self) -> u32;
    fn write_to_bytes(&self) -> Result<Vec<u8>, ProtobufError>;
    /// Overwrites `self`, which `raft` always passes empty.
    fn merge_from_bytes(&mut self, bytes: &[u8]) -> Result<(), ProtobufError>;
}
