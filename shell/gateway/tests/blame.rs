//! What speaks against an upstream, and what is the client's or the gateway's own doing.

#![allow(clippy::unwrap_used, reason = "a test")]

mod stage;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use stage::{PATIENCE, Stage, connect, listener, send, whole};

/// An upstream of HTTP whose connections are for the test to serve.
fn upstream() -> (SocketAddr, Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (came, comes): (Sender<TcpStream>, _) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            if came.send(stream).is_err() {
                return;
            }
        }
    });
    (address, comes)
}

/// One upstream whose breaker opens at the first failure, and a route of its own for `/slow`.
fn touchy(upstream: SocketAddr, slow: &str, pool: &str) -> String {
    format!(
        "[gateway.route.all]\npool = 'p'\n[gateway.route.slow]\npath = '/slow'\npool = 'p'\n{slow}\n\
         [gateway.pool.p]\nupstreams = ['{upstream}']\nbreaker.consecutive = 1\n{pool}\n"
    )
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut got = Vec::new();
    while !got.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{:?}", String::from_utf8_lossy(&got));
        got.push(byte[0]);
    }
    String::from_utf8(got).unwrap()
}

const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nwell.";

/// A request that the upstream answers well, which its breaker must let through.
fn goes_well(web: SocketAddr, comes: &Receiver<TcpStream>) {
    let mut client = connect(web);
    send(&mut client, "/", "connection: close\r\n");
    let mut served = comes.recv_timeout(PATIENCE).expect("the upstream is asked");
    read_head(&mut served);
    served.write_all(REPLY).unwrap();
    assert!(whole(client).ends_with("well."));
}

/// A client that has sent a part of its body, and the upstream's end of its request.
fn half_a_body(web: SocketAddr, comes: &Receiver<TcpStream>) -> (TcpStream, TcpStream) {
    let mut client = connect(web);
    client
        .write_all(b"POST /slow HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhalf.\r\n")
        .unwrap();
    let mut served = comes.recv_timeout(PATIENCE).unwrap();
    assert!(read_head(&mut served).starts_with("POST /slow "));
    (client, served)
}

#[test]
fn a_client_that_sends_its_body_slowly_is_told_and_no_breaker_opens() {
    let (at, comes) = upstream();
    let times = "timeout.request = '100ms'\ntimeout.total = '300ms'";
    let (stage, web) = Stage::new(1, None, |web| listener(web) + &touchy(at, times, ""));
    for _ in 0..3 {
        let (client, _served) = half_a_body(web, &comes);
        assert!(whole(client).starts_with("HTTP/1.1 408 "));
    }
    goes_well(web, &comes);
    stage.end();
}

#[test]
fn a_body_may_take_longer_than_the_reply_to_it() {
    let (at, comes) = upstream();
    let (stage, web) = Stage::new(1, None, |web| listener(web) + &touchy(at, "timeout.request = '1s'", ""));
    let mut client = connect(web);
    client
        .write_all(b"POST /slow HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n1\r\n.\r\n")
        .unwrap();
    let mut served = comes.recv_timeout(PATIENCE).unwrap();
    read_head(&mut served);
    served.read_exact(&mut [0; 6]).unwrap();
    // The client takes its time: more for all of it than for a reply.
    let began = Instant::now();
    for n in 1..=40 {
        client.write_all(b"1\r\n.\r\n").unwrap();
        served.read_exact(&mut [0; 6]).unwrap();
        while began.elapsed() < Duration::from_millis(40) * n {
            std::thread::yield_now();
        }
    }
    client.write_all(b"0\r\n\r\n").unwrap();
    served.write_all(REPLY).unwrap();
    assert!(whole(client).ends_with("well."));
    stage.end();
}

#[test]
fn clients_that_announce_bodies_and_send_none_hold_no_connection() {
    let (at, comes) = upstream();
    let times = "timeout.total = '1s'";
    let (stage, web) = Stage::new(1, None, |web| listener(web) + &touchy(at, times, "connections = 1"));
    let post = |path: &str, rest: &str| {
        let mut client = connect(web);
        write!(client, "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{rest}").unwrap();
        client
    };
    let silent = [
        post("/slow", "content-length: 10\r\n\r\n"),
        post("/slow", "content-length: 10\r\n\r\nhalf."),
        post("/slow", "transfer-encoding: chunked\r\n\r\n"),
    ];
    let mut late = post("/", "content-length: 10\r\n\r\nhalf.");
    for _ in 0..3 {
        goes_well(web, &comes);
    }
    // What comes after all goes on as if it had come at once.
    late.write_all(b"half.").unwrap();
    let mut served = comes.recv_timeout(PATIENCE).unwrap();
    assert!(read_head(&mut served).contains("content-length: 10\r\n"));
    served.read_exact(&mut [0; 10]).unwrap();
    served.write_all(REPLY).unwrap();
    drop(served);
    assert!(whole(late).ends_with("well."));
    for client in silent {
        assert!(whole(client).starts_with("HTTP/1.1 408 "));
    }
    goes_well(web, &comes);
    stage.end();
}

#[test]
fn a_client_that_breaks_its_body_off_while_the_reply_comes_opens_no_breaker() {
    let (at, comes) = upstream();
    let (stage, web) = Stage::new(1, None, |web| listener(web) + &touchy(at, "", ""));
    let (mut client, mut served) = half_a_body(web, &comes);
    served.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf.").unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 200 "));
    client.shutdown(Shutdown::Write).unwrap();
    // The gateway gives the attempt up, which the upstream sees.
    let mut rest = Vec::new();
    let _ = served.read_to_end(&mut rest);
    goes_well(web, &comes);
    stage.end();
}

#[test]
fn a_client_that_breaks_its_body_off_while_the_kernel_moves_the_reply_opens_no_breaker() {
    let (at, comes) = upstream();
    let (stage, web) = Stage::new(1, None, |web| listener(web) + &touchy(at, "", ""));
    let (mut client, mut served) = half_a_body(web, &comes);
    // So much is still to come that it goes through a pipe.
    let (first, half) = (b"HTTP/1.1 200 OK\r\ncontent-length: 4194304\r\n\r\nfirst.", vec![b'x'; 1 << 20]);
    served.write_all(first).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 200 "));
    let giving = std::thread::spawn(move || {
        served.write_all(&half).unwrap();
        served
    });
    client.read_exact(&mut vec![0; b"first.".len() + (1 << 20)]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    // The gateway waits for more of the reply, and gives the attempt up all the same.
    let ended = giving.join().unwrap().read_to_end(&mut Vec::new());
    let waits = |error: std::io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    assert!(!ended.is_err_and(waits), "the connection ends");
    goes_well(web, &comes);
    stage.end();
}

#[test]
fn replies_that_break_off_in_the_middle_open_the_breaker() {
    let (at, comes) = upstream();
    let (stage, web) = Stage::new(1, None, |web| listener(web) + &touchy(at, "", ""));
    let mut client = connect(web);
    send(&mut client, "/", "connection: close\r\n");
    let mut served = comes.recv_timeout(PATIENCE).unwrap();
    read_head(&mut served);
    served.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf.").unwrap();
    drop(served);
    assert!(whole(client).ends_with("half."));
    let mut next = connect(web);
    send(&mut next, "/", "connection: close\r\n");
    assert!(whole(next).starts_with("HTTP/1.1 503 "));
    stage.end();
}

#[test]
fn an_upstream_that_reads_no_more_of_a_body_is_to_blame() {
    let (at, comes) = upstream();
    let (stage, web) =
        Stage::new(1, None, |web| listener(web) + &touchy(at, "timeout.request = '200ms'", ""));
    let mut client = connect(web);
    client
        .write_all(b"POST /slow HTTP/1.1\r\nhost: a\r\ncontent-length: 33554432\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut sends = client.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let piece = [0; 1 << 16];
        // More than all buffers on the way hold; it ends when the gateway takes no more.
        while sends.write_all(&piece).is_ok() {}
    });
    let served = comes.recv_timeout(PATIENCE).unwrap();
    let mut head = [0; 12];
    client.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 504");
    drop(client);
    sending.join().unwrap();
    let mut next = connect(web);
    send(&mut next, "/", "connection: close\r\n");
    assert!(whole(next).starts_with("HTTP/1.1 503 "), "its breaker is open");
    drop(served);
    stage.end();
}

#[test]
fn who_finds_no_connection_free_waits_and_the_upstream_is_not_to_blame() {
    let (at, comes) = upstream();
    let limits = "connections = 2\nqueue.time = '200ms'";
    let (stage, web) =
        Stage::new(1, None, |web| listener(web) + &touchy(at, "timeout.connect = '50ms'", limits));
    let mut polls: Vec<(TcpStream, TcpStream)> = (0..2)
        .map(|_| {
            let mut client = connect(web);
            send(&mut client, "/", "connection: close\r\n");
            let mut served = comes.recv_timeout(PATIENCE).unwrap();
            read_head(&mut served);
            (client, served)
        })
        .collect();
    let mut late = connect(web);
    send(&mut late, "/", "connection: close\r\n");
    let reply = whole(late);
    assert!(reply.starts_with("HTTP/1.1 503 ") && reply.contains("waited for too long"), "{reply}");
    let mut waits = connect(web);
    send(&mut waits, "/", "connection: close\r\n");
    let (client, mut served) = polls.pop().unwrap();
    served.write_all(REPLY).unwrap();
    drop(served);
    assert!(whole(client).ends_with("well."));
    let mut served = comes.recv_timeout(PATIENCE).expect("who waited is served");
    read_head(&mut served);
    served.write_all(REPLY).unwrap();
    assert!(whole(waits).ends_with("well."));
    drop(polls);
    stage.end();
}
