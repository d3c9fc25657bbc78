//! HTTP/2 with clients.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::rc::Rc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::control::duration;
use crate::gather::Gathered;
use crate::listen::Connection;
use crate::proxy;
use crate::source::Inbound;
use crate::stream::{Rewound, Stream};
use crate::streams::{Pace, Streams, Taken};
use crate::websocket;

/// Requests of one connection at once; a client with more to ask waits, or opens another.
const STREAMS_MAX: u32 = 128;

/// Serves a connection until it ends.
///
/// # Errors
/// The connection broke.
pub(crate) async fn serve(connection: Connection, stream: Rewound<Stream>) -> io::Result<()> {
    let Some(id) = connection.listening.id() else { return Ok(()) };
    // It may have waited for TLS or a PROXY header while its listener closed.
    if connection.listening.is_closing() {
        return Ok(());
    }
    let plan = connection.core.plan();
    let listener = &plan.snapshot.config.listeners[id.at()].it;
    let (patience, idle) = (duration(listener.body_idle), duration(listener.idle));
    let streams = Streams::new();
    let mut builder = http2::Builder::new(streams.clone());
    builder
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(listener.header_size.0 as u32)
        .keep_alive_interval(idle)
        .keep_alive_timeout(duration(listener.header_time));
    drop(plan);
    let connection = Rc::new(connection);
    let service = service_fn(|mut request: Request<Incoming>| {
        let (connection, streams) = (Rc::clone(&connection), streams.clone());
        // On the heap at once: its task would move it there, and out again at its end.
        Box::pin(async move {
            let opening = websocket::translate(&connection.core, &mut request);
            let answered = proxy::carry(&connection, request.map(Inbound::H2)).await;
            let response = match opening {
                Some(opening) => opening.answer(answered),
                None => answered.response,
            };
            Ok::<Response<Taken>, Infallible>(response.map(|reply| streams.watch(reply)))
        })
    });
    let stream = Gathered::new(stream);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream.clone()), service));
    let pace = Pace::new(patience, idle);
    let mut looks = interval(pace.period);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut used_at, mut is_ending) = (Instant::now(), false);
    let serving = async {
        loop {
            let now = tokio::select! {
                result = served.as_mut() => return result.map_err(io::Error::other),
                // True from here on, and told once.
                () = connection.listening.closed(), if !is_ending => None,
                now = looks.tick() => Some(now),
            };
            if let Some(now) = now {
                if streams.look(pace) {
                    used_at = now;
                    continue;
                }
                // Told that it ends, it has only to take what was sent.
                let limit = if is_ending { patience } else { idle };
                match now.duration_since(used_at) < limit {
                    true => continue,
                    false if is_ending => return Ok(()),
                    false => {}
                }
            }
            (used_at, is_ending) = (Instant::now(), true);
            served.as_mut().graceful_shutdown();
        }
    };
    stream.run(serving).await
}
