//! The HTTP server as a client meets it: plain sockets, transcripts in `testdata`.
#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skep_http::{
    ClusterState, ClusterStatus, FetchFault, GatewayEntry, HttpLimits, HttpServer, Metric, NodeEntry,
    NodeState, NodeStatus, ReplicaEntry, ReplicaRole, ShardEntry, StatusBoard, fetch,
};

fn status() -> NodeStatus {
    let node = NodeEntry {
        id: 1,
        name: "n1".into(),
        client: "127.0.0.1:6379".into(),
        peer: "127.0.0.1:7379".into(),
        http: "127.0.0.1:8379".into(),
        zone: String::new(),
        state: NodeState::Up,
        version: "0.1.0".into(),
        gateway: None,
    };
    let shard = ShardEntry {
        id: 1,
        epoch: 1,
        slots: vec![(0, 16383)],
        leader: 1,
        term: 3,
        keys: 10,
        replicas: vec![ReplicaEntry { node: 1, role: ReplicaRole::Voter, applied: 120 }],
    };
    NodeStatus {
        ready: Ok(()),
        cluster: ClusterStatus {
            cluster_id: "c1".into(),
            node_id: 1,
            state: ClusterState::Degraded,
            problems: vec!["n2 is down".into()],
            nodes: vec![node],
            shards: vec![shard],
            gateway: GatewayEntry { wanted: 3, in_force: 2, problem: "cannot be read".into() },
        },
        metrics: vec![Metric::counter("skep_commands", "Commands carried out", 7)],
    }
}

fn start(limits: HttpLimits) -> (HttpServer, Arc<StatusBoard>) {
    // No answer may depend on how slow the machine is that runs the tests.
    let board = StatusBoard::with_age_max(status(), Duration::from_secs(3600));
    (HttpServer::start("127.0.0.1:0".parse().unwrap(), board.source(), limits).unwrap(), board)
}

fn connect(server: &HttpServer) -> TcpStream {
    let stream = TcpStream::connect(server.local_addr()).unwrap();
    // Only so that a broken server fails the test instead of hanging it.
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Everything that comes until the server closes. A reset after the last byte is as good as a close.
fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}, after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// Sends `request` and gives all that comes back, without the date.
fn exchange(server: &HttpServer, request: &str) -> String {
    let mut stream = connect(server);
    stream.write_all(request.as_bytes()).unwrap();
    let response = read_to_end(&mut stream);
    response.split_inclusive('\n').filter(|line| !line.starts_with("date: ")).collect()
}

fn get(server: &HttpServer, path: &str) -> String {
    exchange(server, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
}

#[test]
fn answers_are_as_written_down() {
    let (server, board) = start(HttpLimits::default());
    let mut observed =
        String::from("# Every path and every refusal, as bytes; a status is `not ready` at the end.\n");
    let mut ask = |first: &str, rest: &str| {
        let response = exchange(&server, &format!("{first}\r\nhost: x\r\nconnection: close\r\n{rest}\r\n"));
        observed += &format!("\n== {first}\n{}", response.replace('\r', ""));
    };
    for first in [
        "GET /healthz HTTP/1.1",
        "HEAD /healthz HTTP/1.1",
        "GET /readyz?verbose HTTP/1.1",
        "GET /metrics HTTP/1.1",
        "GET /api/v1/cluster HTTP/1.1",
        "GET / HTTP/1.1",
        "GET /healthz/ HTTP/1.1",
        "GET /../healthz HTTP/1.1",
        "POST /metrics HTTP/1.1",
        "DELETE /nowhere HTTP/1.1",
        "GET /healthz HTTP/1.0",
        "nonsense",
    ] {
        ask(first, "");
    }
    let many: String = (0..100).map(|n| format!("x-{n}: y\r\n")).collect();
    ask("GET /healthz HTTP/1.1", &many);
    board.publish(NodeStatus { ready: Err("shard 1 has no leader".into()), ..status() });
    ask("GET /readyz HTTP/1.1", "");
    ask("GET /healthz HTTP/1.1", "");

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/http.txt");
    if std::env::var_os("UPDATE_TESTDATA").is_some() {
        std::fs::write(&path, &observed).unwrap();
    }
    assert_eq!(observed, std::fs::read_to_string(&path).unwrap());
}

#[test]
fn one_connection_carries_many_requests() {
    let (server, _board) = start(HttpLimits::default());
    let request = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let last = "GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answers = exchange(&server, &(request.repeat(50) + last));
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 51, "{answers}");
    assert!(answers.ends_with("ready\n"), "{answers}");
}

#[test]
fn a_request_that_never_ends_is_cut_off() {
    let limits = HttpLimits { header_time_max: Duration::from_millis(20), ..HttpLimits::default() };
    let (server, _board) = start(limits);
    for beginning in ["", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let answer = exchange(&server, beginning);
        assert!(!answer.contains("200 OK"), "{beginning:?} got {answer}");
    }
    assert!(get(&server, "/healthz").ends_with("ok\n"));
}

#[test]
fn an_old_connection_is_closed_after_its_answer() {
    let limits = HttpLimits { connection_time_max: Duration::from_millis(20), ..HttpLimits::default() };
    let (server, _board) = start(limits);
    // Nothing is sent, and the time for headers is far away.
    assert_eq!(exchange(&server, ""), "");
}

#[test]
fn connections_beyond_the_limit_are_closed() {
    let (server, _board) = start(HttpLimits { connections_max: 1, ..HttpLimits::default() });
    let mut first = connect(&server);
    assert_eq!(exchange(&server, ""), "", "the second connection is closed unanswered");
    first.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    assert!(read_to_end(&mut first).ends_with("ok\n"));
}

#[test]
fn headers_without_end_are_refused() {
    let (server, _board) = start(HttpLimits::default());
    let mut stream = connect(&server);
    stream.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    // The server stops reading at its limit and closes, so that writing fails sooner or later.
    let line = format!("x: {}\r\n", "y".repeat(1000));
    for _ in 0..10_000 {
        if stream.write_all(line.as_bytes()).is_err() {
            break;
        }
    }
    let answer = read_to_end(&mut stream);
    assert!(answer.is_empty() || answer.contains("431"), "{answer}");
}

#[test]
fn a_dropped_server_leaves_no_connection_and_no_task() {
    let (server, board) = start(HttpLimits::default());
    let mut open = connect(&server);
    open.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut byte = [0];
    open.read_exact(&mut byte).unwrap();
    drop(server);
    read_to_end(&mut open);
    assert_eq!(Arc::strong_count(&board), 1, "the server's tasks are gone");
}

#[test]
fn an_address_in_use_is_an_error() {
    let (server, board) = start(HttpLimits::default());
    let error = HttpServer::start(server.local_addr(), board.source(), HttpLimits::default()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn a_status_is_read_back_as_it_was_published() {
    let (server, _board) = start(HttpLimits::default());
    let json = fetch(&server.local_addr().to_string(), "/api/v1/cluster").unwrap();
    assert_eq!(ClusterStatus::parse(&json).unwrap(), status().cluster);
    assert_eq!(ClusterStatus::parse(status().cluster.to_json().as_bytes()).unwrap(), status().cluster);
    assert!(ClusterStatus::parse(b"{}").unwrap_err().contains("cluster_id"));
}

#[test]
fn an_answer_that_is_none_is_told_apart_from_a_refusal() {
    let (server, board) = start(HttpLimits::default());
    let address = server.local_addr().to_string();
    board.publish(NodeStatus { ready: Err("shard 1 has no leader".into()), ..status() });
    match fetch(&address, "/readyz").unwrap_err() {
        FetchFault::Refused { code: 503, body } => assert_eq!(body, "not ready: shard 1 has no leader\n"),
        other => panic!("{other:?}"),
    }
    drop(server);
    assert!(matches!(fetch(&address, "/healthz"), Err(FetchFault::Connect(_))));
    assert!(matches!(fetch("no port", "/healthz"), Err(FetchFault::Connect(_))));
}

#[test]
fn something_else_than_http_is_no_answer() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(b"-ERR unknown command 'GET'\r\n").unwrap();
    });
    assert!(matches!(fetch(&address, "/healthz"), Err(FetchFault::Broken(_))));
    other.join().unwrap();
}
