//! A data shard as this node knows it: its replica here, if there is one, and the operations on their way to the leader and
//! through the log. What is done with them is in `requests.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use skep_base::{GroupId, LogId, LogIndex, Millis, NodeId, Term};
use skep_consensus::{Group, ReadId};
use skep_keyspace::{DB_COUNT, Garbage, Keyspace};
use skep_script::Runner;

use crate::Now;
use crate::away::Away;
use crate::batch::{Batch, InFlight};
use crate::digest::Digests;
use crate::rebuild::Rebuild;
use crate::ticks::TicksTold;
use crate::waiting::Waiting;

/// Bytes of operations proposed or forwarded and not answered above which clients are not read: some tens of milliseconds of
/// a good disk.
pub const IN_FLIGHT_BYTES_MAX: u64 = 32 << 20;

/// After the wall clock went back by an hour, deadlines come a tenth late for ten hours.
const CATCH_UP_SHARE: u64 = 10;

/// Bytes proposed, or forwarded, at once; below the group's own limit on what is uncommitted. One larger entry goes alone.
const PROPOSED_BYTES_MAX: usize = 48 << 20;

pub(crate) struct Shard {
    pub id: GroupId,
    pub replica: Option<Replica>,
    /// The term in which this node leads.
    pub led: Option<Term>,
    /// Who leads as other nodes say; for a node without a replica.
    pub heard: Option<(NodeId, Term)>,
    /// What this turn has collected.
    pub batch: Batch,
    /// Batches closed so far.
    pub batches: u64,
    /// Closed batches that are on their way nowhere yet, oldest first.
    pub closed: VecDeque<Closed>,
    /// Batches that this node took into its hands as leader, in the order in which they are answered.
    pub in_flight: VecDeque<Proposed>,
    /// Batches given to another node that leads, in the order of their numbers.
    pub forwarded: VecDeque<Forwarded>,
    /// The leader that `forwarded` went to, and the number of the next forward.
    pub session: Session,
    /// What other nodes forwarded to this one as leader.
    pub inbound: BTreeMap<NodeId, Inbound>,
    pub digests: Digests,
    pub ticks_told: TicksTold,
    /// Commands that wait here; empty if this node does not lead.
    pub waiting: Waiting,
    /// Calls of this node's clients that wait at another leader.
    pub away: Away,
    /// Queues whose rate holds back what somebody waits for, and when it does not any more, by the monotonic clock.
    pub held_back: BTreeSet<(Millis, u8, Box<[u8]>)>,
    /// Keys of those who got something since the last entry: there may be more for the next.
    pub served: BTreeSet<(u8, Box<[u8]>)>,
    /// How far this disk and the copies were when those who wait for copies were looked at; empty to have that done again.
    pub copies_seen: (u64, Vec<(NodeId, Option<LogIndex>)>),
}

/// The copy of a shard on this node.
pub(crate) struct Replica {
    pub group: Group,
    pub keyspace: Keyspace,
    pub applied: LogId,
    /// The position of the newest checkpoint.
    pub saved: LogId,
    /// While the state is not to be trusted: nothing is read from it, and nothing applied to it but what rebuilds it.
    pub rebuild: Option<Rebuild>,
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

/// A closed batch.
pub(crate) struct Closed {
    pub batch: InFlight,
    /// When it was closed first, monotonic.
    pub since: Millis,
}

/// A batch of the leader.
pub(crate) struct Proposed {
    pub place: Place,
    /// The term in which this node led.
    pub term: Term,
    pub bytes: usize,
    pub since: Millis,
    /// `None` once its clients have been told that it takes too long.
    pub batch: Option<InFlight>,
}

/// What a batch waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// Its entry.
    Entry(LogId),
    /// Reads only: those before it, and that a quorum confirms that this node leads.
    Read(ReadId),
    /// Reads only: those before it. That this node leads is certain.
    Confirmed,
}

/// A batch of another node's leader.
pub(crate) struct Forwarded {
    pub number: u64,
    pub bytes: usize,
    pub since: Millis,
    pub batch: InFlight,
    /// Operations not answered yet.
    pub open: usize,
    /// Its clients were told that it takes too long, or a checkpoint took the place of entries that may have held it.
    pub fate_unknown: bool,
}

/// To whom operations are forwarded. A new term, or a new leader, is a new session; numbers begin with 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Session {
    pub leader: NodeId,
    pub term: Term,
    /// The run of that node: a later one does not know what was given to it.
    pub incarnation: u64,
    pub next: u64,
    /// The oldest number of which that node was told that its answer is still wanted.
    pub told: u64,
    /// That node said that it does not lead in that term.
    pub rejected: bool,
}

/// What a node forwarded to this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Inbound {
    pub incarnation: u64,
    pub term: Term,
    /// The last forward taken in.
    pub last: u64,
}

impl Replica {
    /// A replica whose state is that at `applied`.
    pub fn new(group: Group, keyspace: Keyspace, applied: LogId) -> Replica {
        let clock = Clock { time: Millis(0), mono: Millis(0) };
        let mut keyspace = keyspace;
        keyspace.set_interpreter(Box::new(Runner::default()));
        Replica { group, keyspace, applied, saved: applied, rebuild: None, clock }
    }

    /// Puts another state in place of the one there, which it gives back.
    pub fn replace_state(&mut self, mut keyspace: Keyspace) -> Keyspace {
        keyspace.set_interpreter(Box::new(Runner::default()));
        std::mem::replace(&mut self.keyspace, keyspace)
    }

    /// True if it leads, and may. One whose state is not to be trusted leads only until another does, in name.
    #[inline]
    pub fn leads(&self) -> bool {
        self.group.is_leader() && self.rebuild.is_none()
    }

    /// True if its state answers reads at once; see [`Group::may_read`]. Who asks reads.
    #[inline]
    pub fn may_read(&self, now: Millis) -> bool {
        let may = self.group.may_read(now) && self.rebuild.is_none();
        if may {
            self.group.note_used();
        }
        may
    }

    /// What is left of the state, to be dropped where it stalls nobody.
    pub fn into_garbage(mut self) -> Option<Garbage> {
        (0..DB_COUNT).for_each(|db| self.keyspace.flush(db));
        self.keyspace.take_garbage()
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

    /// The monotonic instant by which [`Replica::time`] is past `deadline`, if the clocks go on as they do.
    pub fn instant_after(&self, deadline: Millis, now: Now) -> Millis {
        let left = deadline.plus(1).since(self.time_shown(now));
        let behind = now.wall < self.time_shown(now);
        now.mono.plus(if behind { left + left.div_ceil(CATCH_UP_SHARE - 1) } else { left })
    }
}

impl Shard {
    pub fn new(id: GroupId, replica: Option<Replica>) -> Shard {
        Shard {
            id,
            replica,
            led: None,
            heard: None,
            batch: Batch::default(),
            batches: 0,
            closed: VecDeque::new(),
            in_flight: VecDeque::new(),
            forwarded: VecDeque::new(),
            session: Session::default(),
            inbound: BTreeMap::new(),
            digests: Digests::default(),
            ticks_told: TicksTold::default(),
            waiting: Waiting::default(),
            away: Away::default(),
            held_back: BTreeSet::new(),
            served: BTreeSet::new(),
            copies_seen: (0, Vec::new()),
        }
    }

    /// Who leads, and in which term, as far as this node knows.
    pub fn leader(&self) -> Option<(NodeId, Term)> {
        match &self.replica {
            Some(replica) => Some((replica.group.leader()?, replica.group.term())),
            None => self.heard,
        }
    }

    /// The replica here, if it leads.
    pub fn leading(&mut self) -> Option<&mut Replica> {
        self.replica.as_mut().filter(|r| r.leads())
    }

    pub fn leads(&self) -> bool {
        self.replica.as_ref().is_some_and(Replica::leads)
    }

    /// True if reads wait that could have run at once under a lease; a later one must not overtake them.
    #[inline]
    pub fn holds_reads(&self) -> bool {
        self.batch.holds_reads
            || self.closed.iter().any(|c| c.batch.holds_reads)
            || self.in_flight.iter().any(|p| p.batch.as_ref().is_some_and(|b| b.holds_reads))
    }

    /// A queue that may hold nothing back any more.
    pub fn take_held_back(&mut self, now: Millis) -> Option<(Millis, u8, Box<[u8]>)> {
        if self.held_back.first()?.0 > now { None } else { self.held_back.pop_first() }
    }

    /// The oldest forward that the leader's answers are wanted to. Where no log tells, those to what waits there are.
    pub fn floor(&self) -> u64 {
        let oldest = self.forwarded.front().map_or(self.session.next, |oldest| oldest.number);
        let waits = self.away.oldest(self.session.term).filter(|_| self.replica.is_none());
        waits.map_or(oldest, |number| number.min(oldest))
    }

    /// The number of the batch that is being collected.
    pub fn batch_number(&self) -> u64 {
        self.batches + 1
    }

    /// Closes the batch collected; the next operation begins another.
    pub fn close_batch(&mut self, mono: Millis) {
        self.batches += 1;
        let mut batch = self.batch.close();
        batch.order = self.batches;
        self.closed.push_back(Closed { batch, since: mono });
    }

    /// Puts a batch that was on its way back among those that wait, in the order in which clients asked: what became of one is
    /// not always heard before what became of those behind it.
    pub fn put_back(&mut self, batch: InFlight, since: Millis) {
        let behind = self.closed.iter().position(|other| other.batch.order > batch.order);
        self.closed.insert(behind.unwrap_or(self.closed.len()), Closed { batch, since });
    }

    /// Since when the oldest batch waits whose clients have not been told.
    pub fn waits_since(&self) -> Option<Millis> {
        let proposed = self.in_flight.iter().filter(|p| p.batch.is_some()).map(|p| p.since).min();
        let forwarded = self.forwarded.iter().find(|f| f.open > 0).map(|f| f.since);
        let closed = self.closed.iter().find(|s| s.batch.evictions == 0).map(|s| s.since);
        [proposed, forwarded, closed].into_iter().flatten().min()
    }

    /// True if `bytes` more can be proposed or forwarded beside what is on its way.
    pub fn has_room(&self, bytes: usize) -> bool {
        let on_its_way = self.on_its_way();
        on_its_way == 0 || on_its_way + bytes <= PROPOSED_BYTES_MAX
    }

    /// True if nothing is collected, waits or is in flight.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
            && self.forwarded.is_empty()
            && self.closed.is_empty()
            && self.batch.is_empty()
    }

    /// Bytes of operations that are not answered yet.
    pub fn bytes_waiting(&self) -> usize {
        self.on_its_way() + self.closed.iter().map(|s| s.batch.bytes()).sum::<usize>() + self.batch.bytes()
    }

    fn on_its_way(&self) -> usize {
        self.in_flight.iter().map(|p| p.bytes).sum::<usize>()
            + self.forwarded.iter().map(|f| f.bytes).sum::<usize>()
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
