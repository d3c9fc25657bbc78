//! The keys that scripts read though their calls do not name them: clients that cache what they read are to hear of those too.

use std::collections::BTreeSet;

use skep_base::Args;
use skep_command::CommandSpec;

use crate::invocation::Invocation;

/// Keys noted until they are asked for; of more it is known that they are many.
const KEYS_MAX: usize = 100;
/// Bytes of one; longer ones are many.
const KEY_BYTES_MAX: usize = 1_024;
/// A call with more keys has them sorted once, so that a look-up need not pass all of them.
const NAMED_UNSORTED_MAX: usize = 8;

/// Keys that were read.
#[derive(Default)]
pub struct ReadKeys {
    keys: BTreeSet<Box<[u8]>>,
    /// More than these.
    are_many: bool,
}

impl ReadKeys {
    fn add(&mut self, key: &[u8]) {
        if self.are_many || self.keys.contains(key) {
            return;
        }
        if self.keys.len() < KEYS_MAX && key.len() <= KEY_BYTES_MAX {
            self.keys.insert(key.into());
        } else {
            *self = ReadKeys { keys: BTreeSet::new(), are_many: true };
        }
    }

    /// Adds what another script has read.
    pub fn append(&mut self, other: ReadKeys) {
        if other.are_many {
            *self = other;
            return;
        }
        other.keys.iter().for_each(|key| self.add(key));
    }

    /// The keys; `None` if they are many.
    pub fn into_keys(self) -> Option<BTreeSet<Box<[u8]>>> {
        if self.are_many { None } else { Some(self.keys) }
    }
}

/// What one script reads.
#[derive(Default)]
pub(crate) struct Reads<'a> {
    call: Option<Invocation<'a>>,
    /// The keys that the call names, in order, if they are many and were asked for.
    named: Option<Vec<&'a [u8]>>,
    read: ReadKeys,
}

impl<'a> Reads<'a> {
    pub fn of(call: Invocation<'a>) -> Reads<'a> {
        Reads { call: Some(call), ..Reads::default() }
    }

    /// A command that reads is about to run. Cost: the keys of the command, times those of the call if these are few.
    pub fn note(&mut self, command: &CommandSpec, args: Args) {
        if self.call.is_none() || self.read.are_many {
            return;
        }
        let Ok(keys) = command.keys(args) else { return };
        for key in keys.iter() {
            let key = &args[key.index];
            if !self.names(key) {
                self.read.add(key);
            }
        }
    }

    pub fn into_keys(self) -> ReadKeys {
        self.read
    }

    fn names(&mut self, key: &[u8]) -> bool {
        let Some(call) = &self.call else { return false };
        if call.keys().len() <= NAMED_UNSORTED_MAX {
            return call.keys().any(|named| named == key);
        }
        let named = self.named.get_or_insert_with(|| {
            let mut named: Vec<&[u8]> = call.keys().collect();
            named.sort_unstable();
            named
        });
        named.binary_search(&key).is_ok()
    }
}
