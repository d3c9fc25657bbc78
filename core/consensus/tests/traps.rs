//! One test for each thing that the library leaves to its user, or does otherwise than one would guess. The simulation
//! meets most of them too, mixed.

use bytes::Bytes;
use skep_base::varint;
use skep_base::{GroupId, LogId, LogIndex, Millis, NodeId, Term};
use skep_consensus::{
    Group, GroupConfig, Input, MembershipRefusal, Message, Note, Output, ProposeRefusal, ReadRefusal, Role,
    Standing, TransferRefusal,
};
use skep_log::{Entry, EntryKind, GroupLog, HardState, Membership, Record};

const APPEND: u8 = 1;
const VOTE: u8 = 3;
const HEARTBEAT: u8 = 5;
const HEARTBEAT_RESPONSE: u8 = 6;
const TIMEOUT_NOW: u8 = 7;
const READ_INDEX: u8 = 8;
const PRE_VOTE: u8 = 10;
const CHECKPOINT: u8 = 12;

/// The bytes of a message, by hand: kind and term, then the position (term, index) it speaks of.
fn message(kind: u8, from: u64, to: u64, term: u64, at: (u64, u64), entries: usize) -> Message {
    let mut bytes = vec![kind];
    for number in [from, to, term, at.0, at.1, 0, 0, 0, 0] {
        varint::put(&mut bytes, number);
    }
    bytes.extend([0, 0, entries as u8]);
    for number in 0..entries as u64 {
        let (term, index) = if kind == READ_INDEX { (0, 0) } else { (term, at.1 + 1 + number) };
        bytes.push(0);
        varint::put(&mut bytes, term);
        varint::put(&mut bytes, index);
        varint::put_bytes(&mut bytes, b"payload");
    }
    Message::decode(&bytes).expect("the fields fit each other")
}

fn nodes(ids: &[u64]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn voters(ids: &[u64]) -> Membership {
    Membership { voters: nodes(ids), ..Membership::default() }
}

fn group(node: u64, membership: Membership, hard_state: HardState) -> Group {
    let config = GroupConfig::new(GroupId(1), NodeId(node), 1, 7);
    Group::new(config, GroupLog { membership, hard_state, ..GroupLog::default() })
}

fn at_term(term: u64) -> HardState {
    HardState { term: Term(term), ..HardState::default() }
}

fn step(group: &mut Group, now: u64, input: Input) -> Vec<Output> {
    let mut out = Vec::new();
    group.handle(Millis(now), input, &mut out);
    group.assert_invariants();
    out
}

fn sent(out: &[Output]) -> usize {
    out.iter()
        .map(|output| match output {
            Output::Send { .. } => 1,
            Output::Persist { then_send, .. } => then_send.len(),
            _ => 0,
        })
        .sum()
}

/// Replicas, usually three, whose messages and writes arrive at once, in order.
struct Trio {
    groups: Vec<Group>,
    now: u64,
    outputs: Vec<(NodeId, Output)>,
    /// Messages that name a checkpoint are lost; how many were.
    loses_checkpoints: bool,
    checkpoints_lost: usize,
    /// Stopped: it neither ticks nor hears anything.
    cut_off: Option<usize>,
}

impl Trio {
    fn of(groups: Vec<Group>) -> Trio {
        Trio {
            groups,
            now: 0,
            outputs: Vec::new(),
            loses_checkpoints: false,
            checkpoints_lost: 0,
            cut_off: None,
        }
    }

    fn new() -> Trio {
        let groups = (1..=3).map(|node| group(node, voters(&[1, 2, 3]), HardState::default())).collect();
        let mut trio = Trio::of(groups);
        trio.run_until(|trio| trio.leader().is_some_and(|at| trio.groups[at].leads_with_all_applied()));
        trio
    }

    fn leader(&self) -> Option<usize> {
        self.groups.iter().position(Group::is_leader)
    }

    fn run_until(&mut self, done: impl Fn(&Trio) -> bool) {
        for _ in 0..10_000 {
            if done(self) {
                return;
            }
            self.now += 1;
            for at in 0..self.groups.len() {
                let due = self.groups[at].next_wakeup().is_some_and(|due| due <= Millis(self.now));
                if due && self.cut_off != Some(at) {
                    let out = step(&mut self.groups[at], self.now, Input::Tick);
                    self.carry_out(at, out);
                }
            }
        }
        panic!("it did not happen within ten seconds");
    }

    fn carry_out(&mut self, at: usize, out: Vec<Output>) {
        for output in out {
            self.outputs.push((NodeId(at as u64 + 1), output.clone()));
            let messages = match output {
                Output::Send { to, message } => vec![(to, message)],
                Output::Persist { ticket, then_send, .. } => {
                    let out = step(&mut self.groups[at], self.now, Input::Persisted(ticket));
                    self.carry_out(at, out);
                    then_send
                }
                _ => Vec::new(),
            };
            for (to, message) in messages {
                if self.loses_checkpoints && message.checkpoint().is_some() {
                    self.checkpoints_lost += 1;
                    continue;
                }
                let to = to.0 as usize - 1;
                if self.cut_off == Some(to) {
                    continue;
                }
                let out = step(&mut self.groups[to], self.now, Input::Receive(message));
                self.carry_out(to, out);
            }
        }
    }
}

#[test]
fn restarted_voter_withholds_votes_for_one_election_timeout() {
    let mut restarted = group(1, voters(&[1, 2, 3]), at_term(4));
    step(&mut restarted, 1000, Input::Tick);
    for (now, kind) in [(1000, PRE_VOTE), (1000, VOTE), (9999, VOTE)] {
        let out = step(&mut restarted, now, Input::Receive(message(kind, 2, 1, 5, (0, 0), 0)));
        assert_eq!(out, [Output::Note(Note::VoteWithheld { to: NodeId(2) })]);
    }
    // Only ticks count: a process that was stopped may find a stamp in its buffers that it handled before.
    tick_until_promises_end(&mut restarted, 10_000);
    let out = step(&mut restarted, 10_000, Input::Receive(message(VOTE, 2, 1, 5, (0, 0), 0)));
    assert_eq!(sent(&out), 1, "{out:?}");
    assert_eq!(restarted.term(), Term(5));
}

/// As many ticks as a promise lasts, the last of them before `until`.
fn tick_until_promises_end(group: &mut Group, until: u64) {
    let config = GroupConfig::new(GroupId(1), NodeId(1), 1, 7);
    for tick in (1..=config.election_ticks as u64).rev() {
        step(group, until - tick * config.tick_ms, Input::Tick);
    }
}

#[test]
fn new_voter_votes_at_once() {
    let mut new = group(1, voters(&[1, 2, 3]), HardState::default());
    let out = step(&mut new, 0, Input::Receive(message(VOTE, 2, 1, 1, (0, 0), 0)));
    let [Output::Persist { records, must_sync: true, then_send, .. }, Output::RoleChanged { .. }] = &out[..]
    else {
        panic!("{out:?}");
    };
    let state = HardState { term: Term(1), vote: Some(NodeId(2)), commit: LogIndex(0) };
    assert_eq!(*records, [Record::HardState { group: GroupId(1), state }]);
    assert_eq!(then_send.len(), 1, "the vote leaves with the record that remembers it");
}

#[test]
fn only_voter_tells_its_learners_nothing_before_its_term_is_durable() {
    let membership = Membership { learners: nodes(&[2]), ..voters(&[1]) };
    let mut leader = group(1, membership, HardState::default());
    let out = step(&mut leader, 0, Input::Tick);
    assert!(leader.is_leader());
    assert!(!out.iter().any(|output| matches!(output, Output::Send { .. })), "{out:?}");
    assert!(sent(&out) > 0, "{out:?}");
    let mut later = Vec::new();
    leader.propose([Bytes::from_static(b"early")], &mut later).unwrap();
    assert!(!later.iter().any(|output| matches!(output, Output::Send { .. })), "{later:?}");
    assert!(leader.next_wakeup().is_some(), "it owes its learner heartbeats");
}

#[test]
fn learner_of_one_voter_lets_go_of_a_dead_leader() {
    let membership = Membership { learners: nodes(&[2]), ..voters(&[1]) };
    let mut learner = group(2, membership, HardState::default());
    step(&mut learner, 0, Input::Receive(message(HEARTBEAT, 1, 2, 3, (0, 0), 0)));
    let refused = step(&mut learner, 0, Input::Receive(message(PRE_VOTE, 3, 2, 4, (9, 9), 0)));
    assert_eq!(sent(&refused), 0, "it follows a leader that it just heard of");
    for tick in 1..=20 {
        step(&mut learner, tick * 25, Input::Tick);
    }
    let out = step(&mut learner, 500, Input::Receive(message(PRE_VOTE, 3, 2, 4, (9, 9), 0)));
    assert_eq!(sent(&out), 1, "another membership may count on its vote: {out:?}");
}

#[test]
fn ticks_never_burst() {
    let mut follower = group(1, voters(&[1, 2, 3]), HardState::default());
    step(&mut follower, 0, Input::Tick);
    for now in [25, 26, 30, 49, 1_000_000, 1_000_001] {
        step(&mut follower, now, Input::Tick);
    }
    assert_eq!(follower.stats().ticks, 2);
    assert_eq!(follower.next_wakeup(), Some(Millis(1_000_025)));
}

#[test]
fn messages_that_no_peer_may_send_are_dropped() {
    let mut follower = group(1, voters(&[1, 2, 3]), HardState::default());
    step(&mut follower, 0, Input::Receive(message(HEARTBEAT, 2, 1, 3, (0, 0), 0)));
    for bad in [
        message(HEARTBEAT, 2, 3, 3, (0, 0), 0),
        message(HEARTBEAT, 1, 1, 3, (0, 0), 0),
        message(READ_INDEX, 3, 1, 0, (0, 0), 1),
        message(2, 9, 1, 3, (0, 0), 0),
    ] {
        let out = step(&mut follower, 0, Input::Receive(bad));
        assert!(matches!(out[..], [Output::Note(Note::MessageDropped { .. })]), "{out:?}");
    }
    let mut only = group(1, voters(&[1]), HardState::default());
    step(&mut only, 0, Input::Tick);
    let out = step(&mut only, 0, Input::Receive(message(TIMEOUT_NOW, 2, 1, 1, (0, 0), 0)));
    assert!(matches!(out[..], [Output::Note(Note::MessageDropped { .. })]), "{out:?}");
}

#[test]
fn followers_acknowledge_only_durable_entries_and_in_order() {
    let mut follower = group(1, voters(&[1, 2, 3]), HardState::default());
    step(&mut follower, 0, Input::Receive(message(HEARTBEAT, 2, 1, 3, (0, 0), 0)));
    step(&mut follower, 0, Input::Persisted(1));
    let first = step(&mut follower, 0, Input::Receive(message(APPEND, 2, 1, 3, (0, 0), 2)));
    let [Output::Persist { ticket: 2, records, must_sync: true, then_send }] = &first[..] else {
        panic!("{first:?}")
    };
    assert_eq!((records.len(), then_send.len()), (1, 1));
    let repeated = step(&mut follower, 0, Input::Receive(message(APPEND, 2, 1, 3, (0, 0), 2)));
    let [Output::Persist { ticket: 3, records, must_sync: false, then_send }] = &repeated[..] else {
        panic!("{repeated:?}")
    };
    assert_eq!((records.len(), then_send.len()), (0, 1), "the answer waits for the write before it");
    let heartbeat = step(&mut follower, 0, Input::Receive(message(HEARTBEAT, 2, 1, 3, (0, 0), 0)));
    assert!(matches!(heartbeat[..], [Output::Send { .. }]), "leases wait for no write: {heartbeat:?}");
    step(&mut follower, 0, Input::Persisted(3));
    let idle = step(&mut follower, 0, Input::Receive(message(APPEND, 2, 1, 3, (0, 0), 2)));
    assert!(matches!(idle[..], [Output::Send { .. }]), "{idle:?}");
}

#[test]
fn followers_refuse_proposals_and_name_the_leader() {
    let mut trio = Trio::new();
    let leader = trio.leader().unwrap();
    let follower = (leader + 1) % 3;
    let mut out = Vec::new();
    let named = Some(NodeId(leader as u64 + 1));
    let refusal = trio.groups[follower].propose([Bytes::from_static(b"x")], &mut out);
    assert_eq!(refusal, Err(ProposeRefusal::NotLeader { leader: named }));
    let refusal = trio.groups[follower].transfer_leadership(NodeId(1), &mut out);
    assert_eq!(refusal, Err(TransferRefusal::NotLeader { leader: named }));
    assert_eq!(out, []);
}

#[test]
fn reads_need_a_leader_that_has_committed_in_its_term() {
    let mut new = group(1, voters(&[1]), HardState::default());
    let mut out = Vec::new();
    assert_eq!(new.read_index(Millis(0), &mut out), Err(ReadRefusal::NoLeader));
    step(&mut new, 0, Input::Tick);
    assert_eq!(new.read_index(Millis(0), &mut out), Err(ReadRefusal::LeaderTooNew));
    step(&mut new, 0, Input::Persisted(1));
    let read = new.read_index(Millis(0), &mut out).unwrap();
    assert_eq!(out, [Output::ReadReady { read }]);
}

#[test]
fn reads_are_answered_on_every_replica_and_dropped_in_time_without_a_quorum() {
    let mut trio = Trio::new();
    for at in 0..3 {
        let mut out = Vec::new();
        let read = trio.groups[at].read_index(Millis(trio.now), &mut out).unwrap();
        trio.carry_out(at, out);
        let answer = (NodeId(at as u64 + 1), Output::ReadReady { read });
        assert!(trio.outputs.contains(&answer), "{:?}", trio.outputs);
    }
    let leader = trio.leader().unwrap();
    let mut out = Vec::new();
    let now = trio.now;
    let read = trio.groups[leader].read_index(Millis(now), &mut out).unwrap();
    let dropped = (0..100)
        .flat_map(|tick| step(&mut trio.groups[leader], now + tick * 25, Input::Tick))
        .any(|output| output == Output::ReadDropped { read });
    assert!(dropped, "nobody answers, so the read must be given up");
}

#[test]
fn membership_changes_one_at_a_time_through_a_joint_one_that_is_left() {
    let mut trio = Trio::new();
    let leader = trio.leader().unwrap();
    let (myself, other) = (NodeId(leader as u64 + 1), NodeId((leader as u64 + 1) % 3 + 1));
    let mut out = Vec::new();
    let group = &mut trio.groups[leader];
    for standing in [Standing::Removed, Standing::Learner] {
        let refusal = group.change_membership(&[(myself, standing)], &mut out);
        assert_eq!(refusal, Err(MembershipRefusal::WouldRemoveLeader));
    }
    assert!(matches!(group.change_membership(&[], &mut out), Err(MembershipRefusal::Invalid { .. })));
    assert!(!group.may_be_changing());
    group.change_membership(&[(other, Standing::Removed)], &mut out).unwrap();
    assert!(group.may_be_changing() && group.membership().voters.len() == 3, "not applied yet");
    let refusal = group.change_membership(&[(other, Standing::Voter)], &mut out);
    assert_eq!(refusal, Err(MembershipRefusal::ChangeInFlight));
    trio.carry_out(leader, out);
    let group = &trio.groups[leader];
    assert!(group.membership().outgoing.is_empty() && !group.may_be_changing());
    assert_eq!(group.membership().voters.len(), 2);
    let changes = |output: &&(NodeId, Output)| {
        output.0 == myself && matches!(output.1, Output::MembershipChanged { .. })
    };
    assert_eq!(trio.outputs.iter().filter(changes).count(), 2, "into the joint membership and out of it");
}

#[test]
fn leadership_moves_without_an_election_timeout() {
    let mut trio = Trio::new();
    let leader = trio.leader().unwrap();
    let (myself, other) = (NodeId(leader as u64 + 1), NodeId((leader as u64 + 1) % 3 + 1));
    let mut out = Vec::new();
    let group = &mut trio.groups[leader];
    let refusal = group.transfer_leadership(myself, &mut out);
    assert_eq!(refusal, Err(TransferRefusal::NotAVoter { to: myself }));
    group.transfer_leadership(other, &mut out).unwrap();
    let refusal = group.propose([Bytes::from_static(b"x")], &mut out);
    assert_eq!(refusal, Err(ProposeRefusal::Transferring { to: other }));
    trio.carry_out(leader, out);
    assert_eq!(trio.leader(), Some(other.0 as usize - 1));
    assert!(
        trio.outputs.iter().any(|(node, output)| *node == other
            && matches!(output, Output::RoleChanged { role: Role::Leader, .. }))
    );
}

#[test]
fn order_of_nodes_in_a_recovered_membership_says_nothing() {
    let shuffled = Membership { learners: nodes(&[5, 4]), ..voters(&[3, 1, 2]) };
    let recovered = group(1, shuffled, HardState::default());
    assert_eq!(*recovered.membership(), Membership { learners: nodes(&[4, 5]), ..voters(&[1, 2, 3]) });
    recovered.assert_invariants();
}

#[test]
fn joint_membership_survives_a_restart_and_is_left_by_the_next_leader() {
    let joint = Membership { outgoing: nodes(&[1]), ..voters(&[1]) };
    let checkpoint = LogId { term: Term(2), index: LogIndex(9) };
    let entry = |index| Entry {
        id: LogId { term: Term(2), index: LogIndex(index) },
        kind: EntryKind::Normal,
        payload: Bytes::from_static(b"x"),
    };
    let log = GroupLog {
        checkpoint,
        membership: joint,
        hard_state: at_term(2),
        entries: vec![entry(10), entry(11)],
        distrusted: false,
    };
    let mut group = Group::new(GroupConfig::new(GroupId(1), NodeId(1), 2, 7), log);
    let mut now = 0;
    let mut persisted = 0;
    while !group.membership().outgoing.is_empty() || !group.is_leader() {
        now += 25;
        assert!(now < 10_000, "still {:?} as {:?}", group.membership(), group.role());
        for output in step(&mut group, now, Input::Tick) {
            if let Output::Persist { ticket, .. } = output {
                persisted = ticket;
            }
        }
        let mut waiting = vec![persisted];
        while let Some(ticket) = waiting.pop() {
            for output in step(&mut group, now, Input::Persisted(ticket)) {
                if let Output::Persist { ticket, .. } = output {
                    waiting.push(ticket);
                }
            }
        }
    }
    assert_eq!(*group.membership(), voters(&[1]));
}

/// A checkpoint of three voters at `(term, index)`, offered by node 2.
fn checkpoint_message(term: u64, at: (u64, u64)) -> Message {
    let mut bytes = vec![CHECKPOINT];
    for number in [2, 1, term, 0, 0, 0, 0, 0, 0] {
        varint::put(&mut bytes, number);
    }
    bytes.extend([0, 0, 0]);
    varint::put(&mut bytes, at.0);
    varint::put(&mut bytes, at.1);
    bytes.extend([3, 1, 2, 3, 0, 0, 0, 0]);
    Message::decode(&bytes).expect("the fields fit each other")
}

#[test]
fn checkpoint_replaces_log_and_state_once_its_record_is_durable() {
    let at = LogId { term: Term(3), index: LogIndex(500) };
    let mut follower = group(1, voters(&[2, 3]), HardState::default());
    step(&mut follower, 0, Input::Receive(message(APPEND, 2, 1, 2, (0, 0), 4)));
    step(&mut follower, 0, Input::Persisted(1));
    let offer = checkpoint_message(4, (3, 500));
    assert_eq!(offer.checkpoint(), Some(at));
    let out = step(&mut follower, 0, Input::Receive(offer));
    let [Output::Persist { ticket: 2, records, must_sync: true, then_send }, ..] = &out[..] else {
        panic!("{out:?}")
    };
    let state = HardState { term: Term(4), vote: None, commit: LogIndex(500) };
    let membership = voters(&[1, 2, 3]);
    assert_eq!(
        records[..],
        [
            Record::HardState { group: GroupId(1), state },
            Record::Checkpoint { group: GroupId(1), at, membership: membership.clone() },
        ]
    );
    assert_eq!(then_send.len(), 1);
    // Until then it must not campaign: the library would look for entries that are gone.
    step(&mut follower, 0, Input::Receive(message(TIMEOUT_NOW, 2, 1, 4, (0, 0), 0)));
    for tick in 1..100 {
        step(&mut follower, tick * 25, Input::Tick);
    }
    assert_eq!((follower.role(), follower.applied()), (Role::Follower, LogIndex(0)));
    let out = step(&mut follower, 3000, Input::Persisted(2));
    assert_eq!(out, [Output::Install { at, membership }]);
    assert_eq!((follower.applied(), follower.last_index()), (LogIndex(500), LogIndex(500)));
    step(&mut follower, 3000, Input::Receive(message(APPEND, 2, 1, 4, (3, 500), 1)));
    assert_eq!(follower.last_index(), LogIndex(501));
}

#[test]
fn new_replica_gets_a_checkpoint_that_was_taken_after_it_joined() {
    let checkpoint = LogId { term: Term(1), index: LogIndex(5) };
    let log =
        GroupLog { checkpoint, membership: voters(&[1]), hard_state: at_term(1), ..GroupLog::default() };
    let leader = Group::new(GroupConfig::new(GroupId(1), NodeId(1), 2, 7), log);
    let newcomer = group(2, Membership::default(), HardState::default());
    let mut pair = Trio::of(vec![leader, newcomer]);
    pair.run_until(|pair| pair.groups[0].leads_with_all_applied());
    let mut out = Vec::new();
    pair.groups[0].change_membership(&[(NodeId(2), Standing::Learner)], &mut out).unwrap();
    pair.carry_out(0, out);
    pair.run_until(|pair| pair.outputs.contains(&(NodeId(1), Output::CheckpointWanted)));
    assert_eq!(pair.groups[1].applied(), LogIndex(0));
    let at = pair.groups[0].log_id_at(pair.groups[0].applied()).unwrap();
    let out = step(&mut pair.groups[0], pair.now, Input::Checkpointed { at });
    pair.carry_out(0, out);
    pair.run_until(|pair| pair.groups[1].applied() == pair.groups[0].applied());
    let installed = |(node, output): &(NodeId, Output)| {
        *node == NodeId(2) && matches!(output, Output::Install { at: installed, .. } if *installed == at)
    };
    assert!(pair.outputs.iter().any(installed), "{:?}", pair.outputs);
    assert_eq!(pair.groups[1].membership().learners, nodes(&[2]));
}

#[test]
fn an_answer_to_a_heartbeat_that_overtook_appends_does_not_ask_for_them_again() {
    let mut trio = Trio::new();
    let at = trio.leader().unwrap();
    let (leader, term) = (at as u64 + 1, trio.groups[at].term().0);
    let other = if leader == 1 { 2 } else { 1 };
    let appends = |out: &[Output]| {
        let to_other = |output: &&Output| matches!(output, Output::Send { to, message } if *to == NodeId(other) && message.is_append());
        out.iter().filter(to_other).count()
    };
    let now = trio.now;
    let answer = || message(HEARTBEAT_RESPONSE, other, leader, term, (0, 0), 0);
    // After a broken connection it probes, with one entry at a time.
    for probes in [false, true] {
        let group = &mut trio.groups[at];
        if probes {
            step(group, now, Input::Unreachable(NodeId(other)));
        }
        let mut out = Vec::new();
        group.propose([Bytes::from(vec![7; 5 << 20])], &mut out).unwrap();
        assert_eq!(appends(&out), 1, "probes: {probes}");
        for _ in 0..5 {
            let out = step(group, now, Input::ReceiveAhead(answer()));
            assert_eq!(appends(&out), 0, "probes: {probes}");
        }
        let out = step(group, now, Input::Receive(answer()));
        assert_eq!(appends(&out), 1, "probes: {probes}");
    }
    // Nothing was lost: all entries come to be committed.
    let last = trio.groups[at].last_index();
    let entries = |group: &Group| group.applied();
    assert!(entries(&trio.groups[at]) < last);
    let out = step(&mut trio.groups[at], now, Input::Receive(answer()));
    trio.carry_out(at, out);
    trio.run_until(|trio| trio.groups.iter().any(|group| !group.is_leader() && entries(group) == last));
}

#[test]
fn a_checkpoint_that_was_lost_is_offered_again_once_its_sender_is_told_and_not_before() {
    let checkpoint = LogId { term: Term(1), index: LogIndex(5) };
    let log =
        GroupLog { checkpoint, membership: voters(&[1]), hard_state: at_term(1), ..GroupLog::default() };
    let leader = Group::new(GroupConfig::new(GroupId(1), NodeId(1), 2, 7), log);
    let mut pair = Trio::of(vec![leader, group(2, Membership::default(), HardState::default())]);
    pair.loses_checkpoints = true;
    pair.run_until(|pair| pair.groups[0].leads_with_all_applied());
    let mut out = Vec::new();
    pair.groups[0].change_membership(&[(NodeId(2), Standing::Learner)], &mut out).unwrap();
    pair.carry_out(0, out);
    pair.run_until(|pair| pair.outputs.contains(&(NodeId(1), Output::CheckpointWanted)));
    let at = pair.groups[0].log_id_at(pair.groups[0].applied()).unwrap();
    let out = step(&mut pair.groups[0], pair.now, Input::Checkpointed { at });
    pair.carry_out(0, out);
    pair.run_until(|pair| pair.checkpoints_lost == 1);
    // Nothing else goes to the follower, for ever: the library waits for a report.
    let later = pair.now + 3_000;
    pair.run_until(|pair| pair.now == later);
    assert_eq!((pair.checkpoints_lost, pair.groups[1].applied()), (1, LogIndex(0)));
    // Both reports do, the second since a link that breaks says nothing of what was on it.
    for report in [Input::CheckpointSent { to: NodeId(2), arrived: false }, Input::Unreachable(NodeId(2))] {
        let lost = pair.checkpoints_lost;
        let out = step(&mut pair.groups[0], pair.now, report);
        pair.carry_out(0, out);
        pair.run_until(|pair| pair.checkpoints_lost > lost);
    }
    pair.loses_checkpoints = false;
    let out = step(&mut pair.groups[0], pair.now, Input::CheckpointSent { to: NodeId(2), arrived: false });
    pair.carry_out(0, out);
    pair.run_until(|pair| pair.groups[1].applied() == pair.groups[0].applied());
}

/// The messages among outputs.
fn messages(out: Vec<Output>) -> Vec<(NodeId, Message)> {
    out.into_iter()
        .flat_map(|output| match output {
            Output::Send { to, message } => vec![(to, message)],
            Output::Persist { then_send, .. } => then_send,
            _ => Vec::new(),
        })
        .collect()
}

#[test]
fn late_answers_to_an_earlier_read_release_no_read_of_a_leader_that_is_none_any_more() {
    let mut trio = Trio::new();
    let (now, leader) = (trio.now, trio.leader().unwrap());
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    // All confirm the first read, and their answers are long on their way.
    let mut out = Vec::new();
    let first = trio.groups[leader].read_index(Millis(now), &mut out).unwrap();
    let mut late = Vec::new();
    for (to, message) in messages(out) {
        let out = step(&mut trio.groups[to.0 as usize - 1], now, Input::Receive(message));
        late.extend(messages(out));
    }
    assert_eq!(late.len(), 2);
    // They lose their leader, and another one leads and has committed something.
    trio.cut_off = Some(leader);
    trio.run_until(|trio| others.iter().any(|at| trio.groups[*at].leads_with_all_applied()));
    // The one before, which was stopped meanwhile, is asked again; its question is lost, and the answers of before arrive.
    let (at, mut out) = (trio.now, Vec::new());
    let second = trio.groups[leader].read_index(Millis(at), &mut out).unwrap();
    let mut released = Vec::new();
    for (_, message) in late {
        released.extend(step(&mut trio.groups[leader], at, Input::Receive(message)));
    }
    assert!(
        released.contains(&Output::ReadReady { read: first }),
        "asked for before anybody else led: {released:?}"
    );
    assert!(!released.contains(&Output::ReadReady { read: second }), "{released:?}");
}
