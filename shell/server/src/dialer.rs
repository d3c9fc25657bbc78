//! Connections to other nodes on their way: names being looked up, sockets not connected yet. Each attempt ends with a
//! connected socket or a reason, within [`DIAL_MS_MAX`].

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry};
use skep_base::{LinkId, Millis};

use crate::resolver::{Answer, Resolver};
use crate::tokens;

/// For looking up and connecting together. A machine that is there answers in milliseconds; one that is not may come back
/// at any time, and is dialed again.
const DIAL_MS_MAX: u64 = 2_000;

pub(crate) struct Dialer {
    resolver: Resolver,
    attempts: BTreeMap<LinkId, Attempt>,
    ended: Vec<(LinkId, Dialed)>,
}

/// How an attempt ended: with a connected socket, watched under the link's token, or with the reason why there is none.
pub(crate) type Dialed = Result<TcpStream, String>;

struct Attempt {
    address: String,
    begun: Millis,
    /// When to give up what is under way.
    until: Millis,
    /// `None` while the name is looked up.
    stream: Option<(SocketAddr, TcpStream)>,
    /// What else the name stands for.
    others: VecDeque<SocketAddr>,
}

impl Dialer {
    /// `wake` is called when a look-up has ended; then call [`Dialer::ended`].
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Dialer {
        Dialer { resolver: Resolver::new(wake), attempts: BTreeMap::new(), ended: Vec::new() }
    }

    /// Begins an attempt.
    pub fn dial(&mut self, registry: &Registry, now: Millis, link: LinkId, address: String) {
        let until = now.plus(DIAL_MS_MAX);
        let attempt =
            Attempt { address: address.clone(), begun: now, until, stream: None, others: VecDeque::new() };
        self.attempts.insert(link, attempt);
        match address.parse() {
            Ok(address) => self.on_answer(registry, now, link, Ok(vec![address])),
            Err(_) => {
                if let Err(reason) = self.resolver.ask(link, address) {
                    self.end(link, Err(reason));
                }
            }
        }
    }

    /// Forgets an attempt; nothing more is heard of it.
    pub fn cancel(&mut self, link: LinkId) {
        self.attempts.remove(&link);
        self.ended.retain(|(ended, _)| *ended != link);
    }

    /// A socket of an attempt is connected, or has failed.
    pub fn on_event(&mut self, registry: &Registry, now: Millis, link: LinkId) {
        let Some(attempt) = self.attempts.get_mut(&link) else { return };
        let Some((address, stream)) = &attempt.stream else { return };
        // As mio's documentation of `TcpStream::connect` has it: an event may come before either.
        let error = match (stream.take_error(), stream.peer_addr()) {
            (Ok(None), Ok(_)) => {
                let (_, stream) = attempt.stream.take().expect("it is there, as matched above");
                return self.end(link, Ok(stream));
            }
            (Ok(None), Err(e)) if is_under_way(&e) => return,
            (Ok(None), Err(e)) | (Ok(Some(e)), _) | (Err(e), _) => e,
        };
        let reason = format!("cannot connect to {address}: {error}");
        self.try_next(registry, now, link, reason);
    }

    /// The attempts that have ended since the last call, by `now`.
    pub fn ended(&mut self, registry: &Registry, now: Millis) -> Vec<(LinkId, Dialed)> {
        for (link, answer) in self.resolver.answers() {
            self.on_answer(registry, now, link, answer);
        }
        let late: Vec<LinkId> =
            self.attempts.iter().filter(|(_, a)| a.until <= now).map(|(link, _)| *link).collect();
        for link in late {
            let attempt = &self.attempts[&link];
            let ms = now.since(attempt.begun);
            let reason = match &attempt.stream {
                None => format!("no answer within {ms} ms to who {} is", attempt.address),
                Some((address, _)) => format!("no answer from {address} within {ms} ms"),
            };
            self.try_next(registry, now, link, reason);
        }
        std::mem::take(&mut self.ended)
    }

    /// True if [`Dialer::ended`] has something at once.
    pub fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// When to call [`Dialer::ended`] although nothing happened.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.attempts.values().map(|attempt| attempt.until).min()
    }

    fn on_answer(&mut self, registry: &Registry, now: Millis, link: LinkId, answer: Answer) {
        let Some(attempt) = self.attempts.get_mut(&link) else { return };
        match answer {
            Ok(addresses) => {
                attempt.others = addresses.into();
                self.try_next(registry, now, link, "the look-up took too long".to_owned());
            }
            Err(reason) => self.end(link, Err(reason)),
        }
    }

    /// Goes on with the next address, with an equal share of the time that is left; `reason` is why not with the last.
    fn try_next(&mut self, registry: &Registry, now: Millis, link: LinkId, mut reason: String) {
        let Some(attempt) = self.attempts.get_mut(&link) else { return };
        let end = attempt.begun.plus(DIAL_MS_MAX);
        attempt.stream = None;
        while let Some(address) = attempt.others.pop_front() {
            if end <= now {
                break;
            }
            match connect(registry, link, address) {
                Ok(stream) => {
                    attempt.until = now.plus(end.since(now) / (attempt.others.len() as u64 + 1));
                    attempt.stream = Some((address, stream));
                    return;
                }
                Err(error) => reason = format!("cannot connect to {address}: {error}"),
            }
        }
        self.end(link, Err(reason));
    }

    fn end(&mut self, link: LinkId, how: Dialed) {
        self.attempts.remove(&link);
        self.ended.push((link, how));
    }
}

fn connect(registry: &Registry, link: LinkId, address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    registry.register(&mut stream, tokens::of_link(link), Interest::READABLE | Interest::WRITABLE)?;
    Ok(stream)
}

fn is_under_way(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotConnected
        || error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}
