//! Who this node is, in a file beside the log: the one thing that it must know before any peer tells it something.
//!
//! Written when the data directory is made (a uuid and nothing else) and once more when the node founds or joins a
//! cluster. INV-LOG-8: what is read is what one write wrote whole; a power cut leaves the old identity or the new one.
//! With another identity the node would vote under an id that is not its own, so damage is refused like that of the log.
//!
//! Layout: magic 8, version u32, uuid u128, node u64, cluster id length u8, cluster id, crc32c u32 of all before.

use skep_base::{NodeId, NodeUuid};

use crate::disk::{Disk, DiskError};
use crate::fault::LogFault;

/// Longest cluster id; ours have 40 digits.
pub const CLUSTER_ID_BYTES_MAX: usize = 128;

const FILE: &str = "node-identity";
const FILE_UNFINISHED: &str = "node-identity.tmp";
const MAGIC: &[u8; 8] = b"skep-nid";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 8 + 4 + 16 + 8 + 1;
const CHECKSUM_BYTES: usize = 4;

/// A node's name for itself, kept with its data.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeIdentity {
    /// Chosen at random when the data directory was made; never 0 in the file.
    pub uuid: NodeUuid,
    /// What the cluster calls this node; 0 until it founded or joined one.
    pub node: NodeId,
    /// The cluster that this node belongs to; empty until it founded or joined one.
    pub cluster_id: String,
}

impl NodeIdentity {
    /// The identity of this data directory, or `None` if it has none yet.
    ///
    /// # Errors
    /// [`LogFault::Damaged`], [`LogFault::Newer`], or [`LogFault::Failed`] if the disk failed.
    pub fn read(disk: &mut impl Disk) -> Result<Option<NodeIdentity>, LogFault> {
        let len = match disk.len(FILE) {
            Ok(len) => len,
            Err(DiskError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (shortest, longest) =
            (HEAD_BYTES + CHECKSUM_BYTES, HEAD_BYTES + CLUSTER_ID_BYTES_MAX + CHECKSUM_BYTES);
        if len < shortest as u64 || len > longest as u64 {
            let found = format!("{len} bytes, where {shortest} to {longest} were expected");
            return Err(LogFault::damaged(FILE, len, found));
        }
        let mut bytes = vec![0; len as usize];
        disk.read_at(FILE, 0, &mut bytes)?;
        NodeIdentity::decode(&bytes).map(Some)
    }

    /// Replaces the identity of this data directory. Durable when it returns.
    ///
    /// # Errors
    /// [`LogFault::Full`]: the identity is as before. [`LogFault::Failed`]: it is as before or as given.
    ///
    /// # Panics
    /// If there is no uuid, a node id without a cluster, or a cluster id longer than [`CLUSTER_ID_BYTES_MAX`].
    pub fn write(&self, disk: &mut impl Disk) -> Result<(), LogFault> {
        let bytes = self.encode();
        disk.create(FILE_UNFINISHED, bytes.len() as u64)?;
        disk.write_at(FILE_UNFINISHED, 0, &bytes)?;
        disk.sync(FILE_UNFINISHED)?;
        disk.rename(FILE_UNFINISHED, FILE)?;
        disk.sync_dir()?;
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        assert!(self.uuid != NodeUuid(0), "INV-LOG-8: an identity without a uuid");
        assert!(
            self.node == NodeId(0) || !self.cluster_id.is_empty(),
            "INV-LOG-8: {:?} of no cluster",
            self.node
        );
        assert!(
            self.cluster_id.len() <= CLUSTER_ID_BYTES_MAX,
            "INV-LOG-8: a cluster id of {} bytes, limit is {CLUSTER_ID_BYTES_MAX}",
            self.cluster_id.len()
        );
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.uuid.0.to_le_bytes());
        bytes.extend_from_slice(&self.node.0.to_le_bytes());
        bytes.push(self.cluster_id.len() as u8);
        bytes.extend_from_slice(self.cluster_id.as_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// `bytes` are at least the head and the checksum.
    fn decode(bytes: &[u8]) -> Result<NodeIdentity, LogFault> {
        let (body, crc) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
        if &body[..8] != MAGIC || crc != crc32c::crc32c(body).to_le_bytes() {
            return Err(LogFault::damaged(FILE, 0, "it is not as written (checksum mismatch)"));
        }
        let version = u32::from_le_bytes([body[8], body[9], body[10], body[11]]);
        if version != VERSION {
            return Err(LogFault::Newer {
                file: FILE.to_owned(),
                version: u64::from(version),
                version_max: u64::from(VERSION),
            });
        }
        let (mut uuid, mut node) = ([0; 16], [0; 8]);
        uuid.copy_from_slice(&body[12..28]);
        node.copy_from_slice(&body[28..36]);
        let cluster_id = &body[HEAD_BYTES..];
        let announced = usize::from(body[36]);
        let Ok(cluster_id) = std::str::from_utf8(cluster_id) else {
            return Err(LogFault::damaged(FILE, HEAD_BYTES as u64, "the cluster id is not text"));
        };
        if cluster_id.len() != announced {
            let found = format!("a cluster id of {} bytes, {announced} were announced", cluster_id.len());
            return Err(LogFault::damaged(FILE, 36, found));
        }
        Ok(NodeIdentity {
            uuid: NodeUuid(u128::from_le_bytes(uuid)),
            node: NodeId(u64::from_le_bytes(node)),
            cluster_id: cluster_id.to_owned(),
        })
    }
}
