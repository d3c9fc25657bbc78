//! A small simulated world for groups alone: nodes with disks that lose what was not flushed, a network that loses,
//! delays, reorders and repeats, clients, and the checks. One seed gives one history. (The simulator of whole nodes is
//! the `sim` crate.)

mod checks;
mod disk;

use bytes::Bytes;
pub use checks::Checks;
pub use disk::Disk;
use skep_base::hash;
use skep_base::{GroupId, LogId, LogIndex, Millis, NodeId, Rng};
use skep_consensus::{Group, GroupConfig, Input, Message, Output, ReadId, RestPace, Role, Standing};
use skep_log::{GroupLog, Membership};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub const GROUP: GroupId = GroupId(1);

/// Which troubles a history meets; drawn from the seed, so that each is also seen without the others.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub loss_percent: u64,
    pub repeat_percent: u64,
    pub delay_ms_max: u64,
    /// Messages that take far longer than the others.
    pub late_percent: u64,
    pub flush_ms_max: u64,
    /// How far each clock may be from the right speed.
    pub drift_percent: u64,
    /// One in so many milliseconds; 0 is never. So for all below.
    pub crash: u64,
    pub pause: u64,
    pub partition: u64,
    pub membership: u64,
    pub transfer: u64,
    pub checkpoint: u64,
    /// A disk writes nothing for a while, and its node is told not to campaign.
    pub hang: u64,
    /// Proposals; each makes a leader heard.
    pub propose: u64,
    /// Reads that ask a quorum; each wakes a group that rests. 0 is the usual number.
    pub read: u64,
    /// How long a leader that is asked for nothing waits before it rests.
    pub rest_after_ms: Option<u64>,
}

/// The usual number of milliseconds between two proposals.
const PROPOSE: u64 = 10;
const READ: u64 = 20;
/// How often a node tells the others that it leads and rests.
const BEAT_MS: u64 = 100;
/// The first byte of an order to campaign. Every second one is late where any message is: leases depend on it.
const TIMEOUT_NOW: u8 = 7;
/// The longest that a late message takes: several elections.
const LATE_MS_MAX: u64 = 1500;

impl Faults {
    pub fn draw(rng: &mut Rng) -> Faults {
        let mut some = |bound: u64| if rng.one_in(2) { 0 } else { 1 + rng.below(bound) };
        let rare = |draw: u64| if draw == 0 { 0 } else { 150 + draw };
        Faults {
            loss_percent: some(20),
            repeat_percent: some(10),
            delay_ms_max: 1 + some(60),
            late_percent: some(4),
            flush_ms_max: some(30),
            drift_percent: some(5),
            crash: rare(some(800)),
            pause: rare(some(1500)),
            partition: rare(some(1500)),
            membership: rare(some(600)),
            transfer: rare(some(1500)),
            checkpoint: rare(some(400)),
            hang: rare(some(1500)),
            propose: PROPOSE,
            read: READ,
            rest_after_ms: None,
        }
    }

    /// A group that is asked for something now and then, in the same troubles, so that it rests between them.
    pub fn with_rests(self, rng: &mut Rng) -> Faults {
        let (propose, read) = (rng.below(2_000) + 100, rng.below(4_000) + 100);
        Faults { propose, read, rest_after_ms: Some([30, 100, 400][rng.below(3) as usize]), ..self }
    }

    /// A fast network between nodes that lose each other, die and stop all the time: many leaders, each sure of its lease.
    pub fn against_leases(rng: &mut Rng) -> Faults {
        // Some last long enough for whoever is cut off to campaign in vain until somebody forgets a promise.
        let apart_ms_max = if rng.one_in(2) { 300 } else { 3_000 };
        let partition = 30 + rng.below(apart_ms_max);
        let quiet = [1, 10, 100][rng.below(3) as usize];
        let mut some = |bound: u64| if rng.one_in(2) { 0 } else { 1 + rng.below(bound) };
        let rare = |draw: u64| if draw == 0 { 0 } else { 30 + draw };
        Faults {
            delay_ms_max: 1 + some(5),
            late_percent: some(10),
            flush_ms_max: some(10),
            drift_percent: 5,
            crash: rare(some(200)),
            pause: rare(some(300)),
            partition,
            membership: rare(some(300)),
            transfer: rare(some(300)),
            hang: rare(some(600)),
            propose: quiet * PROPOSE,
            read: READ,
            ..Faults::default()
        }
    }
}

pub struct Node {
    pub group: Option<Group>,
    pub disk: Disk,
    incarnation: u64,
    /// Writes on their way, in order.
    writes: VecDeque<Write>,
    down_until: u64,
    /// A crash that is to come soon after a start, when much is not durable yet.
    dies_at: Option<u64>,
    paused_until: u64,
    pub clock_ms: u64,
    /// How fast the clock is: a thousand is right.
    clock_rate: u64,
    hangs_until: u64,
    checkpoint_wanted: bool,
    /// Proposals that wait for their entry.
    proposed: BTreeMap<LogId, Bytes>,
    /// Reads that wait, with what must be seen by them, and since when.
    reads: BTreeMap<ReadId, (u64, u64)>,
}

struct Write {
    durable_at: u64,
    ticket: u64,
    then_send: Vec<(NodeId, Message)>,
}

pub struct World {
    pub seed: u64,
    pub now: u64,
    pub rng: Rng,
    pub faults: Faults,
    pub nodes: Vec<Node>,
    founders: usize,
    /// By time of arrival, then by number.
    flying: BTreeMap<(u64, u64), (NodeId, NodeId, Vec<u8>)>,
    /// The words of nodes that lead and rest, likewise: from whom, to whom.
    vouching: BTreeMap<(u64, u64), (usize, usize, Input)>,
    sent: u64,
    /// Answers to the senders of checkpoints, by time and number.
    reports: BTreeMap<(u64, u64), (usize, Input)>,
    /// From where to where nothing comes through.
    pub cut: BTreeSet<(usize, usize)>,
    payloads: u64,
    pub checks: Checks,
    /// A hash over all that happened.
    pub trace: u64,
}

impl World {
    pub fn new(seed: u64, nodes: usize, founders: usize, faults: Faults) -> World {
        let mut rng = Rng::new(seed);
        let mut clock_rate = || 1000 - 10 * faults.drift_percent + rng.below(20 * faults.drift_percent + 1);
        let rates: Vec<u64> = (0..nodes).map(|_| clock_rate()).collect();
        let node = |(clock_ms, clock_rate)| Node {
            group: None,
            disk: Disk::default(),
            incarnation: 0,
            writes: VecDeque::new(),
            down_until: 0,
            dies_at: None,
            paused_until: 0,
            clock_ms,
            clock_rate,
            hangs_until: 0,
            checkpoint_wanted: false,
            proposed: BTreeMap::new(),
            reads: BTreeMap::new(),
        };
        World {
            seed,
            now: 0,
            nodes: rates.into_iter().map(|rate| node((rng.below(1_000_000), rate))).collect(),
            rng,
            faults,
            founders,
            flying: BTreeMap::new(),
            vouching: BTreeMap::new(),
            reports: BTreeMap::new(),
            sent: 0,
            cut: BTreeSet::new(),
            payloads: 0,
            checks: Checks::default(),
            trace: seed,
        }
    }

    pub fn founding_membership(&self) -> Membership {
        let voters = (1..=self.founders as u64).map(NodeId).collect();
        Membership { voters, ..Membership::default() }
    }

    /// One millisecond.
    pub fn step(&mut self) {
        self.now += 1;
        self.make_trouble();
        for at in 0..self.nodes.len() {
            if self.nodes[at].group.is_none() && self.nodes[at].down_until <= self.now {
                self.start(at);
            }
            self.flush(at);
            if self.nodes[at].checkpoint_wanted && self.awake(at) {
                self.nodes[at].checkpoint_wanted = false;
                self.checkpoint(at, 0);
            }
        }
        while self.reports.first_key_value().is_some_and(|((due, _), _)| *due <= self.now) {
            let (_, (at, input)) = self.reports.pop_first().expect("it was there");
            if self.awake(at) {
                self.handle(at, input);
            }
        }
        while self.flying.first_key_value().is_some_and(|((due, _), _)| *due <= self.now) {
            let (_, (from, to, bytes)) = self.flying.pop_first().expect("it was there");
            self.deliver(from, to, &bytes);
        }
        self.vouch();
        self.count_rests();
        for at in 0..self.nodes.len() {
            let may_campaign = self.nodes[at].hangs_until <= self.now;
            if let Some(group) = &mut self.nodes[at].group {
                group.set_may_campaign(may_campaign);
            }
            self.tick(at);
            self.read_by_lease(at);
        }
        self.client();
    }

    fn start(&mut self, at: usize) {
        let founding = self.founding_membership();
        let node = &mut self.nodes[at];
        node.incarnation += 1;
        let recovered: GroupLog = node.disk.recover(founding);
        let mut config = GroupConfig::new(GROUP, NodeId(at as u64 + 1), node.incarnation, self.seed);
        // Some histories keep next to nothing behind a checkpoint, so that whoever lags needs one.
        config.limits.kept_bytes_max = [0, 1_000, 30_000][self.seed as usize % 3];
        config.rest = self.faults.rest_after_ms.map(|after_ms| RestPace { after_ms, ..RestPace::default() });
        let group = Group::new(config, recovered);
        self.checks.on_start(at, group.applied());
        node.group = Some(group);
        if self.faults.crash > 0 && self.rng.one_in(3) {
            self.nodes[at].dies_at = Some(self.now + self.rng.below(40));
        }
        self.handle(at, Input::Tick);
    }

    pub fn crash(&mut self, at: usize, down_ms: u64) {
        let node = &mut self.nodes[at];
        node.group = None;
        node.writes.clear();
        node.proposed.clear();
        node.reads.clear();
        node.disk.crash(&mut self.rng, &mut self.checks);
        node.down_until = self.now.saturating_add(down_ms);
    }

    /// Ends the writes that are due, in order.
    fn flush(&mut self, at: usize) {
        while self.nodes[at].writes.front().is_some_and(|write| write.durable_at <= self.now)
            && self.awake(at)
            && self.nodes[at].hangs_until <= self.now
        {
            let Write { ticket, then_send, .. } = self.nodes[at].writes.pop_front().expect("it was there");
            self.nodes[at].disk.flush_one(&mut self.checks);
            self.handle(at, Input::Persisted(ticket));
            for (to, message) in then_send {
                self.send(at, to, &message);
            }
        }
    }

    fn awake(&self, at: usize) -> bool {
        self.nodes[at].group.is_some() && self.nodes[at].paused_until <= self.now
    }

    /// Who leads and has committed in its term, of those that run.
    pub fn leader_that_reads(&self) -> Option<usize> {
        let leads = |node: &Node| node.group.as_ref().is_some_and(Group::leads_with_all_applied);
        self.nodes.iter().position(leads)
    }

    fn clock(&self, at: usize) -> Millis {
        let Node { clock_ms, clock_rate, .. } = self.nodes[at];
        Millis(clock_ms + self.now * clock_rate / 1000)
    }

    fn tick(&mut self, at: usize) {
        let now = self.clock(at);
        let wakeup = self.nodes[at].group.as_ref().and_then(Group::next_wakeup);
        if self.awake(at) && wakeup.is_some_and(|due| due <= now) {
            self.handle(at, Input::Tick);
        }
    }

    fn deliver(&mut self, from: NodeId, to: NodeId, bytes: &[u8]) {
        let at = to.0 as usize - 1;
        let reachable = !self.cut.contains(&(from.0 as usize - 1, at));
        if !reachable || self.nodes[at].group.is_none() {
            self.report(from, to, bytes, false);
            return;
        }
        if !self.awake(at) {
            // It waits in the socket until the process goes on.
            self.sent += 1;
            let due = self.nodes[at].paused_until;
            self.flying.insert((due, self.sent), (from, to, bytes.to_vec()));
            return;
        }
        self.trace = hash::seeded(self.trace, bytes);
        self.report(from, to, bytes, true);
        let message = Message::decode(bytes).expect("what was encoded can be decoded");
        self.handle(at, Input::Receive(message));
    }

    /// Tells the sender of a checkpoint what became of it.
    fn report(&mut self, from: NodeId, to: NodeId, bytes: &[u8], arrived: bool) {
        let message = Message::decode(bytes).expect("what was encoded can be decoded");
        if message.checkpoint().is_some() {
            self.sent += 1;
            let due = self.now + 1 + self.rng.below(50);
            let input = Input::CheckpointSent { to, arrived };
            self.reports.insert((due, self.sent), (from.0 as usize - 1, input));
        }
    }

    fn handle(&mut self, at: usize, input: Input) {
        let now = self.clock(at);
        let mut out = Vec::new();
        let Some(group) = &mut self.nodes[at].group else { return };
        group.handle(now, input, &mut out);
        self.carry_out(at, out);
    }

    fn carry_out(&mut self, at: usize, out: Vec<Output>) {
        let flush_ms_max = self.faults.flush_ms_max;
        for output in out {
            match output {
                Output::Send { to, message } => self.send(at, to, &message),
                Output::Persist { ticket, records, must_sync, then_send } => {
                    let node = &mut self.nodes[at];
                    node.disk.write(records);
                    let flush_ms = if must_sync { self.rng.below(flush_ms_max + 1) } else { 0 };
                    let before = node.writes.back().map_or(0, |write| write.durable_at);
                    let durable_at = before.max(self.now + flush_ms);
                    node.writes.push_back(Write { durable_at, ticket, then_send });
                }
                Output::Apply { entries } => {
                    for entry in &entries {
                        self.trace = hash::seeded(self.trace ^ entry.id.index.0, &entry.payload);
                        self.checks.on_apply(at, entry);
                        if self.nodes[at].proposed.remove(&entry.id).is_some() {
                            self.checks.on_acknowledged(entry);
                        }
                    }
                }
                Output::CheckpointWanted => self.nodes[at].checkpoint_wanted = true,
                Output::Install { at: place, .. } => {
                    self.trace = hash::seeded(self.trace ^ place.index.0, b"install");
                    self.checks.on_install(at, place);
                }
                Output::RoleChanged { role, term, .. } => {
                    if role == Role::Leader {
                        self.checks.on_leader(term, at);
                    } else {
                        self.nodes[at].proposed.clear();
                    }
                }
                Output::ReadReady { read } => {
                    let (seen, _) = self.nodes[at].reads.remove(&read).expect("a read is answered once");
                    self.checks.on_read(at, seen);
                }
                Output::ReadDropped { read } => {
                    assert!(self.nodes[at].reads.remove(&read).is_some(), "{read:?} was answered before");
                }
                Output::Note(note) => self.checks.on_note(&note),
                Output::MembershipChanged { .. } => {}
            }
        }
        if let Some(group) = &self.nodes[at].group {
            group.assert_invariants();
        }
        self.read_by_lease(at);
    }

    /// Whoever may read without a round does.
    fn read_by_lease(&mut self, at: usize) {
        let now = self.clock(at);
        let group = self.nodes[at].group.as_ref();
        if self.awake(at) && group.is_some_and(|group| group.may_read(now)) {
            self.checks.on_read_by_lease(at);
        }
    }

    fn send(&mut self, at: usize, to: NodeId, message: &Message) {
        let from = NodeId(at as u64 + 1);
        assert_eq!((message.from(), message.to()), (from, to));
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        if self.rng.below(100) < self.faults.loss_percent {
            self.report(from, to, &bytes, false);
            return;
        }
        let copies = if self.rng.below(100) < self.faults.repeat_percent { 2 } else { 1 };
        for _ in 0..copies {
            self.sent += 1;
            let late_percent = self.faults.late_percent;
            let late_percent = if bytes[0] == TIMEOUT_NOW { 50.min(50 * late_percent) } else { late_percent };
            let late = self.rng.below(100) < late_percent;
            let delay_ms_max = if late { LATE_MS_MAX } else { self.faults.delay_ms_max };
            let due = self.now + 1 + self.rng.below(delay_ms_max);
            self.flying.insert((due, self.sent), (from, to, bytes.clone()));
        }
    }

    fn count_rests(&mut self) {
        for group in self.nodes.iter().filter_map(|node| node.group.as_ref()) {
            self.checks.followers_at_rest += u64::from(group.is_resting() && !group.is_leader());
        }
    }

    /// What nodes tell each other beside their groups: that they are there, and lead at rest.
    fn vouch(&mut self) {
        for at in 0..self.nodes.len() {
            let due = (self.now + 17 * at as u64).is_multiple_of(BEAT_MS);
            let Some(group) = self.nodes[at].group.as_ref().filter(|_| due && self.awake(at)) else {
                continue;
            };
            if !group.leads_at_rest() {
                continue;
            }
            self.checks.rests += 1;
            let (leader, term, last) = (group.node(), group.term(), group.applied());
            for to in (0..self.nodes.len()).filter(|to| *to != at) {
                if self.rng.below(100) >= self.faults.loss_percent {
                    self.sent += 1;
                    let due = self.now + 1 + self.rng.below(self.faults.delay_ms_max.max(1));
                    let vouched = Input::Vouched { leader, term, last };
                    self.vouching.insert((due, self.sent), (at, to, vouched));
                }
            }
        }
        while self.vouching.first_key_value().is_some_and(|((due, _), _)| *due <= self.now) {
            let (_, (from, to, vouched)) = self.vouching.pop_first().expect("it was there");
            if self.awake(to) && !self.cut.contains(&(from, to)) {
                self.handle(to, vouched);
            }
        }
    }

    fn make_trouble(&mut self) {
        let strikes = |rng: &mut Rng, one_in: u64| one_in > 0 && rng.one_in(one_in);
        let Faults { crash, pause, partition, membership, transfer, checkpoint, hang, .. } = self.faults;
        let at = self.rng.below(self.nodes.len() as u64) as usize;
        let other = NodeId(1 + self.rng.below(self.nodes.len() as u64));
        for at in 0..self.nodes.len() {
            if self.nodes[at].dies_at.take_if(|due| *due <= self.now).is_some() {
                self.crash(at, 1);
            }
        }
        if strikes(&mut self.rng, crash) && self.nodes[at].group.is_some() {
            let down_ms = if self.rng.one_in(2) { 1 } else { self.rng.below(600) };
            self.crash(at, down_ms);
        }
        if strikes(&mut self.rng, pause) {
            self.nodes[at].paused_until = self.now + self.rng.below(1000);
        }
        if strikes(&mut self.rng, partition) {
            self.partition();
        }
        if strikes(&mut self.rng, hang) {
            self.nodes[at].hangs_until = self.now + self.rng.below(800);
        }
        if strikes(&mut self.rng, membership) {
            self.change_membership(other);
        }
        if strikes(&mut self.rng, transfer) {
            self.transfer(other);
        }
        if strikes(&mut self.rng, checkpoint) && self.awake(at) {
            let behind = self.rng.below(20);
            self.checkpoint(at, behind);
        }
    }

    /// Divides the nodes, or cuts some ways between them, or heals it all.
    fn partition(&mut self) {
        self.cut.clear();
        let kind = self.rng.below(4);
        let pair = [0, 1].map(|_| self.rng.below(self.nodes.len() as u64) as usize);
        let sides: Vec<u64> = self.nodes.iter().map(|_| self.rng.below(2)).collect();
        for from in 0..sides.len() {
            for to in 0..sides.len() {
                let cut = match kind {
                    0 => false,
                    1 => sides[from] != sides[to],
                    2 => pair == [from, to] || pair == [to, from],
                    _ => self.rng.one_in(3),
                };
                if cut {
                    self.cut.insert((from, to));
                }
            }
        }
    }

    /// A checkpoint became durable, taken so many entries ago.
    fn checkpoint(&mut self, at: usize, behind: u64) {
        let group = self.nodes[at].group.as_ref().expect("it is awake");
        let place = LogIndex(group.applied().0.saturating_sub(behind));
        if let Some(place) = group.log_id_at(place) {
            self.handle(at, Input::Checkpointed { at: place });
        }
    }

    fn change_membership(&mut self, node: NodeId) {
        let standing = match self.rng.below(3) {
            0 => Standing::Voter,
            1 => Standing::Learner,
            _ => Standing::Removed,
        };
        let second = NodeId(1 + self.rng.below(self.nodes.len() as u64));
        let mut changes = vec![(node, standing)];
        if second != node && self.rng.one_in(2) {
            changes.push((second, Standing::Voter));
        }
        self.on_each_leader(|group, out| {
            let _ = group.change_membership(&changes, out);
        });
    }

    /// Whoever leads hands leadership to `node`, if it can.
    pub fn transfer(&mut self, node: NodeId) {
        self.on_each_leader(|group, out| {
            let _ = group.transfer_leadership(node, out);
        });
    }

    fn on_each_leader(&mut self, mut act: impl FnMut(&mut Group, &mut Vec<Output>)) {
        for at in 0..self.nodes.len() {
            let mut out = Vec::new();
            if let Some(group) = self.nodes[at].group.as_mut().filter(|group| group.is_leader()) {
                act(group, &mut out);
            }
            self.carry_out(at, out);
        }
    }

    /// Proposes to every node that takes it and asks any for a read, now and then.
    fn client(&mut self) {
        if self.rng.one_in(self.faults.propose) {
            for at in 0..self.nodes.len() {
                self.propose(at);
            }
        }
        let read = if self.faults.read == 0 { READ } else { self.faults.read };
        if self.rng.one_in(read) {
            let at = self.rng.below(self.nodes.len() as u64) as usize;
            let now = self.clock(at);
            let mut out = Vec::new();
            if self.awake(at) {
                let seen = self.checks.acknowledged_last();
                let group = self.nodes[at].group.as_mut().expect("it is awake");
                if let Ok(read) = group.read_index(now, &mut out) {
                    self.nodes[at].reads.insert(read, (seen, self.now));
                }
            }
            self.carry_out(at, out);
        }
    }

    pub fn propose(&mut self, at: usize) -> Option<LogId> {
        if !self.awake(at) {
            return None;
        }
        let count = 1 + self.rng.below(3);
        let payloads: Vec<Bytes> = (0..count)
            .map(|_| {
                self.payloads += 1;
                Bytes::from(format!("payload {}", self.payloads))
            })
            .collect();
        let mut out = Vec::new();
        let group = self.nodes[at].group.as_mut().expect("it is awake");
        let first = group.propose(payloads.clone(), &mut out).ok();
        if let Some(mut id) = first {
            for payload in payloads {
                self.nodes[at].proposed.insert(id, payload);
                id.index = id.index.next();
            }
        }
        self.carry_out(at, out);
        first
    }

    /// Ends all trouble and waits until every member has applied an entry proposed after it ended.
    pub fn heal(&mut self, within_ms: u64) {
        let transfers = self.faults.transfer > 0;
        let rest_after_ms = self.faults.rest_after_ms;
        let (propose, read) = if rest_after_ms.is_some() { (1_000, 1_000) } else { (PROPOSE, READ) };
        self.faults = Faults { delay_ms_max: 2, propose, read, rest_after_ms, ..Faults::default() };
        self.cut.clear();
        for node in &mut self.nodes {
            (node.down_until, node.paused_until, node.hangs_until, node.dies_at) = (0, 0, 0, None);
        }
        let from = self.now;
        let mut target = None;
        while self.now < from + within_ms {
            self.step();
            if target.is_none() && self.now > from + within_ms / 2 {
                target = (0..self.nodes.len()).find_map(|at| self.propose(at));
            }
            let leader = self
                .nodes
                .iter()
                .filter_map(|node| node.group.as_ref())
                .find(|group| group.is_leader() && target.is_some_and(|id| group.applied() >= id.index));
            let Some(leader) = leader else { continue };
            let now = self.clock(leader.node().0 as usize - 1);
            if !transfers && !leader.may_read(now) {
                continue;
            }
            let membership = leader.membership();
            let caught_up = |id: &NodeId| {
                let group = self.nodes[id.0 as usize - 1].group.as_ref();
                group.is_some_and(|group| target.is_some_and(|target| group.applied() >= target.index))
            };
            if membership.outgoing.is_empty()
                && membership.voters.iter().chain(&membership.learners).all(caught_up)
            {
                // Who is no member any more hears of nothing that its reads could wait for.
                for member in membership.voters.iter().chain(&membership.learners) {
                    let reads = &self.nodes[member.0 as usize - 1].reads;
                    let silent = reads.iter().find(|(_, (_, since))| *since < from);
                    assert!(
                        silent.is_none(),
                        "neither answered nor dropped on {member}: {silent:?}, healing from {from} on"
                    );
                }
                return;
            }
        }
        let groups: Vec<String> =
            self.nodes.iter().filter_map(|node| node.group.as_ref()).map(describe).collect();
        panic!(
            "no progress {within_ms} ms after all trouble ended, target {target:?}:\n{}",
            groups.join("\n")
        );
    }
}

fn describe(group: &Group) -> String {
    format!(
        "{:?} {:?} {:?} leader {:?} applied {:?} commit {:?} last {:?} {:?}",
        group.node(),
        group.role(),
        group.term(),
        group.leader(),
        group.applied(),
        group.commit_index(),
        group.last_index(),
        group.membership()
    )
}
