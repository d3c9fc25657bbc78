//! What clients of TLS see of handshakes and of ends.

#![allow(clippy::unwrap_used, reason = "a test")]

mod stage;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, HandshakeKind, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};
use stage::{CERTIFICATE, KEY, Stage, connect};

type Secure = StreamOwned<ClientConnection, TcpStream>;

/// A gateway that answers by itself; `more` is about its TLS.
fn gateway(more: &str) -> (Stage, SocketAddr) {
    Stage::new(1, None, |web| {
        format!(
            "[gateway.listener.web]\naddress = '{web}'\ntls.certificates = [{{ cert = '{CERTIFICATE}', key = '{KEY}' }}]\n{more}\n\
             [gateway.route.all]\nanswer = {{ status = 200, body = 'said.' }}\n"
        )
    })
}

/// A client that remembers where it was.
fn client(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(CERTIFICATE).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let client = client.with_protocol_versions(&[version]).unwrap();
    Arc::new(client.with_root_certificates(roots).with_no_client_auth())
}

fn open(web: SocketAddr, config: &Arc<ClientConfig>) -> Secure {
    let session = ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
    StreamOwned::new(session, connect(web))
}

fn ask(stream: &mut Secure) {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"said.") {
        let mut piece = [0; 4096];
        let n = stream.read(&mut piece).unwrap();
        assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&piece[..n]);
    }
}

#[test]
fn who_comes_back_is_known_however_many_came_meanwhile() {
    let (stage, web) = gateway("");
    for version in [&TLS12, &TLS13] {
        let own = client(version);
        let mut stream = open(web, &own);
        ask(&mut stream);
        assert_eq!(stream.conn.handshake_kind(), Some(HandshakeKind::Full), "{version:?}");
        for _ in 0..if *version == TLS13 { 150 } else { 1 } {
            ask(&mut open(web, &client(version)));
        }
        let mut again = open(web, &own);
        ask(&mut again);
        assert_eq!(again.conn.handshake_kind(), Some(HandshakeKind::Resumed), "{version:?}");
    }
    stage.end();
}

#[test]
fn one_ticket_is_enough() {
    let (stage, web) = gateway("");
    let mut stream = open(web, &client(&TLS13));
    ask(&mut stream);
    assert_eq!(stream.conn.tls13_tickets_received(), 1);
    stage.end();
}

#[test]
fn who_is_not_let_in_is_told_why() {
    let (stage, web) = gateway(&format!("tls.client-ca = '{CERTIFICATE}'"));
    for version in [&TLS13, &TLS12] {
        let mut stream = open(web, &client(version));
        let _ = stream.write_all(b" ");
        let refused = stream.read(&mut [0; 10]).expect_err("it has no certificate");
        let why = refused.get_ref().and_then(|why| why.downcast_ref::<Error>());
        let expected = Error::AlertReceived(AlertDescription::CertificateRequired);
        assert_eq!(why, Some(&expected), "{version:?}: {refused}");
    }
    stage.end();
}

#[test]
fn who_says_that_it_ends_is_told_so_too_but_nothing_once_it_is_gone() {
    let (stage, web) = gateway("");
    let mut stream = open(web, &client(&TLS13));
    ask(&mut stream);
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0, "the gateway ends as well");

    let mut stream = open(web, &client(&TLS13));
    ask(&mut stream);
    let mut got = Vec::new();
    stream.sock.shutdown(Shutdown::Write).unwrap();
    stream.sock.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"", "nobody is there to read it");

    // Who has asked and ends waits for the answer, and for its end.
    let mut stream = open(web, &client(&TLS13));
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    stream.sock.shutdown(Shutdown::Write).unwrap();
    let mut got = String::new();
    let read = stream.read_to_string(&mut got).map_err(|error| error.kind());
    assert_ne!(read, Err(ErrorKind::UnexpectedEof), "{got}");
    assert!(got.ends_with("said."), "{got}");
    stage.end();
}
