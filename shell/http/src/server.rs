//! The listener and its thread. A slow, silent or hostile client takes a bounded share of memory and time.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, oneshot};

use crate::NodeStatus;
use crate::answer::answer;

/// Gives the status of the node as of now. Called on the HTTP thread; must not block.
pub type StatusSource = Arc<dyn Fn() -> Arc<NodeStatus> + Send + Sync>;

/// What a client may take.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Connections at once; one more is closed unanswered. Scrapers, probes and a few dashboards, with room to spare.
    pub connections_max: usize,
    /// From the first moment, or the last answer, to the end of a request's headers. Stops clients that send a byte at
    /// a time, and those that send nothing.
    pub header_time_max: Duration,
    /// The life of a connection, after which the answer under way is the last. Stops clients that do not read.
    pub connection_time_max: Duration,
}

impl Default for HttpLimits {
    fn default() -> HttpLimits {
        HttpLimits {
            connections_max: 256,
            header_time_max: Duration::from_secs(10),
            connection_time_max: Duration::from_secs(60),
        }
    }
}

/// No request that is answered here comes near it.
const HEADER_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// How long the last answer of an aged connection may take.
const LAST_ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Accepting fails for want of file descriptors; trying at once again would only burn the processor.
const ACCEPT_RETRY_TIME: Duration = Duration::from_millis(100);

/// A running HTTP server. Stops when it is dropped.
#[derive(Debug)]
pub struct HttpServer {
    addr: SocketAddr,
    /// Dropping the sender is the signal.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Listens on `addr` (port 0: any free port) and answers on a thread of its own.
    ///
    /// # Errors
    /// The address cannot be bound, or the thread not started; nothing is left behind.
    pub fn start(addr: SocketAddr, source: StatusSource, limits: HttpLimits) -> io::Result<HttpServer> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let listener = runtime.block_on(TcpListener::bind(addr))?;
        let addr = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || run(&runtime, listener, source, limits, stopped))?;
        Ok(HttpServer { addr, stop: Some(stop), thread: Some(thread) })
    }

    /// The address that was bound, with its real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for HttpServer {
    /// Closes the listener and all connections, and waits for the thread.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the HTTP thread panicked");
        }
    }
}

fn run(
    runtime: &Runtime,
    listener: TcpListener,
    source: StatusSource,
    limits: HttpLimits,
    stopped: oneshot::Receiver<()>,
) {
    runtime.spawn(accept(listener, source, limits));
    // Nothing is ever sent: it ends when the sender is dropped, and with it the runtime and its tasks.
    let _ = runtime.block_on(stopped);
}

async fn accept(listener: TcpListener, source: StatusSource, limits: HttpLimits) {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(ACCEPT_RETRY_TIME).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::debug!(limit = limits.connections_max, "too many HTTP connections, closing one more");
            continue;
        };
        let source = Arc::clone(&source);
        tokio::spawn(async move {
            converse(stream, source, limits).await;
            drop(place);
        });
    }
}

async fn converse(stream: TcpStream, source: StatusSource, limits: HttpLimits) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), || source());
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time_max)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let result = match tokio::time::timeout(limits.connection_time_max, connection.as_mut()).await {
        Ok(result) => result,
        Err(_) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_ANSWER_TIME_MAX, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "HTTP connection ended");
    }
}
