//! A group whose only voter is this node: what ships first, and what every write of a single node goes through.

use bytes::Bytes;
use skep_base::{GroupId, LogId, LogIndex, Millis, NodeId, Term};
use skep_consensus::{Group, GroupConfig, Input, Limits, Output, ProposeRefusal, Role};
use skep_log::{Entry, EntryKind, GroupLog, HardState, Membership, Record};

const GROUP: GroupId = GroupId(1);
const NODE: NodeId = NodeId(1);

fn alone() -> Membership {
    Membership { voters: vec![NODE], ..Membership::default() }
}

fn config() -> GroupConfig {
    GroupConfig::new(GROUP, NODE, 1, 7)
}

fn new_group() -> GroupLog {
    GroupLog { membership: alone(), ..GroupLog::default() }
}

fn id(term: u64, index: u64) -> LogId {
    LogId { term: Term(term), index: LogIndex(index) }
}

fn entry(term: u64, index: u64, payload: &'static [u8]) -> Entry {
    Entry { id: id(term, index), kind: EntryKind::Normal, payload: Bytes::from_static(payload) }
}

/// Answers every `Persist` at once, as `memory` durability does, and collects what happened.
struct Driver {
    group: Group,
    records: Vec<Record>,
    applied: Vec<Entry>,
    roles: Vec<Role>,
}

impl Driver {
    fn start(config: GroupConfig, recovered: GroupLog) -> Driver {
        let group = Group::new(config, recovered);
        let mut driver = Driver { group, records: Vec::new(), applied: Vec::new(), roles: Vec::new() };
        driver.handle(Input::Tick);
        driver
    }

    fn handle(&mut self, input: Input) {
        let mut out = Vec::new();
        self.group.handle(Millis(0), input, &mut out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Persist { ticket, records, then_send, .. } => {
                    assert!(then_send.is_empty(), "there is nobody to send to");
                    self.records.extend(records);
                    self.handle(Input::Persisted(ticket));
                }
                Output::Apply { entries } => self.applied.extend(entries),
                Output::RoleChanged { role, .. } => self.roles.push(role),
                Output::Send { .. } => panic!("there is nobody to send to"),
                _ => {}
            }
        }
        self.group.assert_invariants();
    }

    fn propose(&mut self, payloads: &[&'static [u8]]) -> LogId {
        let mut out = Vec::new();
        let payloads = payloads.iter().map(|payload| Bytes::from_static(payload));
        let first = self.group.propose(payloads, &mut out).expect("the group leads");
        self.carry_out(out);
        first
    }
}

#[test]
fn leads_at_its_first_event_and_then_costs_nothing() {
    let mut group = Group::new(config(), new_group());
    assert_eq!(group.next_wakeup(), Some(Millis(0)));
    let mut out = Vec::new();
    group.handle(Millis(5), Input::Tick, &mut out);
    assert_eq!(
        out,
        [
            Output::RoleChanged { role: Role::Leader, term: Term(1), leader: Some(NODE) },
            Output::Persist {
                ticket: 1,
                records: vec![
                    Record::HardState {
                        group: GROUP,
                        state: HardState { term: Term(1), vote: Some(NODE), commit: LogIndex(0) }
                    },
                    Record::Append { group: GROUP, entries: vec![entry(1, 1, b"")] },
                ],
                must_sync: true,
                then_send: Vec::new(),
            },
        ]
    );
    assert_eq!(group.next_wakeup(), None);
    assert!(group.is_leader() && !group.leads_with_all_applied());
    out.clear();
    group.handle(Millis(6), Input::Persisted(1), &mut out);
    assert_eq!(out, [Output::Apply { entries: vec![entry(1, 1, b"")] }]);
    assert!(group.leads_with_all_applied());
    assert_eq!(group.next_wakeup(), None);
}

#[test]
fn applies_only_what_is_durable_and_in_order() {
    let mut group = Driver::start(config(), new_group()).group;
    let mut out = Vec::new();
    assert_eq!(group.propose([Bytes::from_static(b"a")], &mut out), Ok(id(1, 2)));
    let two = [Bytes::from_static(b"b"), Bytes::from_static(b"c")];
    assert_eq!(group.propose(two, &mut out), Ok(id(1, 3)));
    let tickets: Vec<u64> = out
        .iter()
        .map(|output| match output {
            Output::Persist { ticket, must_sync: true, .. } => *ticket,
            other => panic!("{other:?} before anything is durable"),
        })
        .collect();
    assert_eq!(tickets, [2, 3]);
    out.clear();
    group.handle(Millis(1), Input::Persisted(2), &mut out);
    assert_eq!(out, [Output::Apply { entries: vec![entry(1, 2, b"a")] }]);
    out.clear();
    group.handle(Millis(1), Input::Persisted(2), &mut out);
    assert_eq!(out, []);
    group.handle(Millis(1), Input::Persisted(3), &mut out);
    assert_eq!(out, [Output::Apply { entries: vec![entry(1, 3, b"b"), entry(1, 4, b"c")] }]);
    assert_eq!((group.applied(), group.commit_index()), (LogIndex(4), LogIndex(4)));
    group.assert_invariants();
}

#[test]
fn one_answer_covers_all_earlier_tickets() {
    let mut group = Driver::start(config(), new_group()).group;
    let mut out = Vec::new();
    for _ in 0..3 {
        group.propose([Bytes::from_static(b"x")], &mut out).unwrap();
    }
    out.clear();
    group.handle(Millis(1), Input::Persisted(4), &mut out);
    assert_eq!(out, [Output::Apply { entries: (2..=4).map(|index| entry(1, index, b"x")).collect() }]);
}

#[test]
fn restart_replays_the_log_even_where_the_commit_index_was_not_written() {
    let mut first = Driver::start(config(), new_group());
    first.propose(&[b"a"]);
    first.propose(&[b"b", b"c"]);
    let mut log = new_group();
    for record in first.records {
        match record {
            Record::Append { entries, .. } => log.entries.extend(entries),
            Record::HardState { state, .. } => log.hard_state = state,
            other => panic!("{other:?}"),
        }
    }
    assert!(log.hard_state.commit < LogIndex(4), "written lazily");
    let second = Driver::start(GroupConfig { incarnation: 2, ..config() }, log);
    let payloads: Vec<_> = second.applied.iter().map(|entry| entry.payload.as_ref()).collect();
    assert_eq!(payloads, [&b""[..], b"a", b"b", b"c", b""]);
    assert_eq!(second.group.term(), Term(2));
    assert!(second.group.leads_with_all_applied());
}

#[test]
fn restart_brings_the_commit_index_into_range() {
    for (commit, first_applied) in [(0, 11), (11, 11), (900, 11)] {
        let log = GroupLog {
            checkpoint: id(3, 10),
            membership: alone(),
            hard_state: HardState { term: Term(4), vote: None, commit: LogIndex(commit) },
            entries: vec![entry(3, 11, b"k"), entry(4, 12, b"l")],
            distrusted: false,
        };
        let driver = Driver::start(config(), log);
        assert_eq!(driver.applied[0].id.index, LogIndex(first_applied));
        assert_eq!(driver.group.applied(), LogIndex(13));
        assert_eq!(driver.group.term(), Term(5));
    }
}

#[test]
#[should_panic(expected = "beyond its term")]
fn restart_with_entries_beyond_the_term_is_a_bug() {
    let log = GroupLog { membership: alone(), entries: vec![entry(3, 1, b"k")], ..GroupLog::default() };
    Group::new(config(), log);
}

#[test]
fn checkpoint_empties_the_log_in_memory_and_is_recorded_with_the_membership() {
    let mut driver = Driver::start(config(), new_group());
    for _ in 0..10 {
        driver.propose(&[b"payload"]);
    }
    assert_eq!((driver.group.stats().log_entries, driver.group.stats().log_bytes), (11, 70));
    driver.records.clear();
    let at = driver.group.log_id_at(LogIndex(6)).unwrap();
    driver.handle(Input::Checkpointed { at });
    assert_eq!(driver.records, [Record::Checkpoint { group: GROUP, at, membership: alone() }]);
    assert_eq!((driver.group.stats().log_entries, driver.group.stats().log_bytes), (5, 35));
    driver.handle(Input::Checkpointed { at });
    assert_eq!(driver.records.len(), 1, "the same again says nothing new");
    assert_eq!(driver.propose(&[b"more"]), id(1, 12));
    let at = driver.group.log_id_at(driver.group.applied()).unwrap();
    driver.handle(Input::Checkpointed { at });
    assert_eq!(driver.group.stats().log_entries, 0);
    assert_eq!(driver.propose(&[b"and more"]), id(1, 13));
    assert_eq!(driver.applied.last().unwrap().payload.as_ref(), b"and more");
}

#[test]
fn a_checkpoint_between_a_write_and_its_answer_changes_nothing() {
    let mut group = Driver::start(config(), new_group()).group;
    let mut out = Vec::new();
    group.propose([Bytes::from_static(b"a")], &mut out).unwrap();
    group.handle(Millis(1), Input::Checkpointed { at: id(1, 1) }, &mut out);
    assert!(matches!(out[1], Output::Persist { ticket: 3, must_sync: false, .. }), "{out:?}");
    group.propose([Bytes::from_static(b"b")], &mut out).unwrap();
    out.clear();
    group.handle(Millis(1), Input::Persisted(2), &mut out);
    assert_eq!(out, [Output::Apply { entries: vec![entry(1, 2, b"a")] }]);
    out.clear();
    group.handle(Millis(1), Input::Persisted(3), &mut out);
    assert_eq!(out, []);
    group.handle(Millis(1), Input::Persisted(4), &mut out);
    assert_eq!(out, [Output::Apply { entries: vec![entry(1, 3, b"b")] }]);
}

#[test]
fn proposals_past_the_limit_are_refused_and_leave_no_trace() {
    let limits = Limits { uncommitted_bytes_max: 10, message_bytes_max: 10, ..Limits::default() };
    let mut group = Driver::start(GroupConfig { limits, ..config() }, new_group()).group;
    let mut out = Vec::new();
    let eight = || [Bytes::from_static(b"12345678")];
    group.propose(eight(), &mut out).unwrap();
    let (before, last) = (out.len(), group.last_index());
    assert_eq!(group.propose(eight(), &mut out), Err(ProposeRefusal::Full { bytes_max: 10 }));
    assert_eq!((out.len(), group.last_index()), (before, last));
    group.handle(Millis(1), Input::Persisted(2), &mut out);
    assert_eq!(group.propose(eight(), &mut out), Ok(id(1, 3)));
}

#[test]
fn reads_are_ready_at_once() {
    let mut group = Driver::start(config(), new_group()).group;
    let mut out = Vec::new();
    let first = group.read_index(Millis(1), &mut out).unwrap();
    let second = group.read_index(Millis(1), &mut out).unwrap();
    assert_eq!(out, [Output::ReadReady { read: first }, Output::ReadReady { read: second }]);
    assert_ne!(first, second);
}
