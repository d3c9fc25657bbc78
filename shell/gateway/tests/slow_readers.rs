//! Clients that take little or nothing of their replies, and those of HTTP/2 that ask for nothing.

#![allow(clippy::unwrap_used, reason = "a test")]

mod stage;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::Request;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use stage::{CERTIFICATE, KEY, Stage, connect};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};

/// How long anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(30);
const BODY_BYTES: usize = 1 << 20;

/// Replies to each request with a long body, in whose middle it pauses if the path says so; or with one without end, in pieces.
fn upstream() -> SocketAddr {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map(Result::unwrap) {
            thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let mut to = stream;
                while let Some(Ok(first)) = lines.next() {
                    while !lines.next().unwrap().unwrap().is_empty() {}
                    if first.contains("/endless") {
                        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                        let piece = [b"8000\r\n", &[b'x'; 0x8000][..], b"\r\n"].concat();
                        let mut wrote = to.write_all(head);
                        while wrote.is_ok() {
                            wrote = to.write_all(&piece);
                        }
                        return;
                    }
                    let half = vec![b'x'; BODY_BYTES / 2];
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY_BYTES}\r\n\r\n");
                    let pause =
                        if first.contains("/pause") { Duration::from_secs(1) } else { Duration::ZERO };
                    let all =
                        to.write_all(head.as_bytes()).and_then(|()| to.write_all(&half)).and_then(|()| {
                            thread::sleep(pause);
                            to.write_all(&half)
                        });
                    if all.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A gateway of one core with one connection to its upstream.
fn gateway(listener: &str) -> (Stage, SocketAddr) {
    let upstream = upstream();
    Stage::new(1, None, |web| {
        format!(
            "[gateway.listener.web]\naddress = '{web}'\n{listener}\n[gateway.route.all]\npool = 'all'\n\
             timeout = {{ connect = '20s', total = '20s' }}\n[gateway.pool.all]\nupstreams = ['{upstream}']\nconnections = 1\n"
        )
    })
}

/// A client with so much room for each reply, whose task ends with the connection.
async fn client(to: SocketAddr, window: u32) -> (SendRequest<Bytes>, JoinHandle<()>) {
    let stream = TcpStream::connect(to).await.unwrap();
    let shaken = Builder::new().initial_window_size(window).handshake(stream).await;
    let (sender, connection) = shaken.unwrap();
    let ended = tokio::spawn(async move {
        let _ = connection.await;
    });
    (sender.ready().await.unwrap(), ended)
}

fn ask(sender: &mut SendRequest<Bytes>, path: &str) -> h2::client::ResponseFuture {
    let request = Request::get(format!("http://a{path}")).body(()).unwrap();
    sender.send_request(request, true).unwrap().0
}

/// Takes all of a reply as fast as it comes.
async fn take(response: h2::client::ResponseFuture) -> Result<usize, h2::Error> {
    let mut body = response.await?.into_body();
    let mut bytes = 0;
    while let Some(piece) = body.data().await {
        let piece = piece?;
        bytes += piece.len();
        body.flow_control().release_capacity(piece.len())?;
    }
    Ok(bytes)
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(LONG, test).await.unwrap() });
}

#[test]
fn who_takes_nothing_of_a_reply_gets_it_no_more_and_the_upstream_is_free_for_others() {
    run(async {
        let (_stage, web) = gateway("body-idle = '200ms'");
        // Pings are answered all the while.
        let (mut greedy, _ended) = client(web, 0).await;
        let stuck: Vec<_> = (0..3).map(|n| ask(&mut greedy, &format!("/{n}"))).collect();
        let mut bodies = Vec::new();
        for response in stuck {
            // The others wait for the upstream's only connection, which each of them holds in its turn.
            bodies.push(response.await.unwrap().into_body());
        }
        let (mut other, _ended) = client(web, 1 << 20).await;
        assert_eq!(take(ask(&mut other, "/x")).await.unwrap(), BODY_BYTES);
        for mut body in bodies {
            let error = body.data().await.unwrap().unwrap_err();
            assert_eq!(error.reason(), Some(h2::Reason::CANCEL), "{error}");
        }
        assert_eq!(
            take(ask(&mut other, "/x")).await.unwrap(),
            BODY_BYTES,
            "the connections of others are left alone"
        );
    });
}

/// A client of TLS that checks nothing but the certificate of this test.
fn secure(to: SocketAddr) -> StreamOwned<ClientConnection, StdStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(CERTIFICATE).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = builder.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), connect(to))
}

/// Asks for a reply without end and takes only its beginning, while another wants the upstream's only connection.
fn takes_nothing_of_http1<S: Read + Write>(listener: &str, open: impl Fn(SocketAddr) -> S) {
    let (_stage, web) = gateway(&format!("body-idle = '200ms'\n{listener}"));
    let mut stuck = open(web);
    stuck.write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stuck.read_exact(&mut [0; 100]).unwrap();
    let mut other = open(web);
    other.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut reply = Vec::new();
    other.read_to_end(&mut reply).unwrap();
    assert!(reply.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&reply[..100]));
    assert!(reply.len() > BODY_BYTES);
    let mut got = [0; 1 << 16];
    // It was cut off in the middle: over TLS that is an error.
    while stuck.read(&mut got).is_ok_and(|n| n > 0) {}
}

#[test]
fn over_http1_too_who_takes_nothing_of_a_reply_frees_the_upstream() {
    takes_nothing_of_http1("", connect);
}

#[test]
fn what_tls_took_to_be_written_is_waited_for_no_longer_than_what_it_did_not_take() {
    let tls = format!("tls.certificates = [{{ cert = '{CERTIFICATE}', key = '{KEY}' }}]");
    takes_nothing_of_http1(&tls, secure);
}

#[test]
fn who_takes_a_little_now_and_then_gets_all_of_it() {
    run(async {
        let (_stage, web) = gateway("body-idle = '2s'");
        let (mut slow, _ended) = client(web, 20_000).await;
        let mut body = ask(&mut slow, "/").await.unwrap().into_body();
        let (began, mut pace, mut bytes) = (Instant::now(), interval(Duration::from_millis(300)), 0);
        while let Some(piece) = body.data().await {
            let piece = piece.unwrap();
            bytes += piece.len();
            // For twice as long as would be too long without taking anything.
            if began.elapsed() < Duration::from_secs(4) {
                pace.tick().await;
            }
            body.flow_control().release_capacity(piece.len()).unwrap();
        }
        assert_eq!(bytes, BODY_BYTES);
    });
}

#[test]
fn who_waits_for_an_upstream_that_pauses_is_no_slow_reader() {
    run(async {
        let (_stage, web) = gateway("body-idle = '100ms'");
        let (mut other, _ended) = client(web, 1 << 20).await;
        assert_eq!(take(ask(&mut other, "/pause")).await.unwrap(), BODY_BYTES);
    });
}

#[test]
fn a_connection_over_which_nothing_is_asked_ends_after_its_time() {
    run(async {
        let (_stage, web) = gateway("idle = '300ms'");
        let (_silent, silent_ended) = client(web, 1 << 20).await;
        let (mut busy, busy_ended) = client(web, 1 << 20).await;
        // A reply that lasts longer keeps its connection.
        assert_eq!(take(ask(&mut busy, "/pause")).await.unwrap(), BODY_BYTES);
        silent_ended.await.unwrap();
        busy_ended.await.unwrap();
    });
}

#[test]
fn a_connection_that_takes_nothing_ends_although_replies_are_left() {
    run(async {
        let (_stage, web) = gateway("idle = '200ms'\nbody-idle = '200ms'");
        // One byte: a piece is given to the connection as a whole, and stays there.
        let (mut stuck, ended) = client(web, 1).await;
        let reply = ask(&mut stuck, "/").await.unwrap();
        ended.await.unwrap();
        drop(reply);
    });
}
