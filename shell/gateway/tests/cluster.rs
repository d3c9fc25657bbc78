//! What a gateway makes of the nodes beside it.

#![allow(clippy::unwrap_used, reason = "a test")]

mod stage;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use stage::{PATIENCE, Stage, connect, listener, send, whole};

/// An upstream that answers `status` to everything, and how often it was asked.
fn upstream(status: &'static str) -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    let counts = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if stream.read(&mut [0; 4096]).unwrap_or(0) > 0 {
                counts.fetch_add(1, Ordering::SeqCst);
                let reply = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(reply.as_bytes());
            }
        }
    });
    (address, asked)
}

fn ask(web: SocketAddr) {
    let mut client = connect(web);
    send(&mut client, "/", "connection: close\r\n");
    whole(client);
}

#[test]
fn traffic_stays_in_the_zone_once_the_nodes_of_others_are_known() {
    let ((near, near_asked), (far, far_asked)) = (upstream("200 OK"), upstream("200 OK"));
    let pool = format!(
        "[gateway.pool.p]\nzone-aware = true\nbalance = 'round-robin'\nupstreams = [{{ address = '{near}', zone = 'here' }}, \
         {{ address = '{far}', zone = 'there' }}]\n[gateway.route.all]\npool = 'p'\n"
    );
    let (stage, web) = Stage::new(1, None, |web| listener(web) + &pool);
    let twenty = || {
        let before = far_asked.load(Ordering::SeqCst);
        (0..20).for_each(|_| ask(web));
        far_asked.load(Ordering::SeqCst) - before
    };
    assert_eq!(twenty(), 10, "one that knows of no zones sends to all");
    stage.set_nodes(&[("here", 2), ("there", 2)]);
    let began = Instant::now();
    // Told to a core is not yet taken in by it.
    while twenty() > 0 {
        assert!(began.elapsed() < PATIENCE, "it goes on sending to the other zone");
    }
    // All nodes are in this zone, so its upstreams alone would be overrun.
    stage.set_nodes(&[("here", 4)]);
    while twenty() == 0 {
        assert!(began.elapsed() < PATIENCE, "the other zone gets nothing");
    }
    assert!(near_asked.load(Ordering::SeqCst) > 0);
    stage.end();
}

#[test]
fn nodes_divide_the_free_retries_of_the_cluster() {
    let ((one, one_asked), (other, other_asked)) = (upstream("503 no"), upstream("503 no"));
    let pool = format!(
        "[gateway.pool.p]\nupstreams = ['{one}', '{other}']\neject.consecutive = 0\neject.failure-rate = false\n\
         breaker.consecutive = 0\nbreaker.failures = '0%'\n[gateway.route.all]\npool = 'p'\nretry.budget = '0%'\n\
         retry.budget-min = 1000\nretry.back-off = '1ms'\nretry.attempts = 2\n"
    );
    let (stage, web) = Stage::new(1, None, |web| listener(web) + &pool);
    // Retries of a hundred requests, and those that a rate of `rate` a second gives meanwhile.
    let retries = || {
        let asked = || one_asked.load(Ordering::SeqCst) + other_asked.load(Ordering::SeqCst);
        let (before, began) = (asked(), Instant::now());
        (0..100).for_each(|_| ask(web));
        (asked() - before - 100, began.elapsed())
    };
    assert_eq!(retries().0, 100, "a thousand a second are for one node alone");
    stage.set_nodes(&[("", 500), ("here", 500)]);
    let began = Instant::now();
    loop {
        let (found, time) = retries();
        // One a second, one that is saved, and the one of its beginning.
        if found as f64 <= time.as_secs_f64() + 2.0 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{found} retries in {time:?} of one among a thousand nodes");
    }
    stage.end();
}
