//! A request that waits while another configuration comes: its routes and pools have other numbers then, or are gone.

#![allow(clippy::unwrap_used, reason = "a test")]

mod stage;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use skep_gateway::{Store, StoreCall, StoreError};
use stage::{PATIENCE, Stage, ask, connect, free, listener, read_one, read_to, send, whole};

/// A TLS client's hello that asks for `name`.
fn hello(name: &str) -> Vec<u8> {
    let n = name.len() as u16;
    let mut names = vec![0, 0];
    for length in [n + 5, n + 3] {
        names.extend(length.to_be_bytes());
    }
    names.push(0);
    names.extend(n.to_be_bytes());
    names.extend(name.as_bytes());
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend((names.len() as u16).to_be_bytes());
    body.extend(names);
    let mut message = vec![1, 0, 0, body.len() as u8];
    message.extend(body);
    let mut record = vec![22, 3, 1, 0, message.len() as u8];
    record.extend(message);
    record
}

/// An upstream of TCP that says `word` to who has said something.
fn speaker(word: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                if stream.read(&mut [0; 1000]).unwrap_or(0) > 0 {
                    let _ = stream.write_all(word.as_bytes());
                }
            });
        }
    });
    address
}

/// A place of keys of tokens that holds its answers back until it is told.
fn issuer() -> (SocketAddr, Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (go_on, goes_on) = channel::<()>();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            // Dropped, it holds nothing back any more.
            let _ = goes_on.recv();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"keys\":[]}");
        }
    });
    (address, go_on)
}

/// `{"alg":"ES256","kid":"a"}`, nothing, and no signature: whose key it is must be asked for.
const TOKEN: &str =
    "authorization: Bearer eyJhbGciOiJFUzI1NiIsImtpZCI6ImEifQ.e30.AAAA\r\nconnection: close\r\n";

/// A store of which each answer waits for a word.
struct Slow {
    came: Mutex<Sender<tokio::sync::oneshot::Sender<()>>>,
}

type Calls = Receiver<tokio::sync::oneshot::Sender<()>>;

impl Slow {
    fn new() -> (Arc<Slow>, Calls) {
        let (came, comes) = channel();
        (Arc::new(Slow { came: Mutex::new(came) }), comes)
    }
}

impl Store for Slow {
    fn call(&self, command: Vec<Bytes>) -> StoreCall {
        // EVAL, script, number of keys, key, rate, time, burst, wanted.
        let wanted = String::from_utf8(command[7].to_vec()).unwrap();
        let (go_on, goes_on) = tokio::sync::oneshot::channel();
        // Whoever wants to hear of it no more lets it go on at once.
        let _ = self.came.lock().unwrap().send(go_on);
        Box::pin(async move {
            let _ = goes_on.await;
            // As a bucket that is full grants it.
            Ok::<Vec<u8>, StoreError>(format!("*3\r\n:{wanted}\r\n:0\r\n:1000\r\n").into_bytes())
        })
    }
}

/// Waits until the one core of the gateway carries traffic by what says `word`.
fn until_in_force(stream: &mut TcpStream, word: &str) {
    let began = Instant::now();
    while !ask(stream).ends_with(&format!("\r\n\r\n{word}.")) {
        assert!(began.elapsed() < PATIENCE, "`{word}` is not in force");
    }
}

/// A route at `/` that tells which configuration it is of.
fn says(word: &str) -> String {
    format!("[gateway.route.z]\nanswer.body = '{word}.'\n")
}

#[test]
fn a_tls_name_that_is_said_in_two_parts_finds_its_pool_in_the_configuration_by_then() {
    let upstreams = [speaker("a."), speaker("b."), speaker("c.")];
    let pool = |name: &str, at: usize| format!("[gateway.pool.{name}]\nupstreams = ['{}']\n", upstreams[at]);
    let tcp = free();
    let listeners = |web| {
        let names = "protocol = 'tcp'\nsni = { 'c.test' = 'c' }\n";
        listener(web) + &listener(tcp) + names
    };
    let two = pool("b", 1) + &pool("c", 2);
    let (mut stage, web) = Stage::new(1, None, |web| listeners(web) + &two + &says("first"));
    let mut other = connect(web);
    let hello = hello("c.test");
    let begin = || {
        let mut stream = connect(tcp);
        stream.write_all(&hello[..20]).unwrap();
        stream
    };
    let finish = |mut stream: TcpStream| {
        stream.write_all(&hello[20..]).unwrap();
        read_one(&mut stream)
    };
    until_in_force(&mut other, "first");
    let half = begin();
    until_in_force(&mut other, "first");
    stage.apply(&(listeners(web) + &pool("a", 0) + &two + &says("more")));
    until_in_force(&mut other, "more");
    assert_eq!(finish(half), "c.", "its number is another one's");
    let half = begin();
    until_in_force(&mut other, "more");
    stage.apply(&(listeners(web) + &pool("c", 2) + &says("less")));
    until_in_force(&mut other, "less");
    assert_eq!(finish(half), "c.", "its number is nobody's");
    let mut half = begin();
    until_in_force(&mut other, "less");
    stage.apply(&(listener(web) + &says("none")));
    until_in_force(&mut other, "none");
    // The listener is gone, and so is who waits at it.
    let _ = half.write_all(&hello[20..]);
    let mut rest = Vec::new();
    let _ = half.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    assert!(ask(&mut other).ends_with("none."), "the gateway goes on");
    stage.end();
}

#[test]
fn a_request_whose_keys_are_fetched_meets_the_rules_of_its_own_route() {
    let (issuer, go_on) = issuer();
    let auth = format!(
        "[gateway.auth.t.jwt]\njwks = 'http://{issuer}/keys'\nissuer = 'i'\naudience = 'x'\nrefetch = '1s'\n"
    );
    let route = |name: &str, rule: &str| {
        format!("[gateway.route.{name}]\npath = '/{name}'\nanswer.body = '{name}.'\n{rule}\n")
    };
    let guarded = route("g", "auth = 't'\nallow = '127.0.0.0/8'");
    let plenty = route("e", "deny = '192.0.2.0/24'") + &route("f", "deny = '192.0.2.0/24'") + &guarded;
    let shut = route("a", "deny = '127.0.0.0/8'");
    let shut: String = ["a", "b", "c"]
        .iter()
        .map(|name| shut.replace(".a]", &format!(".{name}]")).replace("/a", &format!("/{name}")))
        .collect();
    let (mut stage, web) = Stage::new(1, None, |web| listener(web) + &auth + &plenty + &says("first"));
    let mut other = connect(web);
    until_in_force(&mut other, "first");
    let wait = |other: &mut TcpStream, word: &str| {
        let mut stream = connect(web);
        send(&mut stream, "/g", TOKEN);
        until_in_force(other, word);
        stream
    };
    // Its number is that of a route which lets nobody in, and then that of none.
    for (rest, word) in [(shut + &guarded, "shut"), (guarded.clone(), "less")] {
        let before = if word == "shut" { "first" } else { "shut" };
        let waits = wait(&mut other, before);
        stage.apply(&(listener(web) + &auth + &rest + &says(word)));
        until_in_force(&mut other, word);
        go_on.send(()).unwrap();
        let reply = whole(waits);
        assert!(reply.contains("the keys of the issuer"), "{word}: {reply}");
    }
    assert!(ask(&mut other).ends_with("less."), "the gateway goes on");
    drop(go_on);
    stage.end();
}

#[test]
fn who_is_denied_while_its_request_waits_for_a_rate_gets_nothing() {
    let (store, calls) = Slow::new();
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    upstream.set_nonblocking(true).unwrap();
    let rate = "[gateway.limit.l]\nrequests = 1\nburst = 1\nscope = 'cluster'\n";
    let rest = format!("[gateway.pool.p]\nupstreams = ['{}']\n{rate}", upstream.local_addr().unwrap());
    let route = |rule: &str| format!("[gateway.route.g]\npath = '/g'\npool = 'p'\nlimits = 'l'\n{rule}\n");
    let hash = "5".repeat(64);
    let keys = format!("[gateway.auth.k]\nkeys.callers = [{{ name = 'x', sha256 = '{hash}' }}]\n");
    let first = rest.clone() + &route("");
    let (mut stage, web) = Stage::new(1, Some(store), |web| listener(web) + &first + &says("first"));
    let mut other = connect(web);
    let proved = route("auth = 'k'\nallow = '192.0.2.0/24'") + &keys;
    for (rule, word) in [(proved, "proved"), (route("deny = '127.0.0.0/8'"), "denied")] {
        stage.apply(&(listener(web) + &first + &says("first")));
        until_in_force(&mut other, "first");
        let mut waits = connect(web);
        send(&mut waits, "/g", "connection: close\r\n");
        let go_on = calls.recv_timeout(PATIENCE).unwrap();
        stage.apply(&(listener(web) + &rest + &rule + &says(word)));
        until_in_force(&mut other, word);
        go_on.send(()).unwrap();
        let reply = whole(waits);
        assert!(reply.starts_with("HTTP/1.1 403 "), "{word}: {reply}");
        assert!(upstream.accept().is_err(), "{word}: the upstream was asked");
    }
    stage.end();
}

#[test]
fn a_head_whose_listener_goes_matches_no_route_of_another_listener() {
    let (first, second) = (free(), free());
    let only = |at: SocketAddr| {
        let name = at.port();
        format!("[gateway.route.own]\npath = '/own'\nlisteners = 'l{name}'\nanswer.body = 'own.'\n")
    };
    let (mut stage, web) = Stage::new(1, None, |web| {
        listener(web) + &listener(first) + &listener(second) + &only(first) + &says("first")
    });
    let mut other = connect(web);
    until_in_force(&mut other, "first");
    let mut half = connect(second);
    half.write_all(b"GET /own HTTP/1.1\r\nHo").unwrap();
    until_in_force(&mut other, "first");
    // Whichever stands first: each is the only one that has a route of its own once.
    stage.apply(&(listener(first) + &only(first) + &says("less")));
    let mut other = connect(first);
    until_in_force(&mut other, "less");
    half.write_all(b"st: a\r\n\r\n").unwrap();
    let reply = read_one(&mut half);
    assert!(reply.ends_with("\r\n\r\nless."), "{reply}");
    stage.end();
}

#[test]
fn under_changes_without_an_end_each_request_gets_its_own_route_and_each_connection_its_own_pool() {
    let (store, calls) = Slow::new();
    // A store that takes a moment.
    std::thread::spawn(move || {
        for go_on in calls {
            std::thread::sleep(Duration::from_millis(1));
            let _ = go_on.send(());
        }
    });
    let [a, b, c] = [speaker("a."), speaker("b."), speaker("c.")];
    let tcp = free();
    let rate = "[gateway.limit.l]\nrequests = 1000000\nburst = 1000000\nscope = 'cluster'\n";
    let config = |web, more: bool| {
        let names = "protocol = 'tcp'\nsni = { 'c.test' = 'c' }\n";
        let mut text = listener(web) + &listener(tcp) + names + rate;
        let mut pool = |name: &str, at: SocketAddr| {
            text += &format!("[gateway.pool.{name}]\nupstreams = ['{at}']\n");
        };
        if more {
            pool("a", a);
            pool("b", b);
        }
        pool("c", c);
        let mut route = |name: &str, rule: &str| {
            text += &format!(
                "[gateway.route.{name}]\npath = '/{name}'\nlimits = 'l'\nanswer.body = '{name}.'\n{rule}\n"
            );
        };
        if more {
            route("d", "deny = '127.0.0.0/8'");
            route("e", "deny = '127.0.0.0/8'");
        }
        route("open", "");
        route("shut", "deny = '127.0.0.0/8'");
        text + &says("on")
    };
    let (mut stage, web) = Stage::new(2, Some(store), |web| config(web, true));
    let (over, is_over) = channel::<()>();
    let is_over = Arc::new(Mutex::new(is_over));
    let goes_on = move || {
        let ended = is_over.lock().unwrap().try_recv();
        ended == Err(std::sync::mpsc::TryRecvError::Empty)
    };
    let mut threads = Vec::new();
    for (path, expected) in [("/open", "HTTP/1.1 200 "), ("/shut", "HTTP/1.1 403 ")].repeat(2) {
        let goes_on = goes_on.clone();
        threads.push(std::thread::spawn(move || {
            let mut count = 0;
            while goes_on() {
                let mut stream = connect(web);
                send(&mut stream, path, "connection: close\r\n");
                let reply = whole(stream);
                assert!(reply.starts_with(expected), "{path}: {reply}");
                count += 1;
            }
            count
        }));
    }
    for _ in 0..2 {
        let goes_on = goes_on.clone();
        threads.push(std::thread::spawn(move || {
            let (mut count, hello) = (0, hello("c.test"));
            while goes_on() {
                let mut streams: Vec<TcpStream> = (0..8).map(|_| connect(tcp)).collect();
                streams.iter_mut().for_each(|stream| stream.write_all(&hello[..20]).unwrap());
                // As long as an exchange takes; a change may come in between.
                assert!(ask(&mut connect(web)).ends_with("on."));
                for mut stream in streams {
                    stream.write_all(&hello[20..]).unwrap();
                    assert_eq!(read_one(&mut stream), "c.");
                    count += 1;
                }
            }
            count
        }));
    }
    for n in 0..60 {
        assert_eq!(stage.apply(&config(web, n % 2 == 1)).problem, None);
        // One that is carried by all comes between two of them.
        assert!(ask(&mut connect(web)).ends_with("on."));
    }
    drop(over);
    for thread in threads {
        assert!(thread.join().unwrap() > 0);
    }
    stage.end();
}

#[test]
fn a_request_whose_body_is_late_goes_where_it_was_routed() {
    let upstreams = [
        speaker("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na."),
        speaker("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nb."),
    ];
    let route = |name: &str, at: usize| {
        let upstream = upstreams[at];
        format!(
            "[gateway.route.{name}]\npath = '/{name}'\npool = '{name}'\n[gateway.pool.{name}]\nupstreams = ['{upstream}']\n"
        )
    };
    let (mut stage, web) = Stage::new(1, None, |web| listener(web) + &route("b", 1) + &says("first"));
    let mut other = connect(web);
    let begin = |other: &mut TcpStream, word: &str| {
        let mut stream = connect(web);
        stream.write_all(b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nha").unwrap();
        until_in_force(other, word);
        stream
    };
    let finish = |mut stream: TcpStream, end: &[u8]| {
        stream.write_all(b"lf").unwrap();
        read_to(&mut stream, end)
    };
    until_in_force(&mut other, "first");
    let half = begin(&mut other, "first");
    stage.apply(&(listener(web) + &route("a", 0) + &route("b", 1) + &says("more")));
    until_in_force(&mut other, "more");
    assert!(finish(half, b".").ends_with("\r\n\r\nb."), "its number is another one's");
    let half = begin(&mut other, "more");
    stage.apply(&(listener(web) + &says("less")));
    until_in_force(&mut other, "less");
    assert!(finish(half, b"waited\n").starts_with("HTTP/1.1 503 "), "its number is nobody's");
    assert!(ask(&mut other).ends_with("less."), "the gateway goes on");
    stage.end();
}
