//! Nodes without a cluster: what they decide, what they say while they wait, and that they never found two.

#![allow(clippy::unwrap_used)]

mod common;

use common::world::{World, WorldConfig};
use skep_base::{LinkId, Millis, NodeId, NodeUuid};
use skep_placement::{Decision, Forming, FormingInput, JoinReply, Offer};

const A: NodeUuid = NodeUuid(1);
const B: NodeUuid = NodeUuid(2);
const C: NodeUuid = NodeUuid(3);

fn forming(me: NodeUuid, addresses: &[&str]) -> Forming {
    Forming::new(me, addresses.iter().map(|address| (*address).to_owned()))
}

fn answered(address: &str, uuid: NodeUuid, cluster_id: &str) -> FormingInput {
    let link = LinkId(uuid.0 as u64);
    FormingInput::Answered { address: address.to_owned(), link, uuid, cluster_id: cluster_id.to_owned() }
}

fn offered(from: NodeUuid, met: &[NodeUuid], complete: bool) -> FormingInput {
    FormingInput::Offered { from, offer: Offer { met: met.to_vec(), complete } }
}

fn joined(link: u64, cluster_id: &str) -> FormingInput {
    let reply = JoinReply::Joined { node: NodeId(7), cluster_id: cluster_id.to_owned() };
    FormingInput::JoinAnswered { link: LinkId(link), reply }
}

/// Gives the inputs at the time 0 and returns what was decided, without offers.
fn decisions(forming: &mut Forming, inputs: impl IntoIterator<Item = FormingInput>) -> Vec<Decision> {
    let mut out = Vec::new();
    for input in inputs {
        forming.handle(Millis(0), input, &mut out);
    }
    out.retain(|decision| !matches!(decision, Decision::Offer(_)));
    out
}

fn last_wait(decisions: &[Decision]) -> &str {
    match decisions.last() {
        Some(Decision::Wait { why }) => why,
        other => panic!("decided {other:?}"),
    }
}

#[test]
fn a_node_without_a_list_founds_alone() {
    let mut alone = forming(A, &[]);
    assert_eq!(decisions(&mut alone, [FormingInput::Tick]), [Decision::Found]);
    assert_eq!(alone.next_wakeup(), None);
    let mut listed = forming(A, &["a:1"]);
    let found = decisions(&mut listed, [FormingInput::SelfFound { address: "a:1".to_owned() }]);
    assert_eq!(found.last(), Some(&Decision::Found));
}

#[test]
fn the_smallest_founds_when_all_have_met_and_agree() {
    let all = ["a:1", "b:1", "c:1"];
    let mut a = forming(A, &all);
    let said = decisions(
        &mut a,
        [
            FormingInput::SelfFound { address: "a:1".to_owned() },
            answered("b:1", B, ""),
            offered(B, &[A, B, C], true),
            answered("c:1", C, ""),
            offered(C, &[B, C], false),
            offered(C, &[A, B, C], false),
        ],
    );
    let waits: Vec<&str> = said.iter().map(|decision| last_wait(std::slice::from_ref(decision))).collect();
    assert_eq!(
        waits,
        [
            "waiting for b:1: not reached yet; waiting for c:1: not reached yet",
            "waiting for c:1: not reached yet",
            "waiting for c:1 to say whom it met",
            "c:1 has met b:1, c:1, this node has met this node, b:1, c:1; if that stays, give all of them the same \
             --join list",
            "waiting for c:1 to reach all addresses of its list",
        ]
    );
    assert_eq!(decisions(&mut a, [offered(C, &[C, A, B, A], true)]), [Decision::Found]);
    assert_eq!(decisions(&mut a, [answered("c:1", C, "other"), FormingInput::Tick]), []);

    let mut b = forming(B, &all);
    let said = decisions(
        &mut b,
        [
            FormingInput::SelfFound { address: "b:1".to_owned() },
            answered("a:1", A, ""),
            answered("c:1", C, ""),
            offered(A, &[A, B, C], true),
            offered(C, &[A, B, C], true),
        ],
    );
    assert_eq!(last_wait(&said), "a:1 is about to found the cluster");
}

#[test]
fn an_address_that_does_not_answer_any_more_is_waited_for() {
    let mut a = forming(A, &["b:1"]);
    let reason = "connection refused".to_owned();
    let said = decisions(
        &mut a,
        [
            answered("b:1", B, ""),
            FormingInput::Unreachable { address: "b:1".to_owned(), reason },
            offered(B, &[A, B], true),
        ],
    );
    assert_eq!(last_wait(&said), "waiting for b:1: connection refused");
    assert_eq!(a.why(), "waiting for b:1: connection refused");
    assert_eq!(a.offer(), Offer { met: vec![A], complete: false });
    let said = decisions(&mut a, [answered("b:1", B, "")]);
    assert_eq!(last_wait(&said), "waiting for b:1 to say whom it met");
    assert_eq!(decisions(&mut a, [offered(B, &[A, B], true)]), [Decision::Found]);
}

#[test]
fn lists_that_disagree_wait_and_say_so() {
    let mut a = forming(A, &["b:1"]);
    let said = decisions(&mut a, [answered("b:1", B, ""), offered(B, &[A, B, C], true)]);
    assert_eq!(
        last_wait(&said),
        format!(
            "b:1 has met this node, b:1, node {C}, this node has met this node, b:1; if that stays, give all of them the \
             same --join list"
        )
    );
}

#[test]
fn a_member_in_sight_is_asked_until_it_answers() {
    let mut a = forming(A, &["b:1", "c:1"]);
    let ask = Decision::AskToJoin { link: LinkId(3) };
    let said = decisions(&mut a, [answered("b:1", B, ""), answered("c:1", C, "x")]);
    assert_eq!(said.last(), Some(&ask));
    assert!(!a.offer().complete);
    let mut out = Vec::new();
    let later = FormingInput::JoinAnswered { link: LinkId(3), reply: JoinReply::Later };
    a.handle(Millis(1), later, &mut out);
    a.handle(Millis(499), FormingInput::Tick, &mut out);
    assert!(!out.contains(&ask), "{out:?}");
    assert_eq!(a.next_wakeup(), Some(Millis(500)));
    a.handle(Millis(500), FormingInput::Tick, &mut out);
    assert!(out.contains(&ask), "{out:?}");

    out.clear();
    let reason = "the name n1 is that of node 1".to_owned();
    let refused = FormingInput::JoinAnswered { link: LinkId(3), reply: JoinReply::Refused { reason } };
    a.handle(Millis(600), refused, &mut out);
    assert_eq!(a.why(), "cluster x refused this node: the name n1 is that of node 1");
    a.handle(Millis(5599), FormingInput::Tick, &mut out);
    assert!(!out.contains(&ask), "{out:?}");
    a.handle(Millis(5600), FormingInput::Tick, &mut out);
    assert!(out.contains(&ask), "{out:?}");
    assert_eq!(
        decisions(&mut a, [joined(3, "x")]),
        [Decision::Joined { node: NodeId(7), cluster_id: "x".to_owned() }]
    );
    assert_eq!(a.next_wakeup(), None);
}

#[test]
fn each_member_in_sight_is_asked_in_its_turn() {
    let mut a = forming(A, &["b:1", "c:1"]);
    let mut out = Vec::new();
    a.handle(Millis(0), answered("b:1", B, "x"), &mut out);
    a.handle(Millis(0), answered("c:1", C, "x"), &mut out);
    for now in (0..2000).step_by(100) {
        a.handle(Millis(now), FormingInput::Tick, &mut out);
    }
    let asked: Vec<u64> = out
        .iter()
        .filter_map(|decision| match decision {
            Decision::AskToJoin { link } => Some(link.0),
            _ => None,
        })
        .collect();
    assert_eq!(asked, [2, 3, 2, 3]);
}

#[test]
fn of_many_nodes_each_must_agree() {
    let all: Vec<NodeUuid> = (1..=30).map(NodeUuid).collect();
    let addresses: Vec<String> = (2..=30).map(|n| format!("n{n:02}:1")).collect();
    let mut a = Forming::new(A, addresses.iter().cloned());
    let said = decisions(&mut a, [FormingInput::Tick]);
    assert!(last_wait(&said).ends_with("waiting for n09:1: not reached yet; and 21 more"), "{said:?}");
    for (uuid, address) in all[1..].iter().zip(&addresses) {
        decisions(&mut a, [answered(address, *uuid, "")]);
    }
    for uuid in &all[1..] {
        assert_ne!(a.why(), "", "founded without the consent of {uuid}");
        decisions(&mut a, [offered(*uuid, &all, true)]);
    }
    assert_eq!((a.why(), a.next_wakeup()), ("", None));
}

#[test]
fn answers_of_a_cluster_that_is_out_of_sight_are_ignored() {
    let mut a = forming(A, &["b:1"]);
    decisions(&mut a, [answered("b:1", B, "x")]);
    assert_eq!(decisions(&mut a, [joined(3, "x"), joined(2, "y")]), []);
    decisions(&mut a, [answered("b:1", C, "")]);
    assert_eq!(decisions(&mut a, [joined(2, "x")]), []);
}

#[test]
fn two_clusters_in_one_list_are_not_chosen_between() {
    let mut a = forming(A, &["b:1", "c:1"]);
    decisions(&mut a, [answered("b:1", B, "x")]);
    let said = decisions(&mut a, [answered("c:1", C, "y")]);
    assert_eq!(
        last_wait(&said),
        "--join leads to different clusters: x at b:1, y at c:1; list nodes of one only"
    );
}

#[test]
fn strangers_and_oversized_offers_change_nothing() {
    let mut a = forming(A, &["b:1"]);
    let said = decisions(&mut a, [answered("b:1", B, ""), answered("elsewhere:1", C, "x")]);
    assert_eq!(last_wait(&said), "waiting for b:1 to say whom it met");
    let many: Vec<NodeUuid> = (1..1000).map(NodeUuid).collect();
    assert_eq!(decisions(&mut a, [offered(C, &[A, B], true), offered(B, &many, true)]), []);
    assert_eq!(decisions(&mut a, [offered(A, &[A], true)]), []);
}

/// Random orders of starting, restarts, lost connections, partitions and disks, and in the end all are up.
#[test]
fn nodes_with_one_list_found_one_cluster_and_all_join_it() {
    let mut clusters_lost = 0;
    for seed in common::seeds(1000) {
        let mut world = World::new(
            seed,
            &WorldConfig {
                nodes: 1 + seed as usize % 5 + 6 * usize::from(seed % 50 == 0),
                wipes: seed % 3 == 0,
            },
        );
        world.run_with_faults();
        world.run_in_peace();
        let clusters = world.clusters_on_disks();
        assert_eq!(clusters.len(), 1, "seed {seed}: {clusters:?}\n{}", world.describe());
        assert!(world.all_are_members(), "seed {seed}:\n{}", world.describe());
        clusters_lost += world.founded() - 1;
    }
    // A founder that lost its disk before anybody had joined is the one way to have founded twice.
    assert!(clusters_lost > 2, "only {clusters_lost} seeds lost a founder");
}

/// Lists drawn at random: most do not fit together. Whoever founds has the consent of all that it met, so no node is in
/// two such sets.
#[test]
fn lists_that_disagree_never_split_those_that_agreed() {
    let (mut founded, mut waiting) = (0, 0);
    for seed in common::seeds(600) {
        let mut world = World::with_random_lists(seed, 2 + seed as usize % 5);
        world.run_with_faults();
        world.run_in_peace();
        world.assert_founders_had_consent();
        founded += world.founded();
        waiting += usize::from(!world.all_are_members());
    }
    assert!(founded > 200 && waiting > 50, "{founded} founded, {waiting} seeds left someone waiting");
}
