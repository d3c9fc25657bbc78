//! Sets of facts about commands and keys, as bits. The order of the constants is the order in which Redis lists them.

macro_rules! bit_set {
    ($(#[$doc:meta])* $set:ident($bits:ty) { $($(#[$flag_doc:meta])* $flag:ident = $name:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Default)]
        pub struct $set($bits);

        impl $set {
            /// The names of all members, in the order of their bits.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            pub(crate) const fn from_bits(bits: $bits) -> $set {
                $set(bits)
            }

            /// True if all of `other` is in this set.
            #[inline]
            pub const fn has(self, other: $set) -> bool {
                self.0 & other.0 == other.0
            }

            /// True if something of `other` is in this set.
            #[inline]
            pub const fn has_any(self, other: $set) -> bool {
                self.0 & other.0 != 0
            }

            pub const fn and(self, other: $set) -> $set {
                $set(self.0 | other.0)
            }

            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            pub const fn len(self) -> usize {
                self.0.count_ones() as usize
            }

            /// The one-member set of that name, in any case.
            pub fn named(name: &[u8]) -> Option<$set> {
                let at = $set::NAMES.iter().position(|n| n.as_bytes().eq_ignore_ascii_case(name))?;
                Some($set(1 << at))
            }

            /// The names of the members.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                $set::NAMES.iter().enumerate().filter(move |(at, _)| self.0 & 1 << at != 0).map(|(_, name)| *name)
            }
        }

        impl std::fmt::Debug for $set {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_set().entries(self.names()).finish()
            }
        }

        bit_set!(@each $set, 0; $($(#[$flag_doc])* $flag)*);
    };
    (@each $set:ident, $at:expr; $(#[$doc:meta])* $flag:ident $($rest:tt)*) => {
        impl $set {
            $(#[$doc])*
            pub const $flag: $set = $set(1 << ($at));
        }
        bit_set!(@each $set, $at + 1; $($rest)*);
    };
    (@each $set:ident, $at:expr;) => {};
}

bit_set! {
    /// What kind of command it is, and when it may run.
    Flags(u32) {
        /// May change the data.
        WRITE = "write",
        /// Reads the data and does not change it.
        READONLY = "readonly",
        /// May need memory: refused when `maxmemory` is reached and nothing can be evicted.
        DENYOOM = "denyoom",
        MODULE = "module",
        ADMIN = "admin",
        PUBSUB = "pubsub",
        /// Not allowed in scripts.
        NOSCRIPT = "noscript",
        /// May wait.
        BLOCKING = "blocking",
        /// Allowed while data is being loaded.
        LOADING = "loading",
        /// Allowed while the data is known to be old.
        STALE = "stale",
        SKIP_MONITOR = "skip_monitor",
        SKIP_SLOWLOG = "skip_slowlog",
        ASKING = "asking",
        /// Takes constant or logarithmic time.
        FAST = "fast",
        /// Allowed before authentication.
        NO_AUTH = "no_auth",
        MAY_REPLICATE = "may_replicate",
        /// Runs with no key at all, too.
        NO_MANDATORY_KEYS = "no_mandatory_keys",
        PROTECTED = "protected",
        NO_ASYNC_LOADING = "no_async_loading",
        /// Not allowed in a transaction.
        NO_MULTI = "no_multi",
        /// First, last and step do not tell where the keys are.
        MOVABLEKEYS = "movablekeys",
        /// Allowed while a script runs for too long.
        ALLOW_BUSY = "allow_busy",
    }
}

bit_set! {
    /// The ACL categories of a command.
    Categories(u64) {
        KEYSPACE = "keyspace",
        READ = "read",
        WRITE = "write",
        SET = "set",
        SORTEDSET = "sortedset",
        LIST = "list",
        HASH = "hash",
        STRING = "string",
        BITMAP = "bitmap",
        HYPERLOGLOG = "hyperloglog",
        GEO = "geo",
        STREAM = "stream",
        PUBSUB = "pubsub",
        ADMIN = "admin",
        FAST = "fast",
        SLOW = "slow",
        BLOCKING = "blocking",
        DANGEROUS = "dangerous",
        CONNECTION = "connection",
        TRANSACTION = "transaction",
        SCRIPTING = "scripting",
        /// Ours.
        QUEUE = "queue",
    }
}

bit_set! {
    /// What a command does to a key: one of the first four, and then what for.
    KeyFlags(u16) {
        /// Reads the value.
        RO = "RO",
        /// Reads and changes the value.
        RW = "RW",
        /// Replaces the value without looking at it.
        OW = "OW",
        /// Removes the key.
        RM = "RM",
        /// Its reply or its effect on other keys depends on the value.
        ACCESS = "access",
        /// Changes what is there.
        UPDATE = "update",
        /// Only adds to what is there.
        INSERT = "insert",
        /// Deletes something of the value.
        DELETE = "delete",
        /// Looks like a key for routing, and is none.
        NOT_KEY = "not_key",
        /// There may be keys besides those found.
        INCOMPLETE = "incomplete",
        /// The other flags depend on the arguments.
        VARIABLE_FLAGS = "variable_flags",
    }
}

/// Members of the sets as numbers, which can be joined by `|` in constants: the words that the table uses.
/// The numbers of each set have a type of their own, so that a word of one cannot pass for a word of another.
pub mod words {
    use super::{Categories as C, Flags as F, KeyFlags as K};

    macro_rules! words {
        ($set:ident($bits:ty): $($word:ident),* $(,)?) => { $(pub const $word: $bits = $set::$word.0;)* };
    }

    pub mod flags {
        use super::F;
        words!(F(u32): WRITE, READONLY, DENYOOM, ADMIN, PUBSUB, NOSCRIPT, LOADING, STALE, FAST, NO_AUTH, NO_ASYNC_LOADING,
            ASKING, NO_MULTI, MOVABLEKEYS, ALLOW_BUSY, BLOCKING, SKIP_SLOWLOG, SKIP_MONITOR,
            NO_MANDATORY_KEYS);
    }

    pub mod categories {
        use super::C;
        words!(C(u64): KEYSPACE, SET, SORTEDSET, LIST, HASH, STRING, BITMAP, HYPERLOGLOG, GEO, STREAM, DANGEROUS, CONNECTION, QUEUE,
            SCRIPTING, TRANSACTION);
        /// For the commands that have the category without the flag.
        pub const ADMIN_CATEGORY: u64 = C::ADMIN.0;
        /// Named apart from the flag.
        pub const PUBSUB_CATEGORY: u64 = C::PUBSUB.0;
    }

    pub mod key_flags {
        use super::K;
        words!(K(u16): RO, RW, OW, RM, ACCESS, UPDATE, INSERT, DELETE, NOT_KEY, VARIABLE_FLAGS);
    }
}
