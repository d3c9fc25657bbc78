//! The end: leadership is handed over first, so that nobody notices; then what is in flight is finished.

use crate::batch::Unblock;
use crate::cells::{HUB, Message};
use crate::{Node, Output};

/// How long a node that is to stop waits for space on a full disk: the log's thread looks ten times a second.
pub(crate) const STOP_FULL_MS: u64 = 500;
/// How long it tries to hand over what it leads.
const HAND_OVER_MS: u64 = 3_000;

impl Node {
    /// Takes note that the node is to stop. Until its groups are led by others it serves as before.
    pub(crate) fn begin_stop(&mut self) {
        self.handing_over.get_or_insert(self.now.mono);
        if !self.cells.is_hub() && !self.cells.view.handing_over {
            self.cells.send(HUB, Message::Stop);
        }
    }

    /// Hands over what this node leads; once nothing is left, new commands are refused.
    pub(crate) fn go_on_handing_over(&mut self, out: &mut Vec<Output>) {
        let Some(since) = self.handing_over.filter(|_| !self.stopping) else { return };
        let late = self.now.mono.since(since) >= HAND_OVER_MS;
        self.cells.handed_over = late || !self.ready || !self.give_away_leadership(out);
        if self.cells.is_hub() {
            let all = self.cells.reports().all(|report| report.handed_over);
            self.stopping = self.cells.handed_over && (all || late || !self.ready);
        }
    }

    /// Stops once every reply owed has been earned and everything logged is durable. On a full disk that may never be:
    /// what then is left was not acknowledged.
    pub(crate) fn go_on_stopping(&mut self, out: &mut Vec<Output>) {
        if self.stopping && self.stop_by.is_none() {
            self.stop_by = Some(self.now.mono.plus(STOP_FULL_MS));
            self.end_all_waits(Unblock::Stopping);
            self.list_grown(out);
        }
        if self.cells.is_hub() && self.stopping && !self.stopped && self.all_finished() {
            self.stopped = true;
            out.push(Output::Stopped);
        }
    }

    /// True if nothing here holds up the end.
    pub(crate) fn has_finished(&self) -> bool {
        let late = self.stop_by.is_some_and(|by| by <= self.now.mono);
        self.is_at_rest() && (late || !self.waits_for_leaders()) || self.has_waited_for_space()
    }

    /// True if leaders elsewhere have not said yet that clients of this node wait no more.
    pub(crate) fn waits_for_leaders(&self) -> bool {
        self.shards.iter().any(|shard| !shard.away.is_empty())
    }

    /// True if the disk has been full for as long as a node that is to stop waits for space.
    pub(crate) fn has_waited_for_space(&self) -> bool {
        self.disk_full && self.stop_by.is_some_and(|by| by <= self.now.mono)
    }

    fn all_finished(&self) -> bool {
        self.has_finished() && self.may_finish() && self.cells.reports().all(|report| report.finished)
    }

    /// True if the node is to stop and nothing holds it up. Entries that nobody waits for may never be committed, if enough
    /// other nodes have stopped before.
    pub(crate) fn may_stop(&self) -> bool {
        self.cells.is_hub() && self.stopping && !self.stopped && self.is_at_rest() && self.all_finished()
    }

    fn is_at_rest(&self) -> bool {
        let idle = self.shards.iter().all(|shard| shard.batch.is_empty() && shard.waits_since().is_none());
        idle && self.persist.is_idle()
    }
}
