//! A gateway whose process may open no more.

#![allow(clippy::unwrap_used, reason = "a test")]

mod stage;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;

use skep_gateway::descriptors::set_fit;
use stage::{PATIENCE, Stage, connect, listener, read_to, send};

/// Answers one request of each connection; a probe asks nothing.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nwell.");
            }
        }
    });
    address
}

/// One test: the limit is the process's.
#[test]
fn a_want_of_descriptors_is_nobodys_fault_and_passes() {
    let at = upstream();
    let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
    let of_udp = stage::free();
    let touchy =
        "breaker.consecutive = 1\nhealth = { kind = 'tcp', interval = '100ms', timeout = '50ms', fall = 1 }";
    let text = format!(
        "[gateway.listener.udp]\naddress = '{of_udp}'\nprotocol = 'udp'\npool = 'udp'\n\
         [gateway.route.all]\npool = 'all'\n[gateway.route.patient]\npath = '/patient'\npool = 'patient'\n\
         [gateway.pool.all]\nupstreams = ['{at}']\nqueue.time = '200ms'\n{touchy}\n\
         [gateway.pool.patient]\nupstreams = ['{at}']\nqueue.time = '20s'\n{touchy}\n\
         [gateway.pool.udp]\nupstreams = ['{}']\nbreaker.consecutive = 1\n",
        echo.local_addr().unwrap()
    );
    let (stage, web) = Stage::new(1, None, |web| listener(web) + &text);
    let (mut client, mut patient) = (connect(web), connect(web));
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.connect(of_udp).unwrap();
    // The connections are the gateway's by then.
    for client in [&mut client, &mut patient] {
        send(client, "/", "");
        assert!(read_to(client, b"well.").starts_with("HTTP/1.1 200 "));
    }
    set_fit(0);
    udp.send(b"lost").unwrap();
    send(&mut patient, "/patient", "");
    for _ in 0..3 {
        send(&mut client, "/", "");
        let reply = read_to(&mut client, b"waited for too long\n");
        assert!(reply.starts_with("HTTP/1.1 503 "), "{reply}");
    }
    set_fit(u64::MAX);
    // Who waits is served, and nobody is out for what was the gateway's own want.
    for (client, path) in [(&mut patient, None), (&mut client, Some("/"))] {
        if let Some(path) = path {
            send(client, path, "");
        }
        let reply = read_to(client, b"well.");
        assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    }
    udp.send(b"found").unwrap();
    echo.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut got = [0; 8];
    let n = echo.recv(&mut got).unwrap();
    assert_eq!(&got[..n], b"found");
    stage.end();
}
