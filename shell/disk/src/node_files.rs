//! Who this node is and whom it knows, beside its log: written rarely, read at the next start.
//!
//! The identity is [`NodeIdentity`]'s own file. `peers` holds the addresses of the other members, for the one start at
//! which the log, that knows them better, is damaged: then the node asks them for a new copy. It is text with a checksum:
//!
//! ```text
//! skep peers 1
//! node 2
//! peer 10.0.0.1:7379
//! crc32c 0a1b2c3d
//! ```

use skep_base::NodeId;
use skep_log::{Disk, DiskError, LogFault, NodeIdentity};

use crate::FileDisk;

const FILE: &str = "peers";
const FILE_UNFINISHED: &str = "peers.tmp";
const HEAD: &str = "skep peers 1";
/// More than any cluster has nodes, with the longest of addresses.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the file `peers` says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KnownPeers {
    /// This node, as the cluster called it when its log was well; 0 if it never belonged to one.
    pub node: NodeId,
    /// The others' addresses for peers, `host:port`.
    pub addresses: Vec<String>,
}

impl KnownPeers {
    /// The name of the file.
    pub const FILE: &'static str = FILE;

    /// What is known; nothing if there is no file.
    ///
    /// # Errors
    /// [`LogFault::Damaged`], or [`LogFault::Failed`] if the disk failed.
    pub fn read(disk: &mut FileDisk) -> Result<KnownPeers, LogFault> {
        let len = match disk.len(FILE) {
            Ok(len) => len.min(FILE_BYTES_MAX),
            Err(DiskError::NotFound { .. }) => return Ok(KnownPeers::default()),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = vec![0; len as usize];
        disk.read_at(FILE, 0, &mut bytes)?;
        KnownPeers::decode(&bytes).ok_or_else(|| LogFault::Damaged {
            file: FILE.to_owned(),
            offset: 0,
            found: "it is not as written".to_owned(),
        })
    }

    fn write(&self, disk: &mut FileDisk) -> Result<(), LogFault> {
        let bytes = self.encode();
        disk.create(FILE_UNFINISHED, bytes.len() as u64)?;
        disk.write_at(FILE_UNFINISHED, 0, &bytes)?;
        disk.sync(FILE_UNFINISHED)?;
        disk.rename(FILE_UNFINISHED, FILE)?;
        disk.sync_dir()?;
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        let mut text = format!("{HEAD}\nnode {}\n", self.node.0);
        for address in &self.addresses {
            text += &format!("peer {address}\n");
        }
        text += &format!("crc32c {:08x}\n", crc32c::crc32c(text.as_bytes()));
        text.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Option<KnownPeers> {
        let text = str::from_utf8(bytes).ok()?;
        let (body, last) = text.strip_suffix('\n')?.rsplit_once('\n')?;
        let crc = crc32c::crc32c(&bytes[..body.len() + 1]);
        if last != format!("crc32c {crc:08x}") {
            return None;
        }
        let mut lines = body.lines();
        if lines.next()? != HEAD {
            return None;
        }
        let node = NodeId(lines.next()?.strip_prefix("node ")?.parse().ok()?);
        let addresses: Option<Vec<String>> =
            lines.map(|line| line.strip_prefix("peer ").map(str::to_owned)).collect();
        Some(KnownPeers { node, addresses: addresses? })
    }
}

/// Writes both files while the node runs.
pub struct NodeFiles {
    disk: FileDisk,
    peers: KnownPeers,
}

impl NodeFiles {
    /// `peers` is what the file says.
    pub fn new(disk: FileDisk, peers: KnownPeers) -> NodeFiles {
        NodeFiles { disk, peers }
    }

    /// Makes durable who this node is. Blocks, as does [`NodeFiles::save_peers`]: a few milliseconds, when the node joins
    /// a cluster.
    ///
    /// # Errors
    /// As [`NodeIdentity::write`].
    pub fn save_identity(&mut self, identity: &NodeIdentity) -> Result<(), LogFault> {
        identity.write(&mut self.disk)?;
        if identity.node != self.peers.node && !self.peers.addresses.is_empty() {
            self.peers.node = identity.node;
            self.peers.write(&mut self.disk)?;
        }
        self.peers.node = identity.node;
        Ok(())
    }

    /// Keeps the addresses of the other members.
    ///
    /// # Errors
    /// The file is as it was before, and the log is unharmed.
    pub fn save_peers(&mut self, addresses: Vec<String>) -> Result<(), LogFault> {
        if addresses == self.peers.addresses {
            return Ok(());
        }
        let peers = KnownPeers { addresses, ..self.peers };
        peers.write(&mut self.disk)?;
        self.peers = peers;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::NodeUuid;

    fn addresses(list: &[&str]) -> Vec<String> {
        list.iter().map(|&address| address.to_owned()).collect()
    }

    #[test]
    fn peers_are_kept_with_the_id_that_the_node_had_among_them() {
        let temp = tempfile::tempdir().unwrap();
        let disk = FileDisk::new(temp.path());
        let read = || KnownPeers::read(&mut disk.clone());
        assert_eq!(read(), Ok(KnownPeers::default()));
        let mut files = NodeFiles::new(disk.clone(), KnownPeers::default());
        files.save_peers(addresses(&["a:1", "[::1]:2"])).unwrap();
        let known = |node| KnownPeers { node: NodeId(node), addresses: addresses(&["a:1", "[::1]:2"]) };
        assert_eq!(read(), Ok(known(0)));
        let identity = NodeIdentity { uuid: NodeUuid(7), node: NodeId(3), cluster_id: "c".into() };
        files.save_identity(&identity).unwrap();
        assert_eq!(read(), Ok(known(3)));
        assert_eq!(NodeIdentity::read(&mut disk.clone()), Ok(Some(identity)));
        files.save_peers(Vec::new()).unwrap();
        let alone = KnownPeers { node: NodeId(3), addresses: Vec::new() };
        assert_eq!(read(), Ok(alone), "all others were removed");
    }

    #[test]
    fn no_damaged_file_is_believed() {
        let peers = KnownPeers { node: NodeId(12), addresses: addresses(&["host:1", "b:2"]) };
        let whole = peers.encode();
        assert_eq!(KnownPeers::decode(&whole), Some(peers));
        for cut in 0..whole.len() {
            assert_eq!(KnownPeers::decode(&whole[..cut]), None, "cut to {cut}");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                assert_eq!(KnownPeers::decode(&bytes), None, "bit {bit} of byte {at}");
            }
        }
    }
}
