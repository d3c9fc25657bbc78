//! TCP: a connection to an upstream for each of a client, bytes in both directions.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use skep_base::Micros;
use skep_gate::balance::Ties;
use skep_gate::config::listener::Listener;
use skep_gate::config::resilience::Priority;
use skep_gate::layer4::hello::{self, Hello};
use skep_gate::layer4::{by_name, proxy_header};
use skep_gate::resilience::retry::{Failure, Traits};
use skep_gate::router::stable_hash;
use skep_gate::{Arrival, Input, PoolId, Why};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::access_log::Line;
use crate::control::duration;
use crate::copy::{copy_both, copy_both_tcp};
use crate::core::Plan;
use crate::figures::count;
use crate::in_flight::{InFlight, Record};
use crate::listen::Connection;
use crate::mailbox::Command;
use crate::stream::Stream;
use crate::upstream::{Upstream, connect_in_turn, waiting};

/// What the gate is told when an upstream has taken a connection: that is well, and no status of HTTP is meant.
const WELL: u16 = 200;

/// An arrival that no route is for, at a pool of `plan`.
pub(crate) fn arrival(plan: &Plan, pool: PoolId, source: IpAddr) -> Arrival {
    let key = match source {
        IpAddr::V4(v4) => stable_hash(&v4.octets()),
        IpAddr::V6(v6) => stable_hash(&v6.octets()),
    };
    Arrival {
        of: plan.generation,
        route: None,
        pool,
        priority: Priority::Normal,
        // What was written to it may have done anything.
        traits: Traits { idempotent: false, keyed: false, replayable: false },
        sends_body: false,
        hedgeable: false,
        ties: Ties { key: Some(key), ..Ties::default() },
        backup_ties: Ties::default(),
        deadline: None,
        nested: false,
    }
}

/// Serves a connection to its end. `ends` are those of the client's, as a trusted proxy told them.
///
/// # Errors
/// The client's side broke before an upstream was chosen.
pub(crate) async fn serve(
    connection: Connection,
    mut stream: Stream,
    ends: proxy_header::Ends,
) -> io::Result<()> {
    let core = Rc::clone(&connection.core);
    let mut first = BytesMut::new();
    let mut name = None;
    if let Some(patience) = name_time(&connection) {
        name = timeout(patience, read_name(&mut stream, &mut first)).await??;
    }
    // What is in force by now; nothing waits between here and the gate.
    let plan = core.plan();
    let Some(id) = connection.listening.id() else { return Ok(()) };
    let listener = &plan.snapshot.config.listeners[id.at()].it;
    let Some(pool) = pool(&plan, listener, name.as_deref()) else {
        return Err(io::Error::other(format!("no pool is for {name:?}")));
    };
    let line = || Line {
        client: connection.peer.address.to_string(),
        host: name.clone().unwrap_or_default(),
        version: "tcp",
        ..Line::default()
    };
    let mut in_flight = InFlight::new(&core, Record::begin(&core, line));
    let request = in_flight.id;
    let arrival = arrival(&plan, pool, connection.peer.address);
    core.tell(Input::Arrived { request, arrival });
    let idle = duration(listener.idle);
    drop(plan);
    let Ok((mut socket, upstream)) = find(&mut in_flight).await else { return Ok(()) };
    in_flight.record.status = WELL;
    in_flight.record.note(|line| line.upstream.clone_from(&upstream.key.address));
    let mut ahead = proxy_header::write(upstream.send_proxy(), ends);
    ahead.extend_from_slice(&first);
    if !ahead.is_empty()
        && let Err(error) = socket.write_all(&ahead).await
    {
        let attempt = in_flight.attempt();
        in_flight.end(|request| Input::Failed { request, attempt, failure: Failure::Broken });
        return Err(error);
    }
    // A connection that rests holds no buffer.
    drop((ahead, first));
    let (_, sent) = match (stream, socket) {
        (Stream::Tcp(client), Stream::Tcp(upstream)) => copy_both_tcp(client, upstream, idle).await,
        (client, upstream) => copy_both(client, upstream, idle).await,
    };
    in_flight.record.bytes_sent = sent;
    in_flight.end(|request| Input::Done { request });
    Ok(())
}

/// How long a client may take to say its name, if the listener goes by that.
fn name_time(connection: &Connection) -> Option<Duration> {
    let plan = connection.core.plan();
    let listener = &plan.snapshot.config.listeners[connection.listening.id()?.at()].it;
    (!listener.sni.is_empty()).then(|| duration(listener.header_time))
}

/// By the name that is asked for, else the listener's own.
fn pool(plan: &Plan, listener: &Listener, name: Option<&str>) -> Option<PoolId> {
    let by_name = name.and_then(|name| by_name(&listener.sni, name));
    let pool = by_name.or(listener.pool.as_ref())?;
    let at = plan.snapshot.config.pools.iter().position(|p| p.name == *pool)?;
    Some(PoolId(at as u32))
}

/// Reads as much of the client hello as it takes to find the name; all of it is kept for the upstream.
async fn read_name(stream: &mut Stream, first: &mut BytesMut) -> io::Result<Option<String>> {
    loop {
        match hello::read(first) {
            Hello::Name(name) => return Ok(Some(name)),
            Hello::Nameless | Hello::NotTls => return Ok(None),
            Hello::NeedMore => {}
        }
        first.reserve(1024);
        if stream.read_buf(first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<Stream>>>>;

/// Connects as the gate says.
///
/// # Errors
/// Why no upstream could be had; the gate has ended the request.
async fn find(in_flight: &mut InFlight) -> Result<(Stream, Rc<Upstream>), Why> {
    let core = Rc::clone(&in_flight.core);
    let request = in_flight.id;
    let mut running: Option<(u32, Rc<Upstream>, Connecting)> = None;
    let mut found = None;
    loop {
        let mailbox = Rc::clone(&in_flight.mailbox);
        let command = std::future::poll_fn(|cx| mailbox.poll(cx));
        let connected = async {
            match &mut running {
                Some((_, _, connecting)) => connecting.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            command = command => match command {
                Command::Try { attempt, upstream, .. } => {
                    count(&upstream.figures.attempts);
                    in_flight.record.note(|line| line.attempts = attempt);
                    let to = Rc::clone(&upstream);
                    let teller = Rc::clone(&core);
                    let connecting = async move {
                        let tell = |waits| teller.tell(waiting(request, attempt, waits));
                        connect_in_turn(&to.place(), to.tls.as_ref(), tell).await
                    };
                    running = Some((attempt, upstream, Box::pin(connecting)));
                }
                Command::Abandon { .. } => running = None,
                Command::Forward { attempt, .. } => {
                    in_flight.set_attempt(attempt);
                    return Ok(found.take().expect("the gate forwards what it was told of"));
                }
                Command::Answer { why, .. } => {
                    in_flight.has_ended();
                    in_flight.record.status = why.status();
                    in_flight.record.note(|line| line.why = format!("{why:?}"));
                    return Err(why);
                }
            },
            result = connected => {
                let Some((attempt, upstream, _)) = running.take() else { continue };
                match result {
                    Ok(socket) => {
                        found = Some((socket, upstream));
                        core.tell(Input::Connected { request, attempt });
                        core.tell(Input::Replied { request, attempt, status: WELL, retry_after: None::<Micros> });
                    }
                    Err(error) => {
                        tracing::debug!(%error, upstream = upstream.key.address, "gateway: no connection");
                        count(&upstream.figures.failures);
                        core.tell(Input::Failed { request, attempt, failure: Failure::NotSent });
                    }
                }
            }
        }
    }
}
