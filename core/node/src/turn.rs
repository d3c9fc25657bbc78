//! The end of a loop turn: what was collected leaves, timers are looked at, one output goes to the disk and one frame to
//! each peer.

use skep_base::{GroupId, Millis};
use skep_consensus as consensus;

use crate::configure::IDLE_CHECK_MS;
use crate::persist::MEMORY_SYNC_MS;
use crate::{Load, Node, Output};

/// How often a client may go on within a turn after waiting for replies (with memory durability they come at once), before
/// the others get theirs.
const RESUMES_PER_TURN_MAX: usize = 8;

impl Node {
    /// Ends a turn.
    pub(crate) fn on_turn(&mut self, load: Load, out: &mut Vec<Output>) {
        self.memory.used = load.memory_used;
        self.stats.sample(self.now.mono.0);
        self.tell_second();
        self.end_pause();
        self.answer_overdue(out);
        self.end_waits(out);
        self.resume_clients(out);
        let ops = self.shards.iter().map(|s| s.batch.len()).sum();
        self.drive_requests(out);
        for _ in 0..RESUMES_PER_TURN_MAX {
            if self.to_resume.is_empty() {
                break;
            }
            self.resume_clients(out);
            self.drive_requests(out);
        }
        self.evict_if_short(ops);
        self.propose_ticks();
        self.propose_sweeps();
        self.ask_for_digests();
        self.drive_requests(out);
        self.tick_groups(out);
        self.tick_cluster(out);
        self.go_on_handing_over(out);
        self.checkpoints.bytes_ahead = load.checkpoint_bytes;
        self.go_on_fetching();
        self.step_checkpoint(load.checkpoint_bytes, out);
        self.step_digests(out);
        self.step_rebuilds(out);
        self.flush_persist(out);
        self.flush_pubsub(out);
        self.flush_peers(out);
        self.take_script_logs(out);
        self.list_grown(out);
        self.close_idle_clients(out);
        for replica in self.shards.iter_mut().filter_map(|s| s.replica.as_mut()) {
            out.extend(replica.keyspace.take_garbage().map(Output::Drop));
        }
        self.go_on_stopping(out);
        self.tell_cells();
    }

    /// Tells the states the time by which they record uses: in seconds, so that most turns need not touch them.
    fn tell_second(&mut self) {
        let second = self.now.wall.0 / 1_000;
        if self.second_told != Some(second) {
            self.second_told = Some(second);
            for replica in self.shards.iter_mut().filter_map(|s| s.replica.as_mut()) {
                replica.keyspace.access.set_now(self.now.wall);
            }
        }
    }

    /// Asks for an entry where something is due: applying one removes what is.
    fn propose_sweeps(&mut self) {
        if !self.may_sweep() {
            return;
        }
        let now = self.now;
        for shard in &mut self.shards {
            if !shard.is_idle() {
                continue;
            }
            if let Some(replica) = shard.leading() {
                let time = replica.time(now);
                if replica.keyspace.next_deadline().is_some_and(|deadline| deadline < time) {
                    shard.batch.want_entry();
                }
            }
        }
    }

    /// True if an entry may be proposed only to remove what is due; else nobody need wake up for it.
    pub(crate) fn may_sweep(&self) -> bool {
        self.active_expire && self.ready && !self.disk_full && !self.stopping
    }

    fn tick_groups(&mut self, out: &mut Vec<Output>) {
        let now = self.now.mono;
        let due = |group: &consensus::Group| group.next_wakeup().is_some_and(|at| at <= now);
        if self.meta.group.as_ref().is_some_and(due) {
            self.tick_group(GroupId::META, out);
        }
        for at in 0..self.shards.len() {
            if self.shards[at].replica.as_ref().is_some_and(|r| due(&r.group)) {
                self.tick_group(self.shards[at].id, out);
            }
        }
    }

    fn tick_group(&mut self, group: GroupId, out: &mut Vec<Output>) {
        self.group_input(group, consensus::Input::Tick, out);
        // A leader that rests does not tick, so it began to: its followers hear of it in place of the next heartbeat.
        if self.group(group).is_some_and(consensus::Group::leads_at_rest) {
            self.peers.beat_at = self.now.mono;
            self.cells.beat_due = true;
        }
    }

    /// The next instant at which time alone gives the node something to do.
    pub(crate) fn next_timer(&self) -> Option<Millis> {
        let idle = self.settings.timeout_seconds();
        let idle_check = (idle > 0 && self.clients.len() > 0).then(|| self.idle_checked.plus(IDLE_CHECK_MS));
        let sync = self.persist.since().map(|since| since.plus(MEMORY_SYNC_MS));
        let stop = self.stop_by.filter(|_| (self.disk_full || self.waits_for_leaders()) && !self.stopped);
        let paused = self.paused.map(|p| p.until);
        let cluster = self.next_cluster_timer();
        let waits = self.shards.iter().filter_map(|shard| shard.waiting.next_deadline()).min();
        let held_back =
            self.shards.iter().filter_map(|shard| shard.held_back.first()).map(|held| held.0).min();
        // What is overdue waits for a lease.
        let waits = waits.map(|deadline| deadline.max(self.now.mono.plus(1)));
        let away = self.shards.iter().filter_map(|shard| shard.away.next_deadline()).min();
        let away = away.map(|deadline| deadline.plus(self.settings.request_timeout_ms()));
        [paused, idle_check, sync, waits, held_back, away, self.next_overdue(), stop, cluster]
            .into_iter()
            .flatten()
            .min()
    }
}
