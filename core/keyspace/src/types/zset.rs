//! Sorted set values.

use skep_base::varint::{self, Malformed, Reader};

use crate::dense::{DenseMap, Keyed};
use crate::small::SmallBytes;
use crate::value::{Typed, Value, typed_access};

/// One member with its score.
#[derive(Clone)]
pub struct Member {
    pub name: SmallBytes,
    pub score: f64,
}

impl Keyed for Member {
    fn key(&self) -> &[u8] {
        &self.name
    }
}

/// Members by name, and in order of (score, name).
#[derive(Clone, Default)]
pub struct ZSet {
    members: DenseMap<Member>,
}

impl Typed for ZSet {
    typed_access!(ZSet, boxed);

    fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.members.len() as u64);
        for member in self.members.iter() {
            varint::put_bytes(out, &member.name);
            out.extend_from_slice(&member.score.to_bits().to_le_bytes());
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<ZSet, Malformed> {
        let mut zset = ZSet::default();
        for _ in 0..input.count(9)? {
            let name = SmallBytes::new(input.bytes()?);
            let score = input.f64()?;
            if score.is_nan() {
                return input.malformed("a score that is a number");
            }
            if zset.members.insert(Member { name, score }).is_some() {
                return input.malformed("a member that is not in the sorted set yet");
            }
        }
        Ok(zset)
    }

    fn heap_bytes(&self) -> usize {
        self.members.heap_bytes()
    }
}
