//! Real files under the log of `core/log`: a directory as a [`skep_log::Disk`], its lock, and the threads that keep slow
//! disks away from the node's loop. Decides nothing that `core/log` can decide.

mod checkpoint_source;
mod checkpointer;
mod data_dir;
mod file_disk;
mod inbox;
mod log_writer;
mod node_files;

use std::collections::BTreeMap;

use skep_base::GroupId;
use skep_log::{CheckpointFile, DiskError, GroupLog, LogFault, Wal, WalConfig, checkpoint};

pub use checkpoint_source::{CheckpointSource, Found, ReadChunk};
pub use checkpointer::{CheckpointEvent, Checkpointer};
pub use data_dir::{DataDir, DataDirFault, FORMAT_VERSION};
pub use file_disk::FileDisk;
pub use log_writer::{LogEvent, LogStatus, LogWriter, Turn};
pub use node_files::{KnownPeers, NodeFiles};

/// What a node finds in its data directory.
pub struct Opened {
    pub wal: Wal<FileDisk>,
    pub logs: BTreeMap<GroupId, GroupLog>,
    /// The checkpoint that each group's log stands on; read it with [`skep_log::CheckpointReader`].
    pub checkpoints: BTreeMap<GroupId, CheckpointFile>,
}

/// Recovers log and checkpoints. `config.salt` is drawn here.
///
/// # Errors
/// As [`Wal::open`] and [`checkpoint::tidy`], with whole paths.
pub fn open_log(directory: &DataDir, config: WalConfig) -> Result<Opened, LogFault> {
    let open = || {
        let mut disk = directory.disk();
        let (wal, logs) = Wal::open(disk.clone(), WalConfig { salt: random_salt()?, ..config })?;
        let checkpoints = checkpoint::tidy(&mut disk, &logs)?;
        Ok(Opened { wal, logs, checkpoints })
    };
    open().map_err(|fault: LogFault| fault.located(|file| directory.path().join(file).display().to_string()))
}

fn random_salt() -> Result<u64, LogFault> {
    let mut bytes = [0; 8];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match got {
        Ok(8) => Ok(u64::from_le_bytes(bytes)),
        Ok(_) | Err(_) => Err(LogFault::Failed(DiskError::Io {
            file: "the random source".to_owned(),
            operation: "reading",
            message: "getrandom gave no 8 bytes".to_owned(),
        })),
    }
}
