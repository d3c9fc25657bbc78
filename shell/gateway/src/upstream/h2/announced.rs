//! What an HTTP/2 server announces, read off its first bytes as they go by.

use std::cell::Cell;
use std::rc::Rc;

use skep_gate::http2::{Announcement, Preface};
use tokio::sync::Notify;

use crate::stream::{Hears, Overheard};

/// What the server of a connection has announced, and that it says something.
#[derive(Debug, Default)]
pub(super) struct Announced {
    said: Cell<Option<Said>>,
    told: Notify,
    /// Bytes that were read of its connection.
    heard: Cell<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Said {
    This(Announcement),
    /// The connection ended before.
    Nothing,
}

impl Announced {
    /// Waits for the server's settings: whether it takes the extended CONNECT; none if its connection ended before them.
    pub(super) async fn takes_connect(&self) -> Option<bool> {
        self.spoken().await.map(|found| found.connect)
    }

    /// Waits for the server's settings; none if its connection ended before them.
    pub(super) async fn spoken(&self) -> Option<Announcement> {
        loop {
            match self.said.get() {
                Some(Said::This(found)) => return Some(found),
                Some(Said::Nothing) => return None,
                None => self.told.notified().await,
            }
        }
    }

    /// Grows with everything that its connection says.
    pub(super) fn heard(&self) -> u64 {
        self.heard.get()
    }

    /// What it has announced by now.
    pub(super) fn found(&self) -> Option<Announcement> {
        match self.said.get() {
            Some(Said::This(found)) => Some(found),
            _ => None,
        }
    }

    fn say(&self, said: Said) {
        self.said.set(Some(said));
        self.told.notify_waiters();
    }
}

/// Listens to what a server says.
#[derive(Debug)]
pub(super) struct Ear {
    /// None when all is said.
    preface: Option<Preface>,
    announced: Rc<Announced>,
}

/// The connection `stream`, and what its server announces.
pub(super) fn watch<S>(stream: S) -> (Overheard<S, Ear>, Rc<Announced>) {
    let announced = Rc::<Announced>::default();
    let ear = Ear { preface: Some(Preface::default()), announced: Rc::clone(&announced) };
    (Overheard::new(stream, ear), announced)
}

impl Ear {
    fn say(&mut self, said: Said) {
        if self.preface.take().is_some() {
            self.announced.say(said);
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.say(Said::Nothing);
    }
}

impl Hears for Ear {
    fn hears(&mut self, read: Option<&[u8]>) {
        let Some(read) = read else { return self.say(Said::Nothing) };
        self.announced.heard.set(self.announced.heard.get() + read.len() as u64);
        if let Some(found) = self.preface.as_mut().and_then(|preface| preface.read(read)) {
            self.say(Said::This(found));
        }
    }
}
