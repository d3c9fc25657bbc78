//! Calls of the node from other threads of its process: a command in, its reply out, without a socket.
//!
//! Each call has a connection of the node's to itself while it lasts, so that none waits behind another; connections are used
//! again. To the node they are connections like any other, but for what [`Node::welcome_inside`] says. Whoever calls is not
//! kept waiting by this side: what is too much is declined at once.
//!
//! [`Node::welcome_inside`]: skep_node::Node::welcome_inside

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use skep_base::ConnId;
use skep_node::{Input, Node};
use skep_resp::{reply_len, write_command};

use crate::event_loop::EventLoop;
use crate::mailbox::{Parcel, Way};

/// Calls at once: as many as a node answers in some tens of milliseconds, so that more would only wait.
pub const CALLS_MAX: usize = 4_096;
/// Bytes of their commands.
pub const CALL_BYTES_MAX: usize = 64 << 20;
/// Connections of a loop that are kept for later calls.
const IDLE_MAX: usize = 256;

/// The way into the node for other threads of its process. Cheap to clone.
#[derive(Clone)]
pub struct Inside {
    ways: Arc<[Way]>,
    gauge: Arc<Gauge>,
}

/// What is under way, for all who call.
#[derive(Default)]
struct Gauge {
    calls: AtomicUsize,
    bytes: AtomicUsize,
    /// Loops that have clients, less the hub's, which always may.
    others: AtomicUsize,
    /// The loop that gets the next call, in turn.
    next: AtomicUsize,
}

/// Why a call was declined; nothing was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Busy;

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{CALLS_MAX} calls of the store, or {CALL_BYTES_MAX} bytes of them, are under way already")
    }
}

impl std::error::Error for Busy {}

/// Gets the reply, on the loop's thread. Dropped instead if the node ended, or closed the connection, before it had one.
type Answer = Box<dyn FnOnce(Vec<u8>) + Send>;

pub(crate) struct Call {
    command: Vec<u8>,
    answer: Answer,
    permit: Permit,
}

/// A call that counts until this is dropped.
struct Permit {
    gauge: Arc<Gauge>,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gauge.calls.fetch_sub(1, Ordering::Relaxed);
        self.gauge.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Inside {
    pub(crate) fn new(ways: Vec<Way>) -> Inside {
        Inside { ways: ways.into(), gauge: Arc::default() }
    }

    /// Sends a command that has one reply, and which does not change how its connection works (no `MULTI`, `SUBSCRIBE`,
    /// `CLIENT REPLY`). `answer` gets the whole reply in RESP3 on a thread of the node, and must return at once; it is dropped
    /// if there will be none, and then whether the command was carried out is not known.
    ///
    /// # Errors
    /// [`Busy`]: too much is under way. Nothing was done, and `answer` is dropped.
    pub fn call<'w>(
        &self,
        words: impl IntoIterator<Item = &'w [u8], IntoIter: ExactSizeIterator>,
        answer: impl FnOnce(Vec<u8>) + Send + 'static,
    ) -> Result<(), Busy> {
        let mut command = Vec::new();
        write_command(&mut command, words);
        let gauge = &self.gauge;
        let bytes = command.len();
        let calls = gauge.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let all = gauge.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let permit = Permit { gauge: gauge.clone(), bytes };
        if calls > CALLS_MAX || all > CALL_BYTES_MAX {
            return Err(Busy);
        }
        let loops = 1 + gauge.others.load(Ordering::Relaxed);
        let to = gauge.next.fetch_add(1, Ordering::Relaxed) % loops.min(self.ways.len());
        self.ways[to].post(Parcel::Call(Call { command, answer: Box::new(answer), permit }));
        Ok(())
    }

    /// The hub's loop says how many loops have clients.
    pub(crate) fn set_active(&self, loops: usize) {
        self.gauge.others.store(loops.saturating_sub(1), Ordering::Relaxed);
    }
}

/// The calls of one loop.
#[derive(Default)]
pub(crate) struct Calls {
    /// Not given to the node yet.
    waiting: VecDeque<Call>,
    open: HashMap<ConnId, (Answer, Permit)>,
    idle: Vec<ConnId>,
}

impl Calls {
    pub fn push(&mut self, call: Call) {
        self.waiting.push_back(call);
    }

    /// True if there is something to do without any event.
    pub fn has_work(&self, accepts_input: bool) -> bool {
        accepts_input && !self.waiting.is_empty()
    }

    /// Takes note that the node has closed a connection. False if it is none of these.
    pub fn close(&mut self, conn: ConnId) -> bool {
        let was_idle = self.idle.iter().position(|idle| *idle == conn).map(|at| self.idle.swap_remove(at));
        self.open.remove(&conn).is_some() || was_idle.is_some()
    }
}

impl EventLoop {
    /// Gives the node calls, as many as it takes.
    pub(crate) fn begin_calls(&mut self) {
        while self.node.accepts_input()
            && let Some(Call { command, answer, permit }) = self.calls.waiting.pop_front()
        {
            let conn = self.calls.idle.pop().unwrap_or_else(|| self.node.welcome_inside());
            self.calls.open.insert(conn, (answer, permit));
            self.input(Input::Received { conn, bytes: &command });
        }
    }

    /// Gives a call its reply, if that is whole. False if the connection is none of these.
    pub(crate) fn answer_call(&mut self, conn: ConnId) -> bool {
        if !self.calls.open.contains_key(&conn) {
            return false;
        }
        let Some(reply) = whole_reply(&self.node, conn) else { return true };
        let (answer, permit) = self.calls.open.remove(&conn).expect("it was found above");
        let ends = self.node.on_sent(conn, reply.len());
        drop(permit);
        answer(reply);
        if ends || self.calls.idle.len() >= IDLE_MAX {
            self.input(Input::Disconnected { conn });
        } else {
            self.calls.idle.push(conn);
        }
        true
    }
}

fn whole_reply(node: &Node, conn: ConnId) -> Option<Vec<u8>> {
    let unsent = node.unsent(conn);
    reply_len(unsent).map(|len| unsent[..len].to_vec())
}
