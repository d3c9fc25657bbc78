//! Set values.

use skep_base::number;
use skep_base::varint::{self, Malformed, Reader};

use crate::dense::{DenseMap, Iter, Keyed};
use crate::keyspace::Encodings;
use crate::pieces::{Element, Elements, Frozen};
use crate::small::SmallBytes;
use crate::value::{Typed, Value, sampled_heap_bytes, typed_access};

impl Keyed for SmallBytes {
    fn key(&self) -> &[u8] {
        self
    }
}

impl Element for SmallBytes {
    fn encode(&self, out: &mut Vec<u8>) {
        varint::put_bytes(out, self);
    }
}

/// Members in dense order.
#[derive(Clone, Default)]
pub struct Set {
    members: DenseMap<SmallBytes>,
}

#[allow(clippy::len_without_is_empty)] // Typed has it
impl Set {
    pub fn members(&self) -> &DenseMap<SmallBytes> {
        &self.members
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    #[inline]
    pub fn contains(&self, member: &[u8]) -> bool {
        self.members.contains(member)
    }

    /// Members in order.
    pub fn iter(&self) -> Iter<'_, SmallBytes> {
        self.members.iter()
    }

    /// The member at `position`, or `None` past the end.
    pub fn at(&self, position: usize) -> Option<&SmallBytes> {
        self.members.at(position)
    }

    /// True if `member` was not there.
    pub fn add(&mut self, member: &[u8]) -> bool {
        self.members.find_or_insert(member, || SmallBytes::new(member)).1
    }

    /// True if `member` was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        self.members.remove(member).is_some()
    }

    /// Removes the member at `position`; the last one takes its place. Panics past the end.
    pub fn remove_at(&mut self, position: usize) -> SmallBytes {
        self.members.remove_at(position)
    }

    /// What `OBJECT ENCODING` answers. Cost: O(the larger of the entry limits).
    pub fn encoding(&self, limits: &Encodings) -> &'static str {
        let len = self.members.len();
        if len <= limits.set_max_intset_entries && self.iter().all(|m| number::parse_i64(m).is_some()) {
            "intset"
        } else if len <= limits.set_max_listpack_entries
            && self.iter().all(|m| m.len() <= limits.set_max_listpack_value)
        {
            "listpack"
        } else {
            "hashtable"
        }
    }
}

impl Typed for Set {
    typed_access!(Set, boxed);

    fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn elements(&self) -> &dyn Elements {
        self.members.entries()
    }

    fn decode_elements(&mut self, count: usize, input: &mut Reader<'_>) -> Result<(), Malformed> {
        for _ in 0..count {
            if !self.add(input.bytes()?) {
                return input.malformed("a member that is not in the set yet");
            }
        }
        Ok(())
    }

    fn freeze(&mut self) -> Frozen {
        Box::new(self.members.entries().clone())
    }

    fn heap_bytes(&self) -> usize {
        size_of::<Set>()
            + self.members.heap_bytes()
            + sampled_heap_bytes(&self.members, SmallBytes::heap_bytes)
    }
}
