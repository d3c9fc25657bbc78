//! From a data directory to what a node starts with, and from a damaged one to a node that has its peers make it a new
//! copy.
//!
//! A node never guesses about its disk: what is damaged is not used. Of a member of a cluster it is not needed either, but
//! the node must not go on under its old id: it may have forgotten a vote. So all that was there is moved aside, never
//! removed, and the node joins again as a new one in place of the old. A node that knows of no other refuses to start.

use std::path::PathBuf;

use skep_base::{NodeId, NodeUuid};
use skep_disk::{DataDir, FileDisk, KnownPeers};
use skep_log::{CheckpointReader, Disk, LogFault, NodeIdentity, Wal, WalConfig, checkpoint};
use skep_node::{RecoverError, Recovered, Restoring};
use skep_settings::Settings;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::chance::random;
use crate::serve::ServeFault;

/// Directories of damaged data beside which another may be made. A disk that needs more should be replaced; and somebody
/// has to look at them and remove them.
const ASIDE_MAX: usize = 8;
/// The first to be moved aside: a log without it is refused.
const IDENTITY_FILE: &str = "node-identity";
/// The first that a log gets.
const LOG_FILE: &str = "log-identity";

/// What a node starts with.
pub struct Found {
    pub wal: Wal<FileDisk>,
    pub recovered: Recovered,
    pub identity: NodeIdentity,
    /// The id under which this node belonged to the cluster before its data was damaged, until it belongs to it again.
    pub replaces: Option<NodeId>,
    pub peers: KnownPeers,
}

/// Reads back what the data directory holds. A new one gets an identity.
///
/// # Errors
/// What is there cannot be used, and there is nobody to get a copy from. Nothing was changed.
pub fn open(data_dir: &DataDir, settings: &Settings) -> Result<Found, ServeFault> {
    let peers = KnownPeers::read(&mut data_dir.disk()).unwrap_or_else(|fault| {
        tracing::warn!(
            "the addresses of the other nodes cannot be read, so a damaged log could not be replaced: {fault}"
        );
        KnownPeers::default()
    });
    let (identity, wal, recovered) = match read(data_dir, settings) {
        Err(fault) if is_damage(&fault) && !peers.addresses.is_empty() => {
            let aside = set_aside(data_dir, &fault)?;
            tracing::error!(
                replaces = peers.node.0,
                "{fault}. It is a member of a cluster: all that was there has been moved to {}, and the node joins the \
                 cluster again to get a new copy",
                aside.display()
            );
            read(data_dir, settings)?
        }
        found => found?,
    };
    let replaces = (identity.node == NodeId(0) && peers.node != NodeId(0)).then_some(peers.node);
    Ok(Found { wal, recovered, identity, replaces, peers })
}

fn is_damage(fault: &ServeFault) -> bool {
    match fault {
        ServeFault::Log(fault) => matches!(fault, LogFault::Damaged { .. }),
        ServeFault::Recover { fault, .. } => matches!(fault, RecoverError::Missing { .. }),
        _ => false,
    }
}

fn set_aside(data_dir: &DataDir, fault: &ServeFault) -> Result<PathBuf, ServeFault> {
    let failed = |source| ServeFault::SetAside { fault: fault.to_string(), source };
    let before = data_dir.set_aside_before().map_err(failed)?;
    if before.len() >= ASIDE_MAX {
        return Err(ServeFault::Setting(format!(
            "{fault}; and {} directories with data that was damaged before are beside it ({} is the first): replace the disk, \
             or remove them",
            before.len(),
            before[0].display()
        )));
    }
    data_dir.set_aside(&utc_now(), IDENTITY_FILE, &[KnownPeers::FILE]).map_err(failed)
}

/// The time as part of a file's name: `2026-11-21T15-53-00Z`.
fn utc_now() -> String {
    let mut text = String::new();
    SystemTime.format_time(&mut Writer::new(&mut text)).expect("a String takes every write");
    let seconds = text.split('.').next().expect("a split has a first part");
    format!("{}Z", seconds.replace(':', "-"))
}

fn read(
    data_dir: &DataDir,
    settings: &Settings,
) -> Result<(NodeIdentity, Wal<FileDisk>, Recovered), ServeFault> {
    let path = |file: &str| data_dir.path().join(file).display().to_string();
    let log_fault = |fault: LogFault| ServeFault::Log(fault.located(path));
    let in_file = |file: String, fault| ServeFault::Recover { file, fault };
    let identity = read_identity(&mut data_dir.disk()).map_err(log_fault)?;
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
    Ok((identity, wal, recovered))
}

/// Who this node is. The identity is written before the log is begun, and the log before the node belongs to a cluster:
/// one without the other is what a member looks like that has lost something.
fn read_identity(disk: &mut FileDisk) -> Result<NodeIdentity, LogFault> {
    let files = disk.list()?;
    let missing = |file: &str, although: String| LogFault::Damaged {
        file: file.to_owned(),
        offset: 0,
        found: format!("it is missing, although {although}"),
    };
    if let Some(identity) = NodeIdentity::read(disk)? {
        let has_log = files.iter().any(|file| file == LOG_FILE);
        if identity.node != NodeId(0) && !has_log {
            let although = format!("this is node {} of cluster {}", identity.node.0, identity.cluster_id);
            return Err(missing(LOG_FILE, although));
        }
        return Ok(identity);
    }
    let is_of_log = |file: &&String| file.starts_with("log-") || file.starts_with("checkpoint-");
    if let Some(file) = files.iter().find(is_of_log) {
        return Err(missing(IDENTITY_FILE, format!("{file} is there")));
    }
    let uuid = NodeUuid(u128::from(random()) << 64 | u128::from(random()) | 1);
    let identity = NodeIdentity { uuid, ..NodeIdentity::default() };
    identity.write(disk)?;
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_disk::NodeFiles;
    use std::fs;
    use std::path::Path;

    /// Everything in a directory by name.
    fn files(path: &Path) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().unwrap().is_file())
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    }

    /// A data directory of node 2 of a cluster, or of a node alone.
    fn member(path: &Path, peers: &[&str]) -> NodeIdentity {
        let dir = DataDir::open(path).unwrap();
        let found = open(&dir, &Settings::default()).unwrap();
        assert_eq!((found.identity.node, found.replaces), (NodeId(0), None));
        let mut files = NodeFiles::new(dir.disk(), found.peers);
        let identity = NodeIdentity { node: NodeId(2), cluster_id: "c".into(), ..found.identity };
        files.save_identity(&identity).unwrap();
        files.save_peers(peers.iter().map(|&peer| peer.to_owned()).collect()).unwrap();
        identity
    }

    fn flip(path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        bytes[20] ^= 1;
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_member_with_a_damaged_file_starts_as_a_new_node_in_place_of_the_old_and_keeps_what_was_there() {
        for broken in [IDENTITY_FILE, LOG_FILE] {
            for missing in [false, true] {
                let temp = tempfile::tempdir().unwrap();
                let old = member(temp.path(), &["a:1", "b:2"]);
                match missing {
                    false => flip(&temp.path().join(broken)),
                    true => fs::remove_file(temp.path().join(broken)).unwrap(),
                }
                let before = files(temp.path());
                for _ in 0..2 {
                    // The second start is one after a crash before the node has joined.
                    let dir = DataDir::open(temp.path()).unwrap();
                    let found = open(&dir, &Settings::default()).unwrap();
                    assert_ne!(found.identity.uuid, old.uuid, "{broken}");
                    assert_eq!((found.identity.node, found.replaces), (NodeId(0), Some(NodeId(2))));
                    assert_eq!(found.peers.addresses, ["a:1", "b:2"]);
                    let aside = dir.set_aside_before().unwrap();
                    assert_eq!(aside.len(), 1);
                    let kept = |file: &str| ["peers", "skep-lock", "skep-format"].contains(&file);
                    let moved: Vec<_> = before.iter().filter(|(file, _)| !kept(file)).cloned().collect();
                    assert_eq!(files(&aside[0]), moved);
                }
            }
        }
    }

    #[test]
    fn a_node_that_knows_no_other_refuses_and_changes_nothing() {
        for broken in [IDENTITY_FILE, LOG_FILE] {
            let temp = tempfile::tempdir().unwrap();
            member(temp.path(), &[]);
            flip(&temp.path().join(broken));
            let before = files(temp.path());
            let dir = DataDir::open(temp.path()).unwrap();
            let Err(fault) = open(&dir, &Settings::default()) else { panic!("{broken} is damaged") };
            let text = fault.to_string();
            assert!(text.contains(&temp.path().join(broken).display().to_string()), "{text}");
            assert_eq!(files(temp.path()), before);
            assert!(dir.set_aside_before().unwrap().is_empty());
        }
    }

    #[test]
    fn a_damaged_list_of_peers_harms_no_node_with_a_good_log() {
        let temp = tempfile::tempdir().unwrap();
        let identity = member(temp.path(), &["a:1"]);
        flip(&temp.path().join(KnownPeers::FILE));
        let dir = DataDir::open(temp.path()).unwrap();
        let found = open(&dir, &Settings::default()).unwrap();
        assert_eq!((found.identity, found.replaces), (identity, None));
    }

    #[test]
    fn a_disk_that_is_damaged_again_and_again_is_given_up() {
        let temp = tempfile::tempdir().unwrap();
        member(temp.path(), &["a:1"]);
        for time in 0..ASIDE_MAX {
            fs::create_dir(temp.path().join(format!("damaged-{time}"))).unwrap();
        }
        flip(&temp.path().join(LOG_FILE));
        let dir = DataDir::open(temp.path()).unwrap();
        let Err(fault) = open(&dir, &Settings::default()) else { panic!("the log is damaged") };
        assert!(fault.to_string().contains("replace the disk"), "{fault}");
    }

    #[test]
    fn the_time_is_part_of_a_file_name() {
        let name = utc_now();
        let shape: String = name.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00-00-00Z", "{name}");
    }
}
