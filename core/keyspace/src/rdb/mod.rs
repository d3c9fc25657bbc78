//! Values as Redis serializes them in `DUMP`: the type byte and body of its RDB files, behind which stand the format's
//! version and a checksum.
//!
//! Owns the form of payloads, not the commands. Payloads to be read are untrusted: any bytes give a value or
//! [`Malformed`], and no memory is reserved by an announced size. What is written can be read by Redis 5 and everything
//! later, streams by Redis 7.0 or 7.2, hashes with field deadlines by Redis 7.4. Module values are not known here.
//!
//! Sources: the RDB file format as described by the redis-rdb-tools project, the listpack specification, and payloads of
//! Redis 7.0 (kept in `testdata/redis_dumps.txt`).

mod crc64;
mod decode;
mod encode;
pub mod functions;
#[cfg(test)]
mod limits;
mod packs;
mod streams;
mod strings;
#[cfg(test)]
mod tests;

use skep_base::Millis;
use skep_base::varint::{Malformed, Reader};

use crate::value::Value;

#[cfg(test)]
pub(crate) use packs::listpack as listpack_elements;

/// The newest version of the format that is understood: that of Redis 7.4.
const VERSION_MAX: u16 = 12;
/// The version with the encodings that are written, but for [`VERSION_FIELD_DEADLINES`]: that of Redis 5.
const VERSION_COMMON: u16 = 9;
/// The first version of streams with counts of what was added: that of Redis 7.0.
const VERSION_STREAM_COUNTS: u16 = 10;
/// The first version with the times when consumers got something: that of Redis 7.2.
const VERSION_STREAM_ACTIVE: u16 = 11;
/// The first version with deadlines of hash fields.
const VERSION_FIELD_DEADLINES: u16 = 12;

/// Two bytes of version and eight of checksum.
const FOOTER_BYTES: usize = 10;

/// The latest deadline of a hash field: 48 bits. One more stands for none.
const FIELD_DEADLINE_MAX: u64 = (1 << 48) - 1;

/// The first byte of a payload. Redis's names for them are `RDB_TYPE_...`.
mod kind {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    pub const ZSET_TEXT: u8 = 3;
    pub const HASH: u8 = 4;
    pub const ZSET: u8 = 5;
    pub const HASH_ZIPMAP: u8 = 9;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTSET: u8 = 11;
    pub const ZSET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPLIST: u8 = 13;
    pub const LIST_ZIPLISTS: u8 = 14;
    pub const HASH_LISTPACK: u8 = 16;
    pub const ZSET_LISTPACK: u8 = 17;
    pub const LIST_LISTPACKS: u8 = 18;
    pub const SET_LISTPACK: u8 = 20;
    pub const STREAM: u8 = 15;
    pub const STREAM_COUNTS: u8 = 19;
    pub const STREAM_ACTIVE: u8 = 21;
    pub const HASH_DEADLINES: u8 = 24;
    pub const HASH_LISTPACK_DEADLINES: u8 = 25;
    /// Ours. Redis numbers its types from 0 up and its other opcodes from 255 down; it refuses this one.
    pub const SKEP_QUEUE: u8 = 0xc8;
}

/// `value` as a payload; fields past their deadline at `now` are left out. Cost: O(n).
pub fn dump(value: &Value, now: Millis) -> Vec<u8> {
    let mut payload = Vec::new();
    let version = encode::value(&mut payload, value, now);
    seal(payload, version)
}

/// A payload with its version and checksum behind it.
fn seal(mut payload: Vec<u8>, version: u16) -> Vec<u8> {
    payload.extend_from_slice(&version.to_le_bytes());
    let sum = crc64::checksum(&payload);
    payload.extend_from_slice(&sum.to_le_bytes());
    payload
}

/// The type byte and body of a payload; `None` if its version is too new or its checksum wrong.
pub fn verify(payload: &[u8]) -> Option<&[u8]> {
    let body_len = payload.len().checked_sub(FOOTER_BYTES)?;
    let (body, footer) = payload.split_at(body_len);
    let mut footer = Reader::new(footer);
    let version = u16::from_le_bytes([footer.u8().ok()?, footer.u8().ok()?]);
    let sum = footer.u64().ok()?;
    (version <= VERSION_MAX && sum == crc64::checksum(&payload[..body_len + 2])).then_some(body)
}

/// The value in a verified body. It is never empty; bytes behind it are ignored, as in Redis.
///
/// # Errors
/// [`Malformed`] for types and encodings that are not known, for empty collections and for members that appear twice.
pub fn load(body: &[u8]) -> Result<Value, Malformed> {
    decode::value(body)
}
