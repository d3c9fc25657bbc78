//! gRPC through the gateway: trailers, time left, answers of the gateway itself, and the health protocol.

#![allow(clippy::unwrap_used, reason = "a test")]

mod stage;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use stage::{PATIENCE, Stage};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{interval, timeout};

const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
const NOT_SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 2];

type Reply = http_body_util::combinators::BoxBody<Bytes, Infallible>;

/// A gRPC server: answers its health, and else gives back what it got, with a status in trailers.
async fn server(healthy: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let healthy = healthy.clone();
            let service = service_fn(move |request| answer(request, healthy.clone()));
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

async fn answer(request: Request<Incoming>, healthy: Arc<AtomicBool>) -> Result<Response<Reply>, Infallible> {
    assert_eq!(request.headers()["te"], "trailers");
    let mut trailers = HeaderMap::new();
    let body = if request.uri().path() == "/grpc.health.v1.Health/Check" {
        Bytes::from_static(if healthy.load(Ordering::Relaxed) { SERVING } else { NOT_SERVING })
    } else {
        trailers.insert("x-time-left", request.headers()["grpc-timeout"].clone());
        request.into_body().collect().await.unwrap().to_bytes()
    };
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(body).with_trailers(async move { Some(Ok(trailers)) });
    Ok(Response::builder().header("content-type", "application/grpc").body(body.boxed()).unwrap())
}

/// A gateway with this configuration, in which `WEB` stands for its listener's address.
fn gateway(text: &str) -> (Stage, SocketAddr) {
    Stage::new(2, None, |web| text.replace("WEB", &web.to_string()))
}

async fn call(
    to: SocketAddr,
    path: &str,
    timeout: &str,
) -> (http::response::Parts, Bytes, Option<HeaderMap>) {
    let stream = TcpStream::connect(to).await.unwrap();
    let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!("http://api.test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", timeout)
        .body(Full::new(Bytes::from_static(b"\0\0\0\0\x03abc")))
        .unwrap();
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    (parts, body.to_bytes(), trailers)
}

fn text(upstream: SocketAddr, health: &str) -> String {
    format!(
        "[gateway.listener.web]\naddress = 'WEB'\n[gateway.route.api]\npath-prefix = '/api.Echo'\npool = 'grpc'\n\
         [gateway.pool.grpc]\nupstreams = ['{upstream}']\nprotocol = 'http2'\npanic = '0%'\n{health}\n"
    )
}

#[test]
fn calls_go_through_with_trailers_and_less_time_than_they_had() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let upstream = server(Arc::default()).await;
        let (stage, web) = gateway(&text(upstream, ""));
        for _ in 0..3 {
            let (parts, body, trailers) = call(web, "/api.Echo/Say", "5S").await;
            assert_eq!((parts.status.as_u16(), &body[..]), (200, &b"\0\0\0\0\x03abc"[..]));
            let trailers = trailers.expect("they came through");
            assert_eq!(trailers["grpc-status"], "0");
            let left = trailers["x-time-left"].to_str().unwrap();
            assert!(
                left.ends_with('u') && left[..left.len() - 1].parse::<u64>().unwrap() <= 5_000_000,
                "{left}"
            );
        }
        // Of the gateway itself: a status of gRPC, not of HTTP.
        let (parts, _, _) = call(web, "/other.Echo/Say", "5S").await;
        assert_eq!(
            (parts.status.as_u16(), &parts.headers["grpc-status"]),
            (200, &HeaderValue::from_static("12"))
        );
        tokio::task::spawn_blocking(|| stage.end()).await.unwrap();
    });
}

#[test]
fn the_health_protocol_takes_an_upstream_out_and_back_in_on_all_cores() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let healthy = Arc::new(AtomicBool::new(true));
        let upstream = server(Arc::clone(&healthy)).await;
        let health = "health = { kind = 'grpc', interval = '100ms', timeout = '100ms', rise = 1, fall = 1 }";
        let (stage, web) = gateway(&text(upstream, health));
        for (is_well, expected) in [(true, None), (false, Some("14")), (true, None)] {
            healthy.store(is_well, Ordering::Relaxed);
            // Connections are spread over the cores: all of them must know.
            let mut in_a_row = 0;
            while in_a_row < 10 {
                let (parts, _, _) = call(web, "/api.Echo/Say", "5S").await;
                let said = parts.headers.get("grpc-status").map(|v| v.to_str().unwrap().to_owned());
                in_a_row = if said.as_deref() == expected { in_a_row + 1 } else { 0 };
            }
        }
        tokio::task::spawn_blocking(|| stage.end()).await.unwrap();
    });
}

/// Both may be silent for so long; one of them may be for longer.
const IDLE: Duration = Duration::from_secs(1);

/// A word now and then, for longer than one may be silent.
async fn chat(to: &mut h2::SendStream<Bytes>) {
    let mut pace = interval(IDLE / 10);
    for _ in 0..25 {
        pace.tick().await;
        to.send_data(Bytes::from_static(b"."), false).unwrap();
    }
    to.send_data(Bytes::from_static(b"!"), false).unwrap();
}

/// Takes what comes until the other has said enough; false if it breaks off.
async fn hear(from: &mut h2::RecvStream) -> bool {
    while let Some(Ok(piece)) = from.data().await {
        from.flow_control().release_capacity(piece.len()).unwrap();
        if piece.ends_with(b"!") {
            return true;
        }
    }
    false
}

/// Begins its reply at once. For `/api.Echo/Listen` it chats, then hears; for `/api.Echo/Talk` it hears, then chats; for
/// `/api.Echo/Brief` it says all at once; else nothing.
async fn converser() -> SocketAddr {
    stage::http2::upstream(|request, mut reply| {
        let mut says = reply.send_response(Response::new(()), false).unwrap();
        tokio::spawn(async move {
            let (head, mut hears) = request.into_parts();
            match head.uri.path() {
                "/api.Echo/Listen" => {
                    chat(&mut says).await;
                    assert!(hear(&mut hears).await);
                }
                "/api.Echo/Talk" => {
                    assert!(hear(&mut hears).await);
                    chat(&mut says).await;
                }
                "/api.Echo/Brief" => {}
                _ => assert!(!hear(&mut hears).await),
            }
            says.send_data(Bytes::from_static(b"!"), true).unwrap();
        });
    })
    .await
}

#[test]
fn a_conversation_lasts_as_long_as_one_of_both_says_something() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let test = async {
        let upstream = converser().await;
        let idle = IDLE.as_millis();
        // A client may be silent for as long by itself, or for longer: then the reply's time is over before the body's.
        let rules =
            |body: &str| format!("body-idle = '{body}'\n[gateway.route.api]\ntimeout.idle = '{idle}ms'");
        let touchy = text(upstream, "breaker.consecutive = 1");
        let of = |body: &str| touchy.replace("[gateway.route.api]", &rules(body));
        for (body, paths) in [
            (format!("{idle}ms"), &["Silence", "Listen", "Talk"][..]),
            ("1min".to_owned(), &["Silence", "Brief"]),
        ] {
            let (stage, web) = Stage::new(1, None, |web| of(&body).replace("WEB", &web.to_string()));
            for path in paths {
                let stream = TcpStream::connect(web).await.unwrap();
                let (sender, connection) = h2::client::handshake(stream).await.unwrap();
                tokio::spawn(connection);
                let request = Request::post(format!("http://api.test/api.Echo/{path}"))
                    .header("content-type", "application/grpc")
                    .header("te", "trailers")
                    .body(())
                    .unwrap();
                let (reply, mut says) = sender.ready().await.unwrap().send_request(request, false).unwrap();
                says.send_data(Bytes::from_static(b"."), false).unwrap();
                let mut hears = reply.await.unwrap().into_body();
                match *path {
                    "Listen" => {
                        assert!(hear(&mut hears).await);
                        chat(&mut says).await;
                    }
                    "Talk" => {
                        chat(&mut says).await;
                        assert!(hear(&mut hears).await);
                    }
                    _ => {}
                }
                assert_eq!(hear(&mut hears).await, *path != "Silence", "{path}");
            }
            tokio::task::spawn_blocking(|| stage.end()).await.unwrap();
        }
    };
    runtime.block_on(async { timeout(PATIENCE, test).await.unwrap() });
}
