//! What the groups want durable: one output a turn for all of them, and what follows when it is.

use std::collections::VecDeque;

use skep_base::{GroupId, LogId, Millis, NodeId};
use skep_consensus::{self as consensus, Message};
use skep_log::Record;
use skep_settings::{Durability, Settings};

use crate::{Node, Note, Output};

/// With memory durability, how much may be lost by a power cut, in milliseconds of writes; as `appendfsync everysec`.
pub(crate) const MEMORY_SYNC_MS: u64 = 1_000;
/// With memory durability, how much is collected for one hand-over to the log: waking its thread each turn would cost more
/// than writing.
const MEMORY_SYNC_BYTES: u64 = 1 << 20;

/// With memory durability, how much may be acknowledged and not written. Less than what the log has in reserve when it says
/// that the disk is full, or a clean stop on a full disk would lose it.
pub(crate) const AHEAD_BYTES_MAX: u64 = 4 << 20;

/// Bytes of the log's room that must be kept for what may be acknowledged and not written, until it is known that the log can
/// grow: none with disk durability.
pub fn log_reserve(settings: &Settings) -> u64 {
    match settings.durability() {
        Durability::Disk => 0,
        // Each cell may go beyond its part by what it reads at once.
        Durability::Memory => AHEAD_BYTES_MAX + (1 << 20),
    }
}

/// What an entry takes in the log besides its payload.
const ENTRY_OVERHEAD_BYTES: usize = 32;

/// The persist outputs of all groups, merged into one a turn.
#[derive(Default)]
pub(crate) struct PersistProgress {
    /// Collected in this turn.
    collected: Collected,
    records: Vec<Record>,
    /// Since when there are records.
    since: Option<Millis>,
    /// The number of the last output given out.
    pub issued: u64,
    /// Outputs given out and not durable.
    waiting: VecDeque<Waiting>,
    /// Payload bytes in them.
    pub bytes_waiting: u64,
}

/// What belongs to an output besides its records.
#[derive(Default)]
struct Collected {
    /// Payload bytes in the records.
    bytes: u64,
    tickets: Vec<(GroupId, u64)>,
    /// Checkpoints that the records name.
    recorded: Vec<(GroupId, LogId)>,
    /// Messages that vouch for the records.
    then_send: Vec<(GroupId, NodeId, Message)>,
}

/// An output that is not durable.
struct Waiting {
    number: u64,
    since: Millis,
    of: Collected,
}

impl PersistProgress {
    /// True if nothing is on its way to the disk, or to be.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.records.is_empty()
    }

    /// The number of the output with the last of the records that there are.
    pub fn last_output(&self) -> u64 {
        self.issued + u64::from(!self.records.is_empty())
    }

    /// The number of the last output that is durable, with all before it.
    pub fn durable_to(&self) -> u64 {
        self.waiting.front().map_or(self.issued, |waiting| waiting.number - 1)
    }

    /// Since when records wait to be given out.
    pub fn since(&self) -> Option<Millis> {
        self.since
    }

    /// Since when the disk has had what it has not confirmed.
    pub fn disk_busy_since(&self) -> Option<Millis> {
        self.waiting.front().map(|waiting| waiting.since)
    }

    /// Makes `record` part of the first output.
    pub fn begin(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Makes the log forget a group whose replica is gone.
    pub fn forget_group(&mut self, group: GroupId) {
        self.records.push(Record::Removed { group });
    }

    /// Makes the log remember that a group's state here is not to be trusted, from the next output on.
    pub fn distrust(&mut self, group: GroupId) {
        self.records.push(Record::Distrusted { group });
    }

    fn note(&mut self, records: &[Record]) -> u64 {
        let mut logged = 0;
        for record in records {
            match record {
                Record::Append { entries, .. } => {
                    logged +=
                        entries.iter().map(|e| (e.payload.len() + ENTRY_OVERHEAD_BYTES) as u64).sum::<u64>();
                }
                Record::Checkpoint { group, at, .. } => self.collected.recorded.push((*group, *at)),
                _ => {}
            }
        }
        self.collected.bytes += logged;
        logged
    }
}

impl Node {
    /// Takes a group's records. True if they count as durable at once.
    pub(crate) fn persist(
        &mut self,
        group: GroupId,
        ticket: u64,
        records: Vec<Record>,
        then_send: Vec<(NodeId, Message)>,
    ) -> bool {
        let waits = self.must_wait_for_disk(group);
        let logged = self.persist.note(&records);
        self.checkpoints.on_logged(logged);
        self.persist.records.extend(records);
        if waits {
            self.persist.collected.tickets.push((group, ticket));
            let messages = then_send.into_iter().map(|(to, message)| (group, to, message));
            self.persist.collected.then_send.extend(messages);
        } else {
            assert!(then_send.is_empty(), "{group:?} of one voter has messages to send");
        }
        !waits
    }

    /// With memory durability entries of a group without others count as persisted at once; the election at the start, and
    /// the founding of the cluster, never do. Raft between nodes rests on what each has promised being durable, whatever
    /// clients are content with.
    fn must_wait_for_disk(&self, group: GroupId) -> bool {
        self.settings.durability() == Durability::Disk || !self.ready || !self.is_alone(group)
    }

    /// Bytes that clients were told of and that the disk has not confirmed: none with disk durability, and none of shards with
    /// several copies, which wait for it.
    pub(crate) fn acknowledged_ahead(&self) -> u64 {
        let is_ahead = self.settings.durability() == Durability::Memory
            && self.shards.iter().any(|shard| self.is_alone(shard.id));
        if is_ahead { self.persist.bytes_waiting + self.persist.collected.bytes } else { 0 }
    }

    /// Makes durable what the groups asked for, up to output `number`.
    pub(crate) fn on_persisted(&mut self, through: u64, out: &mut Vec<Output>) {
        assert!(through <= self.persist.issued, "output {through} persisted, {} issued", self.persist.issued);
        while self.persist.waiting.front().is_some_and(|w| w.number <= through) {
            let Waiting { of, .. } = self.persist.waiting.pop_front().expect("seen in the loop's condition");
            self.persist.bytes_waiting -= of.bytes;
            for (group, ticket) in of.tickets {
                self.group_input(group, consensus::Input::Persisted(ticket), out);
            }
            for (group, to, message) in of.then_send {
                self.send_raft(group, to, message);
            }
            for (group, at) in of.recorded {
                self.on_checkpoint_recorded(group, at, out);
            }
        }
        self.go_on_starting(out);
        self.drive_requests(out);
        self.resume_clients(out);
        self.list_grown(out);
    }

    /// Takes note of whether the log can grow.
    pub(crate) fn on_disk_full(&mut self, full: bool, out: &mut Vec<Output>) {
        if full != self.disk_full {
            self.disk_full = full;
            out.push(Output::Note(if full { Note::DiskFull } else { Note::DiskHasSpace }));
            if !full && self.checkpoints.last_failed {
                self.request_checkpoint();
            }
        }
    }

    /// Gives out what was collected, if somebody waits for it or it is time.
    pub(crate) fn flush_persist(&mut self, out: &mut Vec<Output>) {
        let now = self.now.mono;
        if self.persist.records.is_empty() && self.persist.collected.tickets.is_empty() {
            return;
        }
        let of = &self.persist.collected;
        let waited_for = !of.tickets.is_empty() || !of.recorded.is_empty() || !self.ready;
        let since = *self.persist.since.get_or_insert(now);
        let overdue = now.since(since) >= MEMORY_SYNC_MS || self.persist.collected.bytes >= MEMORY_SYNC_BYTES;
        if waited_for || overdue || self.stopping {
            self.give_out_persist(out);
        }
    }

    fn give_out_persist(&mut self, out: &mut Vec<Output>) {
        let persist = &mut self.persist;
        persist.issued += 1;
        persist.since = None;
        let (number, since) = (persist.issued, self.now.mono);
        let of = std::mem::take(&mut persist.collected);
        persist.bytes_waiting += of.bytes;
        persist.waiting.push_back(Waiting { number, since, of });
        out.push(Output::Persist { number, records: std::mem::take(&mut persist.records) });
    }
}
