//! Numbers for what a configuration names, and tables from texts.

use hashbrown::HashTable;
use skep_base::hash;

macro_rules! index {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub u32);

        impl $name {
            /// As an index.
            pub fn at(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

index! {
    /// A route's place in `Config::routes`.
    RouteId;
    /// A pool's place in `Config::pools`.
    PoolId;
    /// An upstream's place in its pool's list.
    UpstreamId;
    /// A listener's place in `Config::listeners`.
    ListenerId;
    /// A limit's place in `Config::limits`.
    LimitId;
    /// A place in `Config::auths`.
    AuthId;
}

/// Which configuration's numbers some are. A gate and a guard refuse those of any but the one in force: another route or pool has
/// them by then, or none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Generation(u64);

impl Generation {
    /// That of the configuration which follows.
    #[must_use]
    pub fn next(self) -> Generation {
        Generation(self.0 + 1)
    }
}

/// A table from texts that a client may choose, under the process's secret seed. Its order is never seen.
#[derive(Clone, Debug)]
pub(crate) struct Names<T> {
    table: HashTable<(Box<str>, T)>,
}

impl<T> Default for Names<T> {
    fn default() -> Names<T> {
        Names { table: HashTable::new() }
    }
}

impl<T> Names<T> {
    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        self.table.find(hash::of(name.as_bytes()), |(n, _)| **n == *name).map(|(_, value)| value)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

impl<T: Default> Names<T> {
    pub(crate) fn entry(&mut self, name: &str) -> &mut T {
        let hasher = |(n, _): &(Box<str>, T)| hash::of(n.as_bytes());
        let entry = self.table.entry(hash::of(name.as_bytes()), |(n, _)| **n == *name, hasher);
        &mut entry.or_insert_with(|| (name.into(), T::default())).into_mut().1
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.table.iter_mut().map(|(_, value)| value)
    }
}
