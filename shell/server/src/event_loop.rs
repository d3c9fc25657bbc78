//! The loop: sockets and disk threads in, the node's turn, sockets and disk threads out.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fmt, io, thread};

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use skep_base::{ConnId, GroupId, Millis};
use skep_disk::{CheckpointEvent, Checkpointer, LogEvent, LogWriter, Turn};
use skep_log::checkpoint::CHUNK_BYTES_MAX;
use skep_log::{CheckpointHeader, LogFault};
use skep_node::{Input, Load, Node, Note, Now, Output, Status};

use crate::clock::{Clock, Stopwatch};
use crate::connections::{self, Connections, Received};
use crate::process;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);

/// Bytes read from one client before the others get their turn.
const READ_BYTES: usize = 64 << 10;
/// Connections accepted in one turn, so that a storm of new ones does not starve those that are served.
const ACCEPTS_PER_TURN_MAX: usize = 64;
/// Between two attempts to accept after one failed: descriptors are freed as clients leave.
const ACCEPT_RETRY_MS: u64 = 100;
/// How often the status is published.
const PUBLISH_MS: u64 = 500;
/// How long clients get to read their last replies when the node stops.
const FAREWELL_MS: u64 = 1_000;

/// Wakes the loop from another thread.
#[derive(Clone)]
pub struct Waker {
    waker: Arc<mio::Waker>,
    stop: Arc<AtomicBool>,
}

impl Waker {
    /// Makes the loop look at its disk threads.
    pub fn wake(&self) {
        // It fails only if the loop is gone, and then there is nobody to wake.
        let _ = self.waker.wake();
    }

    /// Asks the node to stop.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }
}

/// A bound socket and the loop's poll: made before the disk threads, which need the waker.
pub struct Listening {
    poll: Poll,
    listener: TcpListener,
    waker: Waker,
}

/// What the loop uses besides sockets.
pub struct Surroundings {
    pub log: LogWriter,
    pub checkpointer: Checkpointer,
    /// Bytes allocated by the process.
    pub memory_used: fn() -> u64,
    /// Takes the status, twice a second.
    pub publish: Box<dyn FnMut(Status)>,
    /// Called once when the node serves clients.
    pub on_ready: Box<dyn FnOnce()>,
    pub keepalive: Option<Duration>,
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
    /// Binds `address` (port 0: one that is free).
    ///
    /// # Errors
    /// The address is in use or not ours, or the system is out of descriptors.
    pub fn bind(address: SocketAddr) -> io::Result<Listening> {
        let poll = Poll::new()?;
        let listener = TcpListener::bind(address)?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), WAKER)?);
        Ok(Listening { poll, listener, waker: Waker { waker, stop: Arc::default() } })
    }

    /// The address bound, with its real port.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Runs `node` until [`Waker::stop`], or until it stops by itself. `first` is what its start asked for.
    ///
    /// # Errors
    /// [`RunFault`]: the process must end. Everything acknowledged is durable as `durability` says.
    pub fn run(self, node: Node, first: Vec<Output>, surroundings: Surroundings) -> Result<(), RunFault> {
        let mut turn = EventLoop {
            poll: self.poll,
            listener: self.listener,
            waker: self.waker,
            clock: Clock,
            node,
            surroundings,
            connections: Connections::default(),
            readable: VecDeque::new(),
            accepting: false,
            listener_ready: false,
            accept_retry: None,
            outputs: first,
            turns: VecDeque::new(),
            checkpoint: VecDeque::new(),
            checkpoint_bytes: 0,
            stop_asked: false,
            stopped: false,
            publish_at: Millis(0),
            fault: None,
        };
        turn.run()
    }
}

struct EventLoop {
    poll: Poll,
    listener: TcpListener,
    waker: Waker,
    clock: Clock,
    node: Node,
    surroundings: Surroundings,
    connections: Connections,
    /// Sockets that may have something to read.
    readable: VecDeque<ConnId>,
    accepting: bool,
    listener_ready: bool,
    /// After accepting failed, for want of descriptors say: when to try again. The clients that wait cause no other event.
    accept_retry: Option<Millis>,
    outputs: Vec<Output>,
    /// Turns that the log declined for now.
    turns: VecDeque<Turn>,
    /// Steps of checkpoints that their thread declined for now.
    checkpoint: VecDeque<Step>,
    /// Bytes in `checkpoint`.
    checkpoint_bytes: usize,
    stop_asked: bool,
    stopped: bool,
    /// When the status is published next: at once if the node begins to serve, or to stop.
    publish_at: Millis,
    fault: Option<RunFault>,
}

enum Step {
    Chunk(GroupId, Vec<u8>),
    Finish(GroupId),
}

impl EventLoop {
    fn run(&mut self) -> Result<(), RunFault> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ_BYTES];
        while !self.stopped {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(RunFault::Poll(e)),
            }
            let now = self.clock.now();
            for event in &events {
                self.on_event(event);
            }
            self.take_disk_events(now);
            self.accept(now);
            self.read_clients(now, &mut buffer);
            self.end_turn(now);
            if let Some(fault) = self.fault.take() {
                return Err(fault);
            }
            self.write_clients();
            self.publish(now);
        }
        self.say_farewell();
        Ok(())
    }

    fn timeout(&self) -> Option<Duration> {
        let accepts = self.listener_ready && self.accept_retry.is_none();
        let busy = !self.readable.is_empty() && self.node.accepts_input() || accepts;
        if busy || !self.outputs.is_empty() {
            return Some(Duration::ZERO);
        }
        let now = self.clock.now().mono;
        let next = [self.node.next_wakeup(), self.accept_retry]
            .into_iter()
            .flatten()
            .fold(self.publish_at, Millis::min);
        Some(Duration::from_millis(next.since(now)))
    }

    fn on_event(&mut self, event: &mio::event::Event) {
        match event.token() {
            LISTENER => self.listener_ready = true,
            WAKER => {}
            token => {
                let Some(connection) = self.connections.by_token(token) else { return };
                let id = connection.id;
                connection.ending |= event.is_read_closed() || event.is_error();
                if (event.is_readable() || connection.ending) && !connection.listed {
                    connection.listed = true;
                    self.readable.push_back(id);
                }
                if event.is_writable() && connection.write_blocked {
                    self.write_client(id);
                }
            }
        }
    }

    fn accept(&mut self, now: Now) {
        if !self.accepting && self.node.is_ready() {
            let registered = self.poll.registry().register(&mut self.listener, LISTENER, Interest::READABLE);
            if let Err(e) = registered {
                self.fault = Some(RunFault::Poll(e));
                return;
            }
            self.accepting = true;
            self.publish_at = now.mono;
            // Who hears that the node listens may ask at once whether it is ready.
            (self.surroundings.publish)(self.node.status());
            let on_ready = std::mem::replace(&mut self.surroundings.on_ready, Box::new(|| {}));
            on_ready();
        }
        if !self.listener_ready || self.accept_retry.is_some_and(|at| at > now.mono) {
            return;
        }
        let failed_before = self.accept_retry.take().is_some();
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            match self.listener.accept() {
                Ok((stream, address)) => self.welcome(stream, address),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.listener_ready = false;
                    return;
                }
                // The client is gone already.
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
                Err(e) => {
                    if !failed_before {
                        tracing::warn!("cannot accept connections for now: {e}");
                    }
                    self.accept_retry = Some(now.mono.plus(ACCEPT_RETRY_MS));
                    return;
                }
            }
        }
    }

    fn welcome(&mut self, mut stream: mio::net::TcpStream, address: SocketAddr) {
        let local = connections::text_of(stream.local_addr());
        if let Err(e) = connections::prepare(&stream, self.surroundings.keepalive) {
            return tracing::debug!("client {address} is gone: {e}");
        }
        match self.node.connect(address.to_string(), local) {
            Ok(id) => {
                if let Err(e) = self.connections.add(self.poll.registry(), id, stream) {
                    tracing::warn!("cannot watch client {address}: {e}");
                    let now = self.clock.now();
                    self.node.handle(now, Input::Disconnected { conn: id }, &mut self.outputs);
                }
            }
            Err(refusal) => {
                // It fits the socket's empty buffer; a client that is gone does not matter.
                let _ = io::Write::write(&mut stream, refusal);
            }
        }
    }

    fn read_clients(&mut self, now: Now, buffer: &mut [u8]) {
        for _ in 0..self.readable.len() {
            if !self.node.accepts_input() {
                return;
            }
            let Some(id) = self.readable.pop_front() else { return };
            let Some(connection) = self.connections.get(id) else { continue };
            let (bytes, more) = match connection.receive(buffer) {
                Received::Some(n) => (n, true),
                Received::Last(n) => (n, false),
                Received::Nothing => (0, false),
                Received::Closed => {
                    connection.listed = true; // never to be read again
                    self.node.handle(now, Input::Ended { conn: id }, &mut self.outputs);
                    continue;
                }
            };
            connection.listed = more;
            if more {
                self.readable.push_back(id);
            }
            if bytes > 0 {
                self.feed(now, Input::Received { conn: id, bytes: &buffer[..bytes] });
            }
        }
    }

    fn end_turn(&mut self, now: Now) {
        if self.waker.stop.load(Ordering::Acquire) && !self.stop_asked {
            self.stop_asked = true;
            self.publish_at = now.mono;
            self.node.handle(now, Input::Stop, &mut self.outputs);
        }
        let queued = self.surroundings.checkpointer.queued_bytes() + self.checkpoint_bytes;
        let load = Load { memory_used: (self.surroundings.memory_used)(), checkpoint_bytes: queued as u64 };
        self.feed(now, Input::Turn(load));
        let mut outputs = std::mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            self.carry_out(output);
        }
        self.outputs = outputs;
        self.node.set_memory_used((self.surroundings.memory_used)());
        self.retry_declined();
    }

    fn carry_out(&mut self, output: Output) {
        let checkpointer = &self.surroundings.checkpointer;
        match output {
            Output::Persist { number, records } => {
                self.turns.push_back(Turn { ticket: number, records, must_sync: true });
            }
            Output::CheckpointBegin { group, at, membership } => {
                checkpointer.begin(CheckpointHeader { group, at, membership });
            }
            Output::CheckpointChunk { group, bytes } => {
                self.checkpoint_bytes += bytes.len();
                let pieces = bytes.chunks(CHUNK_BYTES_MAX);
                self.checkpoint.extend(pieces.map(|piece| Step::Chunk(group, piece.to_vec())));
            }
            Output::CheckpointFinish { group } => self.checkpoint.push_back(Step::Finish(group)),
            Output::CheckpointAbandon { group } => {
                self.checkpoint.clear();
                self.checkpoint_bytes = 0;
                checkpointer.abandon(group);
            }
            Output::CheckpointRecorded { group, at } => checkpointer.remove_older(group, at),
            Output::Drop(garbage) => {
                // If the system gives no thread, it is dropped here.
                let _ = thread::Builder::new().name("skep-drop".into()).spawn(move || drop(garbage));
            }
            Output::Close { conn } => self.connections.remove(conn),
            Output::Note(note) => log(&note),
            Output::Stopped => self.stopped = true,
        }
    }

    /// Hands over what the disk threads would not take before.
    fn retry_declined(&mut self) {
        while let Some(turn) = self.turns.pop_front() {
            if let Err(turn) = self.surroundings.log.submit(turn) {
                self.turns.push_front(turn);
                break;
            }
        }
        while let Some(step) = self.checkpoint.pop_front() {
            match step {
                Step::Finish(group) => self.surroundings.checkpointer.finish(group),
                Step::Chunk(group, bytes) => {
                    let len = bytes.len();
                    if let Err(bytes) = self.surroundings.checkpointer.chunk(group, bytes) {
                        self.checkpoint.push_front(Step::Chunk(group, bytes));
                        break;
                    }
                    self.checkpoint_bytes -= len;
                }
            }
        }
    }

    fn take_disk_events(&mut self, now: Now) {
        for event in self.surroundings.log.events() {
            let input = match event {
                LogEvent::Durable { ticket } => {
                    self.feed(now, Input::Persisted { through: ticket });
                    continue;
                }
                LogEvent::Full(full) => Input::DiskFull(full),
                LogEvent::Pinned(_) => Input::LogPinned,
                LogEvent::Failed(fault) => {
                    self.fault = Some(RunFault::Disk(fault));
                    return;
                }
            };
            self.node.handle(now, input, &mut self.outputs);
        }
        for event in self.surroundings.checkpointer.events() {
            let input = match event {
                CheckpointEvent::Written(file) => Input::CheckpointSaved { group: file.group, at: file.at },
                CheckpointEvent::Refused { group, fault } => {
                    Input::CheckpointFailed { group, reason: fault.to_string() }
                }
                CheckpointEvent::Failed(fault) => {
                    self.fault = Some(RunFault::Disk(fault));
                    return;
                }
                CheckpointEvent::Ready => continue,
            };
            self.node.handle(now, input, &mut self.outputs);
        }
    }

    /// Gives the node an input that makes commands run, and tells it how long that took.
    fn feed(&mut self, now: Now, input: Input<'_>) {
        let stopwatch = Stopwatch::start();
        self.node.handle(now, input, &mut self.outputs);
        self.node.attribute_time(stopwatch.nanos());
    }

    fn write_clients(&mut self) {
        while let Some(id) = self.node.next_with_output() {
            self.write_client(id);
        }
    }

    fn write_client(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get(id) else { return };
        let close = match connection.send(self.node.unsent(id)) {
            Ok(sent) => self.node.on_sent(id, sent),
            Err(_) => true,
        };
        if close {
            self.connections.remove(id);
            let now = self.clock.now();
            self.node.handle(now, Input::Disconnected { conn: id }, &mut self.outputs);
        }
    }

    fn publish(&mut self, now: Now) {
        if now.mono >= self.publish_at {
            self.publish_at = now.mono.plus(PUBLISH_MS);
            if let Some(process) = process::measure() {
                self.node.handle(now, Input::Measured(process), &mut self.outputs);
            }
            (self.surroundings.publish)(self.node.status());
        }
    }

    /// Lets clients read what they are owed, for a moment.
    fn say_farewell(&mut self) {
        self.send_the_rest();
        self.connections.end_all();
    }

    fn send_the_rest(&mut self) {
        let mut events = Events::with_capacity(1024);
        let until = self.clock.now().mono.plus(FAREWELL_MS);
        self.write_clients();
        while self.connections.any_blocked() {
            let left = until.since(self.clock.now().mono);
            if left == 0 {
                return;
            }
            match self.poll.poll(&mut events, Some(Duration::from_millis(left))) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return,
                _ => {}
            }
            for event in &events {
                self.on_event(event);
            }
        }
    }
}

/// Writes a note of the node to the log.
fn log(note: &Note) {
    match note {
        Note::Ready { cluster_id, keys, applied } => {
            tracing::info!(cluster_id, keys, applied = applied.index.0, "ready");
        }
        Note::CheckpointBegun { group, at, log_bytes } => {
            tracing::info!(group = group.0, at = at.index.0, log_bytes, "checkpoint begins");
        }
        Note::CheckpointSaved { group, at } => {
            tracing::info!(group = group.0, at = at.index.0, "checkpoint saved");
        }
        Note::CheckpointFailed { group, reason } => {
            tracing::error!(group = group.0, reason, "checkpoint failed; the log is kept");
        }
        Note::ClientDropped { address, reason } => tracing::warn!(client = address, reason, "client dropped"),
        Note::DiskFull => tracing::error!("the disk is full; writes are refused until there is space"),
        Note::DiskHasSpace => tracing::info!("the disk has space again; writes are accepted"),
    }
}
