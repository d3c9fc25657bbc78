//! The node's notes: as lines of the log, and counted.

use skep_node::Note;

/// What notes told since the start of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub leader_changes: u64,
    /// Replicas whose state was replaced by another node's checkpoint.
    pub fetched: u64,
    /// Replicas whose state was found to differ from that of others, the one here included.
    pub diverged: u64,
    /// Replicas here that were rebuilt since they differed.
    pub rebuilt: u64,
}

impl Counts {
    pub(crate) fn take(&mut self, note: &Note) {
        match note {
            Note::Leader { .. } => self.leader_changes += 1,
            Note::Fetched { .. } => self.fetched += 1,
            Note::Diverged { .. } | Note::Distrusted { .. } => self.diverged += 1,
            Note::Rebuilt { .. } => self.rebuilt += 1,
            _ => {}
        }
    }

    /// Adds what another cell of the node counted.
    pub(crate) fn absorb(&mut self, other: &Counts) {
        self.leader_changes += other.leader_changes;
        self.fetched += other.fetched;
        self.diverged += other.diverged;
        self.rebuilt += other.rebuilt;
    }
}

/// Writes a note of the node to the log.
pub(crate) fn log(note: &Note) {
    match note {
        Note::Ready { cluster_id, keys, applied } => {
            tracing::info!(cluster_id, keys, applied = applied.index.0, "ready");
        }
        Note::CheckpointBegun { group, at, log_bytes } => {
            tracing::info!(group = group.0, at = at.index.0, log_bytes, "checkpoint begins");
        }
        Note::CheckpointSaved { group, at } => {
            tracing::info!(group = group.0, at = at.index.0, "checkpoint saved");
        }
        Note::CheckpointFailed { group, reason } => {
            tracing::error!(group = group.0, reason, "checkpoint failed; the log is kept");
        }
        Note::ClientDropped { address, reason } => tracing::warn!(client = address, reason, "client dropped"),
        Note::DiskFull => tracing::error!("the disk is full; writes are refused until there is space"),
        Note::DiskHasSpace => tracing::info!("the disk has space again; writes are accepted"),
        Note::Waits { why } => tracing::info!(why, "this node belongs to no cluster yet"),
        Note::Joined { node, cluster_id } => {
            tracing::info!(node = node.0, cluster_id, "this node belongs to the cluster");
        }
        Note::PeerUp { node, name } => tracing::info!(node = node.0, name, "peer connected"),
        Note::PeerDown { peer, reason } => tracing::warn!(peer, reason, "peer disconnected"),
        Note::Link(note) => tracing::warn!("{note}"),
        Note::Leader { group, leader, term } => {
            tracing::info!(group = group.0, leader = leader.0, term = term.0, "leader changed");
        }
        Note::Members { group, what } => tracing::info!(group = group.0, what, "members change"),
        Note::Fetching { group, at, from } => {
            tracing::info!(group = group.0, at = at.index.0, from = from.0, "a copy is being fetched");
        }
        Note::Fetched { group, at } => tracing::info!(group = group.0, at = at.index.0, "the copy has come"),
        Note::DiskSlow { ms } => {
            tracing::error!(ms, "the disk does not answer; leadership is given away until it does");
        }
        Note::Removed => tracing::error!(
            "the cluster has removed this node; to use it again, start it with an empty data directory and --join"
        ),
        Note::Diverged { group, at, node } => tracing::error!(
            group = group.0,
            at = at.index.0,
            node = node.0,
            "the copy of a shard on another node differs; if most copies agree, the odd one is rebuilt from them, else look at \
             `skep status`; report this, and keep the logs"
        ),
        Note::Distrusted { group, at } => tracing::error!(
            group = group.0,
            at = at.index.0,
            "the copy of a shard on this node differs from most others: it does not serve until it is rebuilt from them; look at \
             this machine's memory, report this, and keep the logs"
        ),
        Note::Script { level: 0 | 1, text } => tracing::debug!(text, "a script says"),
        Note::Script { level: 2, text } => tracing::info!(text, "a script says"),
        Note::Script { level: _, text } => tracing::warn!(text, "a script says"),
        Note::Rebuilt { group, at } => {
            tracing::warn!(
                group = group.0,
                at = at.index.0,
                "the copy that differed was rebuilt from another"
            );
        }
    }
}
