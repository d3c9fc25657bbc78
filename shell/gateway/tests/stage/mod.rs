//! A gateway under test: started with one configuration, given others, asked over sockets.

#![allow(dead_code, reason = "each test uses a part of it")]

pub mod http2;
pub mod websocket;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use skep_gate::balance::sticky::Secret;
use skep_gateway::{Applied, InForce, Running, StartFault, Store, Surroundings};
use tokio::sync::watch;

pub const PATIENCE: Duration = Duration::from_secs(30);

/// Of `localhost`, signed by itself, for a hundred years.
pub const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stage/localhost.pem");
pub const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stage/localhost.key");

pub struct Stage {
    running: Running,
    applied: watch::Sender<Option<Applied>>,
    version: u64,
}

/// An address that nobody listened at a moment ago.
pub fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Stage {
    /// Begins with `text` of an address that is free, in the zone `here`.
    pub fn new(
        cores: usize,
        store: Option<Arc<dyn Store>>,
        text: impl Fn(SocketAddr) -> String,
    ) -> (Stage, SocketAddr) {
        loop {
            let web = free();
            let config = Arc::new(skep_gateway::read(&text(web)).unwrap());
            let (applied, follows) = watch::channel(Some(Applied { version: 1, config, secret: None }));
            let (zone, secret, store) = ("here".to_owned(), Secret([1; 32]), store.clone());
            match skep_gateway::start(cores, follows, Surroundings { zone, secret, seed: 1, store }) {
                Ok(running) => return (Stage { running, applied, version: 1 }, web),
                // Another process was given the port meanwhile.
                Err(StartFault::Bind { .. }) => {}
                Err(fault) => panic!("{fault}"),
            }
        }
    }

    /// Applies `text` and waits until something has become of it.
    pub fn apply(&mut self, text: &str) -> InForce {
        let mut in_force = self.running.in_force();
        in_force.mark_unchanged();
        self.version += 1;
        let config = Arc::new(skep_gateway::read(text).unwrap());
        self.applied.send_replace(Some(Applied { version: self.version, config, secret: None }));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime
            .block_on(async { tokio::time::timeout(PATIENCE, in_force.changed()).await.unwrap().unwrap() });
        in_force.borrow().clone()
    }

    /// Tells it which nodes there are, by zone.
    pub fn set_nodes(&self, nodes: &[(&str, u32)]) {
        self.running.set_nodes(nodes.iter().map(|(zone, count)| ((*zone).to_owned(), *count)).collect());
    }

    pub fn end(self) {
        self.running.drain(PATIENCE);
    }
}

pub fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One exchange over a connection that goes on.
pub fn ask(stream: &mut TcpStream) -> String {
    send(stream, "/", "");
    read_one(stream)
}

/// Asks for `path`; `headers` are whole lines.
pub fn send(stream: &mut TcpStream, path: &str, headers: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{headers}\r\n").as_bytes()).unwrap();
}

/// A reply with a body that ends with a full stop.
pub fn read_one(stream: &mut TcpStream) -> String {
    read_to(stream, b".")
}

/// Reads until what came ends with `end`.
pub fn read_to(stream: &mut TcpStream, end: &[u8]) -> String {
    let mut got = Vec::new();
    while !got.ends_with(end) {
        let mut piece = [0; 4096];
        let n = stream.read(&mut piece).unwrap();
        assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&piece[..n]);
    }
    String::from_utf8(got).unwrap()
}

/// The reply to the only request of a connection.
pub fn whole(mut stream: TcpStream) -> String {
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

pub fn listener(address: SocketAddr) -> String {
    format!("[gateway.listener.l{}]\naddress = '{address}'\n", address.port())
}
