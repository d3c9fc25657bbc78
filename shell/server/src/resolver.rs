//! Addresses of host names. The system's look-up blocks for as long as a name server is silent, so each runs on a thread
//! of its own, and a name that hangs holds up no other. Nothing is kept: the name server decides how long an answer holds.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::thread;

use skep_base::LinkId;

/// Look-ups at once. A node dials each of its peers once at a time, and there are few.
const LOOKUPS_MAX: usize = 32;
/// Addresses tried of a name.
const ADDRESSES_MAX: usize = 4;

pub(crate) type Answer = Result<Vec<SocketAddr>, String>;

pub(crate) struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct State {
    running: usize,
    answers: Vec<(LinkId, Answer)>,
}

impl Resolver {
    /// `wake` is called when there is an answer.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Resolver {
        Resolver { shared: Arc::new(Shared { state: Mutex::default(), wake: Box::new(wake) }) }
    }

    /// Begins to look up the host of `address`, `host:port`. Never blocks.
    ///
    /// # Errors
    /// Too many look-ups hang, or the system gives no thread.
    pub fn ask(&self, link: LinkId, address: String) -> Result<(), String> {
        {
            let mut state = self.shared.state.lock().expect(NO_PANIC);
            if state.running >= LOOKUPS_MAX {
                return Err(format!("{LOOKUPS_MAX} look-ups of host names hang, is the name server well?"));
            }
            state.running += 1;
        }
        let shared = self.shared.clone();
        let look_up = move || {
            let answer = look_up(&address);
            let mut state = shared.state.lock().expect(NO_PANIC);
            state.running -= 1;
            state.answers.push((link, answer));
            drop(state);
            (shared.wake)();
        };
        // It is not waited for: the process may end while a name server is silent.
        thread::Builder::new().name("skep-resolve".into()).spawn(look_up).map(drop).map_err(|e| {
            self.shared.state.lock().expect(NO_PANIC).running -= 1;
            format!("cannot start a thread to look up the host: {e}")
        })
    }

    /// The answers since the last call.
    pub fn answers(&self) -> Vec<(LinkId, Answer)> {
        std::mem::take(&mut self.shared.state.lock().expect(NO_PANIC).answers)
    }
}

fn look_up(address: &str) -> Answer {
    let found = address.to_socket_addrs().map_err(|e| format!("cannot look up {address}: {e}"))?;
    let found: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
    if found.is_empty() { Err(format!("{address} has no address")) } else { Ok(found) }
}

const NO_PANIC: &str = "no thread panics while it holds the answers";

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn names_are_looked_up_and_nonsense_is_an_error() {
        let (wake, woken) = mpsc::channel();
        let resolver = Resolver::new(move || wake.send(()).unwrap_or_default());
        for (address, good) in [("localhost:7379", true), ("no port", false), ("bad host name:1", false)] {
            resolver.ask(LinkId(4), address.to_owned()).unwrap();
            woken.recv().unwrap();
            let answers = resolver.answers();
            let [(LinkId(4), answer)] = &answers[..] else { panic!("{answers:?}") };
            assert_eq!(answer.is_ok(), good, "{address}: {answer:?}");
            if let Ok(addresses) = answer {
                assert!(addresses.iter().all(|a| a.port() == 7379 && a.ip().is_loopback()), "{addresses:?}");
            }
        }
    }
}
