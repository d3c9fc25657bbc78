//! Another configuration while traffic goes on.

#![allow(clippy::unwrap_used, reason = "a test")]

mod stage;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use skep_gateway::InForce;
use stage::{PATIENCE, Stage, ask, connect, free, listener, read_one, send, whole};

/// An upstream whose replies wait for a word each.
fn slow_upstream() -> (SocketAddr, Receiver<()>, Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ((came, comes), (go_on, goes_on)) = (channel(), channel());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut piece = [0; 4096];
        while stream.read(&mut piece).unwrap_or(0) > 0 {
            came.send(()).unwrap();
            goes_on.recv().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nlate.").unwrap();
        }
    });
    (address, comes, go_on)
}

fn answer(what: &str) -> String {
    format!("[gateway.route.all]\nanswer.body = '{what}'\n")
}

#[test]
fn a_change_reaches_connections_that_are_open_and_closes_none() {
    let (mut stage, web) = Stage::new(2, None, |web| listener(web) + &answer("one."));
    let mut streams: Vec<TcpStream> = (0..20).map(|_| connect(web)).collect();
    for stream in &mut streams {
        assert!(ask(stream).ends_with("\r\n\r\none."));
    }
    for n in 2..12 {
        let said = stage.apply(&(listener(web) + &answer(&format!("{n}."))));
        assert_eq!(said, InForce { version: n, problem: None });
        for stream in &mut streams {
            // Told to a core is not yet taken in by it; the moment between is as long as one request under way.
            while !ask(stream).ends_with(&format!("\r\n\r\n{n}.")) {}
        }
    }
    stage.end();
}

#[test]
fn who_connects_to_a_listener_that_stays_is_served_while_others_come_and_go() {
    let (mut stage, web) = Stage::new(2, None, |web| listener(web) + &answer("well."));
    let done = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let ask_on = || {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                let mut client = connect(web);
                send(&mut client, "/", "connection: close\r\n");
                assert!(whole(client).ends_with("well."));
                asked += 1;
            }
            asked
        };
        let clients = [scope.spawn(ask_on), scope.spawn(ask_on)];
        for n in 0..40 {
            // Another before it and behind it, so that its number changes, and none.
            let others =
                [listener(free()) + &listener(web), listener(web) + &listener(free()), listener(web)];
            stage.apply(&(others[n % 3].clone() + &answer("well.")));
        }
        done.store(true, Ordering::Relaxed);
        clients.map(|client| client.join().unwrap())
    });
    assert!(asked.iter().all(|asked| *asked > 0), "{asked:?}");
    stage.end();
}

#[test]
fn listeners_come_and_go_and_what_is_under_way_ends_well() {
    let (upstream, comes, go_on) = slow_upstream();
    let pool = format!("[gateway.route.all]\npool = 'p'\n[gateway.pool.p]\nupstreams = ['{upstream}']\n");
    let (mut stage, web) = Stage::new(2, None, |web| listener(web) + &pool);
    let (mut busy, mut idle) = (connect(web), connect(web));
    busy.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    comes.recv_timeout(PATIENCE).unwrap();
    // The listener, the route and the pool of the request are all gone.
    let other = loop {
        let other = free();
        let said = stage.apply(&(listener(other) + &answer("new.")));
        if said.problem.is_none() {
            break other;
        }
    };
    assert!(ask(&mut connect(other)).ends_with("new."));
    // The system resets one that no core has accepted by then.
    let ended = idle.read(&mut [0; 10]);
    let was_reset = ended.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
    assert!(was_reset || matches!(ended, Ok(0)), "nobody asked anything there: {ended:?}");
    while TcpStream::connect(web).is_ok() {}
    go_on.send(()).unwrap();
    let reply = read_one(&mut busy);
    assert!(reply.ends_with("late.") && reply.contains("connection: close"), "{reply}");
    stage.end();
}

#[test]
fn a_configuration_that_cannot_be_had_changes_nothing() {
    let (mut stage, web) = Stage::new(2, None, |web| listener(web) + &answer("old."));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_address = taken.local_addr().unwrap();
    let other = free();
    let said = stage.apply(&(listener(other) + &listener(taken_address) + &answer("new.")));
    let (version, why) = said.problem.unwrap();
    assert_eq!((said.version, version), (1, 2));
    assert!(why.contains(&taken_address.to_string()), "{why}");
    let tls = "tls.certificates = [{ cert = '/no/such/file', key = '/no/such/file' }]\n";
    let said = stage.apply(&(listener(web) + tls + &answer("new.")));
    assert!(said.problem.unwrap().1.contains("/no/such/file"));
    assert!(ask(&mut connect(web)).ends_with("old."));
    assert!(TcpStream::connect(other).is_err(), "no part of it is there");
    let said = stage.apply(&(listener(web) + &answer("new.")));
    assert_eq!(said, InForce { version: 4, problem: None });
    stage.end();
}
