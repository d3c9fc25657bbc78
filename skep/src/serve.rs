//! Runs one node from a checked configuration.

use std::fmt;

use skep_settings::Durability;

use crate::config::Config;
use crate::open_files;

/// Why a node could not start or had to stop.
#[derive(Debug)]
pub enum ServeFault {
    /// The directory for data cannot be made or read.
    DataDir { path: String, source: std::io::Error },
}

impl fmt::Display for ServeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeFault::DataDir { path, source } => write!(f, "data-dir {path}: {source}"),
        }
    }
}

impl std::error::Error for ServeFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ServeFault::DataDir { source, .. } => Some(source),
        }
    }
}

/// Runs the node that `config` describes until it is told to stop.
///
/// # Errors
/// [`ServeFault`]; what was answered before is on disk.
pub fn serve(config: &Config) -> Result<(), ServeFault> {
    let data_dir = config.settings.data_dir();
    std::fs::create_dir_all(data_dir)
        .map_err(|source| ServeFault::DataDir { path: data_dir.to_owned(), source })?;
    announce(config);
    let clients = config.settings.maxclients();
    let fit = open_files::make_room(clients);
    if fit < clients {
        tracing::warn!(
            maxclients = clients,
            fit,
            "the limit of open files (ulimit -n) leaves room for fewer clients"
        );
    }
    Ok(())
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
