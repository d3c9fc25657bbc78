//! What meets at the edges of a request: bodies that nobody reads, a listener that closes at a bad moment.

#![allow(clippy::unwrap_used, reason = "a test")]

mod stage;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use stage::{Stage, connect};

/// A gateway with this configuration, in which `WEB` stands for its listener's address.
fn gateway(text: &str) -> (Stage, SocketAddr) {
    Stage::new(1, None, |web| text.replace("WEB", &web.to_string()))
}

/// Reads until `end` is there.
fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut got = String::new();
    while !got.contains(end) {
        let mut piece = [0; 4096];
        let n = stream.read(&mut piece).unwrap();
        assert!(n > 0, "closed after {got:?}");
        got.push_str(std::str::from_utf8(&piece[..n]).unwrap());
    }
    got
}

#[test]
fn a_short_body_that_an_answer_has_no_use_for_costs_not_the_connection() {
    let (stage, web) = gateway(
        "[gateway.listener.web]\naddress = 'WEB'\n[gateway.route.all]\nanswer = { status = 200, body = 'said.' }\n\
         [gateway.route.away]\npath = '/away'\nanswer = { status = 403, body = 'away.' }\n",
    );
    let mut client = connect(web);
    for (path, framed) in [
        ("/", "Content-Length: 4\r\n\r\nbody"),
        ("/away", "Content-Length: 4\r\n\r\nbody"),
        ("/", "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"),
        ("/", "\r\n"),
    ] {
        client.write_all(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{framed}").as_bytes()).unwrap();
        let answer = read_to(&mut client, if path == "/" { "said." } else { "away." });
        assert!(!answer.contains("connection: close"), "{answer}");
    }
    // What is no body must not be taken for the next request.
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert_eq!(rest.matches("HTTP/1.1 ").count(), 1, "{rest}");
    stage.end();
}

#[test]
fn a_connection_that_speaks_http2_only_after_the_drain_began_is_not_served() {
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let (stage, web) = gateway(&format!(
        "[gateway]\ntrusted-proxies = ['127.0.0.0/8']\n[gateway.listener.web]\naddress = 'WEB'\nproxy-protocol = 'required'\n\
         [gateway.route.all]\nanswer.body = 'said.'\n[gateway.route.slow]\npath = '/slow'\npool = 'p'\n\
         [gateway.pool.p]\nupstreams = ['{}']\n",
        slow.local_addr().unwrap()
    ));
    // Accepted, and waiting for a PROXY header.
    let mut late = connect(web);
    late.write_all(b"PROXY ").unwrap();
    let mut idle = connect(web);
    idle.write_all(b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_to(&mut idle, "said.");
    // Keeps the drain from its end.
    let mut busy = connect(web);
    busy.write_all(b"PROXY UNKNOWN\r\nGET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let (mut asked, _) = slow.accept().unwrap();
    read_to(&mut asked, "\r\n\r\n");
    let draining = std::thread::spawn(move || stage.end());
    assert_eq!(idle.read(&mut [0; 10]).unwrap(), 0, "the drain has begun");
    // The preface, settings, and GET / with the authority `a`.
    late.write_all(b"UNKNOWN\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    // A reset says the same as an end.
    let _ = late.write_all(b"\0\0\x06\x01\x05\0\0\0\x01\x82\x84\x86\x41\x01a");
    let (mut got, mut piece) = (Vec::new(), [0; 100]);
    while let Ok(n @ 1..) = late.read(&mut piece) {
        got.extend_from_slice(&piece[..n]);
        assert!(!got.windows(5).any(|five| five == b"said."), "it was served");
    }
    asked.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nlate.").unwrap();
    read_to(&mut busy, "late.");
    draining.join().unwrap();
}

#[test]
fn a_target_that_cannot_be_sent_is_refused_and_not_replaced_with_another() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let long = "b".repeat(2_000);
    let (stage, web) = gateway(&format!(
        "[gateway.listener.web]\naddress = 'WEB'\nheader-size = '128kb'\n[gateway.pool.p]\nupstreams = ['{}']\n\
         [gateway.route.r]\npath-prefix = '/v1'\nrewrite.prefix = '/{long}'\npool = 'p'\n",
        upstream.local_addr().unwrap()
    ));
    std::thread::spawn(move || {
        for stream in upstream.incoming() {
            let mut stream = stream.unwrap();
            read_to(&mut stream, "\r\n\r\n");
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nsaid.");
        }
    });
    // Each is short enough; the second, with the prefix, is longer than any target may be.
    for (len, status) in [(60_000, "200"), (64_000, "400")] {
        let mut client = connect(web);
        client
            .write_all(format!("GET /v1/{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(len)).as_bytes())
            .unwrap();
        let reply = read_to(&mut client, "\r\n\r\n");
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{len}: {reply}");
    }
    stage.end();
}
