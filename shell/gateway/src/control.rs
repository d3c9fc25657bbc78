//! The gateway's threads: one of control, one for each core.
//!
//! Control takes configurations in: it compiles them, opens what listeners they add, and hands both to every core; a
//! configuration of which a part cannot be had (a file, an address) changes nothing. Cores carry the traffic.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fmt, io};

use skep_base::Micros;
use skep_base::rng::mix;
use skep_gate::balance::sticky::Secret;
use skep_gate::config::listener::Protocol;
use socket2::{Domain, Socket, Type};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::access_log::{self, AccessLog};
use crate::auth::{Ask, Hashing, Sources};
use crate::core::{Beginning, Core};
use crate::datagrams;
use crate::figures::Board;
use crate::listen::Listeners;
use crate::names::Directory;
use crate::of_node::NodeLimits;
use crate::snapshot::Snapshot;
use crate::{Applied, Store};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 4096;
/// How often files of certificates, users and keys are looked at.
const FILES_TIME: Duration = Duration::from_secs(2);
/// How often figures are left for others, and connections that rest looked at.
const SWEEP_TIME: Duration = Duration::from_secs(1);
/// How often a core that is drained looks whether all have gone.
const DRAIN_STEP: Duration = Duration::from_millis(20);

/// What the gateway is told of where it runs.
pub struct Surroundings {
    /// The zone of this node; empty for none.
    pub zone: String,
    /// What signs sticky cookies for as long as the cluster has no secret.
    pub secret: Secret,
    /// The seed of all random choices.
    pub seed: u64,
    /// The node's store, for what must be the same at all nodes.
    pub store: Option<Arc<dyn Store>>,
}

/// Why the gateway cannot start. Nothing of it runs then.
#[derive(Debug)]
pub enum StartFault {
    /// The configuration, or a file that it names.
    Config(String),
    Bind {
        address: SocketAddr,
        source: io::Error,
    },
    Thread(io::Error),
}

impl fmt::Display for StartFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartFault::Config(what) => f.write_str(what),
            StartFault::Bind { address, source } => {
                write!(
                    f,
                    "the gateway cannot listen on {address}: {source}; stop what does, or choose another"
                )
            }
            StartFault::Thread(source) => write!(f, "cannot start a thread of the gateway: {source}"),
        }
    }
}

impl std::error::Error for StartFault {}

/// An open socket for a core.
#[derive(Debug)]
pub(crate) enum Opened {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// Where something listens. TCP and UDP ports are different things.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Address {
    pub(crate) address: SocketAddr,
    pub(crate) is_udp: bool,
}

/// Words from control, or from another core.
#[derive(Debug)]
pub(crate) enum ToCore {
    Nodes(Arc<Nodes>),
    Configure {
        snapshot: Arc<Snapshot>,
        opened: Vec<(Address, Opened)>,
    },
    /// The same configuration with other addresses of names.
    Readdress {
        snapshot: Arc<Snapshot>,
    },
    Health {
        pool: String,
        address: String,
        up: bool,
    },
}

/// The nodes of the cluster that carry traffic, this one among them, counted by zone.
pub type Nodes = BTreeMap<String, u32>;

/// What the gateway carries traffic by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InForce {
    pub version: u64,
    /// Why a later version could not be put in force, with its number.
    pub problem: Option<(u64, String)>,
}

/// A running gateway.
#[derive(Debug)]
pub struct Running {
    in_force: watch::Receiver<InForce>,
    drain: watch::Sender<bool>,
    senders: Vec<UnboundedSender<ToCore>>,
    threads: Vec<JoinHandle<()>>,
    board: Board,
}

impl Running {
    /// What is counted, to be read at any time from any thread.
    pub fn board(&self) -> Board {
        self.board.clone()
    }

    /// Which version is in force: its files are read, its listeners open, and all cores told.
    pub fn in_force(&self) -> watch::Receiver<InForce> {
        self.in_force.clone()
    }

    /// Among whom limits of the cluster are divided from here on, and which zones share its traffic. Each node is taken to run
    /// as many cores as this one.
    pub fn set_nodes(&self, nodes: Nodes) {
        let nodes = Arc::new(nodes);
        for sender in &self.senders {
            // A core ends only when the gateway does.
            let _ = sender.send(ToCore::Nodes(Arc::clone(&nodes)));
        }
    }

    /// Stops taking connections, lets requests under way end, and returns when all have, or after `time`.
    pub fn drain(self, time: Duration) {
        // All cores listen to it; if none is left there is nothing to do.
        let _ = self.drain.send(true);
        let until = Instant::now() + time;
        for thread in self.threads {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(DRAIN_STEP);
            }
            if thread.is_finished() && thread.join().is_err() {
                tracing::error!("a thread of the gateway panicked");
            }
        }
    }
}

/// Starts a gateway of `cores` threads with the configuration that `applied` holds, which must hold one, and follows its
/// changes.
///
/// # Errors
/// [`StartFault`].
pub fn start(
    cores: usize,
    mut applied: watch::Receiver<Option<Applied>>,
    surroundings: Surroundings,
) -> Result<Running, StartFault> {
    let cores = cores.max(1);
    let Some(first) = applied.borrow_and_update().clone() else {
        return Err(StartFault::Config("the gateway has no configuration".to_owned()));
    };
    let mut directory = Directory::new(mix(surroundings.seed ^ 1));
    let (mut sources, asked) = Sources::new(mix(surroundings.seed), directory.resolver());
    let snapshot = Snapshot::compile(&first, &mut sources, &directory).map_err(StartFault::Config)?;
    let snapshot = Arc::new(snapshot);
    directory.configure(&first.config);
    let mut open = Vec::new();
    let opened = open_new(&snapshot, &mut open, cores)?;
    let logs = access_log::start(cores, surroundings.seed).map_err(StartFault::Thread)?;
    let board = Board::new(cores);
    let (drain, drained) = watch::channel(false);
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..cores).map(|_| unbounded_channel()).unzip();
    let mut threads = Vec::new();
    let (hashing, limits, started) = (Hashing::new(), NodeLimits::default(), Instant::now());
    for (index, ((log, receiver), opened)) in logs.into_iter().zip(receivers).zip(opened).enumerate() {
        let others = senders.iter().enumerate().filter(|(at, _)| *at != index);
        let beginning = Beginning {
            index,
            cores,
            zone: surroundings.zone.clone(),
            secret: surroundings.secret.clone(),
            hashing: hashing.clone(),
            limits: limits.clone(),
            started,
            seed: mix(surroundings.seed.wrapping_add(index as u64)),
            log,
            store: surroundings.store.clone(),
            others: others.map(|(_, sender): (_, &UnboundedSender<ToCore>)| sender.clone()).collect(),
            drain: drained.clone(),
            snapshot: Arc::clone(&snapshot),
        };
        let runtime = runtime().map_err(StartFault::Thread)?;
        let board = board.clone();
        let name = format!("gateway-{index}");
        let run = move || run_core(&runtime, beginning, receiver, opened, board);
        let thread = std::thread::Builder::new().name(name).spawn(run).map_err(StartFault::Thread)?;
        threads.push(thread);
    }
    let runtime = runtime().map_err(StartFault::Thread)?;
    let version = first.version;
    let (in_force, is_in_force) = watch::channel(InForce { version, problem: None });
    let to_cores = senders.clone();
    let left = board.clone();
    let control =
        Control { cores, senders, open, last: first, snapshot, sources, directory, board: left, in_force };
    let run = move || LocalSet::new().block_on(&runtime, control.run(applied, drained, asked));
    let thread = std::thread::Builder::new().name("gateway".to_owned()).spawn(run);
    threads.push(thread.map_err(StartFault::Thread)?);
    tracing::info!(cores, version, "the gateway serves");
    Ok(Running { in_force: is_in_force, drain, senders: to_cores, threads, board })
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_io().enable_time().build()
}

/// Opens the listeners of `snapshot` that are not in `open` yet, one socket for each core.
fn open_new(
    snapshot: &Snapshot,
    open: &mut Vec<Address>,
    cores: usize,
) -> Result<Vec<Vec<(Address, Opened)>>, StartFault> {
    let mut of_cores: Vec<Vec<(Address, Opened)>> = (0..cores).map(|_| Vec::new()).collect();
    let wanted: Vec<Address> = snapshot.config.listeners.iter().map(|l| address_of(&l.it)).collect();
    for address in &wanted {
        if open.contains(address) {
            continue;
        }
        for of_core in &mut of_cores {
            let opened = bind(*address);
            let opened = opened.map_err(|source| StartFault::Bind { address: address.address, source })?;
            of_core.push((*address, opened));
        }
    }
    *open = wanted;
    Ok(of_cores)
}

/// Where a listener listens.
pub(crate) fn address_of(listener: &skep_gate::config::listener::Listener) -> Address {
    let address = listener.address.0.parse().expect("an address is checked when it is read");
    Address { address, is_udp: listener.protocol == Protocol::Udp }
}

fn bind(at: Address) -> io::Result<Opened> {
    let is_udp = at.is_udp;
    let kind = if is_udp { Type::DGRAM } else { Type::STREAM };
    let socket = Socket::new(Domain::for_address(at.address), kind, None)?;
    socket.set_reuse_address(!is_udp)?;
    // The kernel spreads connections over the cores' sockets.
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    if is_udp {
        datagrams::prepare(&socket, at.address)?;
    }
    socket.bind(&at.address.into())?;
    if is_udp {
        return Ok(Opened::Udp(socket.into()));
    }
    // What is accepted has it from here.
    socket.set_tcp_nodelay(true)?;
    socket.listen(BACKLOG)?;
    Ok(Opened::Tcp(socket.into()))
}

struct Control {
    cores: usize,
    senders: Vec<UnboundedSender<ToCore>>,
    open: Vec<Address>,
    last: Applied,
    snapshot: Arc<Snapshot>,
    sources: Sources,
    directory: Directory,
    board: Board,
    in_force: watch::Sender<InForce>,
}

impl Control {
    async fn run(
        mut self,
        mut applied: watch::Receiver<Option<Applied>>,
        mut drained: watch::Receiver<bool>,
        mut asked: UnboundedReceiver<Ask>,
    ) {
        let mut files = tokio::time::interval(FILES_TIME);
        let mut follows = true;
        loop {
            tokio::select! {
                changed = applied.changed(), if follows => match changed {
                    Ok(()) => {
                        let next = applied.borrow_and_update().clone();
                        if let Some(next) = next {
                            self.apply(next);
                        }
                    }
                    Err(_) => follows = false,
                },
                _ = files.tick() => {
                    if self.snapshot.is_outdated() {
                        tracing::info!("gateway: files of certificates, users or keys have changed");
                        self.apply(self.last.clone());
                    }
                }
                () = self.sources.run(&mut asked) => {}
                changed = self.directory.run() => {
                    self.board.leave_names(self.directory.stats());
                    if changed {
                        self.readdress();
                    }
                }
                _ = drained.changed() => return,
            }
        }
    }

    /// Puts a configuration in force on all cores, or leaves everything as it is.
    fn apply(&mut self, next: Applied) {
        let version = next.version;
        let mut open = self.open.clone();
        let made = Snapshot::compile(&next, &mut self.sources, &self.directory)
            .map_err(StartFault::Config)
            .and_then(|snapshot| {
                let opened = open_new(&snapshot, &mut open, self.cores)?;
                Ok((Arc::new(snapshot), opened))
            });
        let (snapshot, opened) = match made {
            Ok(made) => made,
            Err(fault) => {
                let kept = self.snapshot.version;
                let problem = Some((version, fault.to_string()));
                // It is tried again and again.
                if self.in_force.borrow().problem != problem {
                    tracing::error!(
                        version,
                        kept,
                        "gateway: the configuration cannot be put in force: {fault}"
                    );
                }
                self.in_force.send_replace(InForce { version: kept, problem });
                return;
            }
        };
        for (sender, opened) in self.senders.iter().zip(opened) {
            // A core ends only when the gateway does.
            let _ = sender.send(ToCore::Configure { snapshot: Arc::clone(&snapshot), opened });
        }
        (self.open, self.last, self.snapshot) = (open, next, snapshot);
        self.sources.retain(self.snapshot.auth.iter().flat_map(|auth| auth.sources()));
        self.directory.configure(&self.last.config);
        self.in_force.send_replace(InForce { version, problem: None });
        tracing::info!(version, "gateway: configuration in force");
    }

    /// Tells all cores of the addresses that names have by now.
    fn readdress(&mut self) {
        self.snapshot = Arc::new(self.snapshot.with_addresses(&self.directory));
        for sender in &self.senders {
            // A core ends only when the gateway does.
            let _ = sender.send(ToCore::Readdress { snapshot: Arc::clone(&self.snapshot) });
        }
    }
}

fn run_core(
    runtime: &Runtime,
    beginning: Beginning,
    words: UnboundedReceiver<ToCore>,
    opened: Vec<(Address, Opened)>,
    board: Board,
) {
    let local = LocalSet::new();
    local.block_on(runtime, serve(beginning, words, opened, board));
}

async fn serve(
    beginning: Beginning,
    mut words: UnboundedReceiver<ToCore>,
    opened: Vec<(Address, Opened)>,
    board: Board,
) {
    let mut drain = beginning.drain.clone();
    let core = Core::new(beginning);
    let mut listeners = Listeners::default();
    set_log(&core.log, &core.plan().snapshot);
    listeners.configure(&core, opened);
    tokio::task::spawn_local(std::rc::Rc::clone(&core).tick());
    let mut sweep = tokio::time::interval(SWEEP_TIME);
    loop {
        tokio::select! {
            word = words.recv() => match word {
                Some(ToCore::Configure { snapshot, opened }) => {
                    set_log(&core.log, &snapshot);
                    core.configure(snapshot);
                    listeners.configure(&core, opened);
                }
                Some(ToCore::Nodes(nodes)) => core.set_nodes(&nodes),
                Some(ToCore::Readdress { snapshot }) => core.readdress(snapshot),
                Some(ToCore::Health { pool, address, up }) => core.on_health(&pool, &address, up),
                None => break,
            },
            _ = sweep.tick() => {
                core.sweep();
                board.leave(core.index, core.figures());
            }
            _ = drain.changed() => break,
        }
    }
    listeners.close();
    while !core.is_idle() || core.connections.borrow().values().any(|n| *n > 0) {
        tokio::time::sleep(DRAIN_STEP).await;
        board.leave(core.index, core.figures());
    }
}

fn set_log(log: &AccessLog, snapshot: &Snapshot) {
    log.set_share(snapshot.config.access_log.as_ref().map_or(0, |log| log.share.0));
}

/// Waits for an instant counted from `started`; for ever if there is none.
pub(crate) async fn sleep_until(started: Instant, at: Option<Micros>) {
    match at {
        Some(at) => tokio::time::sleep_until((started + duration(at)).into()).await,
        None => std::future::pending().await,
    }
}

/// A time of the configuration.
pub(crate) fn duration(time: Micros) -> Duration {
    Duration::from_micros(time.0)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use socket2::SockRef;

    use super::*;

    #[test]
    fn what_a_listener_accepts_does_not_wait_for_more_to_send() {
        let address = "127.0.0.1:0".parse().unwrap();
        let Opened::Tcp(listener) = bind(Address { address, is_udp: false }).unwrap() else {
            panic!("it is no TCP")
        };
        listener.set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(SockRef::from(&accepted).tcp_nodelay().unwrap());
    }
}
