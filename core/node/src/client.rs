//! Client connections as the node knows them: what they sent, what they are owed, and how they like it.
//!
//! Operations of a client are numbered. Their replies leave in that order: one that comes early (from another shard, or
//! another node) is parked until those before it have come.

use std::collections::VecDeque;
use std::sync::Arc;

use skep_acl::Rights;
use skep_base::args::OwnedArgs;
use skep_base::{ConnId, GroupId, Millis};
use skep_resp::{Decoder, Protocol};

use crate::batch::Asker;
use crate::copies::Written;
use crate::joined::Joined;
use crate::script_sources::{CallsByName, SoughtScript};
use crate::tracking::{ClientTracking, Mode};
use crate::transaction::Transaction;

/// A buffer longer than this is given back when it runs empty, so that one large reply does not stay for ever.
const IDLE_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// `CLIENT REPLY`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplyMode {
    On,
    Off,
    /// The next command gets no reply, then replies are on again. Set by `CLIENT REPLY SKIP` for the command after it.
    SkipNext,
}

/// As whom a connection begins.
#[derive(Clone)]
pub struct Login {
    pub user: Arc<[u8]>,
    pub rights: Option<Arc<Rights>>,
    pub authenticated: bool,
}

/// Where an operation waits, or may.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum WaitsOn {
    #[default]
    Nowhere,
    One(GroupId),
    Many(Vec<GroupId>),
}

impl WaitsOn {
    #[inline]
    pub fn is_nowhere(&self) -> bool {
        *self == WaitsOn::Nowhere
    }

    fn groups(&self) -> Vec<GroupId> {
        match self {
            WaitsOn::Nowhere => Vec::new(),
            WaitsOn::One(group) => vec![*group],
            WaitsOn::Many(groups) => groups.clone(),
        }
    }
}

/// Among whom a client is that have something to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listed {
    No,
    /// Those that were only pushed something.
    Pushed,
    /// Those that were answered.
    Answered,
}

/// One connection.
pub struct Client {
    pub id: ConnId,
    /// The number that `CLIENT ID` answers: counted since the start of the process, in the range of its node
    /// ([`Node::admit`](crate::Node::admit)); 0 for those of another part of it.
    pub number: u64,
    /// It is of another part of this process (see [`Node::welcome_inside`](crate::Node::welcome_inside)).
    pub inside: bool,
    pub address: String,
    pub local_address: String,
    pub name: Vec<u8>,
    pub library_name: Vec<u8>,
    pub library_version: Vec<u8>,
    pub db: u8,
    pub protocol: Protocol,
    pub authenticated: bool,
    /// The name of the user that it is logged in as; until then that of the default user.
    pub user: Arc<[u8]>,
    /// What it may do; `None`: everything.
    pub rights: Option<Arc<Rights>>,
    pub created: Millis,
    pub last_active: Millis,
    pub last_command: &'static str,
    pub commands: u64,
    pub reply_mode: ReplyMode,
    pub no_touch: bool,
    /// It is shown the commands of all clients.
    pub monitors: bool,
    pub no_evict: bool,
    /// It listens to channels or patterns.
    pub subscribed: bool,
    /// It is told of keys that change.
    pub tracking: Option<Box<ClientTracking>>,
    /// Close when everything owed has been sent; nothing more is read.
    pub closing: bool,
    /// The client will send no more; close when all it sent is answered.
    pub ended: bool,

    /// Bytes received and not consumed: part of a command, or commands that wait for the replies before them.
    pub input: Vec<u8>,
    /// Bytes at the front of `input` that are consumed and not removed yet.
    pub consumed: usize,
    pub decoder: Decoder,
    /// The number of the next operation, and of the oldest that is not answered.
    next_op: u64,
    first_open: u64,
    /// Replies that came before their turn, from `first_open` on; empty as long as they come in order.
    parked: VecDeque<Option<Vec<u8>>>,
    parked_bytes: usize,
    /// One more than the number of the last write that was begun.
    writes_to: u64,
    /// True if `input` holds a command that waits until nothing is pending.
    pub waiting: bool,
    /// The shards of the last operation, if that may wait; nothing follows it until it is answered.
    pub waits_on: WaitsOn,
    /// The command that may wait, kept if the client's user may not do everything: its rights may change meanwhile.
    pub waits_with: Option<Box<OwnedArgs>>,
    /// It does wait, as its leader said.
    pub blocked: bool,
    /// Replies, the first `sent` bytes of which have left.
    pub output: Vec<u8>,
    pub sent: usize,
    pub listed: Listed,
    /// Since when the output has been above the soft limit without a break.
    pub above_soft_limit: Option<Millis>,
    /// Queued commands and watched keys.
    pub transaction: Option<Box<Transaction>>,
    /// Replies of which the reply to its command is made.
    pub joined: Option<Box<Joined>>,
    /// The script whose source is sought for the call at the front of its input.
    pub seeks: Option<Box<SoughtScript>>,
    /// Where there are several shards, its calls of scripts by their names.
    pub by_name: Option<Box<CallsByName>>,
    /// Where there are several shards, those that it has written to.
    pub written: Written,
}

impl Client {
    /// True if it is told of what it has read.
    #[inline]
    pub(crate) fn caches_reads(&self) -> bool {
        self.tracking.as_ref().is_some_and(|tracking| tracking.mode != Mode::Broadcast)
    }

    /// Bytes that wait to be sent.
    pub fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Bytes received and not consumed.
    pub fn unread(&self) -> usize {
        self.input.len() - self.consumed
    }

    /// True if it watches keys for a transaction.
    pub fn watches(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.watched_len() > 0)
    }

    /// Operations whose replies are still to come.
    #[inline]
    pub fn pending(&self) -> u64 {
        self.next_op - self.first_open
    }

    /// Operations begun so far.
    pub fn begun(&self) -> u64 {
        self.next_op
    }

    /// How many of them are answered, with all before them.
    pub fn answered_before(&self) -> u64 {
        self.first_open
    }

    /// The number of the client that is told of keys in the place of this one; 0 if none is, -1 if it is not told of any.
    pub fn redirects_to(&self) -> i64 {
        let to = |tracking: &ClientTracking| tracking.redirect.map_or(0, |target| target.number as i64);
        self.tracking.as_deref().map_or(-1, to)
    }

    /// True if the reply of a write is still to come.
    #[inline]
    pub fn writes_pending(&self) -> bool {
        self.writes_to > self.first_open
    }

    /// Gives the next operation its number.
    #[inline]
    pub fn begin_op(&mut self, write: bool) -> u64 {
        let op = self.next_op;
        self.next_op += 1;
        if write {
            self.writes_to = self.next_op;
        }
        op
    }

    /// True if the reply of `op` goes straight to the output.
    #[inline]
    pub fn is_next(&self, op: u64) -> bool {
        op == self.first_open
    }

    /// Takes note that the reply of the oldest open operation is in the output; replies parked behind it follow. True if
    /// the client waited for that, and can go on.
    #[inline]
    pub fn answered(&mut self) -> bool {
        self.first_open += 1;
        assert!(self.first_open <= self.next_op, "INV-NODE-1: a reply that nobody waits for");
        if !self.parked.is_empty() {
            self.unpark();
        }
        if self.pending() > 0 {
            return false;
        }
        if !self.waits_on.is_nowhere() {
            (self.waits_on, self.waits_with, self.blocked) = (WaitsOn::Nowhere, None, false);
        }
        self.waiting
    }

    /// Whom the operation belongs to that the client waits with, and its shards.
    pub fn wait(&self, cell: usize) -> Option<(Vec<GroupId>, Asker)> {
        if self.waits_on.is_nowhere() {
            return None;
        }
        let asker = Asker::Client { cell: cell as u16, conn: self.id, seq: self.next_op.checked_sub(1)? };
        Some((self.waits_on.groups(), asker))
    }

    /// Keeps the reply of an operation that is not the oldest open one.
    pub fn park(&mut self, op: u64, reply: Vec<u8>) {
        assert!(op > self.first_open && op < self.next_op, "INV-NODE-1: a reply that nobody waits for");
        let place = (op - self.first_open) as usize;
        if self.parked.len() <= place {
            self.parked.resize_with(place + 1, || None);
        }
        self.parked_bytes += reply.len();
        let before = self.parked[place].replace(reply);
        assert!(before.is_none(), "INV-NODE-1: operation {op} was answered twice");
    }

    fn unpark(&mut self) {
        self.parked.pop_front();
        while let Some(reply) = self.parked.front_mut().and_then(Option::take) {
            self.output.extend_from_slice(&reply);
            self.parked_bytes -= reply.len();
            self.parked.pop_front();
            self.first_open += 1;
        }
    }

    /// Bytes of replies that the client has not taken, those included that wait for others before them.
    pub fn owed_bytes(&self) -> usize {
        self.unsent() + self.parked_bytes
    }

    /// Bytes that this connection takes, its buffers included.
    pub fn memory_bytes(&self) -> usize {
        let texts = [&self.name, &self.library_name, &self.library_version];
        size_of::<Client>()
            + self.input.capacity()
            + self.output.capacity()
            + self.parked_bytes
            + texts.iter().map(|t| t.capacity()).sum::<usize>()
            + self.address.capacity()
            + self.local_address.capacity()
            + self.transaction.as_ref().map_or(0, |transaction| transaction.memory_bytes())
            + self.by_name.as_ref().map_or(0, |by_name| by_name.memory_bytes())
    }

    /// Counts a command that is about to run. True if it gets no reply.
    #[inline]
    pub fn begin_command(&mut self, name: &'static str) -> bool {
        self.last_command = name;
        self.commands += 1;
        self.begin_silence()
    }

    /// True if the command about to run gets no reply; ends the effect of `CLIENT REPLY SKIP`.
    #[inline]
    pub fn begin_silence(&mut self) -> bool {
        match self.reply_mode {
            ReplyMode::On => false,
            ReplyMode::Off => true,
            ReplyMode::SkipNext => {
                self.reply_mode = ReplyMode::On;
                true
            }
        }
    }

    /// Takes note that `bytes` more have left.
    pub fn on_sent(&mut self, bytes: usize) {
        self.sent += bytes;
        assert!(self.sent <= self.output.len(), "sent {} of {} bytes", self.sent, self.output.len());
        if self.sent == self.output.len() {
            self.sent = 0;
            if self.output.capacity() > IDLE_BUFFER_BYTES_MAX {
                self.output = Vec::new();
            } else {
                self.output.clear();
            }
        }
    }

    /// Removes replies that have left from the front of the output, so that it does not grow for ever under a client that
    /// reads, but never all. Moves less than has left since the last time.
    pub fn compact_output(&mut self) {
        if self.sent > IDLE_BUFFER_BYTES_MAX && self.sent > self.unsent() {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Drops `used` bytes of the input. Moves less than was consumed since the last time: a long input is consumed a few
    /// commands at a time if each waits for replies.
    pub fn consume(&mut self, used: usize) {
        self.consumed += used;
        if self.unread() == 0 && self.input.capacity() > IDLE_BUFFER_BYTES_MAX {
            self.input = Vec::new();
            self.consumed = 0;
        } else if self.consumed >= self.unread() {
            self.input.drain(..self.consumed);
            self.consumed = 0;
        }
    }
}

/// All connections, found by id in constant time. An id is never used twice within a run.
#[derive(Default)]
pub struct Clients {
    places: Vec<Place>,
    free: Vec<u32>,
    /// Those that came from outside.
    count: usize,
    accepted: u64,
}

/// The number of all connections of the process itself.
const INSIDE: u64 = 0;

struct Place {
    /// Counts the clients that have had this place: the upper half of their ids.
    turn: u32,
    client: Option<Box<Client>>,
}

impl Clients {
    pub fn len(&self) -> usize {
        self.count
    }

    /// Connections accepted since the start.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Takes in a connection of the process itself: no socket, no limit, everything allowed, replies in RESP3.
    pub fn add_inside(&mut self, now: Millis) -> ConnId {
        let login = Login { user: (*b"(gateway)").into(), rights: None, authenticated: true };
        let id = self.add(INSIDE, "(gateway)".to_owned(), String::new(), login, now);
        let client = self.get_mut(id).expect("it was just placed");
        client.protocol = Protocol::Resp3;
        id
    }

    pub fn add(
        &mut self,
        number: u64,
        address: String,
        local_address: String,
        login: Login,
        now: Millis,
    ) -> ConnId {
        if number != INSIDE {
            self.accepted += 1;
            self.count += 1;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { turn: 0, client: None });
            (self.places.len() - 1) as u32
        });
        let slot = &mut self.places[place as usize];
        slot.turn += 1;
        let id = ConnId(u64::from(slot.turn) << 32 | u64::from(place));
        slot.client = Some(Box::new(Client {
            id,
            number,
            inside: number == INSIDE,
            address,
            local_address,
            name: Vec::new(),
            library_name: Vec::new(),
            library_version: Vec::new(),
            db: 0,
            protocol: Protocol::Resp2,
            authenticated: login.authenticated,
            user: login.user,
            rights: login.rights,
            created: now,
            last_active: now,
            last_command: "NULL",
            commands: 0,
            reply_mode: ReplyMode::On,
            no_touch: false,
            monitors: false,
            no_evict: false,
            subscribed: false,
            tracking: None,
            closing: false,
            ended: false,
            input: Vec::new(),
            consumed: 0,
            decoder: Decoder::new(),
            next_op: 0,
            first_open: 0,
            parked: VecDeque::new(),
            parked_bytes: 0,
            writes_to: 0,
            waiting: false,
            waits_on: WaitsOn::Nowhere,
            waits_with: None,
            blocked: false,
            output: Vec::new(),
            sent: 0,
            listed: Listed::No,
            above_soft_limit: None,
            transaction: None,
            joined: None,
            seeks: None,
            by_name: None,
            written: Written::default(),
        }));
        id
    }

    #[inline]
    pub fn get(&self, id: ConnId) -> Option<&Client> {
        self.places.get(id.0 as u32 as usize)?.client.as_deref().filter(|c| c.id == id)
    }

    #[inline]
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Client> {
        self.places.get_mut(id.0 as u32 as usize)?.client.as_deref_mut().filter(|c| c.id == id)
    }

    pub fn remove(&mut self, id: ConnId) -> Option<Box<Client>> {
        let is_inside = self.get(id)?.inside;
        let place = id.0 as u32;
        self.free.push(place);
        self.count -= usize::from(!is_inside);
        self.places[place as usize].client.take()
    }

    /// In order of places.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.places.iter_mut().filter_map(|p| p.client.as_deref_mut())
    }

    /// In order of places.
    pub fn iter(&self) -> impl Iterator<Item = &Client> {
        self.places.iter().filter_map(|p| p.client.as_deref())
    }
}
