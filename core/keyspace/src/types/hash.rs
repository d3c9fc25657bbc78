//! Hash values, with a deadline per field.

use skep_base::Millis;
use skep_base::varint::{self, Malformed, Reader};

use crate::db::NEVER;
use crate::dense::{DenseMap, Keyed};
use crate::small::SmallBytes;
use crate::value::{Typed, Value, typed_access};

/// One field of a hash.
#[derive(Clone)]
pub struct Field {
    pub name: SmallBytes,
    pub value: SmallBytes,
    /// [`NEVER`] if the field stays.
    pub deadline: Millis,
}

impl Keyed for Field {
    fn key(&self) -> &[u8] {
        &self.name
    }
}

/// Fields in dense order.
#[derive(Clone, Default)]
pub struct Hash {
    fields: DenseMap<Field>,
}

impl Hash {
    pub fn fields(&self) -> &DenseMap<Field> {
        &self.fields
    }

    /// Removes the fields due before `now` and gives their number.
    pub fn expire_fields(&mut self, now: Millis) -> usize {
        let before = self.fields.len();
        for at in (0..before).rev() {
            if self.fields.at(at).is_some_and(|f| f.deadline < now) {
                self.fields.remove_at(at);
            }
        }
        before - self.fields.len()
    }
}

impl Typed for Hash {
    typed_access!(Hash, boxed);

    fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.fields.len() as u64);
        for field in self.fields.iter() {
            varint::put_bytes(out, &field.name);
            varint::put_bytes(out, &field.value);
            varint::put(out, field.deadline.0.wrapping_add(1)); // never is one byte
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Hash, Malformed> {
        let mut hash = Hash::default();
        for _ in 0..input.count(3)? {
            let name = SmallBytes::new(input.bytes()?);
            let value = SmallBytes::new(input.bytes()?);
            let deadline = Millis(input.varint()?.wrapping_sub(1));
            if hash.fields.insert(Field { name, value, deadline }).is_some() {
                return input.malformed("a field that is not in the hash yet");
            }
        }
        Ok(hash)
    }

    fn heap_bytes(&self) -> usize {
        self.fields.heap_bytes()
    }

    fn next_deadline(&self) -> Option<Millis> {
        self.fields.iter().map(|f| f.deadline).min().filter(|d| *d != NEVER)
    }
}
