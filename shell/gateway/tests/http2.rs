//! HTTP/2 with clients and upstreams, where it differs from HTTP/1.1.

#![allow(clippy::unwrap_used, reason = "a test")]

mod stage;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use stage::Stage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::timeout;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An upstream of HTTP/1.1 that answers with what `answer` makes of a request.
async fn upstream(answer: fn(&Request<Incoming>) -> String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(move |request| async move {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(answer(&request)))))
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    address
}

/// A gateway whose configuration goes on with `text`, and a client's connection to it.
async fn begin(text: &str) -> (Stage, SocketAddr, h2::client::SendRequest<Bytes>) {
    let whole = |web: SocketAddr| format!("[gateway.listener.web]\naddress = '{web}'\n{text}\n");
    let (stage, web) = Stage::new(1, None, whole);
    let stream = TcpStream::connect(web).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    (stage, web, client.ready().await.unwrap())
}

/// The whole reply to a request without a body.
async fn ask(client: &mut h2::client::SendRequest<Bytes>, request: Request<()>) -> Response<Vec<u8>> {
    *client = client.clone().ready().await.unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let (parts, mut body) = response.await.unwrap().into_parts();
    let mut whole = Vec::new();
    while let Some(piece) = body.data().await {
        whole.extend_from_slice(&piece.unwrap());
    }
    Response::from_parts(parts, whole)
}

async fn end(stage: Stage) {
    tokio::task::spawn_blocking(|| stage.end()).await.unwrap();
}

#[tokio::test]
async fn cookies_of_several_lines_reach_an_upstream_of_http1_as_one() {
    let cookies = |request: &Request<Incoming>| {
        let lines = request.headers().get_all("cookie").iter().map(|line| line.to_str().unwrap());
        lines.collect::<Vec<_>>().join("\n")
    };
    let upstream = upstream(cookies).await;
    let text = format!(
        "[gateway.route.r]\npath-prefix = '/'\npool = 'p'\n[gateway.pool.p]\nupstreams = ['{upstream}']"
    );
    let (stage, _, mut client) = begin(&text).await;
    for (lines, expected) in [(&["a=1", "b=2", "c=3"][..], "a=1; b=2; c=3"), (&["a=1"], "a=1"), (&[], "")] {
        let asked = lines.iter().fold(Request::get("http://a.test/"), |r, line| r.header("cookie", *line));
        assert_eq!(ask(&mut client, asked.body(()).unwrap()).await.body(), expected.as_bytes());
    }
    end(stage).await;
}

#[tokio::test]
async fn answers_of_the_gateway_to_head_and_those_of_204_and_304_have_no_body() {
    let answers = [200, 204, 304].map(|status| {
        format!("[gateway.route.a{status}]\npath-prefix = '/{status}'\nanswer = {{ status = {status}, body = 'hello' }}\n")
    });
    let (stage, _, mut client) = begin(&answers.concat()).await;
    for (method, path, status, length) in [
        ("HEAD", "/none", 404, true),
        ("HEAD", "/200", 200, true),
        ("HEAD", "/204", 204, false),
        ("GET", "/204", 204, false),
        ("GET", "/304", 304, false),
    ] {
        client = client.ready().await.unwrap();
        let request = Request::builder().method(method).uri(format!("http://a.test{path}")).body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let response = response.await.unwrap();
        let seen = (response.status().as_u16(), response.headers().contains_key("content-length"));
        assert_eq!(seen, (status, length), "{method} {path}");
        assert!(response.body().is_end_stream(), "{method} {path} has a body");
    }
    let whole = ask(&mut client, Request::get("http://a.test/200").body(()).unwrap()).await;
    assert_eq!(whole.body(), b"hello");
    end(stage).await;
}

/// A kind of frame (RFC 9113, section 6).
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = &(payload.len() as u32).to_be_bytes()[1..];
    [length, &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// An upstream of HTTP/2 that answers each frame, by its kind, flags and stream, with the bytes that `answer` gives. None ends the connection, after a byte more.
async fn frames<F>(answer: F) -> SocketAddr
where
    F: Fn(u8, u8, u32) -> (Vec<u8>, bool) + Clone + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
                stream.read_exact(&mut [0; PREFACE.len()]).await?;
                loop {
                    let mut head = [0; 9];
                    stream.read_exact(&mut head).await?;
                    let number = |bytes: &[u8]| bytes.iter().fold(0_u32, |sum, b| sum << 8 | u32::from(*b));
                    stream.read_exact(&mut vec![0; number(&head[..3]) as usize]).await?;
                    let (said, goes_on) = answer(head[3], head[4], number(&head[5..]));
                    stream.write_all(&said).await?;
                    if !goes_on {
                        return io::Result::Ok(());
                    }
                }
            });
        }
    });
    address
}

fn http2_pool(upstreams: &[SocketAddr], more: &str) -> String {
    let upstreams: Vec<String> = upstreams.iter().map(ToString::to_string).collect();
    format!(
        "[gateway.route.r]\npath-prefix = '/'\npool = 'p'\n[gateway.pool.p]\nupstreams = {upstreams:?}\nprotocol = 'http2'\n{more}"
    )
}

#[tokio::test]
async fn a_post_above_the_last_stream_of_a_goaway_goes_elsewhere_and_one_below_does_not() {
    for (last_stream, expected, sent) in [(0_u32, 200, 2), (1, 502, 1)] {
        let seen = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&seen);
        let answer = move |kind, _, stream| match kind {
            HEADERS if counted.fetch_add(1, Relaxed) == 0 => {
                (frame(GOAWAY, 0, 0, &[&last_stream.to_be_bytes()[..], &[0; 4]].concat()), last_stream == 0)
            }
            // END_STREAM and END_HEADERS, and the status 200 as HPACK indexes it.
            HEADERS => (frame(HEADERS, 5, stream, &[0x88]), true),
            _ => (Vec::new(), true),
        };
        let upstreams = [frames(answer.clone()).await, frames(answer).await];
        let (stage, _, mut client) = begin(&http2_pool(&upstreams, "")).await;
        let reply = ask(&mut client, Request::post("http://a.test/").body(()).unwrap()).await;
        assert_eq!(
            (reply.status().as_u16(), seen.load(Relaxed)),
            (expected, sent),
            "last stream {last_stream}"
        );
        end(stage).await;
    }
}

#[tokio::test]
async fn a_post_that_a_goaway_leaves_untouched_goes_over_another_connection_to_the_only_upstream() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let upstream = frames(move |kind, _, stream| match kind {
        // The second of each connection is one too many.
        HEADERS if stream == 3 => (frame(GOAWAY, 0, 0, &[&1_u32.to_be_bytes()[..], &[0; 4]].concat()), true),
        HEADERS => {
            counted.fetch_add(1, Relaxed);
            (frame(HEADERS, 5, stream, &[0x88]), true)
        }
        _ => (Vec::new(), true),
    })
    .await;
    let (stage, _, mut client) = begin(&http2_pool(&[upstream], "breaker.consecutive = 1")).await;
    for n in 1..=6 {
        let reply = ask(&mut client, Request::post("http://a.test/").body(()).unwrap()).await;
        assert_eq!((reply.status().as_u16(), seen.load(Relaxed)), (200, n));
    }
    end(stage).await;
}

#[tokio::test]
async fn a_connection_over_which_nothing_comes_any_more_gets_no_second_request() {
    // Only the first request of each connection is answered.
    let upstream = frames(|kind, _, stream| match kind {
        HEADERS if stream == 1 => (frame(HEADERS, 5, stream, &[0x88]), true),
        _ => (Vec::new(), true),
    })
    .await;
    let text = http2_pool(&[upstream], "connections = 1\nbreaker = false\neject = false");
    let (stage, _, mut client) =
        begin(&format!("{text}\n[gateway.route.s]\npath = '/s'\npool = 'p'\ntimeout.request = '1200ms'"))
            .await;
    for (path, expected) in [("/", 200), ("/s", 504), ("/", 200)] {
        let request = Request::post(format!("http://a.test{path}")).body(()).unwrap();
        assert_eq!(ask(&mut client, request).await.status(), expected, "{path}");
    }
    end(stage).await;
}

#[tokio::test]
async fn an_upstream_of_http2_is_pinged_as_rarely_as_its_pool_says() {
    let (pinged, mut pings) = unbounded_channel();
    let upstream = frames(move |kind, flags, _| {
        if kind == PING && flags == 0 {
            pinged.send(Instant::now()).unwrap();
            return (frame(PING, 1, 0, &[0; 8]), true);
        }
        (Vec::new(), true)
    })
    .await;
    let (stage, _, client) = begin(&http2_pool(&[upstream], "keep-alive = '1s'")).await;
    let asked_at = Instant::now();
    let mut client = client.ready().await.unwrap();
    let (_hangs, _) = client.send_request(Request::get("http://a.test/").body(()).unwrap(), true).unwrap();
    let first = timeout(stage::PATIENCE, pings.recv()).await.expect("it is pinged").unwrap();
    assert!(first - asked_at >= Duration::from_secs(1), "pinged after {:?}", first - asked_at);
    drop((client, _hangs));
    end(stage).await;
}

#[tokio::test]
async fn the_headers_of_a_request_over_http2_are_to_come_within_header_time() {
    let whole = |web: SocketAddr| {
        format!(
            "[gateway.listener.web]\naddress = '{web}'\nheader-time = '1s'\n\
             [gateway.route.a]\npath-prefix = '/'\nanswer = {{ status = 200, body = 'hello' }}\n"
        )
    };
    let (stage, web) = Stage::new(1, None, whole);
    let (mut client, connection) =
        h2::client::handshake(TcpStream::connect(web).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    let (mut ahead, connection) =
        h2::client::handshake(TcpStream::connect(web).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    let request = || Request::get("http://a.test/").body(()).unwrap();
    assert_eq!(ask(&mut client, request()).await.body(), b"hello");
    // Of a head of 100 bytes that comes drop by drop: the first.
    let begun = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &[0, 0, 100, HEADERS, 5, 0, 0, 0, 1, 0x82]].concat();
    // The same after a whole one: GET / with the authority `a`.
    let whole =
        [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, 5, 1, &[0x82, 0x84, 0x86, 0x41, 1, b'a'])];
    let second = [whole.concat(), vec![0, 0, 100, HEADERS, 5, 0, 0, 0, 3, 0x82]].concat();
    for said in [&PREFACE[..5], &begun, &second] {
        let mut stream = TcpStream::connect(web).await.unwrap();
        stream.write_all(said).await.unwrap();
        let ended = timeout(stage::PATIENCE, stream.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "it lives on after {} bytes", said.len());
    }
    // Who has asked may rest, and so may who has connected ahead.
    for client in [&mut client, &mut ahead] {
        assert_eq!(ask(client, request()).await.body(), b"hello");
    }
    drop(client);
    end(stage).await;
}

#[tokio::test]
async fn a_client_that_resets_most_of_its_streams_at_once_is_told_to_calm_down() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let (arrived, mut arrivals) = unbounded_channel();
    // It never answers.
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let arrived = arrived.clone();
            tokio::spawn(async move {
                while stream.read(&mut [0; 1024]).await.is_ok_and(|count| count > 0) {
                    arrived.send(()).unwrap();
                }
            });
        }
    });
    let text = format!(
        "[gateway.listener.web]\naddress = 'WEB'\n[gateway.route.r]\npath-prefix = '/'\npool = 'p'\n\
         [gateway.pool.p]\nupstreams = ['{upstream}']\n"
    );
    let (stage, web) = Stage::new(1, None, |web| text.replace("WEB", &web.to_string()));
    let (mut client, connection) =
        h2::client::handshake(TcpStream::connect(web).await.unwrap()).await.unwrap();
    let ended = tokio::spawn(connection);
    let mut reset = 0;
    while reset < 400 && !ended.is_finished() {
        let Ok(ready) = client.ready().await else { break };
        client = ready;
        let Ok((_reply, mut stream)) =
            client.send_request(Request::post("http://a.test/").body(()).unwrap(), true)
        else {
            break;
        };
        // Each has reached the upstream, which costs a connection to it.
        tokio::select! {
            arrived = arrivals.recv() => arrived.unwrap(),
            _ = _reply => break,
        }
        stream.send_reset(h2::Reason::CANCEL);
        reset += 1;
    }
    assert!((100..400).contains(&reset), "{reset} streams were reset");
    let fault = timeout(stage::PATIENCE, ended).await.expect("it ends").unwrap().unwrap_err();
    assert_eq!(fault.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
    end(stage).await;
}

#[tokio::test]
async fn an_upload_that_its_client_resets_without_an_error_is_not_taken_for_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let text = format!(
        "[gateway.route.r]\npath-prefix = '/'\npool = 'p'\n[gateway.pool.p]\nupstreams = ['{upstream}']"
    );
    let (stage, _, mut client) = begin(&text).await;
    let request = Request::post("http://a.test/").body(()).unwrap();
    let (_reply, mut body) = client.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"a part"), false).unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"a part\r\n") {
        stream.read_buf(&mut read).await.unwrap();
    }
    body.send_reset(h2::Reason::NO_ERROR);
    let rest = timeout(stage::PATIENCE, stream.read_to_end(&mut read)).await.expect("its connection ends");
    assert!(rest.is_err() || !read.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&read));
    drop((client, body, _reply));
    end(stage).await;
}

#[tokio::test]
async fn an_upload_that_goes_on_behind_its_reply_ends_when_its_upstream_takes_no_more() {
    // It has one window for each body, answers at once, and has room for one request.
    let upstream = frames(|kind, _, stream| match kind {
        SETTINGS => (frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1]), true),
        HEADERS => (frame(HEADERS, 5, stream, &[0x88]), true),
        _ => (Vec::new(), true),
    })
    .await;
    let whole = |web: SocketAddr| {
        let pool = http2_pool(&[upstream], "connections = 1");
        format!("[gateway.listener.web]\naddress = '{web}'\nbody-idle = '1s'\n{pool}\n")
    };
    let (stage, web) = Stage::new(1, None, whole);
    for n in 0..3 {
        let mut stream = TcpStream::connect(web).await.unwrap();
        let head = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n";
        stream.write_all(&[&head[..], &[b'x'; 200_000]].concat()).await.unwrap();
        let mut reply = [0; 12];
        let read = timeout(stage::PATIENCE, stream.read_exact(&mut reply)).await;
        read.unwrap_or_else(|_| panic!("request {n} has no reply")).unwrap();
        assert_eq!(&reply, b"HTTP/1.1 200");
    }
    end(stage).await;
}

#[tokio::test]
async fn an_upload_that_its_upstream_takes_late_does_not_end_the_reply_that_goes_on() {
    let upstream = stage::http2::upstream(|_request, mut reply| {
        tokio::spawn(async move {
            // It reads nothing of the request.
            let mut body = reply.send_response(Response::new(()), false).unwrap();
            for _ in 0..10 {
                body.send_data(Bytes::from_static(b"."), false).unwrap();
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            body.send_data(Bytes::new(), true).unwrap();
            drop(_request);
        });
    })
    .await;
    let whole = |web: SocketAddr| {
        let pool = http2_pool(&[upstream], "");
        format!("[gateway.listener.web]\naddress = '{web}'\nbody-idle = '1s'\n{pool}\n")
    };
    let (stage, web) = Stage::new(1, None, whole);
    let (client, connection) = h2::client::handshake(TcpStream::connect(web).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = Request::post("http://a.test/").body(()).unwrap();
    let (response, mut body) = client.send_request(request, false).unwrap();
    body.send_data(vec![b'x'; 1 << 20].into(), false).unwrap();
    let mut reply = response.await.unwrap().into_body();
    let mut whole = Vec::new();
    while let Some(piece) = reply.data().await {
        whole.extend_from_slice(&piece.expect("the reply goes on"));
    }
    assert_eq!(whole, b"..........");
    drop((client, body));
    end(stage).await;
}

#[tokio::test]
async fn a_reply_that_is_reset_without_an_error_is_whole_only_if_it_ended_before() {
    for ends in [true, false] {
        let upstream = frames(move |kind, _, stream| match kind {
            // The status 200 without a length, a part, and NO_ERROR.
            HEADERS => {
                let said = [
                    frame(HEADERS, 4, stream, &[0x88]),
                    frame(0, u8::from(ends), stream, b"half"),
                    frame(3, 0, stream, &[0; 4]),
                ];
                (said.concat(), true)
            }
            _ => (Vec::new(), true),
        })
        .await;
        let (stage, _, mut client) = begin(&http2_pool(&[upstream], "eject = false\nbreaker = false")).await;
        client = client.ready().await.unwrap();
        // Sent on at once.
        let request = Request::post("http://a.test/").header("content-type", "application/grpc");
        let (response, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
        let whole = async {
            let mut reply = response.await?.into_body();
            let mut whole = Vec::new();
            while let Some(piece) = reply.data().await {
                whole.extend_from_slice(&piece?);
            }
            Ok::<_, h2::Error>(whole)
        };
        let whole = whole.await.ok();
        assert_eq!(whole.as_deref(), ends.then_some(&b"half"[..]), "with its end: {ends}");
        body.send_reset(h2::Reason::CANCEL);
        drop((client, body));
        end(stage).await;
    }
}
