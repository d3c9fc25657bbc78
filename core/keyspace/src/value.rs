//! A value of any type in 16 bytes.

use skep_base::Millis;
use skep_base::varint::{self, Malformed, Reader};

use crate::dense::{DenseMap, Keyed};
use crate::keyspace::Encodings;
use crate::pieces::{Elements, Frozen, LARGE_ELEMENTS};
use crate::types::{Hash, List, Queue, Set, Str, Stream, ZSet};

/// What a key holds. Collections are never empty: a command that takes the last element removes the key. Streams may be.
#[derive(Clone)]
pub enum Value {
    Str(Str),
    List(Box<List>),
    Hash(Box<Hash>),
    Set(Box<Set>),
    ZSet(Box<ZSet>),
    Queue(Box<Queue>),
    Stream(Box<Stream>),
}

const _: () = assert!(size_of::<Value>() == 16);

/// The type of a value, as `TYPE` names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Str,
    List,
    Hash,
    Set,
    ZSet,
    Queue,
    Stream,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Str => "string",
            Kind::List => "list",
            Kind::Hash => "hash",
            Kind::Set => "set",
            Kind::ZSet => "zset",
            Kind::Queue => "queue",
            Kind::Stream => "stream",
        }
    }
}

/// The common side of the value types. The checkpoint form keeps the order of elements: it is part of the value.
pub trait Typed: Default {
    fn from_value(value: &Value) -> Option<&Self>;
    fn from_value_mut(value: &mut Value) -> Option<&mut Self>;
    fn into_value(self) -> Value;

    /// True if the key that holds it must go.
    fn is_empty(&self) -> bool;
    fn elements(&self) -> &dyn Elements;
    /// Reads what [`Typed::encode`] writes.
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut value = Self::default();
        let count = input.count(1)?;
        value.decode_elements(count, input)?;
        Ok(value)
    }
    /// Adds `count` elements from their checkpoint form. Refuses what is there already.
    fn decode_elements(&mut self, count: usize, input: &mut Reader<'_>) -> Result<(), Malformed>;
    /// True if cuts write the value in pieces. Follows from its content alone.
    fn is_large(&self) -> bool {
        self.elements().count() > LARGE_ELEMENTS
    }
    /// Holds the value, which is large, as it is. Cost: O(chunks).
    fn freeze(&mut self) -> Frozen;
    /// Appends the value's checkpoint form.
    fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.elements().count() as u64);
        self.elements().encode_from(0, usize::MAX, out);
    }
    /// Bytes allocated for the value, itself excluded. Cost: O(1), or a bounded sample for collections.
    fn heap_bytes(&self) -> usize;
    /// The earliest deadline of something inside the value (hash fields; what a queue does by itself).
    fn next_deadline(&self) -> Option<Millis> {
        None
    }
}

/// Elements looked at by [`sampled_heap_bytes`].
const HEAP_SAMPLES: usize = 16;

/// Bytes that the elements of `map` own, judged by the first few.
pub(crate) fn sampled_heap_bytes<E: Keyed + Clone>(map: &DenseMap<E>, bytes: impl Fn(&E) -> usize) -> usize {
    let samples = map.len().min(HEAP_SAMPLES);
    if samples == 0 {
        return 0;
    }
    let sum: usize = map.iter().take(samples).map(bytes).sum();
    sum * map.len() / samples
}

macro_rules! typed_access {
    ($type:ident, boxed) => {
        fn from_value(value: &Value) -> Option<&Self> {
            if let Value::$type(inner) = value { Some(inner) } else { None }
        }

        fn from_value_mut(value: &mut Value) -> Option<&mut Self> {
            if let Value::$type(inner) = value { Some(inner) } else { None }
        }

        fn into_value(self) -> Value {
            Value::$type(Box::new(self))
        }
    };
}
pub(crate) use typed_access;

macro_rules! each {
    ($value:expr, $inner:ident => $body:expr) => {
        match $value {
            Value::Str($inner) => $body,
            Value::List($inner) => $body,
            Value::Hash($inner) => $body,
            Value::Set($inner) => $body,
            Value::ZSet($inner) => $body,
            Value::Queue($inner) => $body,
            Value::Stream($inner) => $body,
        }
    };
}
pub(crate) use each;

impl Value {
    pub fn kind(&self) -> Kind {
        match self {
            Value::Str(_) => Kind::Str,
            Value::List(_) => Kind::List,
            Value::Hash(_) => Kind::Hash,
            Value::Set(_) => Kind::Set,
            Value::ZSet(_) => Kind::ZSet,
            Value::Queue(_) => Kind::Queue,
            Value::Stream(_) => Kind::Stream,
        }
    }

    /// True for a collection without elements, whose key must go.
    pub fn is_empty(&self) -> bool {
        each!(self, v => v.is_empty())
    }

    /// What `OBJECT ENCODING` answers: the representation that Redis 7.4 would choose for this content.
    pub fn encoding(&self, limits: &Encodings) -> &'static str {
        match self {
            Value::Str(text) => text.encoding(),
            Value::List(list) => list.encoding(limits),
            Value::ZSet(zset) => zset.encoding(limits),
            Value::Hash(hash) => hash.encoding(limits),
            Value::Set(set) => set.encoding(limits),
            // Redis has no such type, and this one has no other form.
            Value::Queue(_) => "queue",
            Value::Stream(_) => "stream",
        }
    }

    pub fn heap_bytes(&self) -> usize {
        each!(self, v => v.heap_bytes())
    }

    pub fn next_deadline(&self) -> Option<Millis> {
        match self {
            Value::Hash(hash) => hash.next_deadline(),
            Value::Queue(queue) => queue.next_deadline(),
            _ => None,
        }
    }

    /// True if something inside the value is past its deadline, so that what a read shows hangs on its clock. What a queue
    /// does by itself is done by entries, and reads show what they have done: no clock is asked.
    #[inline]
    pub fn holds_due(&self, now: Millis) -> bool {
        match self {
            Value::Hash(hash) => hash.next_deadline().is_some_and(|deadline| deadline < now),
            _ => false,
        }
    }

    /// For a queue, whether the leader is to say when a schedule's next tick is.
    #[inline]
    pub fn wants_tick(&self) -> Option<bool> {
        match self {
            Value::Queue(queue) => Some(queue.wants_tick()),
            _ => None,
        }
    }

    /// True if everything in the value is past its deadline: then its key is gone too.
    #[inline]
    pub fn is_spent(&self, now: Millis) -> bool {
        match self {
            Value::Hash(hash) => hash.is_spent(now),
            _ => false,
        }
    }
}
