//! Proofs that took long to check, remembered by a core; and how often a client may have passwords checked by a node.
//!
//! What is remembered is found by a digest over the proof and over all that it was checked against, so a change of the
//! configuration, of a password or of a set of keys forgets what depends on it, and nothing else.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashTable;
use skep_base::Micros;

use super::Caller;
use crate::config::protect::IPV6_PREFIX;
use crate::protect::rate::{Callers, Rate};
use crate::router::source_hash;

/// Proofs that a core remembers, in each of two generations: when one is full, the other is thrown away.
const PROOFS_MAX: usize = 5_000;
/// And as many bytes.
const BYTES_MAX: usize = 8 << 20;
/// What one takes beside its contents.
const PROOF_BYTES: usize = 300;
/// Checks of a password from one address: so many at once, and then one a second.
const TRIES: u32 = 20;

/// A proof.
#[derive(Clone, Debug)]
pub struct Remembered {
    pub caller: Arc<Caller>,
    /// The second of the wall clock from which it counts no more.
    pub until_secs: u64,
    /// What its contents take, about.
    pub bytes: usize,
}

type Table = HashTable<([u8; 32], Remembered)>;

/// What one core remembers.
#[derive(Debug, Default)]
pub struct Memory {
    new: Table,
    old: Table,
    /// Of the new ones.
    bytes: usize,
}

/// Passwords that the clients of a node had checked.
#[derive(Debug, Default)]
pub struct Tries {
    clients: Callers,
}

fn place(digest: &[u8; 32]) -> u64 {
    u64::from_le_bytes(digest[..8].try_into().expect("8 bytes of 32"))
}

fn find<'t>(table: &'t Table, digest: &[u8; 32]) -> Option<&'t Remembered> {
    table.find(place(digest), |(known, _)| known == digest).map(|(_, found)| found)
}

impl Memory {
    /// The caller of a proof that still counts.
    pub fn get(&mut self, digest: &[u8; 32], now_secs: u64) -> Option<Arc<Caller>> {
        if let Some(found) = find(&self.new, digest) {
            return (now_secs < found.until_secs).then(|| Arc::clone(&found.caller));
        }
        let found = find(&self.old, digest).filter(|found| now_secs < found.until_secs)?.clone();
        let caller = Arc::clone(&found.caller);
        self.put(*digest, found);
        Some(caller)
    }

    /// Remembers a proof.
    pub fn put(&mut self, digest: [u8; 32], proof: Remembered) {
        if self.new.len() >= PROOFS_MAX || self.bytes >= BYTES_MAX {
            self.old = std::mem::take(&mut self.new);
            self.bytes = 0;
        }
        self.bytes += PROOF_BYTES + proof.bytes;
        let hasher = |(digest, _): &([u8; 32], Remembered)| place(digest);
        let entry = self.new.entry(place(&digest), |(known, _)| *known == digest, hasher);
        entry.insert((digest, proof));
    }

    /// Proofs that are remembered.
    pub fn len(&self) -> usize {
        self.new.len() + self.old.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Tries {
    /// Whether a client may have a password checked. All addresses of a network of IPv6 are one client.
    ///
    /// # Errors
    /// How long it has to wait.
    pub fn may_try(&mut self, now: Micros, source: IpAddr) -> Result<(), Micros> {
        let rate = Rate::new(1.0, Micros::from_secs(1), TRIES);
        let verdict = self.clients.judge(rate, source_hash(source, IPV6_PREFIX), now);
        if verdict.passes { Ok(()) } else { Err(verdict.wait) }
    }
}
