//! A message that was read is written and read back equal, no prefix of it is one, and a group takes or drops it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_base::{GroupId, Millis, NodeId, Term};
use skep_consensus::{Group, GroupConfig, Input, Message, Output};
use skep_log::{GroupLog, HardState, Membership};

/// Prefixes tried; payloads beyond are opaque.
const CUTS_MAX: usize = 200;

fn group(voters: u64) -> Group {
    let membership = Membership { voters: (1..=voters).map(NodeId).collect(), ..Membership::default() };
    let hard_state = HardState { term: Term(1), ..HardState::default() };
    let mut group = Group::new(
        GroupConfig::new(GroupId(1), NodeId(1), 1, 7),
        GroupLog { membership, hard_state, ..GroupLog::default() },
    );
    step(&mut group, Input::Tick);
    group
}

fn step(group: &mut Group, input: Input) {
    let mut inputs = vec![input];
    while let Some(input) = inputs.pop() {
        let mut out = Vec::new();
        group.handle(Millis(1000), input, &mut out);
        group.assert_invariants();
        inputs.extend(out.into_iter().filter_map(|output| match output {
            Output::Persist { ticket, .. } => Some(Input::Persisted(ticket)),
            _ => None,
        }));
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(message) = Message::decode(data) else { return };
    let mut written = Vec::new();
    message.encode(&mut written);
    assert_eq!(Message::decode(&written).as_ref(), Ok(&message));
    for cut in 0..written.len().min(CUTS_MAX) {
        assert!(Message::decode(&written[..cut]).is_err(), "cut at {cut}");
    }
    // A leader, a follower of three, and one that is of no group yet.
    for voters in [1, 3, 0] {
        step(&mut group(voters), Input::Receive(message.clone()));
    }
});
