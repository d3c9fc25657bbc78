//! A data shard on this node: its Raft group, its state machine, and the operations on their way through the log.

use std::collections::VecDeque;

use bytes::Bytes;
use skep_base::{LogId, Millis};
use skep_consensus::Group;
use skep_keyspace::Keyspace;

use crate::Now;
use crate::batch::{Batch, InFlight};

/// Proposed bytes not yet applied above which clients are not read: some tens of milliseconds of a good disk.
pub const IN_FLIGHT_BYTES_MAX: u64 = 32 << 20;

/// After the wall clock went back by an hour, deadlines come a tenth late for ten hours.
const CATCH_UP_SHARE: u64 = 10;

/// Bytes proposed at once; below the group's own limit on what is uncommitted. One larger entry goes alone.
const PROPOSED_BYTES_MAX: usize = 48 << 20;

pub(crate) struct Shard {
    pub group: Group,
    pub keyspace: Keyspace,
    /// What this turn has collected.
    pub batch: Batch,
    /// Batches that wait for those before them to be applied.
    sealed: VecDeque<Sealed>,
    /// Batches proposed by this node as leader, by the position of their entries.
    pub in_flight: VecDeque<Proposed>,
    pub applied: LogId,
    /// The position of the newest checkpoint.
    pub saved: LogId,
    clock: Clock,
}

/// The time by which deadlines are judged (INV-TIME-1): the wall clock's, but never behind what it was before, so that
/// what was seen to be expired stays expired. After the wall clock went back it goes on more slowly until the two meet;
/// if it stood still, no lock or lease would end until then.
#[derive(Clone, Copy)]
struct Clock {
    /// A time given out, and the monotonic instant of it.
    time: Millis,
    mono: Millis,
}

impl Clock {
    fn at(self, now: Now) -> Millis {
        let elapsed = now.mono.since(self.mono);
        now.wall.max(self.time.plus(elapsed - elapsed.div_ceil(CATCH_UP_SHARE)))
    }
}

/// A closed batch that is not proposed yet.
pub(crate) struct Sealed {
    pub payload: Bytes,
    pub batch: InFlight,
    /// When it was closed, monotonic.
    pub since: Millis,
}

/// A batch in the log.
pub(crate) struct Proposed {
    pub at: LogId,
    pub bytes: usize,
    pub since: Millis,
    /// `None` once its clients have been told that it takes too long.
    pub batch: Option<InFlight>,
}

impl Shard {
    /// A shard whose state is that at `applied`.
    pub fn new(group: Group, keyspace: Keyspace, applied: LogId) -> Shard {
        Shard {
            group,
            keyspace,
            batch: Batch::default(),
            sealed: VecDeque::new(),
            in_flight: VecDeque::new(),
            applied,
            saved: applied,
            clock: Clock { time: Millis(0), mono: Millis(0) },
        }
    }

    /// The time for a read or a stamp.
    #[inline]
    pub fn time(&mut self, now: Now) -> Millis {
        let time = self.clock.at(now);
        let stamp = self.keyspace.stamp();
        if stamp > time || time == now.wall {
            self.clock = Clock { time: time.max(stamp), mono: now.mono };
        }
        time.max(stamp)
    }

    /// The same, for the eye only.
    pub fn time_shown(&self, now: Now) -> Millis {
        self.clock.at(now).max(self.keyspace.stamp())
    }

    /// The monotonic instant by which [`Shard::time`] is past `deadline`, if the clocks go on as they do.
    pub fn instant_after(&self, deadline: Millis, now: Now) -> Millis {
        let left = deadline.plus(1).since(self.time_shown(now));
        let behind = now.wall < self.time_shown(now);
        now.mono.plus(if behind { left + left.div_ceil(CATCH_UP_SHARE - 1) } else { left })
    }

    /// Closes the batch collected; the next operation begins another.
    pub fn seal_batch(&mut self, stamp: Millis, seed: u64, mono: Millis) {
        let (payload, batch) = self.batch.seal(stamp, seed);
        self.sealed.push_back(Sealed { payload, batch, since: mono });
    }

    /// Takes out what waits since before `limit`: batches that were not proposed, which are dropped, and those that were,
    /// which stay in the log. In the order in which their clients asked.
    pub fn take_overdue(&mut self, limit: Millis) -> (Vec<InFlight>, Vec<InFlight>) {
        let proposed = self.in_flight.iter_mut().take_while(|p| p.since < limit);
        let proposed = proposed.filter_map(|p| p.batch.take()).collect();
        // Nobody waits for evictions, and the node counts on them.
        let overdue = |s: &Sealed| s.since < limit && s.batch.evictions == 0;
        let (dropped, kept) = std::mem::take(&mut self.sealed).into_iter().partition::<Vec<_>, _>(overdue);
        self.sealed = kept.into();
        (proposed, dropped.into_iter().map(|s| s.batch).collect())
    }

    /// Since when the oldest batch waits whose clients have not been told.
    pub fn waits_since(&self) -> Option<Millis> {
        let proposed = self.in_flight.iter().find(|p| p.batch.is_some()).map(|p| p.since);
        proposed.or_else(|| self.sealed.iter().find(|s| s.batch.evictions == 0).map(|s| s.since))
    }

    /// The next closed batch, if it can be proposed beside what is in flight.
    pub fn next_to_propose(&mut self) -> Option<Sealed> {
        let next = self.sealed.front()?.payload.len();
        if self.in_flight.is_empty() || self.proposed_bytes() + next <= PROPOSED_BYTES_MAX {
            self.sealed.pop_front()
        } else {
            None
        }
    }

    /// True if nothing is collected, waits or is in flight.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.sealed.is_empty() && self.batch.is_empty()
    }

    /// Bytes of operations that are not applied yet.
    pub fn bytes_waiting(&self) -> usize {
        self.proposed_bytes()
            + self.sealed.iter().map(|s| s.payload.len()).sum::<usize>()
            + self.batch.bytes()
    }

    /// Operations that are not applied yet, whose clients wait.
    pub fn ops_waiting(&self) -> usize {
        let sealed = self.sealed.iter().map(|s| &s.batch);
        let batches = self.in_flight.iter().filter_map(|p| p.batch.as_ref()).chain(sealed);
        batches.map(|batch| batch.ops.len()).sum::<usize>() + self.batch.len()
    }

    fn proposed_bytes(&self) -> usize {
        self.in_flight.iter().map(|p| p.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use skep_base::Millis;

    use super::Clock;
    use crate::Now;
    use crate::testing::World;

    #[test]
    fn time_follows_the_wall_clock_and_after_a_step_back_goes_on_more_slowly() {
        let clock = Clock { time: Millis(10_000), mono: Millis(500) };
        let at = |mono, wall| clock.at(Now { mono: Millis(mono), wall: Millis(wall) }).0;
        assert_eq!(at(500, 10_000), 10_000);
        assert_eq!(at(501, 10_000), 10_000, "clocks do not tick at the same moment");
        assert_eq!(at(600, 10_100), 10_100);
        assert_eq!(at(600, 99_000), 99_000, "a step forward is followed");
        assert_eq!(at(600, 1_000), 10_090, "a step back is not");
        assert_eq!(at(100_500, 101_000), 101_000, "they met");
    }

    #[test]
    fn what_was_expired_stays_expired_and_what_is_not_expires_if_the_clock_goes_back() {
        let mut world = World::new(&[]);
        let conn = world.connect();
        world.ask(conn, "SET gone 1 PX 1000\nSET stays 1 PX 20000");
        world.advance(1_001);
        assert_eq!(world.ask(conn, "GET gone\nGET stays"), "$-1 $1 1");
        world.now.wall = Millis(world.now.wall.0 - 3_600_000);
        assert_eq!(world.ask(conn, "GET gone\nGET stays"), "$-1 $1 1");
        assert_eq!(world.ask(conn, "SET lock 1 PX 9000"), "+OK");
        world.advance(8_000);
        assert_eq!(world.ask(conn, "GET lock"), "$1 1", "never early");
        world.advance(2_100);
        assert_eq!(world.ask(conn, "GET lock"), "$-1", "a tenth late, not an hour");
    }

    #[test]
    fn keys_are_swept_in_time_after_the_clock_went_back() {
        let mut world = World::new(&[]);
        let conn = world.connect();
        world.now.wall = Millis(world.now.wall.0 - 3_600_000);
        world.ask(conn, "SET a 1 PX 9000");
        world.settle();
        let at = world.node.next_wakeup().expect("a key has a deadline");
        assert!(at.since(world.now.mono) <= 10_100, "{at:?}");
        world.advance(at.since(world.now.mono) + 1);
        world.settle();
        assert_eq!(world.node.status().keys, 0);
    }

    #[test]
    fn a_jump_forward_and_back_leaves_deadlines_that_work() {
        let mut world = World::new(&[]);
        let conn = world.connect();
        let wall = world.now.wall;
        world.now.wall = wall.plus(70 * 365 * 86_400_000);
        assert_eq!(world.ask(conn, "SET a 1"), "+OK");
        world.now.wall = wall;
        assert_eq!(world.ask(conn, "SET lock 1 PX 900"), "+OK");
        world.advance(1_100);
        assert_eq!(world.ask(conn, "GET lock"), "$-1");
    }
}
