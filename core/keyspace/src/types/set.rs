//! Set values.

use skep_base::varint::{self, Malformed, Reader};

use crate::dense::{DenseMap, Keyed};
use crate::small::SmallBytes;
use crate::value::{Typed, Value, typed_access};

impl Keyed for SmallBytes {
    fn key(&self) -> &[u8] {
        self
    }
}

/// Members in dense order.
#[derive(Clone, Default)]
pub struct Set {
    members: DenseMap<SmallBytes>,
}

impl Set {
    pub fn members(&self) -> &DenseMap<SmallBytes> {
        &self.members
    }

    /// True if `member` was not there.
    pub fn add(&mut self, member: &[u8]) -> bool {
        if self.members.contains(member) {
            return false;
        }
        self.members.insert_new(SmallBytes::new(member));
        true
    }

    /// True if `member` was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        self.members.remove(member).is_some()
    }
}

impl Typed for Set {
    typed_access!(Set, boxed);

    fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.members.len() as u64);
        for member in self.members.iter() {
            varint::put_bytes(out, member);
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Set, Malformed> {
        let mut set = Set::default();
        for _ in 0..input.count(1)? {
            if !set.add(input.bytes()?) {
                return input.malformed("a member that is not in the set yet");
            }
        }
        Ok(set)
    }

    fn heap_bytes(&self) -> usize {
        self.members.heap_bytes()
    }
}
