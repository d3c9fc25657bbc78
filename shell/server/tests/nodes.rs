//! Nodes in this process, with real sockets and files between them.

#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use skep_base::NodeUuid;
use skep_disk::{CheckpointSource, Checkpointer, DataDir, KnownPeers, LogWriter, NodeFiles, open_log};
use skep_log::{NodeIdentity, WalConfig};
use skep_node::{CellId, Identity, LinkLimits, Node, NodeRecord, Restoring, Status};
use skep_server::{Clock, Listening, RunFault, Shared, Surroundings, Waker};
use skep_settings::Settings;

/// Only so that a broken node fails the test instead of hanging it.
const HANGS: Duration = Duration::from_secs(120);

/// The last status that a node published.
type Board = Arc<(Mutex<Status>, Condvar)>;

struct Running {
    clients: SocketAddr,
    peers: SocketAddr,
    board: Board,
    waker: Waker,
    thread: Option<JoinHandle<Result<(), RunFault>>>,
    _directory: tempfile::TempDir,
}

fn listening() -> Listening {
    listening_for(1)
}

/// Sockets of a node with so many cells.
fn listening_for(cells: usize) -> Listening {
    let any = "127.0.0.1:0".parse().unwrap();
    Listening::bind(any, any, cells).unwrap()
}

/// Starts node `number` behind what it listens on, with these settings.
fn start(number: u64, listening: Listening, given: &[(&str, &str)]) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let (clients, peers) = (listening.client_addr().unwrap(), listening.peer_addr().unwrap());
    let waker = listening.waker();
    let board = Board::default();
    let (path, told) = (directory.path().to_owned(), board.clone());
    let mut settings = Settings::default();
    for (name, value) in given {
        settings.set(name, value).unwrap();
    }
    let thread = std::thread::spawn(move || run(number, listening, settings, &path, told));
    Running { clients, peers, board, waker, thread: Some(thread), _directory: directory }
}

fn run(
    number: u64,
    listening: Listening,
    settings: Settings,
    path: &Path,
    board: Board,
) -> Result<(), RunFault> {
    let dir = DataDir::open(path).unwrap();
    let config = WalConfig { segment_bytes: 1 << 20, first_segment_bytes: 64 << 10, ..WalConfig::default() };
    let opened = open_log(&dir, config).unwrap();
    let recovered = Restoring::new(opened.logs).finish().unwrap();
    let saved = NodeIdentity { uuid: NodeUuid(u128::from(number)), ..NodeIdentity::default() };
    saved.write(&mut dir.disk()).unwrap();
    let identity = Identity {
        saved,
        record: NodeRecord {
            name: format!("n{number}"),
            client: listening.client_addr().unwrap().to_string(),
            peer: listening.peer_addr().unwrap().to_string(),
            ..NodeRecord::default()
        },
        new_cluster_id: format!("{number:040x}"),
        run_id: format!("{number:040x}"),
        process_id: number as u32,
        clients_fit: 1_000,
        incarnation: number,
        seed: number,
        secret: [7; 32],
        replaces: None,
        link_limits: LinkLimits::default(),
        may_damage: false,
    };
    let wake = || {
        let waker = listening.waker();
        move || waker.wake()
    };
    let wakers = listening.wakers();
    let count = wakers.len();
    let wakes = wakers.into_iter().map(|waker| move || waker.wake()).collect();
    let shared = Shared {
        log: Arc::new(LogWriter::start(opened.wal, dir.disk(), wakes).unwrap()),
        checkpointer: Arc::new(Checkpointer::start(dir.disk(), wake()).unwrap()),
        source: Arc::new(CheckpointSource::start(dir.disk(), CheckpointSource::IDLE, wake()).unwrap()),
        memory_used: || 0,
        keepalive: None,
    };
    let surroundings = Surroundings {
        shared,
        files: NodeFiles::new(dir.disk(), KnownPeers::default()),
        publish: Box::new(move |status, _| {
            *board.0.lock().unwrap() = status;
            board.1.notify_all();
        }),
        start_patience: Duration::from_millis(settings.request_timeout_ms()),
    };
    let start = |(index, share)| {
        let (mut first, cell) = (Vec::new(), CellId { index, count });
        let (identity, settings) = (identity.clone(), settings.clone());
        (Node::start_cell(identity, settings, share, cell, Clock.now(), &mut first), first)
    };
    let cells = recovered.split(count).into_iter().enumerate().map(start).collect();
    listening.run(cells, surroundings)
}

impl Running {
    /// Waits until the node publishes a status that is as wanted.
    fn until(&self, wanted: impl Fn(&Status) -> bool) {
        let status = self.board.0.lock().unwrap();
        let (status, late) = self.board.1.wait_timeout_while(status, HANGS, |now| !wanted(now)).unwrap();
        assert!(!late.timed_out(), "{status:#?}");
    }

    fn client(&self) -> Client {
        Client::new(TcpStream::connect(self.clients).unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.waker.stop();
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn new(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(HANGS)).unwrap();
        Client(BufReader::new(stream))
    }

    /// Sends a command and gives its reply: the line, or the bytes of a bulk string.
    fn ask(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&request).unwrap();
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).unwrap();
        let line = line.strip_suffix(b"\r\n").unwrap().to_vec();
        let Some(len) = line.strip_prefix(b"$").and_then(|len| str::from_utf8(len).unwrap().parse().ok())
        else {
            return line;
        };
        let mut bulk = vec![0; len];
        self.0.read_exact(&mut bulk).unwrap();
        self.0.read_exact(&mut [0; 2]).unwrap();
        bulk
    }
}

/// Three nodes that list one another by name, in one cluster with all copies.
fn cluster() -> Vec<Running> {
    let listening: Vec<Listening> = (0..3).map(|_| listening()).collect();
    let name = |each: &Listening| format!("localhost:{}", each.peer_addr().unwrap().port());
    let join = listening.iter().map(name).collect::<Vec<_>>().join(",");
    let nodes: Vec<Running> =
        (1..).zip(listening).map(|(number, each)| start(number, each, &[("join", &join)])).collect();
    for node in &nodes {
        node.until(|status| {
            let voters = status.shards.iter().map(|shard| shard.replicas.iter().filter(|r| r.voter).count());
            status.ready && status.nodes.len() == 3 && voters.min() == Some(3)
        });
    }
    nodes
}

#[test]
fn nodes_that_list_one_another_by_name_form_one_cluster_and_carry_large_values_for_one_another() {
    let nodes = cluster();
    let ids: Vec<String> = nodes.iter().map(|n| n.board.0.lock().unwrap().cluster_id.clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    // Larger than what is read or written at once.
    let large: Vec<u8> = (0..9_000_000u32).map(|n| (n >> 8) as u8).collect();
    for (at, node) in nodes.iter().enumerate() {
        let key = format!("key {at}");
        assert_eq!(node.client().ask(&[b"SET", key.as_bytes(), &large]), b"+OK");
        for other in &nodes {
            assert!(other.client().ask(&[b"GET", key.as_bytes()]) == large, "{key} was changed on its way");
        }
    }
}

#[test]
fn garbage_from_a_stranger_closes_its_connection_and_nothing_else() {
    let nodes = cluster();
    let garbage: [&[u8]; 4] =
        [b"GET / HTTP/1.1\r\n\r\n", &[0xff; 5_000], &[0; 5_000], b"\x10\0\0\0crc!and some more bytes"];
    for bytes in garbage {
        let mut stranger = TcpStream::connect(nodes[0].peers).unwrap();
        stranger.set_read_timeout(Some(HANGS)).unwrap();
        // The node may close before all is written.
        let _ = stranger.write_all(bytes);
        if let Err(e) = stranger.read_to_end(&mut Vec::new()) {
            assert_eq!(e.kind(), ErrorKind::ConnectionReset, "{e}");
        }
        assert_eq!(nodes[0].client().ask(&[b"SET", b"k", b"v"]), b"+OK");
    }
    nodes[0].until(|status| status.links.broken >= 4 && status.ready);
}

#[test]
fn a_node_that_is_not_there_yet_is_dialed_until_it_is() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let node = start(1, listening(), &[("join", &address.to_string())]);
    node.until(|status| status.reason.contains("no cluster yet"));
    // If another process has got the port meanwhile, there is nothing to be seen.
    let Ok(late) = TcpListener::bind(address) else { return };
    let (mut stream, _) = late.accept().unwrap();
    stream.set_read_timeout(Some(HANGS)).unwrap();
    let mut head = [0; 4];
    stream.read_exact(&mut head).unwrap();
    let len = u32::from_le_bytes(head);
    assert!((1..=64 << 10).contains(&len), "it begins with the frame of a greeting, not one of {len} bytes");
}

#[test]
fn clients_of_a_node_without_a_cluster_wait_a_while_and_are_told_so() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let join = nobody.local_addr().unwrap().to_string();
    let node = start(1, listening(), &[("join", &join), ("request-timeout", "50")]);
    let reply = node.client().ask(&[b"SET", b"k", b"v"]);
    assert!(reply.starts_with(b"-TRYAGAIN "), "{}", String::from_utf8_lossy(&reply));
    assert_eq!(node.client().ask(&[b"PING"]), b"+PONG");
}

#[test]
fn who_connects_before_the_node_is_ready_is_served() {
    let listening = listening();
    let early = TcpStream::connect(listening.client_addr().unwrap()).unwrap();
    let node = start(1, listening, &[]);
    assert_eq!(Client::new(early).ask(&[b"SET", b"k", b"v"]), b"+OK");
    node.until(|status| status.ready);
}
