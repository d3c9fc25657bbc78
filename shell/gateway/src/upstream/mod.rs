//! One upstream as one core sees it: its connections, those that rest and those in use.
//!
//! Invariant: no more connections are open than the pool's `connections` allows this core, and than the process may have; who
//! finds none free waits, and tells so, since that is not the upstream's fault.

mod connect;
pub(crate) mod h1;
mod h2;
mod upgraded;

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use skep_gate::config::pool::{Pool, SendProxy, Sticky, UpstreamProtocol};
use skep_gate::health::{Authority, KnownBy};
use skep_gate::{Input, RequestId};
use tokio::sync::Notify;
use tokio::time::sleep;

use connect::FULL_PAUSE;
pub(crate) use connect::{NoConnection, Place, UpstreamTls, connect, connect_in_turn};
pub(crate) use h2::Opening;
pub(crate) use upgraded::Upgraded;

use crate::figures::UpstreamFigures;
use crate::pipe::Pipe;
use crate::progress::Progress;
use crate::source::Sending;

/// What makes an upstream another one, so that its connections are of no use any more.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key {
    pub(crate) pool: String,
    pub(crate) address: String,
    http2: bool,
    tls_name: Option<String>,
}

impl Key {
    pub(crate) fn new(name: &str, pool: &Pool, address: &str) -> Key {
        Key {
            pool: name.to_owned(),
            address: address.to_owned(),
            http2: pool.protocol == UpstreamProtocol::Http2,
            tls_name: pool.tls_name.clone(),
        }
    }
}

/// An upstream.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) key: Key,
    /// Another when another name has the address.
    place: RefCell<Rc<Place>>,
    pub(crate) tls: Option<UpstreamTls>,
    pub(crate) sticky: RefCell<Option<Sticky>>,
    pub(crate) figures: UpstreamFigures,
    connections_max: Cell<usize>,
    idle_time: Cell<Duration>,
    keep_alive: Cell<Duration>,
    open: Cell<usize>,
    resting: RefCell<Vec<Resting>>,
    shared: RefCell<Vec<Rc<h2::Shared>>>,
    /// A connection that others wait for is being made.
    connecting: Cell<bool>,
    freed: Notify,
    retired: Cell<bool>,
    send_proxy: Cell<SendProxy>,
}

/// A connection that is counted.
#[derive(Debug)]
struct Counted(Rc<Upstream>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.freed.notify_one();
    }
}

#[derive(Debug)]
struct Resting {
    connection: Rc<RefCell<h1::Connection>>,
    since: Instant,
}

impl Resting {
    fn is_quiet(&self) -> bool {
        self.connection.borrow_mut().is_quiet()
    }
}

#[derive(Debug)]
enum Held {
    H1(Rc<RefCell<h1::Connection>>),
    H2(h2::Stream),
}

/// A connection, or a stream of one, that is to be used. Dropped, it is closed.
#[derive(Debug)]
pub(crate) struct Lease {
    held: Held,
    /// It served others before.
    pub(crate) is_used: bool,
}

/// A request in the form that its upstream reads.
pub(crate) enum Asking {
    H1(h1::Request),
    H2(Box<Request<Sending>>),
    /// For a WebSocket over HTTP/2.
    WebSocket(Opening),
}

impl Asking {
    /// How far its body is.
    pub(crate) fn progress(&self) -> Rc<Progress> {
        match self {
            Asking::H1(request) => Rc::clone(&request.progress),
            Asking::H2(request) => Rc::clone(&request.body().progress),
            Asking::WebSocket(opening) => opening.progress(),
        }
    }
}

/// Why a request has no reply.
pub(crate) enum SendFault {
    /// Not a byte of it was written; here it is again, if it could be had back.
    NotSent(Option<Asking>),
    /// The upstream ends the connection and did not touch the request: it may go over another.
    Leaving,
    /// The upstream takes none of its kind, and was not sent it.
    NotTaken,
    /// It may have run.
    Reset,
}

/// The body of a reply. At its end the connection rests, or the stream is free; dropped before, it is closed.
#[derive(Debug)]
pub(crate) enum Arriving {
    H1(h1::Arriving),
    H2(h2::Arriving),
    /// Another protocol follows, over a stream of HTTP/2.
    Upgraded(Box<Upgraded>),
}

impl Arriving {
    /// The connection, after the upstream has agreed to another protocol over it.
    pub(crate) fn into_upgraded(self) -> Option<Upgraded> {
        match self {
            Arriving::H1(body) => body.into_upgraded().map(Upgraded::H1),
            Arriving::Upgraded(upgraded) => Some(*upgraded),
            Arriving::H2(_) => None,
        }
    }

    /// Bytes that can be moved to a client without being looked at.
    pub(crate) fn movable(&self) -> u64 {
        match self {
            Arriving::H1(body) => body.movable(),
            _ => 0,
        }
    }

    /// Moves some of them into an empty pipe.
    ///
    /// # Errors
    /// The reply broke.
    pub(crate) fn poll_move(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
        match self {
            Arriving::H1(body) => body.poll_move(cx, pipe),
            _ => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Arriving::H1(body) => body.poll(cx),
            Arriving::H2(body) => body.poll(cx),
            Arriving::Upgraded(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Arriving::H1(body) => body.has_ended(),
            Arriving::H2(body) => body.has_ended(),
            Arriving::Upgraded(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Arriving::H1(body) => body.size_hint(),
            Arriving::H2(body) => body.size_hint(),
            Arriving::Upgraded(_) => SizeHint::with_exact(0),
        }
    }
}

impl Upstream {
    pub(crate) fn new(key: Key, place: Place, tls: Option<UpstreamTls>) -> Rc<Upstream> {
        Rc::new(Upstream {
            place: RefCell::new(Rc::new(place)),
            key,
            tls,
            sticky: RefCell::new(None),
            figures: UpstreamFigures::default(),
            connections_max: Cell::new(1),
            idle_time: Cell::new(Duration::ZERO),
            keep_alive: Cell::new(Duration::ZERO),
            open: Cell::new(0),
            resting: RefCell::default(),
            shared: RefCell::default(),
            connecting: Cell::new(false),
            freed: Notify::new(),
            retired: Cell::new(false),
            send_proxy: Cell::new(SendProxy::Off),
        })
    }

    /// Takes in what may change without new connections.
    pub(crate) fn configure(&self, pool: &Pool, cores: usize) {
        self.connections_max.set((pool.connections as usize).div_ceil(cores));
        self.idle_time.set(Duration::from_micros(pool.idle.0));
        self.keep_alive.set(Duration::from_micros(pool.keep_alive.0));
        self.sticky.borrow_mut().clone_from(&pool.sticky);
        self.send_proxy.set(pool.send_proxy);
    }

    /// The name by which it is found may be another one: connections that are there go on, and probes name it.
    pub(crate) fn set_place(&self, place: Place) {
        *self.place.borrow_mut() = Rc::new(place);
    }

    pub(crate) fn place(&self) -> Rc<Place> {
        Rc::clone(&self.place.borrow())
    }

    /// It is no more in the configuration: what rests is closed, what is in use when it ends.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
        let resting = std::mem::take(&mut *self.resting.borrow_mut());
        let shared = std::mem::take(&mut *self.shared.borrow_mut());
        drop((resting, shared));
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.key.http2
    }

    /// As whom it is asked what the gateway asks by itself; `told` by the configuration.
    pub(crate) fn authority(&self, told: Option<&str>) -> Authority {
        let place = self.place();
        Authority::of(KnownBy {
            told,
            certificate: self.key.tls_name.as_deref(),
            name: place.name(),
            address: &self.key.address,
            is_secure: self.tls.is_some(),
        })
    }

    pub(crate) fn send_proxy(&self) -> SendProxy {
        self.send_proxy.get()
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.open.get()
    }

    /// Closes what has rested for too long.
    pub(crate) fn sweep(&self) {
        let idle = self.idle_time.get();
        // Dropping a connection touches this upstream, so it happens after the borrow.
        let old: Vec<Resting> = {
            let mut resting = self.resting.borrow_mut();
            resting.extract_if(.., |r| r.since.elapsed() >= idle || !r.is_quiet()).collect()
        };
        let old_shared: Vec<Rc<h2::Shared>> = {
            let mut shared = self.shared.borrow_mut();
            shared.extract_if(.., |shared| shared.is_old(idle)).collect()
        };
        drop((old, old_shared));
    }

    /// A connection that is there.
    pub(crate) fn take_now(&self) -> Option<Lease> {
        match self.key.http2 {
            false => self.resting_one().map(|connection| Lease { held: Held::H1(connection), is_used: true }),
            true => self.shared_one().map(|stream| Lease { held: Held::H2(stream), is_used: true }),
        }
    }

    /// A connection, waiting for one if as many as may be are in use: `tell` hears that it waits, and that it does no more.
    ///
    /// # Errors
    /// There is none to be had.
    pub(crate) async fn take(self: &Rc<Self>, tell: impl Fn(bool)) -> io::Result<Lease> {
        let mut place = Waiting { tell, waits: false };
        match self.key.http2 {
            false => self.take_h1(&mut place).await,
            true => self.take_h2(&mut place).await,
        }
    }

    fn count(self: &Rc<Self>) -> Counted {
        self.open.set(self.open.get() + 1);
        Counted(Rc::clone(self))
    }

    async fn take_h1(self: &Rc<Self>, place: &mut Waiting<impl Fn(bool)>) -> io::Result<Lease> {
        loop {
            if let Some(lease) = self.take_now() {
                return Ok(lease);
            }
            if self.open.get() < self.connections_max.get() {
                let counted = self.count();
                match connect(&self.place(), self.tls.as_ref(), || place.set(false)).await {
                    Ok(stream) => {
                        let held = Held::H1(h1::Connection::new(stream, counted));
                        return Ok(Lease { held, is_used: false });
                    }
                    Err(NoConnection::Fault(error)) => return Err(error),
                    Err(NoConnection::Full) => {}
                }
                place.set(true);
                // Another may rest before there is a descriptor.
                sleep(FULL_PAUSE).await;
                continue;
            }
            place.set(true);
            self.freed.notified().await;
        }
    }

    fn resting_one(&self) -> Option<Rc<RefCell<h1::Connection>>> {
        loop {
            // Dropping a connection touches this upstream, so it happens after the borrow.
            let resting = self.resting.borrow_mut().pop()?;
            // What the runtime heard when it last asked the system, which was for this request or later: an upstream that
            // has closed a connection is found out before that is used, as far as that can be.
            if resting.is_quiet() {
                return Some(resting.connection);
            }
        }
    }

    /// The reply over this connection has ended: it rests until it is needed again, if it can be used.
    fn rest(connection: Rc<RefCell<h1::Connection>>) {
        let upstream = Rc::clone(&connection.borrow().counted.0);
        if connection.borrow().is_reusable() && !upstream.retired.get() {
            connection.borrow_mut().rest();
            upstream.resting.borrow_mut().push(Resting { connection, since: Instant::now() });
            upstream.freed.notify_one();
        }
    }
}

/// What the gate is told of an attempt that waits for a connection of ours, or does so no more.
pub(crate) fn waiting(request: RequestId, attempt: u32, waits: bool) -> Input {
    match waits {
        true => Input::Waits { request, attempt },
        false => Input::Connects { request, attempt },
    }
}

/// Whether a request waits for a place among connections.
struct Waiting<F> {
    tell: F,
    waits: bool,
}

impl<F: Fn(bool)> Waiting<F> {
    fn set(&mut self, waits: bool) {
        if self.waits != waits {
            self.waits = waits;
            (self.tell)(waits);
        }
    }
}

impl Lease {
    /// Sends a request, and gives the head of its reply.
    ///
    /// # Errors
    /// [`SendFault`]; the connection is of no more use.
    ///
    /// # Panics
    /// If the request is of the other protocol: both are the upstream's.
    pub(crate) async fn send(self, asking: Asking) -> Result<Response<Arriving>, SendFault> {
        match (self.held, asking) {
            (Held::H1(connection), Asking::H1(request)) => {
                let response = h1::send(connection, request).await?;
                Ok(response.map(Arriving::H1))
            }
            (Held::H2(stream), Asking::H2(request)) => h2::send(stream, request).await,
            (Held::H2(stream), Asking::WebSocket(opening)) => Box::pin(h2::open(stream, opening)).await,
            _ => unreachable!("a request is made for its upstream"),
        }
    }
}

/// Runs the tasks of HTTP/2 connections on the core's own thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::crypto::ring;
    use rustls::{ClientConfig, RootCertStore};
    use skep_gate::config::scalar::Address;

    use super::*;
    use crate::names::Directory;

    #[test]
    fn what_the_gateway_asks_by_itself_is_asked_by_the_name_that_it_is_found_by() {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let roots = RootCertStore::empty();
        let config = Arc::new(builder.unwrap().with_root_certificates(roots).with_no_client_auth());
        let lookups = Directory::new(1).lookups();
        let (found, own): (Arc<str>, Arc<str>) = ("app.test".into(), "other.test".into());
        let place = |address: &str, by| Place::new(&Address(address.to_owned()), by, &lookups);
        let pool = Pool::default();
        let upstream = Upstream::new(Key::new("p", &pool, "10.0.0.1:81"), place("10.0.0.1:81", None), None);
        let uri = |upstream: &Upstream, told| upstream.authority(told).uri("/x");
        assert_eq!(uri(&upstream, None), "http://10.0.0.1:81/x");
        assert_eq!(uri(&upstream, Some("b:2")), "http://b:2/x");
        upstream.set_place(place("10.0.0.1:81", Some(&found)));
        assert_eq!(uri(&upstream, None), "http://app.test:81/x");
        upstream.set_place(place("10.0.0.1:81", Some(&own)));
        assert_eq!(uri(&upstream, None), "http://other.test:81/x", "the name by which it is found by now");
        let upstream = Upstream::new(Key::new("p", &pool, "app.test:80"), place("app.test:80", None), None);
        assert_eq!(uri(&upstream, None), "http://app.test/x", "before it has an address");
        let pool = Pool { tls_name: Some("a.test".to_owned()), ..pool };
        let tls = UpstreamTls { config, name: "a.test".try_into().unwrap() };
        let key = Key::new("p", &pool, "10.0.0.1:443");
        let upstream = Upstream::new(key, place("10.0.0.1:443", Some(&found)), Some(tls));
        assert_eq!(uri(&upstream, None), "https://a.test/x");
    }
}
