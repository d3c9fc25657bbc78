//! From batches to the groups' logs and back: proposals, persistence, and the end of a turn.

use std::collections::VecDeque;

use bytes::Bytes;
use skep_base::{GroupId, LogId, Millis};
use skep_consensus as consensus;
use skep_log::Record;
use skep_settings::Durability;

use crate::configure::IDLE_CHECK_MS;
use crate::shard::{Proposed, Sealed};
use crate::{DATA, Load, Node, Note, Output};
use skep_placement::MetaCommand;

/// With memory durability, how much may be lost by a power cut, in milliseconds of writes; as `appendfsync everysec`.
const MEMORY_SYNC_MS: u64 = 1_000;
/// With memory durability, how much is collected for one hand-over to the log: waking its thread each turn would cost more
/// than writing.
const MEMORY_SYNC_BYTES: u64 = 1 << 20;

/// How often a client may go on within a turn after waiting for replies (with memory durability they come at once), before
/// the others get theirs.
const RESUMES_PER_TURN_MAX: usize = 8;

/// How long a node that is to stop waits for space on a full disk: the log's thread looks ten times a second.
const STOP_FULL_MS: u64 = 500;

/// What an entry takes in the log besides its payload.
const ENTRY_OVERHEAD_BYTES: usize = 32;

/// Keys and fields that one entry removes because they are due: about 100 us of work.
pub(crate) const SWEEP_LIMIT: usize = 1_000;

/// The persist outputs of all groups, merged into one a turn.
#[derive(Default)]
pub(crate) struct PersistProgress {
    /// Collected in this turn.
    records: Vec<Record>,
    /// Payload bytes in `records`.
    bytes: u64,
    /// Since when there are records.
    since: Option<Millis>,
    tickets: Vec<(GroupId, u64)>,
    /// Checkpoints that the records collected name.
    recorded: Vec<(GroupId, LogId)>,
    /// The number of the last output given out.
    pub issued: u64,
    /// Outputs given out and not durable.
    waiting: VecDeque<Waiting>,
    /// Payload bytes in them.
    pub bytes_waiting: u64,
}

/// What follows when an output is durable.
struct Waiting {
    number: u64,
    bytes: u64,
    tickets: Vec<(GroupId, u64)>,
    recorded: Vec<(GroupId, LogId)>,
}

impl PersistProgress {
    /// True if nothing given out is on its way to the disk.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Makes `record` part of the first output.
    pub fn begin(&mut self, record: Record) {
        self.records.push(record);
    }
}

impl Node {
    /// Ends a turn: proposes what was collected, goes on with a checkpoint, and gives out one [`Output::Persist`].
    pub(crate) fn on_turn(&mut self, load: Load, out: &mut Vec<Output>) {
        self.memory.used = load.memory_used;
        self.stats.sample(self.now.mono.0);
        self.shard.keyspace.access.set_now(self.now.wall);
        self.end_pause();
        self.answer_overdue(out);
        self.propose_sealed(out);
        self.resume_clients(out);
        let ops = self.shard.batch.len();
        self.propose_batch(out);
        for _ in 0..RESUMES_PER_TURN_MAX {
            if self.to_resume.is_empty() {
                break;
            }
            self.resume_clients(out);
            self.propose_batch(out);
        }
        self.evict_if_short(ops);
        self.propose_batch(out);
        self.propose_sweep(out);
        self.tick_groups(out);
        self.step_checkpoint(load.checkpoint_bytes, out);
        self.flush_persist(out);
        self.close_idle_clients(out);
        if let Some(garbage) = self.shard.keyspace.take_garbage() {
            out.push(Output::Drop(garbage));
        }
        self.go_on_stopping(out);
    }

    /// Proposes the batch as one entry of the shard's log.
    pub(crate) fn propose_batch(&mut self, out: &mut Vec<Output>) {
        if !self.shard.batch.is_empty() {
            self.propose_entry(out);
        }
    }

    /// Makes durable what the groups asked for, up to output `number`.
    pub(crate) fn on_persisted(&mut self, through: u64, out: &mut Vec<Output>) {
        assert!(through <= self.persist.issued, "output {through} persisted, {} issued", self.persist.issued);
        while self.persist.waiting.front().is_some_and(|w| w.number <= through) {
            let waiting = self.persist.waiting.pop_front().expect("seen in the loop's condition");
            self.persist.bytes_waiting -= waiting.bytes;
            for (group, ticket) in waiting.tickets {
                self.group_input(group, consensus::Input::Persisted(ticket), out);
            }
            let recorded = waiting.recorded.into_iter();
            out.extend(recorded.map(|(group, at)| Output::CheckpointRecorded { group, at }));
        }
        self.go_on_starting(out);
        self.propose_sealed(out);
        self.resume_clients(out);
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

    /// Gives a group an input and carries out what it answers.
    pub(crate) fn group_input(&mut self, group: GroupId, input: consensus::Input, out: &mut Vec<Output>) {
        let mut effects = std::mem::take(&mut self.effects);
        let mono = self.now.mono;
        self.group_mut(group).handle(mono, input, &mut effects);
        self.carry_out(group, &mut effects, out);
        self.effects = effects;
    }

    /// Carries out a group's effects, and those that they cause, until there are none.
    pub(crate) fn carry_out(
        &mut self,
        group: GroupId,
        effects: &mut Vec<consensus::Output>,
        out: &mut Vec<Output>,
    ) {
        while !effects.is_empty() {
            let mut persisted = None;
            for effect in std::mem::take(effects) {
                match effect {
                    consensus::Output::Persist { ticket, records, must_sync: _, then_send } => {
                        assert!(then_send.is_empty(), "{group:?} of one voter has messages to send");
                        if self.must_wait_for_disk() {
                            self.persist.tickets.push((group, ticket));
                        } else {
                            persisted = Some(ticket);
                        }
                        self.note_records(&records);
                        self.persist.records.extend(records);
                    }
                    consensus::Output::Apply { entries } => self.apply(group, entries, out),
                    consensus::Output::RoleChanged { .. } | consensus::Output::Note(_) => {}
                    other => panic!("{group:?} of one voter asks for {other:?}"),
                }
            }
            if let Some(ticket) = persisted {
                let mono = self.now.mono;
                self.group_mut(group).handle(mono, consensus::Input::Persisted(ticket), effects);
            }
        }
    }

    /// With memory durability entries count as persisted at once; the election at the start, and the founding of the
    /// cluster, never do.
    fn must_wait_for_disk(&self) -> bool {
        self.settings.durability() == Durability::Disk || !self.ready
    }

    fn note_records(&mut self, records: &[Record]) {
        for record in records {
            match record {
                Record::Append { entries, .. } => {
                    let bytes = entries.iter().map(|e| (e.payload.len() + ENTRY_OVERHEAD_BYTES) as u64).sum();
                    self.persist.bytes += bytes;
                    self.checkpoints.on_logged(bytes);
                }
                Record::Checkpoint { group, at, .. } => self.persist.recorded.push((*group, *at)),
                _ => {}
            }
        }
    }

    /// Closes the batch and proposes it, or lets it wait behind what is in flight.
    fn propose_entry(&mut self, out: &mut Vec<Output>) {
        let stamp = self.shard.time(self.now);
        let seed = self.rng.next_u64();
        self.shard.seal_batch(stamp, seed, self.now.mono);
        self.propose_sealed(out);
    }

    /// Proposes closed batches, as long as the group takes them.
    fn propose_sealed(&mut self, out: &mut Vec<Output>) {
        while let Some(Sealed { payload, batch, since }) = self.shard.next_to_propose() {
            let bytes = payload.len();
            let mut effects = std::mem::take(&mut self.effects);
            match self.shard.group.propose([payload], &mut effects) {
                Ok(at) => self.shard.in_flight.push_back(Proposed { at, bytes, since, batch: Some(batch) }),
                Err(refused) => panic!("the only voter of {DATA:?} was refused {bytes} bytes: {refused:?}"),
            }
            self.carry_out(DATA, &mut effects, out);
            self.effects = effects;
        }
    }

    /// Proposes an entry without operations if something is due: applying it removes what is.
    fn propose_sweep(&mut self, out: &mut Vec<Output>) {
        if !self.may_sweep() || !self.shard.is_idle() {
            return;
        }
        let time = self.shard.time(self.now);
        if self.shard.keyspace.next_deadline().is_some_and(|deadline| deadline < time) {
            self.propose_entry(out);
        }
    }

    /// True if an entry may be proposed only to remove what is due; else nobody need wake up for it.
    pub(crate) fn may_sweep(&self) -> bool {
        self.active_expire && self.ready && !self.disk_full && !self.stopping
    }

    fn tick_groups(&mut self, out: &mut Vec<Output>) {
        for group in [GroupId::META, DATA] {
            if self.group_mut(group).next_wakeup().is_some_and(|at| at <= self.now.mono) {
                self.group_input(group, consensus::Input::Tick, out);
            }
        }
    }

    /// Stops once every reply owed has been earned and everything logged is durable. On a full disk that may never be:
    /// what then is left was not acknowledged.
    fn go_on_stopping(&mut self, out: &mut Vec<Output>) {
        if self.stopping && self.stop_by.is_none() {
            self.stop_by = Some(self.now.mono.plus(STOP_FULL_MS));
        }
        let waited_enough = self.disk_full && self.stop_by.is_some_and(|by| by <= self.now.mono);
        if self.may_stop() || self.stopping && !self.stopped && waited_enough {
            self.stopped = true;
            out.push(Output::Stopped);
        }
    }

    /// True if the node is to stop and nothing holds it up.
    pub(crate) fn may_stop(&self) -> bool {
        self.stopping && !self.stopped && self.shard.is_idle() && self.persist.is_idle()
    }

    fn flush_persist(&mut self, out: &mut Vec<Output>) {
        let now = self.now.mono;
        let persist = &self.persist;
        if persist.records.is_empty() {
            return;
        }
        let waited_for =
            !persist.tickets.is_empty() || !persist.recorded.is_empty() || self.must_wait_for_disk();
        let since = self.persist.since.get_or_insert(now);
        let overdue = now.since(*since) >= MEMORY_SYNC_MS || self.persist.bytes >= MEMORY_SYNC_BYTES;
        if waited_for || overdue || self.stopping {
            self.give_out_persist(out);
        }
    }

    fn give_out_persist(&mut self, out: &mut Vec<Output>) {
        let persist = &mut self.persist;
        persist.issued += 1;
        persist.since = None;
        let number = persist.issued;
        let bytes = std::mem::take(&mut persist.bytes);
        let tickets = std::mem::take(&mut persist.tickets);
        let recorded = std::mem::take(&mut persist.recorded);
        persist.bytes_waiting += bytes;
        persist.waiting.push_back(Waiting { number, bytes, tickets, recorded });
        out.push(Output::Persist { number, records: std::mem::take(&mut persist.records) });
    }

    pub(crate) fn group_mut(&mut self, group: GroupId) -> &mut consensus::Group {
        if group == GroupId::META { &mut self.meta_group } else { &mut self.shard.group }
    }

    /// Appends a proposal to the meta group's log.
    pub(crate) fn propose_meta(&mut self, command: MetaCommand, out: &mut Vec<Output>) {
        let mut effects = std::mem::take(&mut self.effects);
        let proposed = self.meta_group.propose([Bytes::from(command.encode())], &mut effects);
        if let Err(refused) = proposed {
            panic!("the only voter of the meta group was refused: {refused:?}");
        }
        self.carry_out(GroupId::META, &mut effects, out);
        self.effects = effects;
    }

    pub(crate) fn next_timer(&self) -> Option<Millis> {
        let idle = self.settings.timeout_seconds();
        let idle_check = (idle > 0 && self.clients.len() > 0).then(|| self.idle_checked.plus(IDLE_CHECK_MS));
        let timeout = self.settings.request_timeout_ms();
        let overdue = self.shard.waits_since().map(|since| since.plus(timeout + 1));
        let sync = self.persist.since.map(|since| since.plus(MEMORY_SYNC_MS));
        let stop = self.stop_by.filter(|_| self.disk_full && !self.stopped);
        [self.paused.map(|p| p.until), idle_check, sync, overdue, stop].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use skep_base::ConnId;

    use crate::testing::World;
    use crate::{Input, Load};

    fn turn(world: &mut World) {
        world.input(Input::Turn(Load::default()));
    }

    fn set(world: &mut World, conn: ConnId, key: &str, bytes: usize) {
        world.receive(conn, format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${bytes}\r\n", key.len()));
        world.receive(conn, vec![b'x'; bytes]);
        world.receive(conn, "\r\n");
    }

    #[test]
    fn with_memory_durability_a_mixed_pipeline_is_answered_in_its_turn() {
        let mut world = World::new(&[("durability", "memory")]);
        let conn = world.connect();
        world.receive(conn, "SET a 1\r\nPING\r\nGET a\r\nSELECT 1\r\nSET a 2\r\nGET a\r\n");
        turn(&mut world);
        assert_eq!(world.replies(conn), "+OK +PONG $1 1 +OK +OK $1 2");
    }

    #[test]
    fn a_client_that_waits_does_not_wait_for_other_events() {
        let mut world = World::new(&[("durability", "memory")]);
        let conn = world.connect();
        world.receive(conn, "SET a 1\r\nPING\r\n".repeat(20));
        turn(&mut world);
        assert_eq!(world.node.next_wakeup(), Some(world.now.mono), "the node wants its next turn at once");
        world.settle();
        assert_eq!(world.replies(conn), vec!["+OK +PONG"; 20].join(" "));
    }

    #[test]
    fn more_than_the_group_takes_at_once_waits_in_order() {
        let mut world = World::new(&[]);
        world.holds_disk = true;
        let conns = [world.connect(), world.connect()];
        for round in 0..4 {
            for conn in conns {
                set(&mut world, conn, &format!("k{round}"), 15 << 20);
                turn(&mut world);
            }
        }
        assert!(!world.node.accepts_input(), "120 MB wait for the disk");
        world.receive(conns[0], "SET last 1\r\nSTRLEN k3\r\n");
        world.holds_disk = false;
        world.settle();
        assert_eq!(world.replies(conns[0]), "+OK +OK +OK +OK +OK :15728640");
        assert_eq!(world.replies(conns[1]), "+OK +OK +OK +OK");
        assert!(world.node.accepts_input());
    }

    #[test]
    fn a_stopping_node_waits_for_its_disk_without_asking_for_turns() {
        let mut w = World::new(&[("durability", "memory")]);
        let c = w.connect();
        assert_eq!(w.ask(c, "SET k v"), "+OK");
        w.holds_disk = true;
        w.input(Input::Stop);
        w.settle();
        assert!(!w.stopped && w.node.next_wakeup().is_none_or(|at| at > w.now.mono));
        w.persist();
        w.settle();
        assert!(w.stopped);
    }

    #[test]
    fn a_disk_that_hangs_is_told_to_those_who_wait() {
        let mut world = World::new(&[("request-timeout", "3000")]);
        world.holds_disk = true;
        let (first, second) = (world.connect(), world.connect());
        world.receive(first, "SET a 1\r\nGET a\r\n");
        turn(&mut world);
        set(&mut world, second, "big", 60 << 20);
        turn(&mut world);
        assert!(world.node.next_wakeup().is_some_and(|at| at <= world.now.mono.plus(3_001)));
        world.advance(3_001);
        turn(&mut world);
        let told = world.replies(first);
        assert!(told.starts_with("-UNCERTAIN the disk took longer than 3000 ms"), "{told}");
        assert!(told.contains("-TRYAGAIN"), "the read was not done: {told}");
        assert!(world.replies(second).starts_with("-TRYAGAIN"), "what was not proposed is dropped");
        world.holds_disk = false;
        world.settle();
        assert_eq!(world.ask(first, "GET a\nEXISTS big"), "$1 1 :0");
    }

    #[test]
    fn no_reply_to_a_write_is_given_before_it_is_durable() {
        let mut world = World::new(&[]);
        world.holds_disk = true;
        let (one, other) = (world.connect(), world.connect());
        assert_eq!(world.ask(one, "SET a 1\nGET a"), "", "INV-NODE-2");
        assert_eq!(world.ask(other, "GET a"), "$-1", "INV-NODE-2: nobody sees what may still be lost");
        world.persist();
        assert_eq!(world.replies(one), "+OK $1 1");
        assert_eq!(world.ask(other, "GET a"), "$1 1");
    }

    #[test]
    fn a_node_that_is_told_to_stop_on_a_full_disk_does_not_wait_for_ever() {
        let mut world = World::new(&[]);
        world.holds_disk = true;
        let conn = world.connect();
        assert_eq!(world.ask(conn, "SET a 1"), "");
        world.input(Input::DiskFull(true));
        world.input(Input::Stop);
        world.settle();
        assert!(!world.stopped, "there may be space in a moment");
        let at = world.node.next_wakeup().expect("it gives up at some time");
        assert!(at > world.now.mono, "it does not burn the processor until then");
        world.advance(super::STOP_FULL_MS);
        world.settle();
        assert!(world.stopped);
        assert_eq!(world.replies(conn), "", "what was not durable is not acknowledged");
    }

    #[test]
    fn a_node_that_is_told_to_stop_waits_for_what_is_under_way() {
        let mut world = World::new(&[]);
        world.holds_disk = true;
        let conn = world.connect();
        assert_eq!(world.ask(conn, "SET a 1"), "");
        world.input(Input::Stop);
        world.advance(2_000);
        world.settle();
        assert!(!world.stopped);
        world.holds_disk = false;
        world.settle();
        assert!(world.stopped);
        assert_eq!(world.replies(conn), "+OK");
    }
}
