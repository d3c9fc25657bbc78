//! From a value to a payload's body, in the plain encodings that every Redis from 5 on reads. Streams are in `streams.rs`.

use skep_base::{Millis, number};

use super::{FIELD_DEADLINE_MAX, VERSION_COMMON, VERSION_FIELD_DEADLINES, kind, streams, strings};
use crate::db::NEVER;
use crate::types::Hash;
use crate::value::{Typed, Value};

/// Appends the type byte and body of `value` and gives the version of the format that has them.
pub fn value(out: &mut Vec<u8>, value: &Value, now: Millis) -> u16 {
    match value {
        Value::Str(text) => {
            out.push(kind::STRING);
            put_string(out, text.as_slice());
        }
        Value::List(list) => {
            out.push(kind::LIST);
            put_len(out, list.len() as u64);
            list.iter().for_each(|element| put_string(out, element));
        }
        Value::Set(set) => {
            out.push(kind::SET);
            put_len(out, set.len() as u64);
            set.iter().for_each(|member| put_string(out, member));
        }
        Value::ZSet(zset) => {
            out.push(kind::ZSET);
            put_len(out, zset.len() as u64);
            for member in zset.members().iter() {
                put_string(out, &member.name);
                out.extend_from_slice(&member.score.to_le_bytes());
            }
        }
        Value::Hash(hash) => return put_hash(out, hash, now),
        Value::Queue(queue) => {
            out.push(kind::SKEP_QUEUE);
            queue.encode(out);
        }
        Value::Stream(stream) => return streams::put(out, stream),
    }
    VERSION_COMMON
}

fn put_hash(out: &mut Vec<u8>, hash: &Hash, now: Millis) -> u16 {
    let deadline = |name: &[u8]| hash.deadline(name, now).filter(|d| *d != NEVER).map(|d| d.0);
    let earliest = match hash.next_deadline() {
        None => None,
        Some(_) => hash.iter(now).filter_map(|field| deadline(&field.name)).min(),
    };
    let Some(earliest) = earliest else {
        out.push(kind::HASH);
        put_len(out, hash.len(now) as u64);
        for field in hash.iter(now) {
            put_string(out, &field.name);
            put_string(out, &field.value);
        }
        return VERSION_COMMON;
    };
    assert!(earliest <= FIELD_DEADLINE_MAX, "a field's deadline is {earliest}");
    out.push(kind::HASH_DEADLINES);
    out.extend_from_slice(&earliest.to_le_bytes());
    put_len(out, hash.len(now) as u64);
    for field in hash.iter(now) {
        put_len(out, deadline(&field.name).map_or(0, |deadline| deadline - earliest + 1));
        put_string(out, &field.name);
        put_string(out, &field.value);
    }
    VERSION_FIELD_DEADLINES
}

/// The shortest form of a length.
pub fn put_len(out: &mut Vec<u8>, len: u64) {
    match len {
        0..=0x3f => out.push(len as u8),
        0x40..=0x3fff => out.extend_from_slice(&(len as u16 | 0x4000).to_be_bytes()),
        0x4000..=0xffff_ffff => {
            out.push(strings::LEN_32);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
        _ => {
            out.push(strings::LEN_64);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
}

/// The longest text of a 32-bit integer.
const INT_TEXT_MAX: usize = 11;

/// A string, as an integer of up to 32 bits where its text is one.
pub fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    let int = Some(bytes).filter(|b| b.len() <= INT_TEXT_MAX).and_then(number::parse_i64);
    match int {
        Some(value) if i8::try_from(value).is_ok() => {
            out.extend_from_slice(&[strings::INT_8, value as u8]);
        }
        Some(value) if i16::try_from(value).is_ok() => {
            out.push(strings::INT_16);
            out.extend_from_slice(&(value as i16).to_le_bytes());
        }
        Some(value) if i32::try_from(value).is_ok() => {
            out.push(strings::INT_32);
            out.extend_from_slice(&(value as i32).to_le_bytes());
        }
        _ => {
            put_len(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
    }
}
