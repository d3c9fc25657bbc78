//! When a group rests and what wakes it, fact by fact. The simulation meets all of it mixed.

use bytes::Bytes;
use skep_base::{GroupId, LogId, LogIndex, Millis, NodeId, Term};
use skep_consensus::{Group, GroupConfig, Input, Message, Note, Output, RestPace, Role};
use skep_log::{Entry, EntryKind, GroupLog, HardState, Membership};

/// How often nodes tell each other that they are there.
const BEAT_MS: u64 = 100;
const PACE: RestPace = RestPace { after_ms: 1_000, vouch_ms: 200 };

fn config(node: u64) -> GroupConfig {
    GroupConfig { rest: Some(PACE), ..GroupConfig::new(GroupId(1), NodeId(node), 1, 7) }
}

fn group(node: u64, log: GroupLog) -> Group {
    let membership = Membership { voters: [1, 2, 3].map(NodeId).to_vec(), ..Membership::default() };
    Group::new(config(node), GroupLog { membership, ..log })
}

/// Three replicas whose messages arrive and whose writes are durable at once.
struct World {
    groups: Vec<Group>,
    now: u64,
    /// Nothing comes from, or to, these nodes.
    cut_off: Vec<usize>,
    /// Nobody hears that a leader rests.
    silent: bool,
    sent: usize,
    notes: Vec<(usize, Note)>,
}

impl World {
    fn new() -> World {
        let groups = (1..=3).map(|node| group(node, GroupLog::default())).collect();
        World { groups, now: 0, cut_off: Vec::new(), silent: false, sent: 0, notes: Vec::new() }
    }

    /// With a leader, and all at rest.
    fn at_rest() -> World {
        let mut world = World::new();
        world.run_until(|world| world.all_rest());
        world
    }

    fn all_rest(&self) -> bool {
        self.groups.iter().all(Group::is_resting)
    }

    fn leader(&self) -> usize {
        let reached = (0..3).filter(|at| !self.cut_off.contains(at));
        reached.into_iter().find(|at| self.groups[*at].is_leader()).expect("somebody leads")
    }

    fn follower(&self) -> usize {
        (self.leader() + 1) % 3
    }

    fn handle(&mut self, at: usize, input: Input) {
        let mut out = Vec::new();
        self.groups[at].handle(Millis(self.now), input, &mut out);
        self.carry_out(at, out);
    }

    fn carry_out(&mut self, at: usize, out: Vec<Output>) {
        self.groups[at].assert_invariants();
        let mut messages = Vec::new();
        let mut persisted = None;
        for output in out {
            match output {
                Output::Send { to, message } => messages.push((to, message)),
                Output::Persist { ticket, then_send, .. } => {
                    persisted = Some(ticket);
                    messages.extend(then_send);
                }
                Output::Note(note) => self.notes.push((at, note)),
                _ => {}
            }
        }
        if let Some(ticket) = persisted {
            self.handle(at, Input::Persisted(ticket));
        }
        for (to, message) in messages {
            self.deliver(at, to, message);
        }
    }

    fn deliver(&mut self, from: usize, to: NodeId, message: Message) {
        self.sent += 1;
        let to = to.0 as usize - 1;
        if to < 3 && !self.cut_off.contains(&from) && !self.cut_off.contains(&to) {
            self.handle(to, Input::Receive(message));
        }
    }

    fn vouched(&self, leader: usize) -> Input {
        let group = &self.groups[leader];
        Input::Vouched { leader: group.node(), term: group.term(), last: group.applied() }
    }

    /// One millisecond.
    fn step(&mut self) {
        self.now += 1;
        for at in 0..3 {
            if self.groups[at].next_wakeup().is_some_and(|due| due.0 <= self.now) {
                self.handle(at, Input::Tick);
            }
        }
        if self.now.is_multiple_of(BEAT_MS) && !self.silent {
            let reached: Vec<usize> = (0..3).filter(|at| !self.cut_off.contains(at)).collect();
            for (leader, to) in reached.iter().flat_map(|leader| reached.iter().map(move |to| (*leader, *to)))
            {
                if leader != to && self.groups[leader].leads_at_rest() {
                    let word = self.vouched(leader);
                    self.handle(to, word);
                }
            }
        }
    }

    fn run(&mut self, ms: u64) {
        (0..ms).for_each(|_| self.step());
    }

    /// Answers how long it took.
    fn run_until(&mut self, done: impl Fn(&World) -> bool) -> u64 {
        let from = self.now;
        while !done(self) {
            assert!(self.now < from + 10_000, "it did not happen within ten seconds");
            self.step();
        }
        self.now - from
    }
}

#[test]
fn a_group_that_nobody_uses_says_nothing_and_nobody_in_it_ticks() {
    let mut world = World::at_rest();
    let (sent, term) = (world.sent, world.groups[0].term());
    let ticks = |world: &World| world.groups.iter().map(|group| group.stats().ticks).sum::<u64>();
    let before = ticks(&world);
    world.run(60_000);
    assert_eq!((world.sent, ticks(&world)), (sent, before));
    assert!(world.groups.iter().all(|group| group.term() == term));
    assert_eq!(world.groups[world.leader()].next_wakeup(), None);
}

#[test]
fn a_leader_at_rest_has_no_lease_and_a_read_wakes_all() {
    let mut world = World::at_rest();
    let leader = world.leader();
    world.run(config(1).lease_ms());
    assert!(!world.groups[leader].may_read(Millis(world.now)));
    let mut out = Vec::new();
    world.groups[leader].read_index(Millis(world.now), &mut out).expect("it leads");
    world.carry_out(leader, out);
    assert!(world.groups.iter().all(|group| !group.is_resting()));
    world.run(50);
    assert!(world.groups[leader].may_read(Millis(world.now)), "heartbeats go again");
}

#[test]
fn a_proposal_wakes_all_and_reads_under_a_lease_keep_them_awake() {
    let mut world = World::at_rest();
    let leader = world.leader();
    let mut out = Vec::new();
    world.groups[leader].propose([Bytes::from_static(b"x")], &mut out).expect("it leads");
    world.carry_out(leader, out);
    assert!(world.groups.iter().all(|group| !group.is_resting()));
    for _ in 0..50 {
        world.run(100);
        assert!(world.groups[leader].may_read(Millis(world.now)));
        world.groups[leader].note_used();
    }
    world.run(PACE.after_ms - 200);
    assert!(!world.all_rest());
    world.run(800);
    assert!(world.all_rest(), "nobody reads any more");
    assert!((1..=3).all(|node| world.groups[leader].caught_up(NodeId(node))));
    assert!(world.groups.iter().all(|group| group.applied() == world.groups[leader].last_index()));
}

#[test]
fn followers_that_hear_no_more_campaign_when_they_would_have_after_a_heartbeat() {
    let mut world = World::at_rest();
    world.run(5_000);
    world.run_until(|world| world.now.is_multiple_of(BEAT_MS));
    let dead = world.leader();
    world.cut_off = vec![dead];
    let awake = |world: &World| (0..3).all(|at| at == dead || !world.groups[at].is_resting());
    assert_eq!(world.run_until(awake), PACE.vouch_ms);
    let led = |world: &World| (0..3).any(|at| at != dead && world.groups[at].is_leader());
    let more_ms = world.run_until(led);
    assert!((50..=100).contains(&more_ms), "{more_ms} ms after they woke");
}

#[test]
fn a_leader_without_a_way_to_anybody_steps_down_when_it_is_wanted() {
    let mut world = World::at_rest();
    let leader = world.leader();
    world.cut_off = vec![leader];
    world.run(5_000);
    assert!(world.groups[leader].leads_at_rest(), "nothing told it");
    assert!(!world.groups[leader].may_read(Millis(world.now)));
    world.handle(leader, Input::Unreachable(NodeId(world.follower() as u64 + 1)));
    world.run(3 * config(1).election_timeout_ms());
    assert!(!world.groups[leader].is_leader());
}

#[test]
fn votes_are_withheld_while_the_leader_is_vouched_for() {
    let mut world = World::at_rest();
    let (leader, follower) = (world.leader(), world.follower());
    let other = 3 - leader - follower;
    // It hears nothing, and its leader is out of its reach.
    world.cut_off = vec![leader];
    world.silent = true;
    let mut vouched = 0;
    for _ in 0..2_000 {
        world.step();
        if world.now.is_multiple_of(BEAT_MS) {
            vouched += 1;
            let word = world.vouched(leader);
            world.handle(follower, word);
        }
    }
    assert!(vouched > 10);
    assert!(world.groups[follower].is_resting() && world.groups[other].role() != Role::Leader);
    assert!(
        world.notes.iter().any(|(at, note)| *at == follower && matches!(note, Note::VoteWithheld { .. }))
    );
    // The word ends, and with it what held the vote back: its promise is over long since.
    world.run_until(|world| world.groups[follower].is_leader() || world.groups[other].is_leader());
}

#[test]
fn a_follower_that_started_again_wakes_the_leader_that_vouches() {
    let mut world = World::at_rest();
    let (leader, follower) = (world.leader(), world.follower());
    let term = world.groups[follower].term();
    let (hard_state, last) =
        (HardState { term, ..HardState::default() }, world.groups[follower].last_index());
    let of = |index| Entry {
        id: LogId { term, index: LogIndex(index) },
        kind: EntryKind::Normal,
        payload: Bytes::new(),
    };
    let entries = (1..=last.0).map(of).collect();
    let log = GroupLog { hard_state, entries, ..GroupLog::default() };
    world.groups[follower] = group(follower as u64 + 1, log);
    world.run(2 * BEAT_MS);
    assert!(!world.groups[leader].is_resting(), "somebody does not know what is committed");
    assert_eq!(world.groups[leader].term(), term, "it leads on");
    world.run(4 * PACE.after_ms);
    assert_eq!(world.groups[follower].applied(), world.groups[leader].applied());
    assert!(world.all_rest());
}

#[test]
fn a_word_of_another_term_or_log_or_of_oneself_lets_nobody_rest() {
    let mut world = World::at_rest();
    let (leader, follower) = (world.leader(), world.follower());
    let (node, term, last) =
        (world.groups[leader].node(), world.groups[leader].term(), world.groups[leader].applied());
    let words = [
        Input::Vouched { leader: node, term: Term(term.0 + 1), last },
        Input::Vouched { leader: node, term: Term(term.0 - 1), last },
        Input::Vouched { leader: node, term, last: last.next() },
        Input::Vouched { leader: node, term, last: LogIndex(last.0 - 1) },
        Input::Vouched { leader: NodeId(9), term, last },
        Input::Vouched { leader: world.groups[follower].node(), term, last },
    ];
    for word in words {
        let shown = format!("{word:?}");
        world.handle(follower, word);
        assert!(!world.groups[follower].is_resting(), "{shown}");
        world.run_until(World::all_rest);
    }
}

#[test]
fn a_leader_does_not_rest_while_somebody_does_not_answer() {
    let mut world = World::new();
    world.run_until(|world| world.groups.iter().any(Group::leads_with_all_applied));
    world.cut_off = vec![world.follower()];
    world.run(5 * PACE.after_ms);
    let leader = world.leader();
    assert!(!world.groups[leader].is_resting());
    world.cut_off.clear();
    world.run_until(World::all_rest);
}
