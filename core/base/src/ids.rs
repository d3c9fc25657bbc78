//! Identifiers and time. Each has a type of its own, so that one cannot be passed for another.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// A node of the cluster. Given once, never reused. 0 is no node.
    NodeId, "n"
);
id!(
    /// A Raft group. Group 0 is the meta group; a data shard's group has the shard's number, from 1.
    GroupId, "g"
);
id!(
    /// A Raft term.
    Term, "t"
);
id!(
    /// A position in a group's log. The first entry has 1; 0 is before it.
    LogIndex, "i"
);
id!(
    /// A client connection, unique within one run of one node.
    ConnId, "c"
);
id!(
    /// A connection to another node, unique within one run of one node.
    LinkId, "l"
);

/// Chosen at random when a data directory is made, and never changed: what tells two nodes apart before the cluster has
/// given them ids, and one node from another that was given its id by mistake. 0 is none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeUuid(pub u128);

impl fmt::Debug for NodeUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for NodeUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl GroupId {
    /// The group that holds membership, the shard map and settings.
    pub const META: GroupId = GroupId(0);
}

impl LogIndex {
    pub fn next(self) -> LogIndex {
        LogIndex(self.0 + 1)
    }
}

/// A position in a replicated log together with the term that wrote it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct LogId {
    pub term: Term,
    pub index: LogIndex,
}

/// Milliseconds. As an instant: since the Unix epoch for wall time, since an arbitrary start for monotonic time; the
/// name of the field or argument says which (`wall`, `mono`, `stamp`, `deadline`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

impl Millis {
    /// The later instant by `ms`, stopping at the end of time.
    pub fn plus(self, ms: u64) -> Millis {
        Millis(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to `self`; 0 if `earlier` is later.
    pub fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Debug for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// Microseconds: a duration, or a monotonic instant since an arbitrary start. For what [`Millis`] is too coarse: a reply
/// from memory takes 200 us, which whole milliseconds make 0 or 1, and a balancer that compares latencies, or a rate of
/// 5,000 a second, cannot work with that. 64 bits are 584,000 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Micros(pub u64);

impl Micros {
    /// The end of time: an instant that never comes.
    pub const NEVER: Micros = Micros(u64::MAX);

    /// `n` milliseconds.
    pub const fn from_millis(n: u64) -> Micros {
        Micros(n.saturating_mul(1_000))
    }

    /// `n` seconds.
    pub const fn from_secs(n: u64) -> Micros {
        Micros(n.saturating_mul(1_000_000))
    }

    /// The later instant, or the longer duration, by `duration`, stopping at the end of time.
    pub const fn plus(self, duration: Micros) -> Micros {
        Micros(self.0.saturating_add(duration.0))
    }

    /// The duration from `earlier` to `self`; 0 if `earlier` is later.
    pub const fn since(self, earlier: Micros) -> Micros {
        Micros(self.0.saturating_sub(earlier.0))
    }

    /// The duration in seconds.
    pub fn secs(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl fmt::Debug for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}us", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_stop_at_the_ends_of_time() {
        assert_eq!(Micros::from_millis(3).plus(Micros(7)), Micros(3_007));
        assert_eq!(Micros::from_secs(2).since(Micros::from_millis(500)), Micros(1_500_000));
        assert_eq!(Micros(1).since(Micros(2)), Micros(0));
        assert_eq!(Micros::NEVER.plus(Micros(1)), Micros::NEVER);
        assert_eq!(Micros::from_secs(u64::MAX), Micros::NEVER);
        assert!((Micros(1_500_000).secs() - 1.5).abs() < 1e-12);
    }
}
