//! Connections to upstreams that close, or take nothing, at bad moments.

use std::time::Duration;

use http_body_util::BodyExt;
use skep_gate::config::pool::Pool;
use skep_gate::http1::request::Framing;
use skep_gate::resilience::retry::Failure;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio::task::coop::{cooperative, has_budget_remaining};
use tokio::time::timeout;

use super::super::{Key, Lease, Place};
use super::upload::{Broken, Upload};
use super::*;
use crate::h1::Wire;
use crate::source::Inbound;
use crate::stream::Holds;

const PATIENCE: Duration = Duration::from_secs(30);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async { timeout(PATIENCE, test).await.expect("in time") });
}

async fn upstream() -> (Rc<Upstream>, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (pool, address) = (Pool::default(), listener.local_addr().unwrap());
    let key = Key::new("p", &pool, &address.to_string());
    let upstream = Upstream::new(key, Place::Fixed(address), None);
    upstream.configure(&pool, 1);
    (upstream, listener)
}

async fn take(upstream: &Rc<Upstream>, listener: &TcpListener) -> (Lease, TcpStream) {
    let (lease, accepted) = tokio::join!(upstream.take(|_| ()), listener.accept());
    (lease.unwrap(), accepted.unwrap().0)
}

/// A request with this body, of which a pause may be as long as `patience`.
fn post(body: Vec<u8>, patience: Duration) -> Asking {
    let source = Source::new(Inbound::Whole(body.into()), u64::MAX, u64::MAX, patience);
    let mut head = BytesMut::from(&b"POST / HTTP/1.1\r\nhost: a\r\n"[..]);
    end_head(&mut head, &Method::POST, &source);
    Asking::H1(Request { head: head.freeze(), method: Method::POST, source, progress: Progress::new() })
}

#[test]
fn a_connection_that_closed_is_found_out_however_much_its_task_has_done_in_this_turn() {
    run(async {
        let (upstream, listener) = upstream().await;
        let (lease, mut server) = take(&upstream, &listener).await;
        let reply = async {
            let mut seen = [0; 1000];
            assert!(server.read(&mut seen).await.unwrap() > 0);
            server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            server
        };
        let (response, server) = tokio::join!(lease.send(post(Vec::new(), PATIENCE)), reply);
        assert!(response.is_ok_and(|response| response.status() == StatusCode::OK));
        drop(server);
        let resting = upstream.resting_one().expect("it rests");
        // The runtime hears of it before the next turn; in that turn much is done before anybody looks.
        while resting.borrow_mut().is_quiet() {
            tokio::task::yield_now().await;
        }
        while has_budget_remaining() {
            cooperative(std::future::ready(())).await;
        }
        assert!(!resting.borrow_mut().is_quiet());
    });
}

#[test]
fn an_upstream_that_answers_early_and_takes_no_more_does_not_keep_its_connection() {
    run(async {
        let (upstream, listener) = upstream().await;
        let (lease, mut server) = take(&upstream, &listener).await;
        let reply = async {
            let mut seen = [0; 1000];
            assert!(server.read(&mut seen).await.unwrap() > 0);
            server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nearl").await.unwrap();
            server
        };
        let long = post(vec![0; 32 << 20], Duration::from_millis(20));
        let (response, _server) = tokio::join!(lease.send(long), reply);
        let Ok(response) = response else { panic!("there is a reply") };
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "earl");
        assert_eq!(upstream.open(), 1, "the rest of the request is on its way");
        while upstream.open() > 0 {
            upstream.freed.notified().await;
        }
    });
}

/// TLS over a connection that takes this much of a write and then breaks: the write as a whole fails.
struct Breaks {
    takes: u64,
    handed_on: u64,
}

impl AsyncWrite for Breaks {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        self.handed_on += self.takes;
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Holds for Breaks {
    fn handed_on(&self) -> u64 {
        self.handed_on
    }
}

#[test]
fn a_request_may_have_run_as_soon_as_a_part_of_it_went_on_beneath_tls() {
    for (takes, broken) in [(0, Broken::Untouched), (10, Broken::Cut)] {
        // Those of the handshake are nothing of it.
        let mut stream = Breaks { takes, handed_on: 1000 };
        let Asking::H1(request) = post(b"once".to_vec(), PATIENCE) else { panic!("it is one") };
        let mut upload = Upload::new(request.head, Sending::new(&request.source));
        let polled = upload.poll(&mut stream, &mut Context::from_waker(Waker::noop()));
        assert_eq!(polled, Poll::Ready(Err(broken)));
    }
}

/// A connection that is full at first, and holds what it takes until it is flushed.
#[derive(Default)]
struct Full {
    takes: bool,
    held: usize,
    flushed: usize,
}

impl AsyncWrite for Full {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.takes {
            return Poll::Pending;
        }
        self.held += bytes.len();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushed += std::mem::take(&mut self.held);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Holds for Full {
    fn handed_on(&self) -> u64 {
        0
    }
}

#[test]
fn an_upstream_that_takes_nothing_of_the_little_that_came_is_to_blame_and_not_its_client() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let mut client = client.unwrap();
        let mut wire = Wire::new(Stream::Tcp(accepted.unwrap().0), BytesMut::new());
        wire.begin_body(Framing::Length(100), false);
        let from = Inbound::H1 { wire: Rc::new(RefCell::new(wire)), length: Some(100) };
        let source = Source::new(from, 0, 1_000, PATIENCE);
        client.write_all(b"0123456789").await.unwrap();
        source.gather(10).await;
        let progress = Progress::new();
        let head = Bytes::from_static(b"POST / HTTP/1.1\r\ncontent-length: 100\r\n\r\n");
        let size = head.len() + 10;
        let mut upload = Upload::new(head, Sending::with(&source, Rc::clone(&progress)));
        let (mut stream, both_ways) = (Full::default(), source.both_ways());
        both_ways.begin(PATIENCE);
        // It is asked for more meanwhile, and what came waits all the same.
        poll_fn(|cx| Poll::Ready(upload.poll(&mut stream, cx).is_pending())).await;
        progress.stalled(Duration::from_millis(20)).await;
        assert!(both_ways.blames_upstream(Failure::Timeout));
        stream.takes = true;
        poll_fn(|cx| Poll::Ready(upload.poll(&mut stream, cx).is_pending())).await;
        assert_eq!(stream.flushed, size, "it does not wait for what follows");
        assert!(!both_ways.blames_upstream(Failure::Timeout), "it has taken all that came");
    });
}
