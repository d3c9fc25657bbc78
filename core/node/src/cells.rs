//! The cells of a node: one for each core that it uses, each a [`Node`](crate::Node) with a thread of its own in the shell.
//!
//! Cell 0 is the **hub**: it owns the meta group, the links to other nodes, the identity, and all that the node does as one
//! member of the cluster. Every cell, the hub included, owns some clients, and is the **home** of some shards, which is a
//! function of the shard's number. Cells share nothing; they send each other [`Mail`], which is never lost and stays in order
//! between any two. So nothing between them is repeated, numbered or given up: what crosses is decided by the home, whose log
//! knows, and by the hub, whose links know.
//!
//! With one cell, which a cluster of one shard has in effect, there is nobody to write to.

mod mail;
mod on_mail;
mod report;
#[cfg(test)]
mod tests;
mod wide;

use skep_base::{ConnId, GroupId, Millis, NodeId};

pub use mail::Mail;
pub(crate) use mail::{Message, Ops, Replies, View};
pub(crate) use report::Report;
pub(crate) use wide::{Caller, DoPart, Part, WideAsk};

use crate::Node;
use wide::Wide;

/// The cell that owns what a node has only once.
pub(crate) const HUB: usize = 0;

/// Which of a node's cells one is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CellId {
    pub index: usize,
    /// Cells of the node, the same all through a run; it may be another in the next.
    pub count: usize,
}

impl CellId {
    /// The only cell of a node.
    pub const ONLY: CellId = CellId { index: HUB, count: 1 };

    /// The cell that has a group's replica. The meta group's is the hub; shards are dealt out in turn.
    pub fn home(count: usize, group: GroupId) -> usize {
        match group {
            GroupId::META => HUB,
            GroupId(shard) => (shard - 1) as usize % count,
        }
    }
}

/// This cell among the others.
pub(crate) struct Cells {
    pub me: usize,
    pub count: usize,
    /// Mail for each cell until the end of the turn.
    outbox: Vec<Vec<Message>>,
    /// True while the cluster has one shard at the most, so that every command's shard is known.
    pub one_shard: bool,
    /// Operations of own clients with other cells, and how many bytes they are.
    pub open_elsewhere: u64,
    pub bytes_elsewhere: u64,
    /// Commands about the whole node that own clients wait for.
    wide: Wide,
    /// The hub: what each other cell said last.
    reports: Vec<Report>,
    /// The hub: when it said that.
    reported_at: Vec<Millis>,
    /// The hub: what the others were told last.
    told: Option<View>,
    /// Not the hub: what it said last.
    pub view: View,
    /// Not the hub: what it was told last.
    reported: Report,
    /// Not the hub: a group's leader has changed, which the hub's beats tell others.
    pub beat_due: bool,
    /// Not the hub: the number of the last read of the meta state that the hub was asked for.
    pub meta_reads: u64,
    /// The hub: the cell that gets the next client, and clients that each of the others was given.
    next_client: usize,
    admitted: Vec<u64>,
    /// Clients of this cell that are gone.
    pub clients_gone: u64,
    /// What this node leads has been given away, as far as it can be.
    pub handed_over: bool,
}

impl Cells {
    pub fn new(id: CellId) -> Cells {
        let CellId { index, count } = id;
        assert!(index < count, "cell {index} of {count}");
        Cells {
            me: index,
            count,
            outbox: (0..count).map(|_| Vec::new()).collect(),
            one_shard: true,
            open_elsewhere: 0,
            bytes_elsewhere: 0,
            wide: Wide::default(),
            reports: vec![Report::default(); count],
            reported_at: vec![Millis(0); count],
            told: None,
            view: View::default(),
            reported: Report::default(),
            beat_due: false,
            meta_reads: 0,
            next_client: 0,
            admitted: vec![0; count],
            clients_gone: 0,
            handed_over: false,
        }
    }

    pub fn is_hub(&self) -> bool {
        self.me == HUB
    }

    /// True if this is the only cell.
    #[inline]
    pub fn is_only(&self) -> bool {
        self.count == 1
    }

    pub fn home(&self, group: GroupId) -> usize {
        CellId::home(self.count, group)
    }

    /// True if this cell is the home of a group.
    #[inline]
    pub fn is_home(&self, group: GroupId) -> bool {
        self.count == 1 || self.home(group) == self.me
    }

    /// All cells but this one.
    pub fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let me = self.me;
        (0..self.count).filter(move |cell| *cell != me)
    }

    pub fn send(&mut self, to: usize, message: Message) {
        self.outbox[to].push(message);
    }

    /// What the other cells told the hub last.
    pub fn reports(&self) -> impl Iterator<Item = &Report> {
        self.reports.iter().skip(1)
    }
}

/// Clients of one node are numbered from here on. Each node has a range of its own, so that a number that is asked for at another node
/// means nobody there; the first node's are small, and all are below 2^53, which is as far as clients in JavaScript count. Ids of nodes
/// that are 8,192 apart share a range, and nodes without an id, which are to join, the last one.
fn first_number(node: NodeId) -> u64 {
    const CLIENTS: u64 = 1 << 40;
    const RANGES: u64 = 1 << 13;
    node.0.wrapping_sub(1) % RANGES * CLIENTS
}

impl Node {
    /// Mail for another cell of the node; asked for until there is none, after each turn.
    pub fn take_mail(&mut self) -> Option<(usize, Mail)> {
        let to = self.cells.outbox.iter().position(|messages| !messages.is_empty())?;
        let messages = std::mem::take(&mut self.cells.outbox[to]);
        Some((to, Mail { from: self.cells.me, messages }))
    }

    /// Cells that have clients and shards: no more than there are shards.
    pub fn active_cells(&self) -> usize {
        self.meta.state.shards.len().clamp(1, self.cells.count)
    }

    /// True if this cell has, or may have, clients or shards.
    pub fn is_active(&self) -> bool {
        self.cells.me < self.active_cells()
    }

    /// Takes a new connection on behalf of one of the cells, in turn, which is given; it gets to know with
    /// [`Node::welcome`] under the number given. Only the hub is asked. `descriptors_open` is how many the process
    /// has besides this one, of all kinds.
    ///
    /// # Errors
    /// The whole error reply to send before closing it, if there are too many or the node is stopping.
    pub fn admit(&mut self, descriptors_open: u64) -> Result<(usize, u64), &'static [u8]> {
        if self.stopping {
            return Err(b"-TRYAGAIN the node is stopping\r\n");
        }
        if self.clients_of_node() >= self.clients_max() || descriptors_open >= self.descriptors_fit {
            self.stats.rejected_connections += 1;
            return Err(b"-ERR max number of clients reached\r\n");
        }
        let cell = self.cells.next_client % self.active_cells();
        self.cells.next_client = cell + 1;
        self.cells.admitted[cell] += 1;
        Ok((cell, first_number(self.id) + self.cells.admitted.iter().sum::<u64>()))
    }

    /// Takes a connection that the hub has admitted under a number.
    pub fn welcome(&mut self, number: u64, address: String, local_address: String) -> ConnId {
        let login = self.acl.first_login();
        self.clients.add(number, address, local_address, login, self.now.mono)
    }

    /// Takes a connection of another part of this process, to the cell that is asked. It may do everything, gets its replies in
    /// RESP3, and is neither counted among clients nor shown with them nor closed with them.
    pub fn welcome_inside(&mut self) -> ConnId {
        self.clients.add_inside(self.now.mono)
    }

    /// Clients of all cells. Only the hub knows.
    fn clients_of_node(&self) -> u64 {
        let gone: u64 = self.cells.reports().map(|report| report.clients_gone).sum();
        self.cells.admitted.iter().sum::<u64>() - self.cells.clients_gone - gone
    }
}
