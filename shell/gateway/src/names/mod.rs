//! Names of upstreams and of key sets' URLs, asked for by the thread of control for all cores.
//!
//! Carries out what `skep_gate::resolve` says. No core asks for a name: addresses come to it as upstreams of its pools, and
//! [`Lookups`] are for those few connections that are to go to a name that has none yet.

mod ask;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use std::{fmt, io};

use skep_base::Micros;
use skep_gate::Config;
use skep_gate::config::dns::Dns;
use skep_gate::resolve::{
    Answer, Expanded, Heard, Input, Lost, Names, Note, Output, Stats, expand, names_of,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use ask::Asker;

/// Words of cores that wait for control; one more of the same says nothing new.
const UNREACHABLE_MAX: usize = 256;

/// Addresses by name, of names that were asked for; none if there are none.
type Known = BTreeMap<Arc<str>, Vec<IpAddr>>;

/// What cores see of names.
#[derive(Clone, Debug)]
pub(crate) struct Lookups {
    known: watch::Receiver<Known>,
    unreachable: mpsc::Sender<Arc<str>>,
}

impl Lookups {
    /// The addresses of a name, waiting for the first answer.
    ///
    /// # Errors
    /// It has none.
    pub(crate) async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let mut known = self.known.clone();
        let all = known.wait_for(|all| all.contains_key(name)).await;
        let all = all.map_err(|_| io::Error::from(io::ErrorKind::NotConnected))?;
        match &all[name][..] {
            [] => Err(io::Error::new(io::ErrorKind::NotFound, format!("{name} has no address"))),
            found => Ok(found.to_vec()),
        }
    }

    /// No connection could be made to an address of this name.
    pub(crate) fn is_unreachable(&self, name: &Arc<str>) {
        // Where no place is left, others say the same.
        let _ = self.unreachable.try_send(Arc::clone(name));
    }
}

/// Asks name servers and the machine's files, by the rule in force. Clones are one.
#[derive(Clone, Default)]
pub(crate) struct Resolver(Arc<Mutex<(Dns, Option<Arc<Asker>>)>>);

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolver {
    fn configure(&self, rule: &Dns) {
        let mut own = self.0.lock().expect("nobody panics with it");
        if own.0 != *rule {
            *own = (rule.clone(), None);
        }
    }

    fn asker(&self) -> Option<Arc<Asker>> {
        let (rule, asker) = &mut *self.0.lock().expect("nobody panics with it");
        if asker.as_ref().is_none_or(|asker| asker.is_outdated()) {
            let made = Asker::new(rule);
            let made = made.inspect_err(|why| tracing::error!("gateway: names cannot be looked up: {why}"));
            *asker = made.ok().map(Arc::new);
        }
        asker.clone()
    }

    async fn ask(&self, name: &str) -> Answer {
        match self.asker() {
            Some(asker) => asker.ask(name).await,
            None => Answer { v4: Heard::Silence, v6: Heard::Silence, ttl: Micros(0) },
        }
    }

    /// The addresses that a name has at the moment.
    ///
    /// # Errors
    /// It has none, or nobody answers.
    pub(crate) async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let Answer { v4, v6, .. } = self.ask(name).await;
        let silent = [&v4, &v6].contains(&&Heard::Silence);
        let found = |heard| if let Heard::Found(addresses) = heard { addresses } else { Vec::new() };
        let all = [found(v4), found(v6)].concat();
        match (all.is_empty(), silent) {
            (false, _) => Ok(all),
            (true, true) => Err(io::Error::new(io::ErrorKind::TimedOut, "no name server answers")),
            (true, false) => Err(io::Error::new(io::ErrorKind::NotFound, format!("{name} has no address"))),
        }
    }
}

/// All names.
pub(crate) struct Directory {
    started: Instant,
    names: Names,
    rule: Dns,
    resolver: Resolver,
    questions: JoinSet<(Arc<str>, Answer)>,
    unreachable: mpsc::Receiver<Arc<str>>,
    known: watch::Sender<Known>,
    lookups: Lookups,
    out: Vec<Output>,
}

impl Directory {
    pub(crate) fn new(seed: u64) -> Directory {
        let (sender, unreachable) = mpsc::channel(UNREACHABLE_MAX);
        let (known, receiver) = watch::channel(Known::new());
        let (names, rule, questions) = (Names::new(seed), Dns::default(), JoinSet::new());
        let lookups = Lookups { known: receiver, unreachable: sender };
        let (started, out) = (Instant::now(), Vec::new());
        let resolver = Resolver::default();
        Directory { started, names, rule, resolver, questions, unreachable, known, lookups, out }
    }

    pub(crate) fn lookups(&self) -> Lookups {
        self.lookups.clone()
    }

    /// For what is no upstream.
    pub(crate) fn resolver(&self) -> Resolver {
        self.resolver.clone()
    }

    /// The pools of a configuration by what is known; none if no upstream of it has a name.
    pub(crate) fn expand(&self, config: &Config) -> Option<Expanded> {
        expand(config, &self.names)
    }

    pub(crate) fn stats(&self) -> Stats {
        self.names.stats()
    }

    /// Follows the names of a configuration that is in force, and no others.
    pub(crate) fn configure(&mut self, config: &Config) {
        let others = (&config.dns.servers, config.dns.family) != (&self.rule.servers, self.rule.family);
        self.rule.clone_from(&config.dns);
        self.resolver.configure(&self.rule);
        self.names.configure(self.now(), &self.rule, names_of(config), others);
        let names = &self.names;
        self.known.send_modify(|known| known.retain(|name, _| names.is_settled(name)));
    }

    /// Does what is due, and returns when something was: whether names have other addresses. To be called again and again, from a
    /// task that may spawn local ones.
    pub(crate) async fn run(&mut self) -> bool {
        self.tell(Input::Tick);
        let next = self.names.next_wakeup();
        let due = crate::control::sleep_until(self.started, next);
        tokio::select! {
            () = due => self.tell(Input::Tick),
            Some(name) = self.unreachable.recv() => self.tell(Input::Unreachable { name: &name }),
            Some(answered) = self.questions.join_next() => {
                let mut changed = false;
                let mut next = Some(answered);
                // Answers that came together change pools together.
                while let Some(answered) = next {
                    if let Ok((name, answer)) = answered {
                        changed |= self.tell(Input::Answered { name: &name, answer });
                    }
                    next = self.questions.try_join_next();
                }
                changed
            }
        }
    }

    fn now(&self) -> Micros {
        Micros(self.started.elapsed().as_micros() as u64)
    }

    /// True if a name has other addresses.
    fn tell(&mut self, input: Input<'_>) -> bool {
        let mut out = std::mem::take(&mut self.out);
        self.names.handle(self.now(), input, &mut out);
        let mut changed = false;
        for output in out.drain(..) {
            match output {
                Output::Ask { name } => self.ask(name),
                Output::Changed { name } => {
                    changed = true;
                    let addresses = self.names.addresses(&name);
                    self.known.send_modify(|known| _ = known.insert(name, addresses));
                }
                Output::Note(note) => log(&note),
            }
        }
        self.out = out;
        changed
    }

    fn ask(&mut self, name: Arc<str>) {
        let resolver = self.resolver.clone();
        self.questions.spawn_local(async move {
            let answer = resolver.ask(&name).await;
            (name, answer)
        });
    }
}

fn log(note: &Note) {
    match note {
        Note::Moved { name, addresses } => {
            tracing::info!(name = &**name, ?addresses, "gateway: a name has other addresses");
        }
        Note::Lost { name, why, kept } => {
            let why = match why {
                Lost::Nothing => "name servers say that there is none",
                Lost::Silence => "no name server answers",
            };
            let so = if *kept > 0 { "goes on with its last addresses" } else { "has no address" };
            tracing::warn!(name = &**name, kept, "gateway: a name {so}: {why}");
        }
        Note::Back { name } => tracing::info!(name = &**name, "gateway: a name is looked up again"),
    }
}
