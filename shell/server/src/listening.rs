//! Bound sockets and the way into the loop: what is made before the node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fmt, io};

use mio::Poll;
use mio::net::TcpListener;
use skep_disk::{CheckpointSource, Checkpointer, LogWriter, NodeFiles};
use skep_log::LogFault;
use skep_node::{Node, Output, Status};

use crate::event_loop::EventLoop;
use crate::note::Counts;
use crate::tokens;

/// Wakes the loop from another thread.
#[derive(Clone)]
pub struct Waker {
    waker: Arc<mio::Waker>,
    stop: Arc<AtomicBool>,
}

impl Waker {
    /// Makes the loop look at what its threads have done.
    pub fn wake(&self) {
        // It fails only if the loop is gone, and then there is nobody to wake.
        let _ = self.waker.wake();
    }

    /// Asks the node to stop.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn is_stop_asked(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// Bound sockets, at which clients and peers queue, and the loop's poll: made before the threads, which need the waker.
pub struct Listening {
    pub(crate) poll: Poll,
    pub(crate) clients: TcpListener,
    pub(crate) peers: TcpListener,
    pub(crate) waker: Waker,
}

/// What the loop uses besides sockets.
pub struct Surroundings {
    pub log: LogWriter,
    pub checkpointer: Checkpointer,
    pub source: CheckpointSource,
    /// Bytes allocated by the process.
    pub memory_used: fn() -> u64,
    /// Takes the status, twice a second.
    pub publish: Box<dyn FnMut(Status, Counts)>,
    pub files: NodeFiles,
    pub keepalive: Option<Duration>,
    /// How long clients may wait to be let in while the node is not ready.
    pub start_patience: Duration,
}

/// Why the loop ended other than by being told to.
#[derive(Debug)]
pub enum RunFault {
    Poll(io::Error),
    /// The disk failed. What was answered before is durable.
    Disk(LogFault),
}

impl fmt::Display for RunFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunFault::Poll(source) => write!(f, "waiting for sockets: {source}"),
            RunFault::Disk(fault) => write!(f, "{fault}"),
        }
    }
}

impl std::error::Error for RunFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunFault::Poll(source) => Some(source),
            RunFault::Disk(_) => None,
        }
    }
}

impl Listening {
    /// Binds the address for clients and the one for other nodes (port 0: one that is free).
    ///
    /// # Errors
    /// Gives the address that is in use or not ours; or the system is out of descriptors.
    pub fn bind(clients: SocketAddr, peers: SocketAddr) -> Result<Listening, (SocketAddr, io::Error)> {
        let of_clients = |error| (clients, error);
        let poll = Poll::new().map_err(of_clients)?;
        let waker = mio::Waker::new(poll.registry(), tokens::WAKER).map_err(of_clients)?;
        Ok(Listening {
            poll,
            clients: TcpListener::bind(clients).map_err(of_clients)?,
            peers: TcpListener::bind(peers).map_err(|error| (peers, error))?,
            waker: Waker { waker: Arc::new(waker), stop: Arc::default() },
        })
    }

    /// The address that clients connect to, with its real port.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn client_addr(&self) -> io::Result<SocketAddr> {
        self.clients.local_addr()
    }

    /// The address that other nodes connect to, with its real port.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.peers.local_addr()
    }

    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Runs `node` until [`Waker::stop`], or until it stops by itself. `first` is what its start asked for.
    ///
    /// # Errors
    /// [`RunFault`]: the process must end. Everything acknowledged is durable as `durability` says.
    pub fn run(self, node: Node, first: Vec<Output>, surroundings: Surroundings) -> Result<(), RunFault> {
        EventLoop::new(self, node, first, surroundings).map_err(RunFault::Poll)?.run()
    }
}
