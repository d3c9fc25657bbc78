//! What the loops of one process send each other: mail of their cells, clients that the hub's loop has accepted, news of the
//! disk that concern another cell, and how each is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use mio::net::TcpStream;
use skep_node::{Input, Mail, Status};

use crate::inside::Call;
use crate::listening::{RunFault, Waker};
use crate::note::Counts;

/// What one loop has for another.
pub(crate) enum Parcel {
    Mail(Mail),
    /// Somebody whom the hub has let in, under this number.
    Client {
        stream: TcpStream,
        address: SocketAddr,
        number: u64,
    },
    Input(Input<'static>),
    /// A command of another thread.
    Call(Call),
    /// There may be room with the disk threads again.
    Look,
    /// For the hub, which publishes them.
    Status {
        cell: usize,
        status: Box<Status>,
        counts: Counts,
    },
    /// The sender's loop has ended for this reason.
    Fault(RunFault),
    /// The loop is to end: the hub's has.
    End,
}

/// The way into one loop's mailbox.
#[derive(Clone)]
pub(crate) struct Way {
    sender: Sender<Parcel>,
    /// The loop has been woken since it looked last.
    woken: Arc<AtomicBool>,
    waker: Waker,
}

impl Way {
    /// Puts something into the box, and wakes the loop unless it is about to look.
    pub fn post(&self, parcel: Parcel) {
        // It fails if that loop has ended, and then nobody wants it.
        let _ = self.sender.send(parcel);
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }
}

/// One loop's mailbox, and its ways to the others.
pub(crate) struct Mailbox {
    me: usize,
    /// To each loop.
    ways: Vec<Way>,
    received: Receiver<Parcel>,
}

impl Mailbox {
    /// For each of the loops that these wake.
    pub fn of_all(wakers: &[Waker]) -> Vec<Mailbox> {
        let (senders, receivers): (Vec<_>, Vec<_>) = wakers.iter().map(|_| mpsc::channel()).unzip();
        let way = |(sender, waker): (Sender<Parcel>, &Waker)| Way {
            sender,
            woken: Arc::default(),
            waker: waker.clone(),
        };
        let ways: Vec<Way> = senders.into_iter().zip(wakers).map(way).collect();
        let boxes = receivers.into_iter().enumerate();
        boxes.map(|(me, received)| Mailbox { me, ways: ways.clone(), received }).collect()
    }

    /// To each loop, the hub's first.
    pub fn ways(&self) -> Vec<Way> {
        self.ways.clone()
    }

    pub fn to_hub(&self) -> Way {
        self.ways[0].clone()
    }

    pub fn me(&self) -> usize {
        self.me
    }

    /// Loops of the process.
    pub fn count(&self) -> usize {
        self.ways.len()
    }

    pub fn post(&self, to: usize, parcel: Parcel) {
        self.ways[to].post(parcel);
    }

    /// The same for all other loops.
    pub fn post_to_all(&self, parcel: impl Fn() -> Parcel) {
        (0..self.count()).filter(|cell| *cell != self.me).for_each(|cell| self.post(cell, parcel()));
    }

    /// Must be called before [`Mailbox::next`] is asked for all there is: what comes later wakes the loop again.
    pub fn look(&self) {
        self.ways[self.me].woken.swap(false, Ordering::AcqRel);
    }

    pub fn next(&self) -> Option<Parcel> {
        self.received.try_recv().ok()
    }
}
