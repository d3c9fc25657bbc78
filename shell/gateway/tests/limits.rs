//! Limits of a node that has several cores.

#![allow(clippy::unwrap_used, reason = "a test")]

mod stage;

use std::net::SocketAddr;

use stage::{Stage, ask, connect, listener};

const CORES: usize = 4;
const BURST: usize = 8;

fn text(web: SocketAddr) -> String {
    format!(
        "{}[gateway.limit.few]\nrequests = 1\nper = '1h'\nburst = {BURST}\nscope = 'node'\n\
         [gateway.route.all]\nanswer.body = 'said.'\nlimits = 'few'\n",
        listener(web)
    )
}

fn passes(reply: &str) -> bool {
    assert!(reply.starts_with("HTTP/1.1 200") || reply.starts_with("HTTP/1.1 429"), "{reply}");
    reply.starts_with("HTTP/1.1 200")
}

#[test]
fn a_caller_at_one_core_has_the_whole_rate_of_the_node_and_at_all_of_them_no_more() {
    let (mut stage, web) = Stage::new(CORES, None, text);
    let mut one = connect(web);
    for n in 0..BURST {
        let reply = ask(&mut one);
        assert!(passes(&reply), "{n}");
        let left = BURST - 1 - n;
        assert!(reply.contains(&format!("ratelimit: \"few\";r={left};")), "{reply}");
    }
    // Connections are spread over the cores.
    let refused = |count: usize| (0..count).all(|_| !passes(&refusal(web)));
    assert!(refused(40));
    stage.apply(&format!("{}[gateway.limit.more]\n", text(web)));
    assert!(refused(40), "another configuration gives no new burst");
    stage.end();
}

/// What the gateway says over a connection of its own.
fn refusal(web: SocketAddr) -> String {
    let mut client = connect(web);
    stage::send(&mut client, "/", "connection: close\r\n");
    stage::whole(client)
}
