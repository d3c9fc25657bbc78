//! Messages of a turn on their way to other cells and nodes.

use bytes::Bytes;
use skep_base::varint::{Malformed, Reader, put_bytes};

use crate::Kind;

/// A published message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// A channel's or a shard channel's.
    pub kind: Kind,
    pub channel: &'a [u8],
    pub payload: &'a [u8],
}

/// Bytes after which another batch is begun, so that no buffer grows to be moved again and again.
const BATCH_BYTES_FULL: usize = 1 << 20;

/// Messages in order, in batches of about a megabyte or of one message. Each: kind u8, channel and payload behind their
/// lengths.
#[derive(Default)]
pub struct Batch {
    full: Vec<Bytes>,
    open: Vec<u8>,
}

impl Batch {
    pub fn push(&mut self, message: Message<'_>) {
        self.open.push(message.kind as u8);
        put_bytes(&mut self.open, message.channel);
        put_bytes(&mut self.open, message.payload);
        if self.open.len() >= BATCH_BYTES_FULL {
            self.full.push(std::mem::take(&mut self.open).into());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.full.is_empty() && self.open.is_empty()
    }

    /// All of them, the first ones first.
    pub fn take(&mut self) -> Vec<Bytes> {
        let mut all = std::mem::take(&mut self.full);
        if !self.open.is_empty() {
            all.push(Bytes::copy_from_slice(&self.open));
            self.open.clear();
        }
        all
    }
}

/// The messages of a batch. Ends behind the first that is malformed.
pub fn messages(batch: &[u8]) -> impl Iterator<Item = Result<Message<'_>, Malformed>> {
    let mut reader = Some(Reader::new(batch));
    std::iter::from_fn(move || {
        let of = reader.as_mut().filter(|reader| reader.left() > 0)?;
        let message = one(of);
        if message.is_err() {
            reader = None;
        }
        Some(message)
    })
}

fn one<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, Malformed> {
    let kind = match Kind::of(reader.u8()?) {
        Some(kind @ (Kind::Channel | Kind::Shard)) => kind,
        _ => return reader.malformed("a kind of channel before this"),
    };
    Ok(Message { kind, channel: reader.bytes()?, payload: reader.bytes()? })
}
