//! Byte strings of 24 bytes, kept in place up to 22 bytes: keys, fields, members and elements.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

/// The longest string kept without an allocation.
pub const INLINE_MAX: usize = 22;

/// An immutable byte string. Equal content is equal, whichever form holds it.
#[derive(Clone)]
pub struct SmallBytes(Form);

#[derive(Clone)]
enum Form {
    Inline { len: u8, bytes: [u8; INLINE_MAX] },
    Heap(Box<[u8]>),
}

impl SmallBytes {
    #[inline]
    pub fn new(content: &[u8]) -> SmallBytes {
        if content.len() <= INLINE_MAX {
            let mut bytes = [0; INLINE_MAX];
            bytes[..content.len()].copy_from_slice(content);
            SmallBytes(Form::Inline { len: content.len() as u8, bytes })
        } else {
            SmallBytes(Form::Heap(content.into()))
        }
    }

    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Form::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Form::Heap(bytes) => bytes,
        }
    }

    /// Bytes allocated outside the 24.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Inline { .. } => 0,
            Form::Heap(bytes) => bytes.len(),
        }
    }
}

impl Deref for SmallBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Borrow<[u8]> for SmallBytes {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl From<&[u8]> for SmallBytes {
    fn from(content: &[u8]) -> SmallBytes {
        SmallBytes::new(content)
    }
}

impl PartialEq for SmallBytes {
    fn eq(&self, other: &SmallBytes) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for SmallBytes {}

impl PartialOrd for SmallBytes {
    fn partial_cmp(&self, other: &SmallBytes) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SmallBytes {
    fn cmp(&self, other: &SmallBytes) -> std::cmp::Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl fmt::Debug for SmallBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_slice().escape_ascii())
    }
}

const _: () = assert!(size_of::<SmallBytes>() == 24);
const _: () = assert!(size_of::<Option<SmallBytes>>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_give_back_what_went_in() {
        for len in [0, 1, 21, 22, 23, 300] {
            let content: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let small = SmallBytes::new(&content);
            assert_eq!(small.as_slice(), content);
            assert_eq!(small.heap_bytes() > 0, len > INLINE_MAX);
        }
    }
}
