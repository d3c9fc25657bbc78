//! Trailers of an upstream of HTTP/2 on their way to clients of HTTP/1.1.

#![allow(clippy::unwrap_used, reason = "a test")]

mod stage;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use skep_gateway::{Store, StoreCall, StoreError};
use stage::Stage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Answers with a body and trailers, which its head announces, by way of what was asked.
fn answer(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let mut response = Response::builder().header("trailer", "x-sum, host");
    if request.uri().path().ends_with("/long") {
        response = response.header("content-length", "4");
    }
    let mut stream = respond.send_response(response.body(()).unwrap(), false).unwrap();
    stream.send_data(Bytes::from_static(b"body"), false).unwrap();
    let lines = [("x-sum", "1"), ("host", "evil")]
        .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
    stream.send_trailers(HeaderMap::from_iter(lines)).unwrap();
}

/// A store in which every key is free.
struct Free;

impl Store for Free {
    fn call(&self, command: Vec<Bytes>) -> StoreCall {
        let claims = command[1].ends_with(b"return false");
        Box::pin(async move {
            Ok::<Vec<u8>, StoreError>(if claims { b"$-1\r\n".to_vec() } else { b":1\r\n".to_vec() })
        })
    }
}

async fn ask(web: SocketAddr, path: &str, lines: &str) -> String {
    let mut stream = TcpStream::connect(web).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n{lines}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply.to_ascii_lowercase()
}

#[tokio::test]
async fn they_reach_who_takes_them_with_a_key_as_without() {
    let upstream = stage::http2::upstream(answer).await;
    let (stage, web) = Stage::new(1, Some(Arc::new(Free)), |web| {
        format!(
            "[gateway.listener.web]\naddress = '{web}'\n[gateway.route.all]\npool = 'p'\n\
             [gateway.route.keyed]\npath-prefix = '/keyed'\npool = 'p'\nidempotency = true\n\
             [gateway.pool.p]\nupstreams = ['{upstream}']\nprotocol = 'http2'\n"
        )
    });
    let takes = "TE: trailers\r\nConnection: TE, close\r\n";
    let chunked = "4\r\nbody\r\n0\r\n";
    for (path, lines, body, announced) in [
        ("/", takes, format!("{chunked}x-sum: 1\r\n\r\n"), true),
        ("/keyed", takes, format!("{chunked}x-sum: 1\r\n\r\n"), true),
        ("/", "Connection: close\r\n", format!("{chunked}\r\n"), false),
        // Held whole, it is of a known length.
        ("/keyed", "Connection: close\r\n", "body".to_owned(), false),
        // Behind a told length there is no place for them.
        ("/long", takes, "body".to_owned(), true),
    ] {
        let lines = format!("Idempotency-Key: {}\r\n{lines}", "k".repeat(20));
        let reply = ask(web, path, &lines).await;
        let (head, got) = reply.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("http/1.1 200 "), "{path} {lines} {reply}");
        assert_eq!(got, body, "{path} {lines} {reply}");
        let line = head.lines().find(|line| line.starts_with("trailer:"));
        assert_eq!(line, announced.then_some("trailer: x-sum"), "{path} {lines} {reply}");
    }
    tokio::task::spawn_blocking(|| stage.end()).await.unwrap();
}
