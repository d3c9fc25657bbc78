//! A listening socket, and its patience when the system has no descriptors left.

use std::io;
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use skep_base::Millis;

/// Between two attempts to accept after one failed: descriptors are freed as others leave.
const RETRY_MS: u64 = 100;

pub(crate) struct Door {
    listener: TcpListener,
    /// Who comes in, for the log.
    whom: &'static str,
    /// True while somebody may stand there.
    ready: bool,
    /// After accepting failed: when to try again. Those who wait cause no other event.
    retry: Option<Millis>,
    failing: bool,
}

impl Door {
    /// Watches `listener`, at which somebody may stand already.
    pub fn open(
        registry: &Registry,
        token: Token,
        mut listener: TcpListener,
        whom: &'static str,
    ) -> io::Result<Door> {
        registry.register(&mut listener, token, Interest::READABLE)?;
        Ok(Door { listener, whom, ready: true, retry: None, failing: false })
    }

    pub fn on_event(&mut self) {
        self.ready = true;
    }

    /// True if [`Door::next`] may give something at once.
    pub fn is_ready(&self) -> bool {
        self.ready && self.retry.is_none()
    }

    /// When to ask [`Door::next`] again although no event came.
    pub fn retry_at(&self) -> Option<Millis> {
        self.retry
    }

    /// The next one in, if somebody is there.
    pub fn next(&mut self, now: Millis) -> Option<(TcpStream, SocketAddr)> {
        if !self.ready || self.retry.is_some_and(|at| at > now) {
            return None;
        }
        self.retry = None;
        loop {
            match self.listener.accept() {
                Ok(accepted) => {
                    self.failing = false;
                    return Some(accepted);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.ready = false;
                    return None;
                }
                // It has left already.
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
                Err(e) => {
                    if !self.failing {
                        tracing::warn!("cannot accept connections of {} for now: {e}", self.whom);
                    }
                    self.failing = true;
                    self.retry = Some(now.plus(RETRY_MS));
                    return None;
                }
            }
        }
    }
}
