//! WebSockets to upstreams of HTTP/2.

#![allow(clippy::unwrap_used, reason = "a test")]

mod stage;

use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response};
use stage::websocket::{client, connect, ends, gateway, read, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::spawn_local;
use tokio::time::timeout;

/// The example of RFC 6455, section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A server of HTTP/2 that says again in capitals what comes over its WebSockets.
struct Server {
    address: SocketAddr,
    seen: UnboundedReceiver<Request<()>>,
    connections: Rc<Cell<u32>>,
}

/// One that opens WebSockets or not, and takes so many requests at once over a connection.
async fn server(opens: bool, streams: u32) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, seen) = unbounded_channel();
    let connections = Rc::<Cell<u32>>::default();
    let count = Rc::clone(&connections);
    spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.set(count.get() + 1);
            spawn_local(serve(stream, opens, streams, heads.clone()));
        }
    });
    Server { address, seen, connections }
}

async fn serve(stream: TcpStream, opens: bool, streams: u32, heads: UnboundedSender<Request<()>>) {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(streams);
    if opens {
        builder.enable_connect_protocol();
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        spawn_local(answer(request, respond, heads.clone()));
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    heads: UnboundedSender<Request<()>>,
) {
    let (head, mut body) = request.into_parts();
    let (path, method) = (head.uri.path().to_owned(), head.method.clone());
    let _ = heads.send(Request::from_parts(head, ()));
    let status = match &*path {
        "/ws/refused" => 403,
        "/ws/other" => 202,
        _ => 200,
    };
    let response =
        Response::builder().status(status).header("sec-websocket-protocol", "chat").body(()).unwrap();
    let Ok(mut reply) = respond.send_response(response, false) else { return };
    if method != Method::CONNECT || status != 200 {
        let _ = reply.send_data(Bytes::from_static(b"ok."), true);
        return;
    }
    if path == "/ws/flood" {
        return flood(reply).await;
    }
    if path == "/ws/deaf" {
        let _ = poll_fn(|cx| reply.poll_reset(cx)).await;
        return;
    }
    while let Some(Ok(piece)) = body.data().await {
        body.flow_control().release_capacity(piece.len()).unwrap();
        if reply.send_data(piece.to_ascii_uppercase().into(), false).is_err() {
            return;
        }
    }
    let _ = reply.send_data(Bytes::new(), true);
}

/// Says as much as may be said.
async fn flood(mut reply: SendStream<Bytes>) {
    loop {
        reply.reserve_capacity(1 << 16);
        let Some(Ok(room)) = poll_fn(|cx| reply.poll_capacity(cx)).await else { return };
        if reply.send_data(vec![b'x'; room].into(), false).is_err() {
            return;
        }
    }
}

fn text(upstream: SocketAddr) -> String {
    of_pool(&[upstream])
}

fn of_pool(upstreams: &[SocketAddr]) -> String {
    let upstreams: Vec<String> = upstreams.iter().map(ToString::to_string).collect();
    format!(
        "[gateway.listener.web]\naddress = 'WEB'\n\
         [gateway.route.all]\npool = 'p'\n\
         [gateway.route.brief]\npath = '/ws/brief'\npool = 'p'\ntimeout.idle = '100ms'\n\
         [gateway.pool.p]\nupstreams = {upstreams:?}\nprotocol = 'http2'\nbreaker.consecutive = 1\n"
    )
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

/// Asks over HTTP/1.1 for a WebSocket; `key` is a whole line. Gives the head of the answer.
async fn upgrade(web: SocketAddr, path: &str, key: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(web).await.unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\n{key}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    (read_head(&mut stream).await, stream)
}

#[test]
fn websockets_of_clients_of_both_protocols_reach_an_upstream_of_http2() {
    run(async {
        let mut server = server(true, 100).await;
        let (stage, web) = gateway(&text(server.address));
        let mut over_h2 = client(web).await;
        let (status, headers, mut stream, mut body) =
            connect(&mut over_h2, "/ws/1?x=1", Some("websocket")).await;
        assert_eq!(status, 200);
        assert_eq!(headers["sec-websocket-protocol"], "chat");
        assert!(!headers.contains_key("sec-websocket-accept"), "{headers:?}");
        let line = format!("Sec-WebSocket-Key: {KEY}\r\n");
        let (head, mut over_h1) = upgrade(web, "/ws/1?x=1", &line).await;
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        for line in ["upgrade: websocket", "connection: upgrade", "sec-websocket-protocol: chat"] {
            assert_eq!(head.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line} in {head}");
        }
        assert!(
            head.contains(&format!("sec-websocket-accept: {}\r\n", ACCEPT.to_ascii_lowercase())),
            "{head}"
        );
        for _ in 0..2 {
            let seen = server.seen.recv().await.unwrap();
            assert_eq!(seen.method(), Method::CONNECT);
            assert_eq!(seen.extensions().get::<Protocol>().unwrap().as_str(), "websocket");
            assert_eq!(seen.uri().to_string(), "http://api.test/ws/1?x=1");
            assert_eq!(seen.headers()["sec-websocket-version"], "13");
            assert!(seen.headers().contains_key("x-forwarded-for"));
            for name in ["connection", "upgrade", "sec-websocket-key", "content-length", "host"] {
                assert!(!seen.headers().contains_key(name), "{name} in {:?}", seen.headers());
            }
        }
        let long = vec![b'x'; 40_000];
        for _ in 0..5 {
            stream.send_data(Bytes::from(long.clone()), false).unwrap();
            assert_eq!(read(&mut body, long.len()).await, vec![b'X'; 40_000]);
            over_h1.write_all(&long).await.unwrap();
            let mut got = vec![0; long.len()];
            over_h1.read_exact(&mut got).await.unwrap();
            assert_eq!(got, vec![b'X'; 40_000]);
        }
        // Requests share their connection.
        let mut plain = TcpStream::connect(web).await.unwrap();
        plain.write_all(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(read_head(&mut plain).await.starts_with("http/1.1 200 "));
        assert_eq!(server.connections.get(), 1);
        // The client's end reaches the upstream, and its end the client.
        stream.send_data(Bytes::from_static(b"bye"), true).unwrap();
        assert_eq!(read(&mut body, 3).await, b"BYE");
        assert!(ends(&mut body).await);
        // A drain waits for those that are open.
        let draining = tokio::task::spawn_blocking(move || stage.end());
        over_h1.write_all(b"still there").await.unwrap();
        let mut got = [0; 11];
        over_h1.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"STILL THERE");
        assert!(!draining.is_finished());
        over_h1.shutdown().await.unwrap();
        assert_eq!(over_h1.read(&mut got).await.unwrap(), 0);
        draining.await.unwrap();
    });
}

#[test]
fn an_upstream_that_announces_no_websockets_refuses_them_and_is_not_to_blame() {
    run(async {
        let mut server = server(false, 100).await;
        let (_stage, web) = gateway(&text(server.address));
        let mut over_h2 = client(web).await;
        for _ in 0..3 {
            let (status, _, _, mut body) = connect(&mut over_h2, "/ws/1", Some("websocket")).await;
            assert_eq!(status, 501);
            let what = read(&mut body, 20).await;
            assert!(String::from_utf8_lossy(&what).contains("announces no WebSockets"));
            let line = format!("Sec-WebSocket-Key: {KEY}\r\n");
            let (head, _) = upgrade(web, "/ws/1", &line).await;
            assert!(head.starts_with("http/1.1 501 "), "{head}");
        }
        let mut plain = TcpStream::connect(web).await.unwrap();
        plain.write_all(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(read_head(&mut plain).await.starts_with("http/1.1 200 "), "no breaker is open");
        assert_eq!(server.seen.recv().await.unwrap().uri().path(), "/plain");
    });
}

#[test]
fn websockets_go_to_those_of_a_pool_that_announce_them() {
    run(async {
        let (plain, opening) = (server(false, 100).await, server(true, 100).await);
        let (_stage, web) = gateway(&of_pool(&[plain.address, opening.address]));
        let mut client = client(web).await;
        for _ in 0..20 {
            assert_eq!(connect(&mut client, "/ws/1", Some("websocket")).await.0, 200);
        }
        assert_eq!(plain.connections.get(), 1, "it was asked whether it does");
    });
}

#[test]
fn what_opens_no_websocket_over_http2_is_told_as_it_is() {
    run(async {
        let mut server = server(true, 100).await;
        let (_stage, web) = gateway(&text(server.address));
        let mut over_h2 = client(web).await;
        let line = format!("Sec-WebSocket-Key: {KEY}\r\n");
        // Over HTTP/2 a client would take 202 for an open WebSocket.
        for (path, of_h1, of_h2) in [("/ws/refused", 403, 403), ("/ws/other", 202, 502)] {
            let (head, _) = upgrade(web, path, &line).await;
            assert!(head.starts_with(&format!("http/1.1 {of_h1} ")), "{head}");
            assert_eq!(connect(&mut over_h2, path, Some("websocket")).await.0, of_h2);
            for _ in 0..2 {
                assert_eq!(server.seen.recv().await.unwrap().method(), Method::CONNECT);
            }
        }
        // What is no WebSocket by its own rules asks for nothing.
        for key in ["", "Sec-WebSocket-Key: short\r\n", &format!("{line}{line}")] {
            let (head, _) = upgrade(web, "/ws/1", key).await;
            assert!(head.starts_with("http/1.1 200 "), "{head}");
            let seen = server.seen.recv().await.unwrap();
            assert_eq!(seen.method(), Method::GET);
            assert!(!seen.headers().contains_key("upgrade"));
        }
        // Without a word it ends.
        let (status, _, _stream, mut body) = connect(&mut over_h2, "/ws/brief", Some("websocket")).await;
        assert_eq!(status, 200);
        assert!(ends(&mut body).await);
        let (head, mut stream) = upgrade(web, "/ws/brief", &line).await;
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0);
    });
}

#[test]
fn no_more_of_them_go_over_a_connection_than_its_upstream_allows() {
    run(async {
        let server = server(true, 2).await;
        let (_stage, web) = gateway(&text(server.address));
        let line = format!("Sec-WebSocket-Key: {KEY}\r\n");
        let mut open = Vec::new();
        for n in 0..6u8 {
            let (head, mut stream) = upgrade(web, "/ws/1", &line).await;
            assert!(head.starts_with("http/1.1 101 "), "{head}");
            stream.write_all(&[b'a' + n]).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'A' + n);
            open.push(stream);
        }
        assert_eq!(server.connections.get(), 3);
    });
}

#[test]
fn clients_that_do_not_read_their_websockets_stop_no_other_request() {
    run(async {
        let server = server(true, 100).await;
        let (_stage, web) = gateway(&text(server.address));
        let mut unread = client(web).await;
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(connect(&mut unread, "/ws/flood", Some("websocket")).await);
        }
        // While they are sent all that there is room for.
        for _ in 0..200 {
            let mut plain = TcpStream::connect(web).await.unwrap();
            plain.write_all(b"GET /plain HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut reply = String::new();
            plain.read_to_string(&mut reply).await.unwrap();
            assert!(reply.contains("\r\nok.\r\n"), "{reply}");
        }
        assert_eq!(server.connections.get(), 1);
    });
}

#[test]
fn many_at_once_to_an_upstream_that_was_not_asked_yet_are_no_more_than_it_allows() {
    run(async {
        let server = server(true, 2).await;
        let (_stage, web) = gateway(&text(server.address));
        let line = format!("Sec-WebSocket-Key: {KEY}\r\n");
        let asked: Vec<_> = (0..6)
            .map(|_| {
                let line = line.clone();
                spawn_local(async move { upgrade(web, "/ws/1", &line).await })
            })
            .collect();
        let mut open = Vec::new();
        for asked in asked {
            let (head, stream) = asked.await.unwrap();
            assert!(head.starts_with("http/1.1 101 "), "{head}");
            open.push(stream);
        }
        assert_eq!(server.connections.get(), 3);
    });
}

#[test]
fn a_websocket_that_its_upstream_does_not_read_gives_its_place_back_when_it_ends() {
    run(async {
        let server = server(true, 1).await;
        let deaf = "[gateway.route.deaf]\npath = '/ws/deaf'\npool = 'p'\ntimeout.idle = '300ms'\n";
        let (_stage, web) = gateway(&format!("{}connections = 1\n{deaf}", text(server.address)));
        let line = format!("Sec-WebSocket-Key: {KEY}\r\n");
        let (head, mut deaf) = upgrade(web, "/ws/deaf", &line).await;
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        // More than there is room for.
        let _ =
            timeout(Duration::from_secs(60), deaf.write_all(&vec![b'x'; 64 << 20])).await.expect("it ends");
        let (head, _) = upgrade(web, "/ws/1", &line).await;
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert_eq!(server.connections.get(), 1);
    });
}

#[test]
fn a_websocket_over_http2_is_open_for_longer_than_its_connection_may_rest() {
    run(async {
        let server = server(true, 100).await;
        let text =
            text(server.address).replace("address = 'WEB'", "address = 'WEB'\nidle = '1s'\nbody-idle = '1s'");
        let (_stage, web) = gateway(&text);
        let mut client = client(web).await;
        let (status, _, mut says, mut hears) = connect(&mut client, "/ws/1", Some("websocket")).await;
        assert_eq!(status, 200);
        for _ in 0..16 {
            says.send_data(Bytes::from_static(b"a"), false).unwrap();
            assert_eq!(read(&mut hears, 1).await, b"A");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    });
}
