//! WebSockets over HTTP/2, to upstreams of HTTP/1.1.

#![allow(clippy::unwrap_used, reason = "a test")]

mod stage;

use std::net::SocketAddr;

use bytes::Bytes;
use skep_gate::http1::websocket::accept;
use stage::websocket::{client, connect, ends, gateway, read, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// A server of HTTP/1.1 that says again in capitals what comes over its WebSockets. Gives the heads that it gets.
async fn server() -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(shout(stream, heads.clone()));
        }
    });
    (address, seen)
}

async fn shout(mut stream: TcpStream, heads: mpsc::UnboundedSender<String>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let key =
        head.split("sec-websocket-key: ").nth(1).map(|rest| rest.split("\r\n").next().unwrap().to_owned());
    heads.send(head).unwrap();
    let other = accept("another key");
    let accepted = if path == "/ws/wrong" { other } else { accept(&key.unwrap_or_default()) };
    let answer = match &*path {
        "/ws/refused" => "HTTP/1.1 403 No\r\ncontent-length: 3\r\n\r\nno.".to_owned(),
        "/ws/plain" => "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok.".to_owned(),
        _ => format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accepted}\r\nsec-websocket-protocol: chat\r\n\r\n"
        ),
    };
    stream.write_all(answer.as_bytes()).await.unwrap();
    let mut piece = [0; 1 << 16];
    while let Ok(n @ 1..) = stream.read(&mut piece).await {
        piece.make_ascii_uppercase();
        if stream.write_all(&piece[..n]).await.is_err() {
            return;
        }
    }
}

fn text(upstream: SocketAddr) -> String {
    // The hash is that of the key that clients send.
    let hash = "7d7b33c38d2d7929207130daf10acc943ae8bee54107ca964ec0103fd360df5b";
    format!(
        "[gateway.listener.web]\naddress = 'WEB'\n\
         [gateway.auth.keys.keys]\nheader = 'x-key'\ncallers = [{{ name = 'ann', sha256 = '{hash}' }}]\n\
         [gateway.limit.few]\nrequests = 1\nper = '1h'\nburst = 2\nscope = 'node'\n\
         [gateway.route.ws]\npath-prefix = '/ws'\npool = 'p'\nauth = 'keys'\n\
         [gateway.route.few]\npath = '/ws/few'\npool = 'p'\nlimits = 'few'\n\
         [gateway.route.brief]\npath = '/ws/brief'\npool = 'p'\ntimeout.idle = '100ms'\n\
         [gateway.pool.p]\nupstreams = ['{upstream}']\neject = false\nbreaker = false\n"
    )
}

#[test]
fn a_websocket_over_http2_is_one_of_http1_for_its_upstream() {
    run(async {
        let (upstream, mut seen) = server().await;
        let (stage, web) = gateway(&text(upstream));
        let mut client = client(web).await;
        // Several at once over one connection.
        let mut open = Vec::new();
        for n in 0..3 {
            let (status, headers, stream, body) =
                connect(&mut client, &format!("/ws/{n}?x=1"), Some("websocket")).await;
            assert_eq!(status, 200);
            assert_eq!(headers["sec-websocket-protocol"], "chat");
            for name in ["connection", "upgrade", "sec-websocket-accept", "content-length"] {
                assert!(!headers.contains_key(name), "{headers:?}");
            }
            let head = seen.recv().await.unwrap().to_ascii_lowercase();
            assert!(head.starts_with(&format!("get /ws/{n}?x=1 http/1.1\r\n")), "{head}");
            for line in [
                "host: api.test",
                "connection: upgrade",
                "upgrade: websocket",
                "origin: http://page.test",
                "sec-websocket-version: 13",
                "sec-websocket-protocol: chat, other",
                "sec-websocket-extensions: permessage-deflate",
                "x-skep-caller: ann",
            ] {
                assert_eq!(head.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line} in {head}");
            }
            assert!(!head.contains("x-key"), "{head}");
            open.push((stream, body));
        }
        let long = vec![b'x'; 40_000];
        for (stream, body) in &mut open {
            for _ in 0..5 {
                stream.send_data(Bytes::from(long.clone()), false).unwrap();
                assert_eq!(read(body, long.len()).await, vec![b'X'; 40_000]);
            }
        }
        // The client's end reaches the upstream, and its end the client.
        let (mut stream, mut body) = open.remove(0);
        stream.send_data(Bytes::from_static(b"bye"), true).unwrap();
        assert_eq!(read(&mut body, 3).await, b"BYE");
        assert!(ends(&mut body).await);
        // A drain waits for those that are open.
        let draining = tokio::task::spawn_blocking(move || stage.end());
        let (mut stream, mut body) = open.remove(0);
        stream.send_data(Bytes::from_static(b"still there"), false).unwrap();
        assert_eq!(read(&mut body, 11).await, b"STILL THERE");
        stream.send_data(Bytes::new(), true).unwrap();
        assert!(ends(&mut body).await);
        // One that is dropped ends as well.
        drop(open);
        draining.await.unwrap();
    });
}

#[test]
fn what_opens_no_websocket_is_told_as_it_is() {
    run(async {
        let (upstream, mut seen) = server().await;
        let (_stage, web) = gateway(&text(upstream));
        let mut client = client(web).await;
        for (path, protocol, expected) in [
            ("/ws/refused", Some("websocket"), 403),
            ("/ws/plain", Some("websocket"), 502),
            ("/ws/wrong", Some("websocket"), 502),
            ("/ws/stranger", Some("websocket"), 401),
            ("/elsewhere", Some("websocket"), 404),
            ("/ws/1", Some("connect-udp"), 501),
        ] {
            let (status, ..) = connect(&mut client, path, protocol).await;
            assert_eq!(status, expected, "{path}");
        }
        for expected in [200, 200, 429] {
            assert_eq!(connect(&mut client, "/ws/few", Some("websocket")).await.0, expected);
        }
        while let Ok(head) = seen.try_recv() {
            assert!(!head.contains("/ws/stranger") && !head.contains("/ws/1"), "{head}");
        }
        // Without a word it ends.
        let (status, _, _stream, mut body) = connect(&mut client, "/ws/brief", Some("websocket")).await;
        assert_eq!(status, 200);
        assert!(ends(&mut body).await);
    });
}

#[test]
fn a_client_of_many_short_websockets_resets_nothing_too_soon() {
    run(async {
        let (upstream, _seen) = server().await;
        let (_stage, web) = gateway(&text(upstream));
        let mut client = client(web).await;
        for n in 0..250 {
            let (status, _, mut stream, mut body) = connect(&mut client, "/ws/1", Some("websocket")).await;
            assert_eq!(status, 200, "{n}");
            stream.send_data(Bytes::from_static(b"bye"), true).unwrap();
            assert_eq!(read(&mut body, 3).await, b"BYE");
            assert!(ends(&mut body).await);
        }
    });
}
