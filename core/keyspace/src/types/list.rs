//! List values.

use std::collections::VecDeque;

use skep_base::varint::{self, Malformed, Reader};

use crate::small::SmallBytes;
use crate::value::{Typed, Value, typed_access};

/// Elements in order.
#[derive(Clone, Default)]
pub struct List {
    elements: VecDeque<SmallBytes>,
}

#[allow(clippy::len_without_is_empty)] // Typed has it
impl List {
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    pub fn push_front(&mut self, element: SmallBytes) {
        self.elements.push_front(element);
    }

    pub fn push_back(&mut self, element: SmallBytes) {
        self.elements.push_back(element);
    }

    pub fn pop_front(&mut self) -> Option<SmallBytes> {
        self.elements.pop_front()
    }

    pub fn pop_back(&mut self) -> Option<SmallBytes> {
        self.elements.pop_back()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &SmallBytes> + ExactSizeIterator {
        self.elements.iter()
    }
}

impl Typed for List {
    typed_access!(List, boxed);

    fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.elements.len() as u64);
        for element in &self.elements {
            varint::put_bytes(out, element);
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<List, Malformed> {
        let count = input.count(1)?;
        let mut elements = VecDeque::with_capacity(count);
        for _ in 0..count {
            elements.push_back(SmallBytes::new(input.bytes()?));
        }
        Ok(List { elements })
    }

    fn heap_bytes(&self) -> usize {
        self.elements.capacity() * size_of::<SmallBytes>()
    }
}
