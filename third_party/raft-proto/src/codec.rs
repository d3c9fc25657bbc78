//! Membership changes as bytes inside an entry: LEB128 numbers in field order. The empty change is no bytes at all, since
//! `raft` appends an entry without data to leave a joint configuration.
//!
//! Entries only report their size; the log and the wire encode them elsewhere.

use crate::eraftpb::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, Entry,
};
use bytes::Bytes;
use protobuf::{Message, ProtobufError};

/// Type, term, index and two lengths of an entry, rounded up.
const ENTRY_FIELDS_BYTES: usize = 24;
/// The numbers of a membership change but for its list, rounded up.
const CHANGE_FIELDS_BYTES: usize = 24;

impl Message for Entry {
    fn compute_size(&self) -> u32 {
        saturate(ENTRY_FIELDS_BYTES + self.data.len() + self.context.len())
    }

    /// Refused: entries are encoded by the log and the wire.
    fn write_to_bytes(&self) -> Result<Vec<u8>, ProtobufError> {
        Err(ProtobufError)
    }

    /// Refused: entries are decoded by the log and the wire.
    fn merge_from_bytes(&mut self, _: &[u8]) -> Result<(), ProtobufError> {
        Err(ProtobufError)
    }
}

impl Message for ConfChangeV2 {
    fn compute_size(&self) -> u32 {
        saturate(CHANGE_FIELDS_BYTES + self.changes.len() * 11 + self.context.len())
    }

    fn write_to_bytes(&self) -> Result<Vec<u8>, ProtobufError> {
        let mut out = Vec::new();
        if *self == ConfChangeV2::default() {
            return Ok(out);
        }
        put(&mut out, self.transition as u64);
        put(&mut out, self.changes.len() as u64);
        for change in &self.changes {
            put(&mut out, change.change_type as u64);
            put(&mut out, change.node_id);
        }
        put(&mut out, self.context.len() as u64);
        out.extend_from_slice(&self.context);
        Ok(out)
    }

    fn merge_from_bytes(&mut self, mut bytes: &[u8]) -> Result<(), ProtobufError> {
        *self = ConfChangeV2::default();
        if bytes.is_empty() {
            return Ok(());
        }
        let from = &mut bytes;
        self.transition = transition(take(from)?)?;
        let count = take(from)?;
        // No reservation by the announced count: each change takes at least two bytes that must be there.
        for _ in 0..count {
            self.changes
                .push(ConfChangeSingle { change_type: change_type(take(from)?)?, node_id: take(from)? });
        }
        self.context = take_bytes(from)?;
        end(from)
    }
}

impl Message for ConfChange {
    fn compute_size(&self) -> u32 {
        saturate(CHANGE_FIELDS_BYTES + self.context.len())
    }

    fn write_to_bytes(&self) -> Result<Vec<u8>, ProtobufError> {
        let mut out = Vec::new();
        put(&mut out, self.id);
        put(&mut out, self.change_type as u64);
        put(&mut out, self.node_id);
        put(&mut out, self.context.len() as u64);
        out.extend_from_slice(&self.context);
        Ok(out)
    }

    fn merge_from_bytes(&mut self, mut bytes: &[u8]) -> Result<(), ProtobufError> {
        let from = &mut bytes;
        *self = ConfChange {
            id: take(from)?,
            change_type: change_type(take(from)?)?,
            node_id: take(from)?,
            context: take_bytes(from)?,
        };
        end(from)
    }
}

fn transition(number: u64) -> Result<ConfChangeTransition, ProtobufError> {
    match number {
        0 => Ok(ConfChangeTransition::Auto),
        1 => Ok(ConfChangeTransition::Implicit),
        2 => Ok(ConfChangeTransition::Explicit),
        _ => Err(ProtobufError),
    }
}

fn change_type(number: u64) -> Result<ConfChangeType, ProtobufError> {
    match number {
        0 => Ok(ConfChangeType::AddNode),
        1 => Ok(ConfChangeType::RemoveNode),
        2 => Ok(ConfChangeType::AddLearnerNode),
        _ => Err(ProtobufError),
    }
}

fn saturate(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(from: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = from.split_first().ok_or(ProtobufError)?;
        *from = rest;
        if shift == 63 && byte > 1 {
            return Err(ProtobufError);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(ProtobufError)
}

fn take_bytes(from: &mut &[u8]) -> Result<Bytes, ProtobufError> {
    let len = usize::try_from(take(from)?).map_err(|_| ProtobufError)?;
    let bytes = from.get(..len).ok_or(ProtobufError)?;
    *from = &from[len..];
    Ok(Bytes::copy_from_slice(bytes))
}

fn end(from: &[u8]) -> Result<(), ProtobufError> {
    if from.is_empty() { Ok(()) } else { Err(ProtobufError) }
}
