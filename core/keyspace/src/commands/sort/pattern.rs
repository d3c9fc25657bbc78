//! The patterns of `BY` and `GET`: from an element to a key, or to a field of a hash.
//!
//! Redis reads patterns as C strings: what it looks for in one, it looks for up to the first zero byte.

use crate::context::ReadCx;
use crate::value::Value;

/// Where to find the value for an element.
pub enum Pattern<'p> {
    /// `#`: the element is the value.
    Element,
    /// No `*`: there is never a value.
    Nothing,
    /// The key is the element between two texts; `field` is of a hash there, if any.
    Key { before: &'p [u8], after: &'p [u8], field: Option<&'p [u8]> },
}

impl<'p> Pattern<'p> {
    pub fn new(pattern: &'p [u8]) -> Pattern<'p> {
        let searched = c_text(pattern);
        if searched == b"#" {
            return Pattern::Element;
        }
        let Some(star) = searched.iter().position(|b| *b == b'*') else { return Pattern::Nothing };
        let before = &pattern[..star];
        let behind = star + 1;
        let arrow = searched[behind..].windows(2).position(|w| w == b"->").map(|at| behind + at);
        // An arrow at the end names no field: it belongs to the key.
        match arrow.filter(|at| at + 2 < searched.len()) {
            Some(at) => Pattern::Key { before, after: &pattern[behind..at], field: Some(&pattern[at + 2..]) },
            None => Pattern::Key { before, after: &pattern[behind..], field: None },
        }
    }

    /// The value for `element`; `None` if there is none or it is of another type. `room` is for building the key.
    pub fn look_up<'a>(&self, cx: &ReadCx<'a>, element: &'a [u8], room: &mut Vec<u8>) -> Option<&'a [u8]> {
        let (before, after, field) = match self {
            Pattern::Element => return Some(element),
            Pattern::Nothing => return None,
            Pattern::Key { before, after, field } => (before, after, field),
        };
        room.clear();
        room.extend_from_slice(before);
        room.extend_from_slice(element);
        room.extend_from_slice(after);
        match (&cx.entry(room)?.value, field) {
            (Value::Str(text), None) => Some(text.as_slice()),
            (Value::Hash(hash), Some(field)) => hash.get(field, cx.now).map(|value| value.as_slice()),
            _ => None,
        }
    }
}

/// `text` up to its first zero byte.
pub fn c_text(text: &[u8]) -> &[u8] {
    text.split(|b| *b == 0).next().unwrap_or_default()
}
