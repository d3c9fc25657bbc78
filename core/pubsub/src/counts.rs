//! How many listen to what: what a cell tells the others of its own subscriptions, and what it was told.
//!
//! Counts are absolute, so hearing one twice does no harm. They come in order from one source; over a new link all of them
//! come again, and what is late on the old one has an older version.

use bytes::Bytes;
use skep_base::NodeId;
use skep_base::varint::{Malformed, Reader, put, put_bytes};

use crate::{Kind, NAME_BYTES_MAX, Table};

/// A cell whose clients are counted: of another node, or of this one, as whose number stands 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Source {
    pub node: NodeId,
    pub cell: u16,
}

impl Source {
    /// Another cell of this node.
    pub fn own(cell: usize) -> Source {
        Source { node: NodeId(0), cell: cell as u16 }
    }
}

/// Counts on their way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counts {
    /// How often the source had told its counts, with these.
    pub version: u64,
    /// What the source told before holds no more.
    pub is_first: bool,
    /// Kind u8, name behind its length, varint count; to the end.
    pub bytes: Bytes,
}

/// Bytes of counts after which another message is begun.
const COUNTS_BYTES_FULL: usize = 256 << 10;

impl Table {
    /// True if counts here have changed and were not told.
    #[inline]
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What has changed since the last time; as if it were told if `is_heard` is unset, since nobody else is there.
    pub fn take_changes(&mut self, is_heard: bool) -> Vec<Counts> {
        let mut told = Vec::new();
        let mut bytes = Vec::new();
        for (kind, name) in std::mem::take(&mut self.changed) {
            let entry = self.find_mut(kind, &name).expect("INV-PUBSUB-2: a change of a name that is gone");
            entry.is_changed = false;
            let count = entry.here.len();
            if is_heard {
                put_count(&mut bytes, kind, &name, count as u64);
                if bytes.len() >= COUNTS_BYTES_FULL {
                    self.version += 1;
                    let bytes = std::mem::take(&mut bytes).into();
                    told.push(Counts { version: self.version, is_first: false, bytes });
                }
            }
            if count == 0 {
                self.tidy(kind, &name);
            }
        }
        if !bytes.is_empty() {
            self.version += 1;
            told.push(Counts { version: self.version, is_first: false, bytes: bytes.into() });
        }
        told
    }

    /// All counts: those of this cell, or those that one of the node's others told. `None` if that has told nothing yet.
    pub fn all_counts(&self, of: Option<Source>) -> Option<Vec<Counts>> {
        let version = match of {
            None => self.version,
            Some(source) => self.sources.get(&source)?.1,
        };
        let mut told = Vec::new();
        let (mut is_first, mut bytes) = (true, Vec::new());
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            for name in self.all(kind) {
                let count = match of {
                    None => name.here.len() as u64,
                    Some(source) => {
                        name.elsewhere.iter().find(|(of, _)| *of == source).map_or(0, |(_, count)| *count)
                    }
                };
                if count == 0 {
                    continue;
                }
                put_count(&mut bytes, kind, &name.name, count);
                if bytes.len() >= COUNTS_BYTES_FULL {
                    let bytes = std::mem::take(&mut bytes).into();
                    told.push(Counts { version, is_first, bytes });
                    is_first = false;
                }
            }
        }
        if is_first || !bytes.is_empty() {
            told.push(Counts { version, is_first, bytes: bytes.into() });
        }
        Some(told)
    }

    /// Takes in what another cell told in a run of its node. Older news than were heard are passed over.
    ///
    /// # Errors
    /// [`Malformed`] if no correct node says this; the counts before that place are taken in.
    pub fn hear(&mut self, source: Source, run: u64, counts: &Counts) -> Result<(), Malformed> {
        match self.sources.get(&source) {
            Some((known, version)) if *known == run && counts.version < *version => return Ok(()),
            _ => {}
        }
        if counts.is_first {
            self.drop_counts(|of| of == source);
        }
        self.sources.insert(source, (run, counts.version));
        let mut reader = Reader::new(&counts.bytes);
        while reader.left() > 0 {
            let Some(kind) = Kind::of(reader.u8()?) else {
                return reader.malformed("a kind of channel before this");
            };
            let name = reader.bytes()?;
            if name.len() > NAME_BYTES_MAX {
                return reader.malformed("a shorter name before this");
            }
            let count = reader.varint()?.min(u64::from(u32::MAX));
            self.set_count(source, kind, name, count);
        }
        Ok(())
    }

    /// Forgets what the cells of a node told: it is gone, or has begun another run. Cost: O(names).
    pub fn drop_node(&mut self, node: NodeId) {
        if self.sources.keys().any(|source| source.node == node) {
            self.drop_counts(|source| source.node == node);
            self.sources.retain(|source, _| source.node != node);
        }
    }

    /// The run of a node that has told counts.
    pub fn run_of(&self, node: NodeId) -> Option<u64> {
        let first = Source { node, cell: 0 }..=Source { node, cell: u16::MAX };
        self.sources.range(first).next().map(|(_, (run, _))| *run)
    }

    fn set_count(&mut self, source: Source, kind: Kind, name: &[u8], count: u64) {
        if count == 0 && self.find(kind, name).is_none() {
            return;
        }
        let entry = self.name(kind, name);
        let at = entry.elsewhere.iter().position(|(of, _)| *of == source);
        match (at, count) {
            (Some(at), 0) => drop(entry.elsewhere.swap_remove(at)),
            (Some(at), count) => entry.elsewhere[at].1 = count,
            (None, 0) => {}
            (None, count) => entry.elsewhere.push((source, count)),
        }
        if count == 0 {
            self.tidy(kind, name);
        }
    }

    fn drop_counts(&mut self, is_of: impl Fn(Source) -> bool) {
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            let told = |of: &&crate::table::Name| of.elsewhere.iter().any(|(source, _)| is_of(*source));
            let names: Vec<Bytes> = self.all(kind).filter(told).map(|of| of.name.clone()).collect();
            for name in names {
                self.name(kind, &name).elsewhere.retain(|(source, _)| !is_of(*source));
                self.tidy(kind, &name);
            }
        }
    }
}

fn put_count(out: &mut Vec<u8>, kind: Kind, name: &[u8], count: u64) {
    out.push(kind as u8);
    put_bytes(out, name);
    put(out, count);
}
