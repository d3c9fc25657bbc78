//! A client of WebSockets over HTTP/2.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, StatusCode};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::{PATIENCE, Stage};

/// A gateway with this configuration, in which `WEB` stands for its listener's address.
pub fn gateway(text: &str) -> (Stage, SocketAddr) {
    Stage::new(1, None, |web| text.replace("WEB", &web.to_string()))
}

pub type Client = h2::client::SendRequest<Bytes>;

pub async fn client(web: SocketAddr) -> Client {
    let stream = TcpStream::connect(web).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    while !sender.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
        sender = sender.ready().await.unwrap();
    }
    sender
}

pub async fn connect(
    client: &mut Client,
    path: &str,
    protocol: Option<&'static str>,
) -> (StatusCode, HeaderMap, SendStream<Bytes>, RecvStream) {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://api.test{path}"))
        .header("origin", "http://page.test")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat, other")
        .header("sec-websocket-extensions", "permessage-deflate")
        .header("x-key", "let-me-in-let-me-in-let-me-in")
        .body(())
        .unwrap();
    if path == "/ws/stranger" {
        request.headers_mut().remove("x-key");
    }
    if let Some(protocol) = protocol {
        request.extensions_mut().insert(Protocol::from_static(protocol));
    }
    let (response, stream) = client.send_request(request, false).unwrap();
    let (parts, body) = response.await.unwrap().into_parts();
    (parts.status, parts.headers, stream, body)
}

pub async fn read(body: &mut RecvStream, len: usize) -> Vec<u8> {
    let mut got = Vec::new();
    while got.len() < len {
        let piece = body.data().await.unwrap().unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        got.extend_from_slice(&piece);
    }
    got
}

/// True if nothing comes before the end.
pub async fn ends(body: &mut RecvStream) -> bool {
    loop {
        match body.data().await {
            Some(Ok(piece)) if piece.is_empty() => {}
            Some(Ok(_)) => return false,
            Some(Err(_)) | None => return true,
        }
    }
}

pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let test = async { timeout(PATIENCE, test).await.expect("in time") };
    LocalSet::new().block_on(&runtime, test);
}
