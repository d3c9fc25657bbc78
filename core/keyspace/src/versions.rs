//! Versions of keys, by which `EXEC` sees that a watched key has changed: each change of an entry gets the next number of
//! the shard. State: in cuts, digests and restores, so that a key that is watched on one leader is compared on the next.

use skep_base::varint::{Malformed, Reader};
use skep_base::{Millis, slot_of};

use crate::keyspace::Keyspace;

/// The number of an entry's last change: 1 to 2^32 - 1. A key that is not there has 0.
///
/// Two changes have the same number only if a multiple of 2^32 - 1 changes of the shard are between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Version(pub u32);

impl Version {
    /// Of a key that is not there.
    pub const ABSENT: Version = Version(0);

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Version, Malformed> {
        match u32::try_from(input.varint()?) {
            Ok(number) => Ok(Version(number)),
            Err(_) => input.malformed("a version below 2^32"),
        }
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
    /// The version of `key` as seen at `now`: that of its last change, [`Version::ABSENT`] if it is not there or past its
    /// deadline.
    pub fn version(&self, db: u8, key: &[u8], now: Millis) -> Version {
        self.peek(db, key, now).map_or(Version::ABSENT, |entry| entry.version)
    }

    /// True if `key` is not as it was when it had `version`: it was changed, put there anew, removed, or is past its deadline,
    /// or a field of it is.
    ///
    /// A key that was not there and is not there is unchanged, whatever was there in between.
    pub(crate) fn has_changed(&self, db: u8, key: &[u8], version: Version) -> bool {
        let now = self.stamp();
        let entry = self.db(db).slot(slot_of(key)).and_then(|table| table.entries.get(key));
        match entry.filter(|entry| entry.is_live(now)) {
            None => version != Version::ABSENT,
            Some(entry) => entry.version != version || entry.holds_due(now),
        }
    }
}

#[cfg(test)]
mod tests;
