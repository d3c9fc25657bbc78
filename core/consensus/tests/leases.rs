//! What a leader's lease rests on, fact by fact. The simulation meets all of it mixed.

use bytes::Bytes;
use skep_base::varint;
use skep_base::{GroupId, LogIndex, Millis, NodeId, Term};
use skep_consensus::{Group, GroupConfig, Input, Message, Note, Output, Role, Standing};
use skep_log::{GroupLog, HardState, Membership};

const APPEND: u8 = 1;
const VOTE: u8 = 3;
const HEARTBEAT: u8 = 5;
const TIMEOUT_NOW: u8 = 7;
const PRE_VOTE: u8 = 10;
const PRE_VOTE_ANSWER: u8 = 11;

fn config(node: u64) -> GroupConfig {
    GroupConfig::new(GroupId(1), NodeId(node), 1, 7)
}

fn nodes(ids: &[u64]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn voters(ids: &[u64]) -> Membership {
    Membership { voters: nodes(ids), ..Membership::default() }
}

fn group(node: u64, membership: Membership, term: u64) -> Group {
    let hard_state = HardState { term: Term(term), ..HardState::default() };
    Group::new(config(node), GroupLog { membership, hard_state, ..GroupLog::default() })
}

fn step(group: &mut Group, now: u64, input: Input) -> Vec<Output> {
    let mut out = Vec::new();
    group.handle(Millis(now), input, &mut out);
    group.assert_invariants();
    out
}

fn kind(message: &Message) -> u8 {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes[0]
}

/// A message from node 2 to node 1, by hand, behind an empty log; `tail` is its flag of refusal, context and entries.
fn to_node_1(kind: u8, term: u64, commit: u64, tail: &[u8]) -> Input {
    let mut bytes = vec![kind];
    for number in [2, 1, term, 0, 0, commit, 0, 0, 0] {
        varint::put(&mut bytes, number);
    }
    bytes.extend(tail);
    Input::Receive(Message::decode(&bytes).expect("the fields fit each other"))
}

const EMPTY: &[u8] = &[0, 0, 0];
const REFUSED: &[u8] = &[1, 0, 0];

fn withheld(out: &[Output]) -> bool {
    out.iter().any(|output| matches!(output, Output::Note(Note::VoteWithheld { .. })))
}

/// As many ticks as a promise lasts, from `now` on; answers when the last was given.
fn let_promises_end(group: &mut Group, mut now: u64) -> u64 {
    for _ in 0..config(1).election_ticks {
        now += config(1).tick_ms;
        step(group, now, Input::Tick);
    }
    now
}

/// Replicas whose messages arrive and whose writes are durable at once, but where a test says otherwise.
struct World {
    groups: Vec<Group>,
    now: u64,
    /// Nothing arrives at, or leaves, nodes from this one on.
    reached: usize,
    /// Answers on their way to their leader are kept here.
    answers_held: Option<Vec<Message>>,
    /// Tickets of a node whose disk hangs, and what is to be sent then.
    disk_hangs: Option<usize>,
    tickets_held: Vec<u64>,
    /// How often a leader wanted a checkpoint to be taken.
    checkpoints_wanted: usize,
}

impl World {
    fn of(groups: Vec<Group>) -> World {
        let reached = groups.len();
        let mut world = World {
            groups,
            now: 0,
            reached,
            answers_held: None,
            disk_hangs: None,
            tickets_held: Vec::new(),
            checkpoints_wanted: 0,
        };
        world.run_until(|world| world.leader().is_some_and(|at| world.may_read(at)));
        world
    }

    fn new(count: u64) -> World {
        let all: Vec<u64> = (1..=count).collect();
        World::of(all.iter().map(|node| group(*node, voters(&all), 0)).collect())
    }

    fn leader(&self) -> Option<usize> {
        self.groups.iter().position(Group::is_leader)
    }

    fn may_read(&self, at: usize) -> bool {
        self.groups[at].may_read(Millis(self.now))
    }

    fn run_until(&mut self, done: impl Fn(&World) -> bool) {
        let from = self.now;
        while !done(self) {
            assert!(self.now < from + 10_000, "it did not happen within ten seconds");
            self.step();
        }
    }

    fn step(&mut self) {
        self.now += 1;
        for at in 0..self.groups.len() {
            if self.groups[at].next_wakeup().is_some_and(|due| due <= Millis(self.now)) {
                self.input(at, Input::Tick);
            }
        }
    }

    fn input(&mut self, at: usize, input: Input) {
        let out = step(&mut self.groups[at], self.now, input);
        self.carry_out(at, out);
    }

    fn carry_out(&mut self, at: usize, out: Vec<Output>) {
        for output in out {
            let messages = match output {
                Output::CheckpointWanted => {
                    self.checkpoints_wanted += 1;
                    Vec::new()
                }
                Output::Send { message, .. } => vec![message],
                Output::Persist { ticket, .. } if self.disk_hangs == Some(at) => {
                    self.tickets_held.push(ticket);
                    Vec::new()
                }
                Output::Persist { ticket, then_send, .. } => {
                    self.input(at, Input::Persisted(ticket));
                    then_send.into_iter().map(|(_, message)| message).collect()
                }
                _ => Vec::new(),
            };
            for message in messages {
                let to = message.to().0 as usize - 1;
                let is_answer = [2, 6].contains(&kind(&message));
                match &mut self.answers_held {
                    _ if to >= self.reached || at >= self.reached => {}
                    Some(held) if is_answer => held.push(message),
                    _ => self.input(to, Input::Receive(message)),
                }
            }
        }
    }
}

#[test]
fn a_healthy_leader_reads_without_a_round_at_every_moment_and_nobody_else_does() {
    let mut world = World::new(3);
    let leader = world.leader().unwrap();
    for _ in 0..5_000 {
        world.step();
        for at in 0..3 {
            assert_eq!(world.may_read(at), at == leader, "node {} at {}", at + 1, world.now);
        }
    }
}

#[test]
fn the_lease_counts_from_the_stamp_however_late_its_answer_comes() {
    let mut world = World::new(3);
    let leader = world.leader().unwrap();
    world.answers_held = Some(Vec::new());
    world.run_until(|world| !world.may_read(leader));
    world.answers_held = Some(Vec::new());
    world.run_until(|world| world.answers_held.as_ref().is_some_and(|held| !held.is_empty()));
    let stamped = world.now;
    for _ in 0..20 {
        world.step();
    }
    for answer in world.answers_held.replace(Vec::new()).unwrap() {
        world.input(leader, Input::Receive(answer));
    }
    let end = stamped + config(1).lease_ms();
    assert!(world.groups[leader].may_read(Millis(end - 1)));
    assert!(!world.groups[leader].may_read(Millis(end)));
}

#[test]
fn a_leader_without_others_needs_no_lease_and_one_without_a_quorum_gets_none() {
    let mut alone = group(1, voters(&[1]), 0);
    step(&mut alone, 0, Input::Tick);
    assert!(!alone.may_read(Millis(0)), "its term is not durable");
    step(&mut alone, 0, Input::Persisted(1));
    assert!(alone.may_read(Millis(0)) && alone.may_read(Millis(u64::MAX - 1)));

    let mut world = World::new(5);
    let leader = world.leader().unwrap();
    let term = world.groups[leader].term();
    world.answers_held = Some(Vec::new());
    world.run_until(|world| !world.may_read(leader));
    let held = world.answers_held.replace(Vec::new()).unwrap();
    let from = held.last().unwrap().from();
    for answer in held.into_iter().filter(|answer| answer.from() == from) {
        world.input(leader, Input::Receive(answer));
    }
    assert!(world.groups[leader].is_leader() && world.groups[leader].term() == term);
    assert!(!world.may_read(leader), "two of five are no quorum");
}

#[test]
fn a_leader_that_began_a_transfer_has_no_lease_for_the_rest_of_its_term() {
    let mut world = World::new(3);
    let leader = world.leader().unwrap();
    let term = world.groups[leader].term();
    let to = NodeId((leader as u64 + 1) % 3 + 1);
    let mut out = Vec::new();
    world.groups[leader].transfer_leadership(to, &mut out).unwrap();
    assert!(
        out.iter()
            .any(|output| matches!(output, Output::Send { message, .. } if kind(message) == TIMEOUT_NOW))
    );
    // The order to campaign is under way for ever.
    for _ in 0..2_000 {
        world.step();
        assert!(!world.may_read(leader), "at {}", world.now);
    }
    assert_eq!((world.groups[leader].term(), world.groups[leader].transferring()), (term, None));
    let mut out = Vec::new();
    let now = Millis(world.now);
    world.groups[leader].read_index(now, &mut out).unwrap();
    world.carry_out(leader, out);
}

#[test]
fn what_others_may_have_told_but_the_leader_has_not_applied_ends_its_reads() {
    let mut world = World::new(3);
    let leader = world.leader().unwrap();
    world.disk_hangs = Some(leader);
    let mut out = Vec::new();
    let at = world.groups[leader].propose([Bytes::from_static(b"x")], &mut out).unwrap();
    assert!(world.may_read(leader), "nobody has it yet");
    world.carry_out(leader, out);
    let told = |group: &Group| group.applied() == at.index;
    world.run_until(|world| world.groups.iter().any(told));
    assert!(world.groups[leader].applied() < at.index);
    assert!(!world.may_read(leader));
    world.disk_hangs = None;
    let ticket = world.tickets_held.pop().unwrap();
    world.input(leader, Input::Persisted(ticket));
    assert!(world.may_read(leader));
}

#[test]
fn voters_that_have_promised_nothing_end_the_lease_as_soon_as_they_count() {
    let mut world = World::new(3);
    world.groups.extend((4..=7).map(|node| group(node, Membership::default(), 0)));
    let leader = world.leader().unwrap();
    let changes: Vec<_> = (4..=7).map(|node| (NodeId(node), Standing::Voter)).collect();
    let mut out = Vec::new();
    world.groups[leader].change_membership(&changes, &mut out).unwrap();
    assert!(world.may_read(leader));
    world.carry_out(leader, out);
    assert_eq!(world.groups[leader].membership().voters.len(), 7);
    assert!(!world.may_read(leader), "three of seven promised");
}

#[test]
fn a_promise_outlives_the_term_it_was_made_in() {
    let mut follower = group(1, voters(&[1, 2, 3]), 0);
    step(&mut follower, 1000, to_node_1(HEARTBEAT, 3, 0, EMPTY));
    // A late refusal of a pre-vote makes the library forget whom it follows.
    step(&mut follower, 1000, to_node_1(PRE_VOTE_ANSWER, 4, 0, REFUSED));
    assert_eq!((follower.term(), follower.leader()), (Term(4), None));
    for ask in [PRE_VOTE, VOTE] {
        assert!(withheld(&step(&mut follower, 1000, to_node_1(ask, 5, 0, EMPTY))));
    }
    let now = let_promises_end(&mut follower, 1000);
    assert!(!withheld(&step(&mut follower, now, to_node_1(VOTE, 5, 0, EMPTY))));
    assert_eq!(follower.term(), Term(5));
}

#[test]
fn a_promise_lasts_longer_than_any_lease_that_rests_on_it() {
    let GroupConfig { tick_ms, .. } = config(1);
    let slowest_lease_ms = config(1).lease_ms() as f64 / 0.95;
    let mut shortest = f64::MAX;
    // When the leader is heard after a tick, and how late the ticks come: all of them, or the first.
    for (heard, late, first_only) in
        (0..tick_ms).flat_map(|h| (0..2 * tick_ms).flat_map(move |l| [(h, l, false), (h, l, true)]))
    {
        let mut follower = group(1, voters(&[1, 2, 3]), 0);
        let mut now = 1_000;
        step(&mut follower, now, Input::Tick);
        let hears_at = follower.next_wakeup().unwrap().0 + heard;
        let (mut promised_at, mut ticks) = (None, 0);
        let granted_at = loop {
            now += 1;
            let due = follower.next_wakeup().unwrap().0;
            let lateness = if first_only && ticks > 0 { 0 } else { late };
            if now == hears_at {
                step(&mut follower, now, to_node_1(HEARTBEAT, 3, 0, EMPTY));
                promised_at = Some(now);
            }
            if now >= due + lateness {
                step(&mut follower, now, Input::Tick);
                ticks += 1;
            }
            let Some(promised_at) = promised_at else { continue };
            if !withheld(&step(&mut follower, now, to_node_1(PRE_VOTE, 4, 0, EMPTY))) {
                break now - promised_at;
            }
        };
        // It may have been heard at the end of its millisecond, by a clock that runs too fast.
        shortest = shortest.min((granted_at - 1) as f64 / 1.05);
    }
    assert!(
        shortest >= slowest_lease_ms,
        "a promise of {shortest} ms carries a lease of {slowest_lease_ms} ms"
    );
    assert!(shortest < slowest_lease_ms + 5.0, "{shortest} ms could carry more than {slowest_lease_ms} ms");
}

#[test]
fn a_campaign_by_order_of_the_leader_ignores_promises() {
    let mut follower = group(1, voters(&[1, 2, 3]), 0);
    step(&mut follower, 1000, to_node_1(HEARTBEAT, 3, 0, EMPTY));
    let mut by_order = vec![0, 16];
    by_order.extend(b"CampaignTransfer\0");
    assert!(!withheld(&step(&mut follower, 1000, to_node_1(VOTE, 4, 0, &by_order))));
    assert_eq!(follower.term(), Term(4));
}

#[test]
fn who_becomes_the_only_voter_keeps_its_promise_before_it_leads() {
    let joint = Membership { outgoing: nodes(&[1, 2, 3]), ..voters(&[1]) };
    let mut follower = group(1, joint, 0);
    step(&mut follower, 1000, to_node_1(HEARTBEAT, 3, 0, EMPTY));
    // The entry at position 1 that leaves the joint membership, committed.
    let leave = [0, 0, 1, 1, 3, 1, 0];
    let out = step(&mut follower, 1000, to_node_1(APPEND, 3, 1, &leave));
    let ticket = out.iter().find_map(|output| match output {
        Output::Persist { ticket, records, .. } if !records.is_empty() => Some(*ticket),
        _ => None,
    });
    step(&mut follower, 1000, Input::Persisted(ticket.unwrap()));
    assert_eq!(*follower.membership(), voters(&[1]));
    assert_eq!(follower.role(), Role::Follower);
    let now = let_promises_end(&mut follower, 1000);
    step(&mut follower, now, Input::Tick);
    assert_eq!(follower.role(), Role::Leader);
}

#[test]
fn who_may_not_campaign_never_does_and_makes_up_for_it() {
    let mut follower = group(1, voters(&[1, 2, 3]), 0);
    step(&mut follower, 0, to_node_1(HEARTBEAT, 3, 0, EMPTY));
    step(&mut follower, 0, Input::Persisted(1));
    follower.set_may_campaign(false);
    let order = step(&mut follower, 0, to_node_1(TIMEOUT_NOW, 3, 0, EMPTY));
    assert!(matches!(order[..], [Output::Note(Note::MessageDropped { .. })]), "{order:?}");
    for tick in 1..=1000 {
        step(&mut follower, tick * config(1).tick_ms, Input::Tick);
        assert_eq!((follower.role(), follower.leader()), (Role::Follower, Some(NodeId(2))));
    }
    follower.set_may_campaign(true);
    step(&mut follower, 1001 * config(1).tick_ms, Input::Tick);
    assert_eq!(follower.role(), Role::Candidate);

    let mut alone = group(1, voters(&[1]), 0);
    alone.set_may_campaign(false);
    step(&mut alone, 0, Input::Tick);
    assert_eq!(alone.role(), Role::Follower);
    alone.set_may_campaign(true);
    step(&mut alone, 1, Input::Tick);
    assert_eq!(alone.role(), Role::Leader);
}

#[test]
fn a_node_is_caught_up_once_it_holds_what_the_leader_holds() {
    let mut world = World::new(2);
    let leader = world.leader().unwrap();
    world.groups.push(group(3, voters(&[1, 2]), 0));
    let mut out = Vec::new();
    world.groups[leader].change_membership(&[(NodeId(3), Standing::Learner)], &mut out).unwrap();
    world.carry_out(leader, out);
    let caught_up = |world: &World, node| world.groups[leader].caught_up(NodeId(node));
    for _ in 0..1000 {
        world.step();
        assert!(!caught_up(&world, 3), "nothing reaches it");
    }
    for _ in 0..100 {
        let mut out = Vec::new();
        world.groups[leader].propose([Bytes::from_static(b"x")], &mut out).unwrap();
        world.carry_out(leader, out);
    }
    assert!(caught_up(&world, 1) && caught_up(&world, 2) && !caught_up(&world, 9));
    world.reached = 3;
    world.run_until(|world| caught_up(world, 3));
    assert_eq!(world.groups[2].last_index(), world.groups[leader].last_index());
    let follower = &world.groups[1 - leader];
    assert!(!follower.caught_up(NodeId(3)), "only a leader knows");
    // A link that broke and was made again, and nothing new since: nobody writes to an idle cluster to make it go on.
    let last = world.groups[leader].last_index();
    world.input(leader, Input::Unreachable(NodeId(3)));
    world.run_until(|world| caught_up(world, 3));
    assert_eq!(world.groups[leader].last_index(), last);
}

#[test]
fn heartbeats_of_all_groups_of_a_node_fall_on_the_same_instants() {
    let mut beats = [(); 4].map(|()| Vec::new());
    let mut groups: Vec<Group> =
        (0..4).map(|_| group(1, Membership { learners: nodes(&[2]), ..voters(&[1]) }, 0)).collect();
    for now in 5_003..6_000 {
        for (place, group) in groups.iter_mut().enumerate() {
            let begun = now >= 5_003 + 17 * place as u64;
            if !begun || group.next_wakeup().is_none_or(|due| due > Millis(now)) {
                continue;
            }
            let mut inputs = vec![Input::Tick];
            while let Some(input) = inputs.pop() {
                for output in step(group, now, input) {
                    match output {
                        Output::Persist { ticket, .. } => inputs.push(Input::Persisted(ticket)),
                        Output::Send { message, .. } if kind(&message) == HEARTBEAT => beats[place].push(now),
                        _ => {}
                    }
                }
            }
        }
    }
    let interval = config(1).tick_ms * config(1).heartbeat_ticks as u64;
    let expected: Vec<u64> = (5_200..6_000).filter(|now| now % interval == 0).collect();
    for beats in &mut beats {
        beats.retain(|now| *now >= 5_200);
        assert_eq!(*beats, expected);
    }
}

#[test]
fn a_group_made_again_within_a_run_uses_other_reads() {
    let mut reads = Vec::new();
    for now in [1_000, 1_001] {
        let mut group = group(1, voters(&[1]), 0);
        step(&mut group, now, Input::Tick);
        step(&mut group, now, Input::Persisted(1));
        for _ in 0..100 {
            reads.push(group.read_index(Millis(now), &mut Vec::new()).unwrap());
        }
    }
    let count = reads.len();
    reads.sort();
    reads.dedup();
    assert_eq!(reads.len(), count);
}

#[test]
fn a_replica_that_does_not_know_who_votes_asks_for_a_checkpoint_and_takes_no_entries() {
    let mut world = World::new(2);
    let leader = world.leader().unwrap();
    world.groups.push(group(3, Membership::default(), 0));
    world.reached = 3;
    let mut out = Vec::new();
    world.groups[leader].change_membership(&[(NodeId(3), Standing::Learner)], &mut out).unwrap();
    world.carry_out(leader, out);
    world.run_until(|world| world.checkpoints_wanted > 0);
    (0..1_000).for_each(|_| world.step());
    assert_eq!(world.groups[2].last_index(), LogIndex(0), "it took entries");
    assert!(!world.groups[2].is_leader());
}
