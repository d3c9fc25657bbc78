//! Bound sockets and the way into the loop: what is made before the node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use std::{fmt, io};

use mio::Poll;
use mio::net::TcpListener;
use skep_disk::{CheckpointSource, Checkpointer, LogWriter, NodeFiles};
use skep_log::LogFault;
use skep_node::{GatewayVersion, Node, Output, Status};

use crate::event_loop::{EventLoop, OfHub};
use crate::inside::Inside;
use crate::mailbox::{Mailbox, Parcel};
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

/// Bound sockets, at which clients and peers queue, and the loops' polls: made before the threads, which need the wakers.
pub struct Listening {
    /// One for each cell, the hub's first.
    polls: Vec<(Poll, Waker)>,
    mailboxes: Vec<Mailbox>,
    inside: Inside,
    clients: TcpListener,
    peers: TcpListener,
}

/// What a loop begins with.
pub(crate) struct Place {
    pub poll: Poll,
    pub waker: Waker,
    pub mailbox: Mailbox,
    pub inside: Inside,
    /// Where clients and peers come in: with the hub.
    pub doors: Option<(TcpListener, TcpListener)>,
}

/// What all loops use besides sockets.
#[derive(Clone)]
pub struct Shared {
    pub log: Arc<LogWriter>,
    pub checkpointer: Arc<Checkpointer>,
    pub source: Arc<CheckpointSource>,
    /// Bytes allocated by the process.
    pub memory_used: fn() -> u64,
    pub keepalive: Option<Duration>,
}

/// What the loops use besides sockets.
pub struct Surroundings {
    pub shared: Shared,
    /// Takes the status, twice a second.
    pub publish: Box<dyn FnMut(Status, Counts)>,
    /// Takes the gateway's configuration when the cluster has another.
    pub gateway: Box<dyn FnMut(GatewayVersion)>,
    pub files: NodeFiles,
    /// How long clients may wait to be let in while the node is not ready.
    pub start_patience: Duration,
}

/// Why a loop ended other than by being told to.
#[derive(Debug)]
pub enum RunFault {
    Poll(io::Error),
    /// The system gives no thread.
    Thread(io::Error),
    /// The disk failed. What was answered before is durable.
    Disk(LogFault),
}

impl fmt::Display for RunFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunFault::Poll(source) => write!(f, "waiting for sockets: {source}"),
            RunFault::Thread(source) => write!(f, "cannot start a thread: {source}"),
            RunFault::Disk(fault) => write!(f, "{fault}"),
        }
    }
}

impl std::error::Error for RunFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunFault::Poll(source) | RunFault::Thread(source) => Some(source),
            RunFault::Disk(_) => None,
        }
    }
}

impl Listening {
    /// Binds the address for clients and the one for other nodes (port 0: one that is free), for so many cells.
    ///
    /// # Errors
    /// Gives the address that is in use or not ours; or the system is out of descriptors.
    pub fn bind(
        clients: SocketAddr,
        peers: SocketAddr,
        cells: usize,
    ) -> Result<Listening, (SocketAddr, io::Error)> {
        let of_clients = |error| (clients, error);
        let stop: Arc<AtomicBool> = Arc::default();
        let poll = |_| {
            let poll = Poll::new()?;
            let waker = Arc::new(mio::Waker::new(poll.registry(), tokens::WAKER)?);
            Ok((poll, Waker { waker, stop: stop.clone() }))
        };
        let polls = (0..cells.max(1)).map(poll).collect::<io::Result<Vec<_>>>().map_err(of_clients)?;
        let wakers: Vec<Waker> = polls.iter().map(|(_, waker): &(Poll, Waker)| waker.clone()).collect();
        let mailboxes = Mailbox::of_all(&wakers);
        Ok(Listening {
            polls,
            inside: Inside::new(mailboxes[0].ways()),
            mailboxes,
            clients: TcpListener::bind(clients).map_err(of_clients)?,
            peers: TcpListener::bind(peers).map_err(|error| (peers, error))?,
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

    /// The way in for other threads of the process.
    pub fn inside(&self) -> Inside {
        self.inside.clone()
    }

    /// Wakes the hub's loop.
    pub fn waker(&self) -> Waker {
        self.polls[0].1.clone()
    }

    /// Wake the loops, in the order of their cells.
    pub fn wakers(&self) -> Vec<Waker> {
        self.polls.iter().map(|(_, waker)| waker.clone()).collect()
    }

    /// Runs the cells of a node, the hub first, until [`Waker::stop`], or until it stops by itself. With each comes what its
    /// start asked for. The hub runs on the calling thread.
    ///
    /// # Errors
    /// [`RunFault`]: the process must end. Everything acknowledged is durable as `durability` says.
    pub fn run(self, cells: Vec<(Node, Vec<Output>)>, surroundings: Surroundings) -> Result<(), RunFault> {
        let Listening { polls, mailboxes, inside, clients, peers } = self;
        assert_eq!(cells.len(), polls.len(), "as many cells as the sockets were bound for");
        let Surroundings { shared, publish, gateway, files, start_patience } = surroundings;
        let mut of_hub = Some((OfHub { publish, gateway, files, start_patience }, (clients, peers)));
        let mut hub = None;
        let mut threads = Vec::new();
        for ((cell, mailbox), (poll, waker)) in cells.into_iter().zip(mailboxes).zip(polls) {
            let (of_hub, doors) = of_hub.take().unzip();
            let place = Place { poll, waker, mailbox, inside: inside.clone(), doors };
            let shared = shared.clone();
            if of_hub.is_some() {
                hub = Some(EventLoop::new(place, cell, shared, of_hub).map_err(RunFault::Poll)?);
                continue;
            }
            let name = format!("skep-cell-{}", place.mailbox.me());
            let thread = thread::Builder::new().name(name);
            threads.push(thread.spawn(move || run_cell(place, cell, shared)).map_err(RunFault::Thread)?);
        }
        let outcome = hub.expect("there is at least one cell").run();
        for thread in threads {
            thread.join().expect("a cell does not panic, or the process is lost with it");
        }
        outcome
    }
}

/// Runs a cell other than the hub; the hub hears of what goes wrong.
fn run_cell(place: Place, cell: (Node, Vec<Output>), shared: Shared) {
    let to_hub = place.mailbox.to_hub();
    let outcome = EventLoop::new(place, cell, shared, None).map_err(RunFault::Poll).and_then(EventLoop::run);
    if let Err(fault) = outcome {
        to_hub.post(Parcel::Fault(fault));
    }
}
