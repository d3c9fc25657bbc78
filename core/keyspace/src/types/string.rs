//! String values: up to 14 bytes in place, longer ones in a growable buffer.

use std::sync::Arc;

use skep_base::number;
use skep_base::varint::{self, Malformed, Reader};

use crate::pieces::{Elements, Frozen};
use crate::value::{Typed, Value};

const INLINE_MAX: usize = 14;

/// A longer string is written in pieces by cuts. Part of what digests depend on.
const LARGE_BYTES: usize = 256 << 10;

/// A string value. Equal content is equal, whichever form holds it.
#[derive(Clone)]
pub struct Str(Form);

#[derive(Clone)]
enum Form {
    Inline {
        len: u8,
        bytes: [u8; INLINE_MAX],
    },
    /// Boxed twice to keep every value at 16 bytes; the buffer grows in place for `APPEND` and `SETRANGE`.
    #[allow(clippy::box_collection)]
    Heap(Box<Vec<u8>>),
    /// A large string that a cut took hold of; whoever changes it first makes a copy if it is held still.
    Shared(Arc<Vec<u8>>),
}

impl Default for Str {
    fn default() -> Str {
        Str::new(b"")
    }
}

impl Str {
    #[inline]
    pub fn new(content: &[u8]) -> Str {
        if content.len() <= INLINE_MAX {
            let mut bytes = [0; INLINE_MAX];
            bytes[..content.len()].copy_from_slice(content);
            Str(Form::Inline { len: content.len() as u8, bytes })
        } else {
            Str(Form::Heap(Box::new(content.to_vec())))
        }
    }

    /// A string of `content`, without a copy if it is long.
    pub fn from_vec(content: Vec<u8>) -> Str {
        if content.len() <= INLINE_MAX { Str::new(&content) } else { Str(Form::Heap(Box::new(content))) }
    }

    /// `value` in decimal.
    #[inline]
    pub fn from_int(value: i64) -> Str {
        Str::new(number::format_i64(value, &mut [0; 20]))
    }

    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Form::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Form::Heap(bytes) => bytes,
            Form::Shared(bytes) => bytes,
        }
    }

    #[allow(clippy::len_without_is_empty)] // an empty string is no special case
    #[inline]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Adds `tail` at the end.
    pub fn append(&mut self, tail: &[u8]) {
        if let Form::Inline { len, bytes } = &mut self.0 {
            let start = usize::from(*len);
            if let Some(room) = bytes.get_mut(start..start + tail.len()) {
                room.copy_from_slice(tail);
                *len += tail.len() as u8;
                return;
            }
        }
        self.reserve(tail.len()).extend_from_slice(tail);
    }

    /// The content as a buffer of at least `len` bytes, filled up with zeros.
    pub fn grow_to(&mut self, len: usize) -> &mut Vec<u8> {
        let bytes = self.reserve(len.saturating_sub(self.len()));
        if bytes.len() < len {
            bytes.resize(len, 0);
        }
        bytes
    }

    /// The content as a buffer with room for `more` bytes. It grows by doubling up to 1 MiB, then by 1 MiB, as in Redis: half
    /// of a large value must not be air.
    fn reserve(&mut self, more: usize) -> &mut Vec<u8> {
        const SPARE_MAX: usize = 1 << 20;
        let bytes = self.make_vec();
        let needed = bytes.len() + more;
        if needed > bytes.capacity() {
            bytes.reserve_exact(more + needed.min(SPARE_MAX));
        }
        bytes
    }

    /// What `OBJECT ENCODING` says. Redis also says `raw` of a short string that was changed in place; here the content
    /// alone decides.
    pub fn encoding(&self) -> &'static str {
        /// What Redis fits into one 64-byte allocation with the object's head.
        const EMBEDDED_MAX: usize = 44;
        match self.as_slice() {
            digits if number::parse_i64(digits).is_some() => "int",
            short if short.len() <= EMBEDDED_MAX => "embstr",
            _ => "raw",
        }
    }

    /// The content as a buffer to edit in place.
    pub fn make_vec(&mut self) -> &mut Vec<u8> {
        match &mut self.0 {
            Form::Heap(_) => {}
            Form::Inline { .. } => self.0 = Form::Heap(Box::new(self.as_slice().to_vec())),
            Form::Shared(bytes) => {
                let bytes = Arc::try_unwrap(std::mem::take(bytes)).unwrap_or_else(|shared| (*shared).clone());
                self.0 = Form::Heap(Box::new(bytes));
            }
        }
        match &mut self.0 {
            Form::Heap(bytes) => bytes,
            Form::Inline { .. } | Form::Shared(_) => unreachable!("made a heap string above"),
        }
    }
}

impl Elements for Str {
    fn count(&self) -> usize {
        self.len()
    }

    fn encode_from(&self, from: usize, bytes: usize, out: &mut Vec<u8>) -> usize {
        let end = from.saturating_add(bytes).min(self.len());
        out.extend_from_slice(&self.as_slice()[from..end]);
        end
    }
}

impl Typed for Str {
    fn from_value(value: &Value) -> Option<&Str> {
        if let Value::Str(inner) = value { Some(inner) } else { None }
    }

    fn from_value_mut(value: &mut Value) -> Option<&mut Str> {
        if let Value::Str(inner) = value { Some(inner) } else { None }
    }

    fn into_value(self) -> Value {
        Value::Str(self)
    }

    /// An empty string is a value like any other.
    fn is_empty(&self) -> bool {
        false
    }

    fn elements(&self) -> &dyn Elements {
        self
    }

    fn decode_elements(&mut self, count: usize, input: &mut Reader<'_>) -> Result<(), Malformed> {
        let bytes = input.take(count)?;
        if self.len() == 0 {
            *self = Str::new(bytes);
        } else {
            self.append(bytes);
        }
        Ok(())
    }

    fn is_large(&self) -> bool {
        self.len() > LARGE_BYTES
    }

    fn freeze(&mut self) -> Frozen {
        if let Form::Heap(bytes) = &mut self.0 {
            self.0 = Form::Shared(Arc::new(std::mem::take(bytes)));
        }
        Box::new(self.clone())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        varint::put_bytes(out, self.as_slice());
    }

    fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Inline { .. } => 0,
            Form::Heap(bytes) => size_of::<Vec<u8>>() + bytes.capacity(),
            Form::Shared(bytes) => size_of::<Vec<u8>>() + bytes.capacity(),
        }
    }
}
