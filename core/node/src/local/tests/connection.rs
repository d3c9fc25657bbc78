//! Handshakes, order of replies, and limits of a connection.

use crate::testing::World;

#[test]
fn a_plain_session() {
    let mut w = World::new(&[]);
    let c = w.connect();
    assert_eq!(w.ask(c, "PING"), "+PONG");
    assert_eq!(w.ask(c, "PING hello"), "$5 hello");
    assert_eq!(
        w.ask(c, "ECHO x\nSELECT 3\nSELECT 16\nSELECT x"),
        "$1 x +OK -ERR DB index is out of range -ERR value is not an integer or out of range"
    );
    assert_eq!(w.ask(c, "SET k v\nGET k\nSELECT 0\nGET k"), "+OK $1 v +OK $-1");
    assert_eq!(w.ask(c, "NOSUCH a"), "-ERR unknown command 'NOSUCH', with args beginning with: 'a'");
    assert_eq!(w.ask(c, "PING a b"), "-ERR wrong number of arguments for 'ping' command");
    assert_eq!(w.ask(c, "QUIT\nPING"), "+OK");
    assert_eq!(w.closed, [c]);
}
