//! `CLIENT`: modes of one connection, and what it does to others.

use crate::testing::World;

#[test]
fn a_pause_holds_commands_back_until_it_is_over() {
    let mut w = World::new(&[]);
    let (a, b) = (w.connect(), w.connect());
    assert_eq!(w.ask(a, "CLIENT PAUSE 100 WRITE"), "+OK");
    assert_eq!(w.ask(b, "GET k\nSET k v\nGET k"), "$-1");
    w.advance(99);
    w.settle();
    assert_eq!(w.replies(b), "");
    assert_eq!(w.node.next_wakeup(), Some(w.now.mono.plus(1)));
    w.advance(1);
    w.settle();
    assert_eq!(w.replies(b), "+OK $1 v");
}
