//! API keys: random texts, known by their SHA-256.
//!
//! A plain hash is enough for what nobody can guess: a key shorter than 20 bytes is never taken, whatever hash is written down.

use std::sync::Arc;

use hashbrown::HashTable;
use sha2::{Digest, Sha256};

use super::{Caller, Rules, plain_caller, same};
use crate::config::auth::Auth;
use crate::names::AuthId;

/// 20 characters of base 64 are 120 bits.
const KEY_BYTES_MIN: usize = 20;
const KEY_BYTES_MAX: usize = 1_024;

/// The keys of one way.
#[derive(Debug)]
pub(super) struct Keys {
    table: HashTable<([u8; 32], Arc<Caller>)>,
}

/// Hashes of keys are as good as random, and a client that could choose one could as well log in.
fn place(hash: &[u8; 32]) -> u64 {
    u64::from_le_bytes(hash[..8].try_into().expect("8 bytes of 32"))
}

impl Keys {
    pub(super) fn new(way: &str, config: &Auth) -> Keys {
        let mut table = HashTable::new();
        for caller in config.keys.iter().flat_map(|keys| &keys.callers) {
            let mut hash = [0; 32];
            for (at, byte) in hash.iter_mut().enumerate() {
                let digits = &caller.sha256.0[2 * at..2 * at + 2];
                *byte = u8::from_str_radix(digits, 16).expect("digits are checked when they are read");
            }
            let scopes = caller.scopes.iter().map(|s| s.0.clone()).collect();
            let known = plain_caller(way, config, &caller.name.0, scopes);
            table.insert_unique(place(&hash), (hash, known), |(hash, _)| place(hash));
        }
        Keys { table }
    }
}

impl Rules {
    /// Whose key it is. Takes as long for a key that nobody has.
    pub fn by_key(&self, auth: AuthId, key: &[u8]) -> Option<&Arc<Caller>> {
        if !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len()) {
            return None;
        }
        let hash: [u8; 32] = Sha256::digest(key).into();
        let table = &self.ways[auth.at()].keys.table;
        table.find(place(&hash), |(known, _)| same(known, &hash)).map(|(_, caller)| caller)
    }
}
