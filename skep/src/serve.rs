//! Runs one node from a checked configuration.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use skep_base::{NodeId, hash};
use skep_disk::{CheckpointSource, Checkpointer, DataDir, DataDirFault, LogWriter, NodeFiles};
use skep_http::{HttpLimits, HttpServer, StatusBoard};
use skep_log::{LogFault, NodeIdentity};
use skep_node::{
    CellId, Identity, LinkLimits, Node, NodeRecord, RecoverError, RestPace, Status, log_reserve,
};
use skep_server::{Clock, Counts, Listening, RunFault, Shared, Surroundings, Waker};
use skep_settings::{Durability, Settings};

use crate::chance::{random, random_bytes, random_hex};
use crate::config::{Config, advertised};
use crate::gateway::Gateway;
use crate::in_force::Versions;
use crate::open_files::Room;
use crate::report::report;
use crate::{first_gateway, gateway, in_force, memory, open_files, recovery, signals};

/// As many as `join` may name.
const JOIN_MAX: usize = 64;
/// See [`may_damage`].
const MAY_DAMAGE_VARIABLE: &str = "TESTED_SKEP_MAY_DAMAGE";

/// Why a node could not start or had to stop.
#[derive(Debug)]
pub enum ServeFault {
    DataDir(DataDirFault),
    Bind {
        address: SocketAddr,
        source: io::Error,
    },
    Setting(String),
    /// The log or a checkpoint cannot be used.
    Log(LogFault),
    /// A checkpoint is whole, but its content makes no sense to this version.
    Recover {
        file: String,
        fault: RecoverError,
    },
    /// Damaged data of a member of a cluster could not be moved aside.
    SetAside {
        fault: String,
        source: io::Error,
    },
    /// The system gives no thread.
    Thread(io::Error),
    Run(RunFault),
}

impl fmt::Display for ServeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeFault::DataDir(fault) => write!(f, "{fault}"),
            ServeFault::Bind { address, source } => {
                write!(f, "cannot listen on {address}: {source}; stop what does, or choose another address")
            }
            ServeFault::Setting(text) => f.write_str(text),
            ServeFault::Log(fault) => write!(f, "{fault}"),
            ServeFault::Recover { file, fault } => {
                write!(f, "{file}: {fault}; start the release of skep that wrote it, or a later one")
            }
            ServeFault::SetAside { fault, source } => {
                write!(f, "{fault}; it cannot be moved aside to get a new copy from the cluster: {source}")
            }
            ServeFault::Thread(source) => write!(f, "cannot start a thread: {source}"),
            ServeFault::Run(fault) => write!(f, "{fault}"),
        }
    }
}

impl std::error::Error for ServeFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ServeFault::DataDir(fault) => Some(fault),
            ServeFault::Bind { source, .. }
            | ServeFault::SetAside { source, .. }
            | ServeFault::Thread(source) => Some(source),
            ServeFault::Recover { fault, .. } => Some(fault),
            ServeFault::Run(fault) => Some(fault),
            ServeFault::Setting(_) | ServeFault::Log(_) => None,
        }
    }
}

/// Runs the node that `config` describes until it is told to stop.
///
/// # Errors
/// [`ServeFault`]; what was answered before is on disk.
pub fn serve(config: &Config) -> Result<(), ServeFault> {
    announce(config);
    let mut settings = config.settings.clone();
    let clients_max = settings.maxclients();
    let room = open_files::make_room();
    let fit = room.clients();
    if fit < clients_max {
        tracing::warn!(
            maxclients = clients_max,
            fit,
            "the limit of open files (ulimit -n) leaves room for fewer clients"
        );
    }
    let data_dir = DataDir::open(settings.data_dir()).map_err(ServeFault::DataDir)?;
    let cells = cells(&settings);
    let listening = Listening::bind(settings.listen(), settings.peer_listen(), cells)
        .map_err(|(address, source)| ServeFault::Bind { address, source })?;
    let clients = bind(settings.listen(), |_| listening.client_addr())?;
    let peers = bind(settings.peer_listen(), |_| listening.peer_addr())?;
    for (name, address) in [("listen", clients), ("peer-listen", peers)] {
        settings.set(name, &address.to_string()).map_err(|e| ServeFault::Setting(e.to_string()))?;
    }

    let starting = Status { reason: "the node is starting".into(), ..Status::default() };
    let board = StatusBoard::new(report(&starting, &Counts::default()));
    let http = bind(settings.http_listen(), |address| {
        // Under a small limit of descriptors as many are left for the rest as for clients.
        let limits = HttpLimits::default();
        let connections_max = limits.connections_max.min(fit.div_ceil(2) as usize);
        HttpServer::start(address, board.source(), HttpLimits { connections_max, ..limits })
    })?;
    let http_address = http.local_addr();
    settings.set("http-listen", &http_address.to_string()).map_err(|e| ServeFault::Setting(e.to_string()))?;

    hash::set_process_seed(random());
    let found = recovery::open(&data_dir, &settings)?;
    if found.replaces.is_some() {
        join_peers(&mut settings, &found.peers.addresses)?;
    }
    let waker = listening.waker();
    let wake = |waker: Waker| move || waker.wake();
    let wakes = listening.wakers().into_iter().map(wake).collect();
    let log = LogWriter::start(found.wal, data_dir.disk(), wakes, log_reserve(&settings))
        .map_err(ServeFault::Thread)?;
    let checkpointer =
        Checkpointer::start(data_dir.disk(), wake(waker.clone())).map_err(ServeFault::Thread)?;
    let source = CheckpointSource::start(data_dir.disk(), CheckpointSource::IDLE, wake(waker.clone()))
        .map_err(ServeFault::Thread)?;
    let inside = listening.inside();
    let traffic = Gateway::new(&settings, cells, inside.clone());
    let stopping = traffic.clone();
    signals::on_stop(move |signal| {
        tracing::info!(signal = signal.name(), "stopping");
        // Requests under way end first. Not here: a second signal must be heard meanwhile.
        std::thread::spawn(move || {
            stopping.drain();
            waker.stop();
        });
    })
    .map_err(ServeFault::Thread)?;

    let keepalive = settings.tcp_keepalive_seconds();
    let start_patience = Duration::from_millis(settings.request_timeout_ms());
    let identity = identity(found.identity, found.replaces, &settings, room);
    let now = Clock.now();
    let start = |(index, share)| {
        let (mut first, cell) = (Vec::new(), CellId { index, count: cells });
        let node = Node::start_cell(identity.clone(), settings.clone(), share, cell, now, &mut first);
        (node, first)
    };
    let nodes = found.recovered.split(cells).into_iter().enumerate().map(start).collect();
    let versions = Versions::default();
    in_force::start(versions.clone(), traffic.clone(), board.clone()).map_err(ServeFault::Thread)?;
    if let Some(config) = &config.gateway {
        first_gateway::offer(config.clone(), settings.name().to_owned(), inside)
            .map_err(ServeFault::Thread)?;
    }
    let publisher = board.clone();
    let newest = versions.clone();
    skep_gateway::descriptors::set_fit(fit);
    let shared = Shared {
        log: Arc::new(log),
        checkpointer: Arc::new(checkpointer),
        source: Arc::new(source),
        memory_used: memory::allocated,
        keepalive: (keepalive > 0).then(|| Duration::from_secs(keepalive)),
    };
    let surroundings = Surroundings {
        shared,
        gateway: Box::new(move |version| newest.put(version)),
        files: NodeFiles::new(data_dir.disk(), found.peers),
        publish: Box::new(move |status, counts| {
            traffic.set_nodes(&status.nodes);
            let mut told = report(&status, &counts);
            told.metrics.extend(traffic.board().iter().flat_map(|board| gateway::metrics(&board.read())));
            publisher.publish(told);
        }),
        start_patience,
    };
    announce_listening(clients, peers, http_address);
    let outcome = listening.run(nodes, surroundings);
    versions.end();
    outcome.map_err(ServeFault::Run)?;
    tracing::info!("stopped");
    Ok(())
}

fn bind<T>(address: SocketAddr, make: impl FnOnce(SocketAddr) -> io::Result<T>) -> Result<T, ServeFault> {
    make(address).map_err(|source| ServeFault::Bind { address, source })
}

/// Threads that run shards: one for each core that the process may use, unless fewer are wanted.
fn cells(settings: &Settings) -> usize {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    match settings.cores() {
        0 => available,
        cores => cores as usize,
    }
}

/// Who this node is in this run.
fn identity(saved: NodeIdentity, replaces: Option<NodeId>, settings: &Settings, room: Room) -> Identity {
    Identity {
        saved,
        record: NodeRecord {
            name: settings.name().to_owned(),
            client: advertised(settings, settings.listen()),
            peer: advertised(settings, settings.peer_listen()),
            http: advertised(settings, settings.http_listen()),
            zone: settings.zone().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        new_cluster_id: random_hex(),
        run_id: random_hex(),
        process_id: std::process::id(),
        clients_fit: room.clients(),
        descriptors_fit: room.descriptors(open_files::count_open()),
        incarnation: random(),
        seed: random(),
        secret: random_bytes(),
        replaces,
        link_limits: LinkLimits::default(),
        rest: RestPace::default(),
        may_damage: may_damage(),
    }
}

/// Whether tests may damage the state of this copy (`DEBUG UNLOGGED`), to see that it is found and rebuilt. No setting, so
/// that no file or flag turns it on by mistake.
fn may_damage() -> bool {
    let may = std::env::var_os(MAY_DAMAGE_VARIABLE).is_some_and(|value| value == "yes");
    if may {
        tracing::warn!("{MAY_DAMAGE_VARIABLE} is set: clients can damage this node's copies; for tests only");
    }
    may
}

/// A node that lost its data asks those it knew, whatever `join` says.
fn join_peers(settings: &mut Settings, peers: &[String]) -> Result<(), ServeFault> {
    let mut all: Vec<&str> = peers.iter().map(String::as_str).collect();
    all.extend(settings.join().iter().map(String::as_str).filter(|peer| !peers.iter().any(|p| p == peer)));
    all.truncate(JOIN_MAX);
    let all = all.join(",");
    settings.set("join", &all).map_err(|e| ServeFault::Setting(e.to_string()))
}

/// Says in the log what this process is: the first thing to look at when something is strange.
pub fn announce(config: &Config) {
    let settings = &config.settings;
    let durability = match settings.durability() {
        Durability::Disk => "disk",
        Durability::Memory => "memory",
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        name = settings.name(),
        data_dir = settings.data_dir(),
        durability,
        "skep starts"
    );
    for name in config.given() {
        tracing::debug!(setting = name, origin = %config.origin(name), "setting is not the default");
    }
    if settings.durability() == Durability::Memory {
        tracing::warn!(
            "durability is memory: it counts for shards with a single copy, whose last second of writes a crash loses; a shard \
             with several copies answers when a majority has the write on disk, as with disk (decision 11)"
        );
    }
    if settings.insecure() {
        tracing::warn!("insecure: whoever reaches {} needs no password", settings.listen());
    }
}

/// Says where the node can be reached, as bound, with the real ports: who connects from here on is answered. When the node
/// is ready is another line, and `/readyz`.
pub fn announce_listening(clients: SocketAddr, peers: SocketAddr, http: SocketAddr) {
    tracing::info!(%clients, %peers, %http, "skep listens");
}
