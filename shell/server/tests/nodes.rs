//! Nodes in this process, with real sockets and files between them.

#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use skep_base::NodeUuid;
use skep_disk::{CheckpointSource, Checkpointer, DataDir, KnownPeers, LogWriter, NodeFiles, open_log};
use skep_log::{NodeIdentity, WalConfig};
use skep_node::{CellId, Identity, LinkLimits, Node, NodeRecord, RestPace, Restoring, Status};
use skep_server::{Busy, CALLS_MAX, Clock, Inside, Listening, RunFault, Shared, Surroundings, Waker};
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
    inside: Inside,
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
    let (waker, inside) = (listening.waker(), listening.inside());
    let board = Board::default();
    let (path, told) = (directory.path().to_owned(), board.clone());
    let mut settings = Settings::default();
    for (name, value) in given {
        settings.set(name, value).unwrap();
    }
    let thread = std::thread::spawn(move || run(number, listening, settings, &path, told));
    Running { clients, peers, board, waker, inside, thread: Some(thread), _directory: directory }
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
        descriptors_fit: u64::MAX,
        incarnation: number,
        seed: number,
        secret: [7; 32],
        replaces: None,
        link_limits: LinkLimits::default(),
        rest: RestPace::default(),
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
        log: Arc::new(LogWriter::start(opened.wal, dir.disk(), wakes, 0).unwrap()),
        checkpointer: Arc::new(Checkpointer::start(dir.disk(), wake()).unwrap()),
        source: Arc::new(CheckpointSource::start(dir.disk(), CheckpointSource::IDLE, wake()).unwrap()),
        memory_used: || 0,
        keepalive: None,
    };
    let surroundings = Surroundings {
        shared,
        files: NodeFiles::new(dir.disk(), KnownPeers::default()),
        gateway: Box::new(drop),
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

/// Begins a call from inside the process; the reply comes by the channel, whose end says that there will be none.
fn begin(inside: &Inside, words: &[&[u8]]) -> Result<mpsc::Receiver<Vec<u8>>, Busy> {
    let (sender, receiver) = mpsc::channel();
    inside.call(words.iter().copied(), move |reply| sender.send(reply).unwrap())?;
    Ok(receiver)
}

/// Makes a call from inside the process, and gives its reply as text.
fn call(inside: &Inside, words: &[&str]) -> String {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    String::from_utf8(begin(inside, &words).unwrap().recv_timeout(HANGS).unwrap()).unwrap()
}

#[test]
fn calls_from_threads_of_the_process_get_their_own_replies() {
    let node = start(1, listening_for(2), &[("shards", "4")]);
    node.until(|status| status.ready);
    let threads = (0..4).map(|thread| {
        let inside = node.inside.clone();
        std::thread::spawn(move || {
            let begun: Vec<_> = (0..300)
                .map(|number| {
                    let (key, value) = (format!("{thread}:{number}"), format!("{}", number * 7 + thread));
                    let set = begin(&inside, &[b"SET", key.as_bytes(), value.as_bytes(), b"GET"]).unwrap();
                    (key, value, set)
                })
                .collect();
            for (key, value, set) in begun {
                assert_eq!(set.recv_timeout(HANGS).unwrap(), b"_\r\n");
                assert_eq!(call(&inside, &["GET", &key]), format!("${}\r\n{value}\r\n", value.len()));
            }
        })
    });
    threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
    let large = "x".repeat(3_000_000);
    assert_eq!(call(&node.inside, &["SET", "large", &large]), "+OK\r\n");
    assert_eq!(call(&node.inside, &["GET", "large"]), format!("$3000000\r\n{large}\r\n"));
}

#[test]
fn calls_from_inside_are_no_clients_and_need_no_password() {
    let given = [("maxclients", "1"), ("requirepass", "secret"), ("timeout", "1")];
    let node = start(1, listening(), &given);
    node.until(|status| status.ready);
    assert_eq!(call(&node.inside, &["SET", "k", "v"]), "+OK\r\n");
    let mut client = node.client();
    assert_eq!(client.ask(&[b"AUTH", b"secret"]), b"+OK");
    let shown = client.ask(&[b"CLIENT", b"LIST"]);
    assert_eq!(shown.iter().filter(|byte| **byte == b'\n').count(), 1, "{}", String::from_utf8_lossy(&shown));
    assert_eq!(client.ask(&[b"CLIENT", b"KILL", b"TYPE", b"normal"]), b":0");
    assert_eq!(client.ask(&[b"ACL", b"SETUSER", b"default", b"-@all"]), b"+OK");
    assert_eq!(call(&node.inside, &["GET", "k"]), "$1\r\nv\r\n");
    node.until(|status| status.clients_accepted == 1);
    drop(client);
    node.until(|status| status.clients == 0);
    assert_eq!(call(&node.inside, &["GET", "k"]), "$1\r\nv\r\n");
}

#[test]
fn calls_beyond_the_limit_are_declined_at_once_and_those_under_way_end_with_the_node() {
    let node = start(1, listening(), &[]);
    node.until(|status| status.ready);
    let begun: Vec<_> =
        (0..CALLS_MAX).map(|_| begin(&node.inside, &[b"BLPOP", b"nothing", b"0"]).unwrap()).collect();
    assert_eq!(begin(&node.inside, &[b"PING"]).unwrap_err(), Busy);
    let mut client = node.client();
    assert_eq!(client.ask(&[b"RPUSH", b"nothing", b"a"]), b":1");
    let one = begun[0].recv_timeout(HANGS).ok();
    assert_eq!(one.as_deref(), Some(&b"*2\r\n$7\r\nnothing\r\n$1\r\na\r\n"[..]));
    assert_eq!(call(&node.inside, &["PING"]), "+PONG\r\n");
    drop(node);
    // The node answers those who wait as it stops, or their calls end.
    let left = begun.iter().filter(|begun| begun.recv_timeout(HANGS).is_ok_and(|reply| reply[0] != b'-'));
    assert_eq!(left.count(), 0);
}
