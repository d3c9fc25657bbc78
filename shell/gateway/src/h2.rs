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

use crate::control::duration;
use crate::gather::Gathered;
use crate::listen::Connection;
use crate::proxy;
use crate::reply::Reply;
use crate::source::Inbound;
use crate::stream::{Rewound, Stream};
use crate::upstream::LocalExecutor;

/// Requests of one connection at once; a client with more to ask waits, or opens another.
const STREAMS_MAX: u32 = 128;

/// Serves a connection until it ends.
///
/// # Errors
/// The connection broke.
pub(crate) async fn serve(connection: Connection, stream: Rewound<Stream>) -> io::Result<()> {
    let Some(id) = connection.listening.id() else { return Ok(()) };
    let plan = connection.core.plan();
    let listener = &plan.snapshot.config.listeners[id.at()].it;
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(listener.header_size.0 as u32)
        .keep_alive_interval(duration(listener.idle))
        .keep_alive_timeout(duration(listener.header_time));
    drop(plan);
    let mut closing = connection.listening.closing.subscribe();
    let connection = Rc::new(connection);
    let service = service_fn(|request: Request<Incoming>| {
        let connection = Rc::clone(&connection);
        // On the heap at once: its task would move it there, and out again at its end.
        Box::pin(async move {
            let answered = proxy::carry(&connection, request.map(Inbound::H2)).await;
            Ok::<Response<Reply>, Infallible>(answered.response)
        })
    });
    let stream = Gathered::new(stream);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream.clone()), service));
    let result = tokio::select! {
        result = stream.run(served.as_mut()) => result,
        _ = closing.changed() => {
            served.as_mut().graceful_shutdown();
            stream.run(served).await
        }
    };
    result.map_err(io::Error::other)
}
