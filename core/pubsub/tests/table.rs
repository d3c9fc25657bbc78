//! The table of subscriptions as a node uses it.

use skep_base::{ConnId, NodeId};
use skep_pubsub::{
    Batch, CLIENT_BYTES_MAX, Counts, Kind, Message, NAME_BYTES_MAX, Refused, Source, Table, messages,
};

fn names(table: &Table, kind: Kind) -> Vec<String> {
    table.names(kind, None).iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

/// Tells `to` everything that `from` has to tell.
fn tell(from: &mut Table, to: &mut Table, source: Source) {
    for counts in from.take_changes(true) {
        to.hear(source, 1, &counts).expect("what a table tells is well formed");
    }
    from.assert_invariants();
    to.assert_invariants();
}

const A: Source = Source { node: NodeId(2), cell: 0 };
const B: Source = Source { node: NodeId(3), cell: 1 };

#[test]
fn clients_listen_once_to_each_name_and_are_forgotten_whole() {
    let mut table = Table::default();
    assert_eq!(table.subscribe(ConnId(2), Kind::Channel, b"a"), Ok(true));
    assert_eq!(table.subscribe(ConnId(1), Kind::Channel, b"a"), Ok(true));
    assert_eq!(table.subscribe(ConnId(1), Kind::Channel, b"a"), Ok(false));
    assert_eq!(table.subscribe(ConnId(1), Kind::Pattern, b"a*"), Ok(true));
    assert_eq!(table.listeners(Kind::Channel, b"a"), (&[ConnId(1), ConnId(2)][..], 0));
    assert_eq!(
        table.matching(b"abc").map(|(pattern, here, _)| (pattern.to_vec(), here.len())).collect::<Vec<_>>(),
        [(b"a*".to_vec(), 1)]
    );
    assert_eq!(table.listeners(Kind::Shard, b"a"), (&[][..], 0), "another name space");
    table.assert_invariants();
    table.forget(ConnId(1));
    assert_eq!((table.count(Kind::Channel, b"a"), table.distinct(Kind::Pattern)), (1, 0));
    assert!(!table.unsubscribe(ConnId(1), Kind::Channel, b"a"));
    assert!(table.unsubscribe(ConnId(2), Kind::Channel, b"a"));
    table.take_changes(false);
    table.assert_invariants();
    assert_eq!((table.clients(), names(&table, Kind::Channel)), (0, vec![]));
    assert!(table.has_no_patterns());
}

#[test]
fn names_are_bounded_one_by_one_and_all_together() {
    let mut table = Table::default();
    let long = vec![b'x'; NAME_BYTES_MAX + 1];
    assert_eq!(table.subscribe(ConnId(1), Kind::Channel, &long), Err(Refused::Long(NAME_BYTES_MAX + 1)));
    let refused = (0u32..).find_map(|n| {
        let name = [&n.to_le_bytes()[..], &vec![b'x'; 60_000]].concat();
        table.subscribe(ConnId(1), Kind::Shard, &name).err()
    });
    assert!(matches!(refused, Some(Refused::Many(bytes)) if bytes > CLIENT_BYTES_MAX));
    assert!(table.bytes_of(ConnId(1)) <= CLIENT_BYTES_MAX);
    assert_eq!(table.subscribe(ConnId(2), Kind::Channel, b"other"), Ok(true));
    table.assert_invariants();
}

#[test]
fn counts_told_add_up_and_go_with_their_node() {
    let (mut here, mut a, mut b) = (Table::default(), Table::default(), Table::default());
    for conn in 1..=3 {
        a.subscribe(ConnId(conn), Kind::Channel, b"x").unwrap();
    }
    b.subscribe(ConnId(1), Kind::Channel, b"x").unwrap();
    b.subscribe(ConnId(1), Kind::Pattern, b"*").unwrap();
    here.subscribe(ConnId(1), Kind::Channel, b"x").unwrap();
    tell(&mut a, &mut here, A);
    tell(&mut b, &mut here, B);
    assert_eq!((here.count(Kind::Channel, b"x"), here.distinct(Kind::Pattern)), (5, 1));
    assert_eq!(here.matching(b"y").map(|(_, _, elsewhere)| elsewhere).collect::<Vec<_>>(), [1]);
    a.forget(ConnId(2));
    tell(&mut a, &mut here, A);
    assert_eq!(here.listeners(Kind::Channel, b"x"), (&[ConnId(1)][..], 3));
    here.drop_node(NodeId(2));
    assert_eq!(here.count(Kind::Channel, b"x"), 2);
    here.drop_node(NodeId(3));
    assert_eq!((names(&here, Kind::Channel), names(&here, Kind::Pattern)), (vec!["x".to_owned()], vec![]));
    here.assert_invariants();
}

#[test]
fn all_counts_replace_what_was_told_and_what_is_late_is_passed_over() {
    let (mut here, mut a) = (Table::default(), Table::default());
    a.subscribe(ConnId(1), Kind::Channel, b"x").unwrap();
    let late = a.take_changes(true);
    a.unsubscribe(ConnId(1), Kind::Channel, b"x");
    a.subscribe(ConnId(1), Kind::Channel, b"y").unwrap();
    a.take_changes(true);
    for counts in a.all_counts(None).unwrap() {
        here.hear(A, 1, &counts).unwrap();
    }
    assert_eq!(names(&here, Kind::Channel), ["y"]);
    here.hear(A, 1, &late[0]).unwrap();
    assert_eq!(names(&here, Kind::Channel), ["y"], "from a link that was there before");
    // The hub passes on what a cell told it.
    let mut other = Table::default();
    for counts in here.all_counts(Some(A)).unwrap() {
        other.hear(B, 9, &counts).unwrap();
    }
    assert_eq!((names(&other, Kind::Channel), other.run_of(B.node)), (vec!["y".to_owned()], Some(9)));
    assert_eq!(here.all_counts(Some(B)), None, "it has told nothing");
    let none = Counts { version: 9, is_first: true, bytes: Default::default() };
    here.hear(A, 1, &none).unwrap();
    assert_eq!(names(&here, Kind::Channel), Vec::<String>::new());
    here.assert_invariants();
}

#[test]
fn many_counts_come_in_parts() {
    let (mut here, mut a) = (Table::default(), Table::default());
    for n in 0..2_000u32 {
        let name = [&n.to_le_bytes()[..], &[b'x'; 1_000]].concat();
        a.subscribe(ConnId(1), Kind::Channel, &name).unwrap();
    }
    let parts = a.all_counts(None).unwrap();
    assert!(parts.len() > 4 && parts.iter().filter(|counts| counts.is_first).count() == 1);
    parts.iter().for_each(|counts| here.hear(A, 1, counts).unwrap());
    assert_eq!(here.distinct(Kind::Channel), 2_000);
    let changes = a.take_changes(true);
    assert!(changes.len() > 4);
    changes.iter().for_each(|counts| here.hear(A, 1, counts).unwrap());
    assert_eq!(here.distinct(Kind::Channel), 2_000);
    here.assert_invariants();
}

#[test]
fn what_nobody_else_hears_is_not_told() {
    let mut table = Table::default();
    table.subscribe(ConnId(1), Kind::Channel, b"x").unwrap();
    assert!(table.has_changes());
    assert_eq!(table.take_changes(false), vec![]);
    assert!(!table.has_changes());
    assert_eq!(table.all_counts(None).unwrap().len(), 1, "a node that comes later hears it");
}

#[test]
fn bad_counts_and_batches_of_any_length_are_refused() {
    let mut a = Table::default();
    a.subscribe(ConnId(1), Kind::Channel, b"name").unwrap();
    a.subscribe(ConnId(1), Kind::Pattern, b"p*").unwrap();
    let good = a.take_changes(true).remove(0);
    let mut batch = Batch::default();
    let sent = [
        Message { kind: Kind::Channel, channel: b"a", payload: b"1" },
        Message { kind: Kind::Shard, channel: b"", payload: &[0; 300] },
    ];
    sent.iter().for_each(|message| batch.push(*message));
    let batch = batch.take().remove(0);
    assert_eq!(messages(&batch).collect::<Result<Vec<_>, _>>().unwrap(), sent);
    for bytes in [&good.bytes, &batch] {
        for at in 0..bytes.len() {
            for flip in 0..8 {
                let mut bad = bytes[..].to_vec();
                bad[at] ^= 1 << flip;
                let mut table = Table::default();
                let _ = table.hear(A, 1, &Counts { version: 1, is_first: true, bytes: bad.clone().into() });
                table.assert_invariants();
                assert!(messages(&bad).count() <= bad.len());
            }
            let cut = bytes.slice(..at);
            let mut table = Table::default();
            let _ = table.hear(A, 1, &Counts { version: 1, is_first: true, bytes: cut.clone() });
            table.assert_invariants();
            let _ = messages(&cut).count();
        }
    }
}
