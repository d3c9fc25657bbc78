//! Consistent hashing: from a key to an upstream, such that a change of upstreams moves few keys.
//!
//! Both tables are made of all upstreams of a configuration. One that cannot be used is passed over, so that while it is
//! away its keys move and no others (INV-GATE-4).

use skep_base::hash;

use crate::router::stable_hash;

/// Points per upstream of average weight (ketama's number): the largest share is then about 1.2 of the mean.
const POINTS: usize = 160;
/// Entries of a Maglev table (the paper's small size, section 5.3): a prime, 64 times the most upstreams of a pool.
const ENTRIES: usize = 65_537;

/// Where keys belong.
#[derive(Clone, Debug)]
pub(super) enum Table {
    /// Points by hash.
    Ring(Vec<(u64, u16)>),
    Maglev(Vec<u16>),
}

impl Table {
    pub(super) fn ring(upstreams: &[(&str, u32)]) -> Table {
        let total: u64 = upstreams.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut points = Vec::with_capacity(POINTS * upstreams.len() + upstreams.len());
        for (at, (address, weight)) in upstreams.iter().enumerate() {
            let count = (POINTS * upstreams.len()) as u64 * u64::from(*weight) / total.max(1);
            let own = stable_hash(address.as_bytes());
            points.extend((0..count.max(1)).map(|n| (hash::seeded(own, &n.to_le_bytes()), at as u16)));
        }
        points.sort_unstable();
        Table::Ring(points)
    }

    /// Maglev (Eisenbud and others, NSDI 2016, section 3.4), with weights as Envoy has them: in each round those upstreams
    /// have a turn that are behind their share.
    pub(super) fn maglev(upstreams: &[(&str, u32)]) -> Table {
        let heaviest = upstreams.iter().map(|(_, weight)| *weight).max().unwrap_or(1);
        let size = ENTRIES as u64;
        struct Filler {
            offset: u64,
            skip: u64,
            next: u64,
            due: u64,
        }
        let filler = |(address, _): &(&str, u32)| {
            let own = stable_hash(address.as_bytes());
            let skip = hash::seeded(own, b"skip") % (size - 1) + 1;
            Filler { offset: hash::seeded(own, b"offset") % size, skip, next: 0, due: 0 }
        };
        let mut fillers: Vec<Filler> = upstreams.iter().map(filler).collect();
        const FREE: u16 = u16::MAX;
        let mut entries = vec![FREE; ENTRIES];
        let (mut filled, mut round) = (0, 0u64);
        while filled < ENTRIES && !upstreams.is_empty() {
            round += 1;
            for (at, own) in fillers.iter_mut().enumerate() {
                if round * u64::from(upstreams[at].1) < own.due || filled == ENTRIES {
                    continue;
                }
                own.due += u64::from(heaviest);
                let mut place = || {
                    let place = (own.offset + own.skip * own.next) % size;
                    own.next += 1;
                    place as usize
                };
                let mut free = place();
                while entries[free] != FREE {
                    free = place();
                }
                entries[free] = at as u16;
                filled += 1;
            }
        }
        Table::Maglev(entries)
    }

    /// The upstream of `key` that `usable` takes: the one that it belongs to, or else the next in its own order.
    /// Looks at each place of the table at most once.
    pub(super) fn find(&self, key: u64, mut usable: impl FnMut(u32) -> bool) -> Option<u32> {
        // One answer for each upstream is enough, however many places it has.
        let mut refused = Vec::new();
        let mut take = |at: u16| {
            if refused.contains(&at) {
                return false;
            }
            let takes = usable(u32::from(at));
            if !takes {
                refused.push(at);
            }
            takes
        };
        let (start, length) = match self {
            Table::Ring(points) => (points.partition_point(|(hash, _)| *hash < key), points.len()),
            Table::Maglev(entries) => ((key % ENTRIES as u64) as usize, entries.len()),
        };
        (0..length).map(|step| (start + step) % length).find_map(|place| {
            let at = match self {
                Table::Ring(points) => points[place].1,
                Table::Maglev(entries) => entries[place],
            };
            take(at).then_some(u32::from(at))
        })
    }
}
