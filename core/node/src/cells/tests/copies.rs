//! `WAIT` of clients that wrote to shards of several cells.

use super::{Cells, FOUR_SHARDS};

#[test]
fn a_client_that_wrote_to_shards_of_several_cells_is_answered_the_least_when_all_have_answered() {
    let mut all = Cells::of(3, FOUR_SHARDS);
    let conns: Vec<_> = (0..3).map(|_| all.connect()).collect();
    for conn in &conns {
        let sets: String = (0..8).map(|n| format!("SET k{n} v\n")).collect();
        let expected = format!("{}:0 *2 :1 :0", "+OK ".repeat(8));
        assert_eq!(all.ask(*conn, &format!("{sets}WAIT 0 0\nWAITAOF 1 0 0")), expected);
        assert_eq!(all.ask(*conn, "WAIT x 0"), "-ERR value is not an integer or out of range");
        assert_eq!(all.ask(*conn, "MULTI\nWAIT 1 0\nEXEC"), "+OK +QUEUED *1 :0");
        assert_eq!(all.ask(*conn, "WAIT 1 100\nPING"), "");
        assert!(all.ask(conns[0], "").is_empty());
        all.advance(100);
        assert_eq!(all.ask(*conn, ""), ":0 +PONG");
    }
    let fresh = all.connect();
    assert_eq!(all.ask(fresh, "WAIT 0 0"), ":0", "it wrote nothing");
    assert!(all.cells.iter().all(|cell| (cell.cells.open_elsewhere, cell.cells.bytes_elsewhere) == (0, 0)));
    all.send(fresh, "SHUTDOWN");
    all.settle();
    assert_eq!(all.stopped, [true; 3], "nothing is between them");
}

#[test]
fn who_waits_at_several_shards_is_unblocked_at_all_of_them() {
    let mut all = Cells::of(3, FOUR_SHARDS);
    let (first, other) = (all.connect(), all.connect());
    let sets: String = (0..8).map(|n| format!("SET k{n} v\n")).collect();
    let number = all.ask(first, &format!("{sets}CLIENT ID")).replace("+OK ", "").replace(':', "");
    for (how, reply) in [("TIMEOUT", ":0"), ("ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK")] {
        assert_eq!(all.ask(first, "WAIT 1 0"), "");
        assert_eq!(all.ask(other, &format!("CLIENT UNBLOCK {number} {how}")), ":1");
        assert_eq!(all.replies(first), reply);
    }
    all.send(first, "WAIT 1 0");
    all.settle();
    assert!(all.cells.iter().any(|cell| cell.shards.iter().any(|shard| !shard.waiting.is_empty())));
    all.input(first.0, crate::Input::Disconnected { conn: first.1 });
    all.settle();
    assert!(all.cells.iter().all(|cell| cell.shards.iter().all(|shard| shard.waiting.is_empty())));
}
