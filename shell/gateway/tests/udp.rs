//! Sessions of UDP where places are short, and at listeners with several addresses.

#![allow(clippy::unwrap_used, reason = "a test")]

mod stage;

use std::net::{SocketAddr, UdpSocket};

use stage::{PATIENCE, Stage, free, listener};

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Tells who asks its port, which is that of a session.
fn echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        loop {
            let (_, from) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(from.port().to_string().as_bytes(), from).unwrap();
        }
    });
    address
}

/// The port of a client's session.
fn ask(client: &UdpSocket, to: SocketAddr) -> String {
    client.send_to(b"word", to).unwrap();
    let mut got = [0; 10];
    let n = client.recv(&mut got).unwrap();
    String::from_utf8(got[..n].to_vec()).unwrap()
}

/// A gateway with a listener at a port of `any` address.
fn at_any(any: &str, upstream: SocketAddr) -> (Stage, u16) {
    let port = free().port();
    let text = format!(
        "[gateway.listener.udp]\naddress = '{any}:{port}'\nprotocol = 'udp'\npool = 'p'\n\
         [gateway.pool.p]\nupstreams = ['{upstream}']\n"
    );
    let (stage, _) = Stage::new(1, None, |web| listener(web) + &text);
    (stage, port)
}

#[test]
fn sessions_of_one_datagram_make_room_for_others_and_those_that_go_on_do_not() {
    let upstream = echo();
    for limits in [("connections = 4", ""), ("", "requests = 4\nqueue.time = '100ms'")] {
        let udp = free();
        let text = format!(
            "[gateway.listener.udp]\naddress = '{udp}'\nprotocol = 'udp'\npool = 'p'\n{}\n\
             [gateway.pool.p]\nupstreams = ['{upstream}']\n{}\n",
            limits.0, limits.1
        );
        let (stage, _) = Stage::new(1, None, |web| listener(web) + &text);
        let steady = socket();
        let port = ask(&steady, udp);
        assert_eq!(ask(&steady, udp), port);
        // Each from a port of its own, as in many names.
        let strangers: Vec<UdpSocket> = (0..30).map(|_| socket()).collect();
        let ports: Vec<String> = strangers.iter().map(|stranger| ask(stranger, udp)).collect();
        assert_eq!(ask(&steady, udp), port, "its session goes on");
        assert_eq!(ask(&strangers[29], udp), ports[29], "so does the last of the others");
        // The place of the first was taken, and it begins again.
        ask(&strangers[0], udp);
        stage.end();
    }
}

#[test]
fn who_asks_one_of_several_addresses_is_answered_from_there() {
    let upstream = echo();
    for any in ["0.0.0.0", "[::]"] {
        let (stage, port) = at_any(any, upstream);
        let client = UdpSocket::bind("0.0.0.0:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut sessions = Vec::new();
        for to in ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.2"] {
            let to: SocketAddr = format!("{to}:{port}").parse().unwrap();
            client.send_to(b"word", to).unwrap();
            let mut got = [0; 10];
            let (n, from) = client.recv_from(&mut got).unwrap();
            assert_eq!(from, to, "at {any}");
            sessions.push(got[..n].to_vec());
        }
        assert_eq!(sessions[1], sessions[3], "its session went on");
        assert_ne!(sessions[0], sessions[1], "a conversation with another address is another");
        // A machine may have none of IPv6.
        if any == "[::]"
            && let Ok(client) = UdpSocket::bind("[::1]:0")
        {
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.connect(format!("[::1]:{port}")).unwrap();
            client.send(b"word").unwrap();
            assert!(client.recv(&mut [0; 10]).unwrap() > 0);
        }
        stage.end();
    }
}

#[test]
fn who_asks_all_at_once_is_answered() {
    let upstream = echo();
    for any in ["0.0.0.0", "[::]"] {
        let (stage, port) = at_any(any, upstream);
        let client = socket();
        client.set_broadcast(true).unwrap();
        let broadcast = format!("127.255.255.255:{port}").parse().unwrap();
        let session = ask(&client, broadcast);
        assert_eq!(ask(&client, broadcast), session, "its session goes on at {any}");
        stage.end();
    }
}
