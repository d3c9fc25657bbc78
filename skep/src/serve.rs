//! Runs one node from a checked configuration.

use std::net::SocketAddr;
use std::time::Duration;
use std::{fmt, io};

use skep_base::{NodeId, hash};
use skep_disk::{Checkpointer, DataDir, DataDirFault, FileDisk, LogWriter};
use skep_http::{HttpLimits, HttpServer, StatusBoard};
use skep_log::{CheckpointReader, LogFault, Wal, WalConfig, checkpoint};
use skep_node::{Identity, Node, NodeRecord, RecoverError, Recovered, Restoring, Status};
use skep_server::{Clock, Listening, RunFault, Surroundings, Waker};
use skep_settings::{Durability, Settings};

use crate::config::Config;
use crate::report::report;
use crate::{memory, open_files, signals};

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
            ServeFault::Thread(source) => write!(f, "cannot start a thread: {source}"),
            ServeFault::Run(fault) => write!(f, "{fault}"),
        }
    }
}

impl std::error::Error for ServeFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ServeFault::DataDir(fault) => Some(fault),
            ServeFault::Bind { source, .. } | ServeFault::Thread(source) => Some(source),
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
    let fit = open_files::make_room();
    if fit < clients_max {
        tracing::warn!(
            maxclients = clients_max,
            fit,
            "the limit of open files (ulimit -n) leaves room for fewer clients"
        );
    }
    let data_dir = DataDir::open(settings.data_dir()).map_err(ServeFault::DataDir)?;
    let listening = bind(settings.listen(), Listening::bind)?;
    let clients =
        listening.local_addr().map_err(|source| ServeFault::Bind { address: settings.listen(), source })?;
    settings.set("listen", &clients.to_string()).map_err(|e| ServeFault::Setting(e.to_string()))?;

    let board =
        StatusBoard::new(report(&Status { reason: "the node is starting".into(), ..Status::default() }));
    let http = bind(settings.http_listen(), |address| {
        // Under a small limit of descriptors as many are left for the rest as for clients.
        let limits = HttpLimits::default();
        let connections_max = limits.connections_max.min(fit.div_ceil(2) as usize);
        HttpServer::start(address, board.source(), HttpLimits { connections_max, ..limits })
    })?;
    let http_address = http.local_addr();
    settings.set("http-listen", &http_address.to_string()).map_err(|e| ServeFault::Setting(e.to_string()))?;

    hash::set_process_seed(random());
    let (wal, recovered) = recover(&data_dir, &settings)?;
    let waker = listening.waker();
    let wake = |waker: Waker| move || waker.wake();
    let log = LogWriter::start(wal, data_dir.disk(), wake(waker.clone())).map_err(ServeFault::Thread)?;
    let checkpointer =
        Checkpointer::start(data_dir.disk(), wake(waker.clone())).map_err(ServeFault::Thread)?;
    signals::on_stop(move |signal| {
        tracing::info!(signal = signal.name(), "stopping");
        waker.stop();
    })
    .map_err(ServeFault::Thread)?;

    let keepalive = settings.tcp_keepalive_seconds();
    let mut first = Vec::new();
    let node = Node::start(identity(&settings, fit), settings, recovered, Clock.now(), &mut first);
    let publisher = board.clone();
    let surroundings = Surroundings {
        log,
        checkpointer,
        memory_used: memory::allocated,
        publish: Box::new(move |status| publisher.publish(report(&status))),
        on_ready: Box::new(move || announce_listening(clients, http_address)),
        keepalive: (keepalive > 0).then(|| Duration::from_secs(keepalive)),
    };
    listening.run(node, first, surroundings).map_err(ServeFault::Run)?;
    tracing::info!("stopped");
    Ok(())
}

fn bind<T>(address: SocketAddr, make: impl FnOnce(SocketAddr) -> io::Result<T>) -> Result<T, ServeFault> {
    make(address).map_err(|source| ServeFault::Bind { address, source })
}

/// Reads back what the data directory holds.
fn recover(data_dir: &DataDir, settings: &Settings) -> Result<(Wal<FileDisk>, Recovered), ServeFault> {
    let path = |file: &str| data_dir.path().join(file).display().to_string();
    let log_fault = |fault: LogFault| ServeFault::Log(fault.located(path));
    let config = WalConfig {
        salt: random(),
        segment_bytes: settings.log_segment_bytes(),
        first_segment_bytes: WalConfig::default().first_segment_bytes.min(settings.log_segment_bytes()),
        ..WalConfig::default()
    };
    let (wal, logs) = Wal::open(data_dir.disk(), config).map_err(log_fault)?;
    let files = checkpoint::tidy(&mut data_dir.disk(), &logs).map_err(log_fault)?;
    let mut restoring = Restoring::new(logs);
    for (group, file) in &files {
        let mut reader = CheckpointReader::open(data_dir.disk(), file).map_err(log_fault)?;
        while let Some(chunk) = reader.next_chunk().map_err(log_fault)? {
            restoring.feed(*group, &chunk).map_err(|fault| in_file(path(&file.name()), fault))?;
        }
    }
    let recovered =
        restoring.finish().map_err(|fault| in_file(data_dir.path().display().to_string(), fault))?;
    Ok((wal, recovered))
}

fn in_file(file: String, fault: RecoverError) -> ServeFault {
    ServeFault::Recover { file, fault }
}

/// Who this node is in this run. A cluster of one: it has the first number.
fn identity(settings: &Settings, clients_fit: u64) -> Identity {
    let advertised = |listen: SocketAddr| match settings.advertise() {
        "" => listen.to_string(),
        host => format!("{host}:{}", listen.port()),
    };
    Identity {
        node: NodeId(1),
        record: NodeRecord {
            name: settings.name().to_owned(),
            client: advertised(settings.listen()),
            peer: advertised(settings.peer_listen()),
            http: advertised(settings.http_listen()),
            zone: settings.zone().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        new_cluster_id: random_hex(),
        run_id: random_hex(),
        process_id: std::process::id(),
        clients_fit,
        incarnation: random(),
        seed: random(),
    }
}

/// A number from the operating system's generator.
fn random() -> u64 {
    let mut bytes = [0; 8];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => panic!("the operating system gives no random numbers: {errno}"),
        }
    }
    u64::from_le_bytes(bytes)
}

/// 40 hexadecimal digits, as Redis's identifiers have.
fn random_hex() -> String {
    let digits = format!("{:016x}{:016x}{:016x}", random(), random(), random());
    digits[..40].to_owned()
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
    if settings.insecure() {
        tracing::warn!("insecure: whoever reaches {} needs no password", settings.listen());
    }
}

/// Says where the node can be reached; `clients` and `http` are the addresses that were bound, with their real ports.
pub fn announce_listening(clients: std::net::SocketAddr, http: std::net::SocketAddr) {
    tracing::info!(%clients, %http, "skep listens");
}
