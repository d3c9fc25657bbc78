//! Versions of keys, by which `EXEC` sees that a watched key has changed: each change of an entry gets the next number of
//! the shard, and removals are counted for keys that are not there (`removals.rs`). State: in cuts, digests and restores, so
//! that a key that is watched on one leader is compared on the next.

use skep_base::varint::{Malformed, Reader};
use skep_base::{Millis, slot_of};

use crate::keyspace::Keyspace;

mod removals;

pub(crate) use removals::{Removals, WALKED_KEYS_MAX};

/// The number of an entry's last change: 1 to 2^32 - 1.
///
/// Two changes have the same number only if a multiple of 2^32 - 1 changes of the shard are between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Version(pub u32);

impl Version {
    pub fn read(input: &mut Reader<'_>) -> Result<Version, Malformed> {
        match u32::try_from(input.varint()?) {
            Ok(number) => Ok(Version(number)),
            Err(_) => input.malformed("a version below 2^32"),
        }
    }
}

/// What a watch sees of a key: the version of its entry, and how often what lay there was taken away without a trace in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// 0 if the key is not there.
    version: Version,
    /// Of a key that is not there, the removals that may have been its own; of one that is there, the exchanges of its database
    /// for another. Counted modulo 2^32 - 1, from 1 on. 0: seen by a version of skep that did not count.
    tally: u32,
}

impl Seen {
    fn new(version: Version, count: u32) -> Seen {
        Seen { version, tally: count % u32::MAX + 1 }
    }

    /// The form in replies and logs, where versions of skep that did not count have the entry's version alone.
    pub fn bits(self) -> u64 {
        u64::from(self.tally) << 32 | u64::from(self.version.0)
    }

    pub fn from_bits(bits: u64) -> Seen {
        Seen { version: Version(bits as u32), tally: (bits >> 32) as u32 }
    }

    /// True if a key that looked like this looks like `now`. A tally that is not known is like any: so what is in a log has
    /// the same outcome as when it was written.
    fn is_like(self, now: Seen) -> bool {
        self.version == now.version && (self.tally == 0 || self.tally == now.tally)
    }
}

/// Changes of a shard's entries so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Changes(u64);

impl Changes {
    pub fn from_count(count: u64) -> Changes {
        Changes(count)
    }

    pub fn count(self) -> u64 {
        self.0
    }

    /// The version that the next change makes.
    #[inline]
    pub fn next(&mut self) -> Version {
        self.0 = self.0.wrapping_add(1);
        Version((self.0 % u64::from(u32::MAX)) as u32 + 1)
    }
}

/// An edit of an entry in place: the entry's version before and after.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edit {
    pub before: Version,
    pub version: Version,
}

impl Keyspace {
    /// What a watch that begins at `now` sees of `key`.
    pub fn seen(&self, db: u8, key: &[u8], now: Millis) -> Seen {
        let entry = self.db(db).slot(slot_of(key)).and_then(|table| table.entries.get(key));
        if entry.is_some_and(|entry| entry.holds_due(now)) {
            self.access.note_due();
        }
        match entry {
            Some(entry) if entry.is_live(now) => Seen::new(entry.version, self.removals.swaps(db)),
            // One that nobody can see any more is as good as removed, and is not to count again when it is.
            dead => Seen::new(Version(0), self.removals.of(db, key).wrapping_add(u32::from(dead.is_some()))),
        }
    }

    /// True if `key` is not as it was when it was seen: it was changed, put there anew, removed, or is past its deadline, or a
    /// field of it is.
    ///
    /// A key that was not there and is not there has changed if it was there in between; also, with the odds that
    /// `versions/removals.rs` gives, if another was.
    pub(crate) fn has_changed(&self, db: u8, key: &[u8], seen: Seen) -> bool {
        let now = self.stamp();
        let entry = self.db(db).slot(slot_of(key)).and_then(|table| table.entries.get(key));
        let holds_due = entry.is_some_and(|entry| entry.is_live(now) && entry.holds_due(now));
        holds_due || !seen.is_like(self.seen(db, key, now))
    }

    /// True if `key` is not as it was when it was seen, to a read at `now`, which meets what is due by then and says so.
    pub(crate) fn looks_changed(&self, db: u8, key: &[u8], seen: Seen, now: Millis) -> bool {
        !seen.is_like(self.seen(db, key, now))
    }

    /// Counts the removal of all keys of `db`. Cost: a walk over its slots if it has keys, up to [`WALKED_KEYS_MAX`] of them.
    pub(crate) fn count_all_removed(&mut self, db: u8) {
        if self.len(db) > WALKED_KEYS_MAX {
            return self.removals.add_unwalked(db);
        }
        let entries = self.dbs[usize::from(db)].entries_from(0);
        entries.for_each(|entry| self.removals.add(db, &entry.key));
    }
}

#[cfg(test)]
mod tests;
