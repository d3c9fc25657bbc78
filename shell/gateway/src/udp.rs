//! UDP: sessions by the address of a client, and the one that it sends to, each with a socket of its own to its upstream.
//!
//! Datagrams are never kept: what cannot be sent on at once is lost, as on any network.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use skep_base::Micros;
use skep_gate::layer4::udp::{Newcomer, Newcomers, life};
use skep_gate::resilience::retry::Failure;
use skep_gate::{Input, PoolId};
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::coop::consume_budget;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until, timeout};

use crate::access_log::Line;
use crate::control::duration;
use crate::core::Core;
use crate::datagrams::{Datagrams, Ends};
use crate::descriptors;
use crate::figures::count;
use crate::in_flight::{InFlight, Record};
use crate::listen::{Connection, Listening};
use crate::mailbox::Command;
use crate::scratch::scratch;
use crate::upstream::{NoConnection, Upstream};

/// Datagrams of one client that wait for its session to begin, while a name is looked up.
const WAITING_MAX: usize = 16;
/// How long looking up an upstream's name may take.
const NAME_TIME: Duration = Duration::from_secs(1);
const ERROR_PAUSE: Duration = Duration::from_millis(10);
const WELL: u16 = 200;

struct Session {
    /// None until it has begun.
    socket: RefCell<Option<Rc<UdpSocket>>>,
    waiting: RefCell<Vec<Vec<u8>>>,
    last: Cell<Instant>,
    /// None from the second datagram of its client on.
    newcomer: Cell<Option<Newcomer>>,
    /// Told when another takes its place.
    ends: Notify,
}

/// The sessions of a listener.
#[derive(Default)]
struct Sessions {
    live: RefCell<HashMap<Ends, Rc<Session>>>,
    newcomers: RefCell<Newcomers<Ends>>,
}

impl Sessions {
    fn begin(&self, ends: Ends) -> Rc<Session> {
        let newcomer = self.newcomers.borrow_mut().begin(ends);
        let session = Rc::new(Session {
            socket: RefCell::default(),
            waiting: RefCell::default(),
            last: Cell::new(Instant::now()),
            newcomer: Cell::new(Some(newcomer)),
            ends: Notify::new(),
        });
        self.live.borrow_mut().insert(ends, Rc::clone(&session));
        session
    }

    /// The session of a client from which something more has come.
    fn known(&self, ends: Ends) -> Option<Rc<Session>> {
        let session = self.live.borrow().get(&ends).cloned()?;
        self.settle(&session);
        Some(session)
    }

    fn settle(&self, session: &Session) {
        if let Some(newcomer) = session.newcomer.take() {
            self.newcomers.borrow_mut().settle(newcomer);
        }
    }

    /// Ends a session for another one. False if there is none to be ended.
    fn make_room(&self) -> bool {
        let Some(oldest) = self.newcomers.borrow_mut().make_room() else { return false };
        if let Some(session) = self.live.borrow_mut().remove(&oldest) {
            session.ends.notify_one();
        }
        true
    }

    /// A session has ended.
    fn end(&self, ends: Ends, session: &Rc<Session>) {
        self.settle(session);
        let mut live = self.live.borrow_mut();
        // Another of the same address may have begun when this one made room.
        if live.get(&ends).is_some_and(|now| Rc::ptr_eq(now, session)) {
            live.remove(&ends);
        }
    }
}

/// Serves a listener until it closes.
pub(crate) async fn serve(core: Rc<Core>, listening: Rc<Listening>, socket: std::net::UdpSocket) {
    let socket = match Datagrams::new(socket) {
        Ok(socket) => Rc::new(socket),
        Err(error) => return tracing::error!(%error, "gateway: a UDP listener cannot be used"),
    };
    let sessions = Rc::<Sessions>::default();
    let mut closing = listening.closing.subscribe();
    loop {
        let readable = tokio::select! {
            readable = socket.readable() => readable,
            _ = closing.changed() => return,
        };
        let taken = readable.and_then(|()| {
            scratch(|room| {
                let (n, ends) = socket.try_receive(room)?;
                take(&core, &listening, &socket, &sessions, (ends, &room[..n]));
                Ok(())
            })
        });
        match taken {
            Ok(()) => consume_budget().await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                // A port that is not there any more, told of what was sent to it.
                tracing::debug!(%error, "gateway: UDP");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
}

/// Sends a client's datagram on, in its session.
fn take(
    core: &Rc<Core>,
    listening: &Rc<Listening>,
    socket: &Rc<Datagrams>,
    sessions: &Rc<Sessions>,
    (ends, datagram): (Ends, &[u8]),
) {
    let known = sessions.known(ends);
    let Some(session) = known.or_else(|| begin(core, listening, socket, sessions, ends)) else {
        return count(&core.turned_away);
    };
    session.last.set(Instant::now());
    let to = session.socket.borrow().clone();
    match to {
        // A full buffer loses it, and an error is heard by the session as well.
        Some(to) => _ = to.try_send(datagram),
        None if session.waiting.borrow().len() < WAITING_MAX => {
            session.waiting.borrow_mut().push(datagram.to_vec());
        }
        None => {}
    }
}

fn begin(
    core: &Rc<Core>,
    listening: &Rc<Listening>,
    back: &Rc<Datagrams>,
    sessions: &Rc<Sessions>,
    ends: Ends,
) -> Option<Rc<Session>> {
    let plan = core.plan();
    let listener = &plan.snapshot.config.listeners[listening.id()?.at()].it;
    let limit = listener.connections.div_ceil(core.cores as u32) as usize;
    if sessions.live.borrow().len() >= limit && !sessions.make_room() {
        return None;
    }
    let pool = listener.pool.as_ref()?;
    let pool = PoolId(plan.snapshot.config.pools.iter().position(|p| p.name == *pool)? as u32);
    let connection = Connection::of_session(core, listening, ends.client);
    let line = || Line { client: ends.client.ip().to_string(), version: "udp", ..Line::default() };
    let in_flight = InFlight::new(core, Record::begin(core, line));
    let arrival = crate::tcp::arrival(&plan, pool, connection.peer.address);
    core.tell(Input::Arrived { request: in_flight.id, arrival });
    if in_flight.mailbox.is_empty() {
        // It waits for a place at an upstream.
        sessions.make_room();
    }
    let session = sessions.begin(ends);
    let (back, sessions, own) = (Rc::clone(back), Rc::clone(sessions), Rc::clone(&session));
    let idle = listener.idle;
    spawn_local(async move {
        let ended = tokio::select! {
            ended = carry(&connection, in_flight, &own, (&back, ends), idle) => ended,
            () = own.ends.notified() => Err(io::Error::other("another session took its place")),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, from = %ends.client, "gateway: a UDP session ended");
        }
        sessions.end(ends, &own);
    });
    Some(session)
}

async fn carry(
    connection: &Connection,
    mut in_flight: InFlight,
    session: &Session,
    (back, ends): (&Datagrams, Ends),
    idle: Micros,
) -> io::Result<()> {
    let core = &connection.core;
    let request = in_flight.id;
    let (socket, upstream) = loop {
        let mailbox = Rc::clone(&in_flight.mailbox);
        match std::future::poll_fn(|cx| mailbox.poll(cx)).await {
            Command::Try { attempt, upstream, .. } => {
                count(&upstream.figures.attempts);
                in_flight.set_attempt(attempt);
                let late = || Err(io::Error::from(io::ErrorKind::TimedOut).into());
                match timeout(NAME_TIME, open(&upstream)).await.unwrap_or_else(|_| late()) {
                    Ok(socket) => break (socket, upstream),
                    Err(full @ NoConnection::Full) => {
                        count(&core.turned_away);
                        return Err(io::Error::other(full.to_string()));
                    }
                    Err(NoConnection::Fault(_)) => {
                        count(&upstream.figures.failures);
                        core.tell(Input::Failed { request, attempt, failure: Failure::NotSent });
                    }
                }
            }
            Command::Answer { why, .. } => {
                in_flight.has_ended();
                in_flight.record.status = why.status();
                return Err(io::Error::other(format!("{why:?}")));
            }
            Command::Abandon { .. } | Command::Forward { .. } => {}
        }
    };
    let attempt = in_flight.attempt();
    core.tell(Input::Connected { request, attempt });
    core.tell(Input::Replied { request, attempt, status: WELL, retry_after: None });
    in_flight.record.status = WELL;
    in_flight.record.note(|line| line.upstream.clone_from(&upstream.key.address));
    let socket = Rc::new(socket);
    for datagram in session.waiting.take() {
        socket.send(&datagram).await?;
    }
    *session.socket.borrow_mut() = Some(Rc::clone(&socket));
    let mut closing = connection.listening.closing.subscribe();
    loop {
        let lives_until = || session.last.get() + duration(life(session.newcomer.get().is_some(), idle));
        let until = lives_until();
        tokio::select! {
            readable = socket.readable() => match readable.and_then(|()| answer(&socket, back, ends)) {
                Ok((n, sent)) => {
                    session.last.set(Instant::now());
                    in_flight.sent(n);
                    if let Some(waits) = sent? {
                        back.send(&waits, ends).await?;
                    }
                    consume_budget().await;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Nobody listens there: the next datagram begins a session elsewhere.
                Err(error) => {
                    count(&upstream.figures.failures);
                    in_flight.end(|request| Input::Failed { request, attempt, failure: Failure::Reset });
                    return Err(error);
                }
            },
            () = sleep_until(until) => {
                if lives_until() <= Instant::now() {
                    break;
                }
            }
            _ = closing.changed() => break,
        }
    }
    in_flight.end(|request| Input::Done { request });
    Ok(())
}

/// Sends the client what its upstream has said: how much that is, and the datagram itself if there is no room for it yet.
///
/// # Errors
/// Those of the upstream's socket; inside, those of sending.
fn answer(
    upstream: &UdpSocket,
    back: &Datagrams,
    ends: Ends,
) -> io::Result<(usize, io::Result<Option<Vec<u8>>>)> {
    scratch(|room| {
        let n = upstream.try_recv(room)?;
        let sent = match back.try_send(&room[..n], ends) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Some(room[..n].to_vec())),
            sent => sent.map(|()| None),
        };
        Ok((n, sent))
    })
}

/// A socket for a session, which is as good as a client's connection where descriptors are short.
async fn open(upstream: &Upstream) -> Result<UdpSocket, NoConnection> {
    let addresses = upstream.place().addresses().await?;
    let to = *addresses.first().ok_or(io::Error::from(io::ErrorKind::AddrNotAvailable))?;
    let any: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(any).await.map_err(NoConnection::of_opening)?;
    if !descriptors::has_room_for_client(&socket) {
        return Err(NoConnection::Full);
    }
    socket.connect(to).await?;
    Ok(socket)
}
