//! The library's protocol between two events: take a batch from it, keep its entries, hand out what must be durable, what
//! may be sent, what is to be applied, until it has nothing more (foundations: asynchronous append).
//!
//! INV-CONSENSUS-1: a message that vouches for a record leaves only when that record is durable.
//! INV-CONSENSUS-2: between taking a batch and giving it back nothing else is asked of the library.

use crate::convert;
use crate::group::{Group, Installing, Unpersisted, entries_from_library, leave_entry};
use crate::lease::{NEVER, NO_STAMP};
use crate::{Message, Note, Output, Role};
use protobuf::Message as _;
use raft::StateRole;
use raft::eraftpb::{ConfChangeV2, Entry, EntryType, MessageType, Snapshot};
use skep_base::{LogId, LogIndex, Millis, NodeId, Term};
use skep_log::Record;

impl Group {
    /// Runs the library until it has nothing more to say. Bounded: each round takes entries, messages or a role from it,
    /// and nothing here gives it new ones but at most one campaign or one step down.
    pub(crate) fn pump(&mut self, out: &mut Vec<Output>) {
        loop {
            if self.raw.has_ready() {
                self.take_batch(out);
            } else if !self.settle(out) {
                break;
            }
            self.tell_role(out);
        }
        self.settle_reads();
        if self.raw.store().take_wanted() {
            out.push(Output::CheckpointWanted);
        }
    }

    fn take_batch(&mut self, out: &mut Vec<Output>) {
        let mut batch = self.raw.ready();
        let leads = self.raw.raft.state == StateRole::Leader;
        let messages = if leads { batch.take_messages() } else { batch.take_persisted_messages() };
        let entries = batch.take_entries();
        let committed = batch.take_committed_entries();
        let confirmed = batch.take_read_states();
        let install = self.install(batch.snapshot());
        self.batch_last = batch.number();
        self.raw.mut_store().append(&entries);
        self.raw.advance_append_async(batch);

        self.hand_out(leads, install, entries, messages, out);
        self.apply(committed, out);
        for read in confirmed {
            self.reads.confirm(&read.request_ctx, LogIndex(read.index));
        }
        self.reads.ready(self.applied, |read| out.push(Output::ReadReady { read }));
    }

    /// Takes a checkpoint from the leader in place of the log, whose state machine follows once the record is durable.
    fn install(&mut self, snapshot: &Snapshot) -> Option<Record> {
        if snapshot.is_empty() {
            return None;
        }
        let metadata = snapshot.get_metadata();
        let at = LogId { term: Term(metadata.term), index: LogIndex(metadata.index) };
        let membership = convert::membership_from_library(&metadata.conf_state);
        self.raw.mut_store().install(at, metadata.conf_state.clone());
        self.memberships.install(at.index, membership.clone());
        // Its record makes the next ticket.
        self.installing = Some(Installing { at, ticket: self.ticket_last + 1 });
        Some(Record::Checkpoint { group: self.config.group, at, membership })
    }

    /// Turns one batch into `Send` and `Persist`.
    fn hand_out(
        &mut self,
        leads: bool,
        install: Option<Record>,
        entries: Vec<Entry>,
        messages: Vec<raft::eraftpb::Message>,
        out: &mut Vec<Output>,
    ) {
        let state = convert::hard_state_from_library(&self.raw.raft.hard_state());
        let new_term = (state.term, state.vote) != (self.hard_state.term, self.hard_state.vote);
        let mut records = Vec::new();
        // The commit index alone is not worth a write: it is learned again after a restart. But it goes with the entries
        // that follow it, since a replica that holds the end of a joint membership must know that the joint one began.
        let writes = install.is_some() || !entries.is_empty();
        if new_term || (writes && state != self.hard_state) {
            records.push(Record::HardState { group: self.config.group, state });
            self.hard_state = state;
        }
        records.extend(install);
        if !entries.is_empty() {
            let entries = entries_from_library(entries);
            records.push(Record::Append { group: self.config.group, entries });
        }
        if new_term {
            self.ticket_of_term = self.ticket_last + 1;
        }
        self.stats.messages_sent += messages.len() as u64;

        // A leader's messages vouch for nothing but its term, so they go beside its own write; the answer to a heartbeat does
        // not wait for a slow disk either, or the lease would. The term of a leader that needed no other vote may not be
        // durable yet, and the library does not see to that: its learners would hear from two leaders of one term if it
        // died now.
        let term_is_durable = self.ticket_of_term <= self.ticket_persisted;
        let (mut then_send, mut at_once) = (Vec::new(), Vec::new());
        for raft in messages {
            if raft.msg_type == MessageType::MsgTimeoutNow {
                self.lease.forgo(Term(raft.term));
            }
            let vouches_for_term = leads || raft.msg_type == MessageType::MsgHeartbeatResponse;
            let held = if vouches_for_term && term_is_durable { &mut at_once } else { &mut then_send };
            held.push((NodeId(raft.to), Message { echo: self.echo(&raft), raft }));
        }
        if records.is_empty() && self.unpersisted.is_empty() {
            at_once.append(&mut then_send);
        }
        out.extend(at_once.into_iter().map(|(to, message)| Output::Send { to, message }));
        if !records.is_empty() || !then_send.is_empty() {
            self.persist(records, self.batch_last, then_send, out);
        } else if self.unpersisted.is_empty() {
            self.raw.on_persist_ready(self.batch_last);
        }
    }

    /// INV-CONSENSUS-9: a leader's clock, or what a follower handled, of the term of the message.
    fn echo(&self, message: &raft::eraftpb::Message) -> Millis {
        match message.msg_type {
            MessageType::MsgAppend | MessageType::MsgHeartbeat => self.now,
            MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse => {
                self.promise.echo(Term(message.term), NodeId(message.to))
            }
            _ => NO_STAMP,
        }
    }

    /// Works out until when reads need no round, so that to ask costs nothing.
    fn settle_reads(&mut self) {
        let raft = &self.raw.raft;
        let readable = raft.state == StateRole::Leader
            && raft.raft_log.committed == self.applied.0
            && raft.commit_to_current_term();
        self.readable_until = if readable {
            self.lease.lead(Term(raft.term));
            self.lease.until(&self.config, self.memberships.current())
        } else {
            NEVER
        };
    }

    /// Gives out one ticket; when it is durable so is the library's `batch`. Without records it only waits for the
    /// tickets before it.
    pub(crate) fn persist(
        &mut self,
        records: Vec<Record>,
        batch: u64,
        then_send: Vec<(NodeId, Message)>,
        out: &mut Vec<Output>,
    ) {
        self.ticket_last += 1;
        self.stats.persists += 1;
        let ticket = self.ticket_last;
        self.unpersisted.push_back(Unpersisted { ticket, batch });
        // A checkpoint only says what need not be read again.
        let must_sync = records.iter().any(|record| !matches!(record, Record::Checkpoint { .. }));
        out.push(Output::Persist { ticket, records, must_sync, then_send });
    }

    fn apply(&mut self, committed: Vec<Entry>, out: &mut Vec<Output>) {
        let (Some(first), Some(last)) = (committed.first(), committed.last()) else { return };
        assert_eq!(first.index, self.applied.0 + 1, "INV-CONSENSUS-3: applied {} before", self.applied);
        let last = LogIndex(last.index);
        self.stats.entries_applied += committed.len() as u64;
        let place = out.len();
        for entry in &committed {
            if entry.entry_type == EntryType::EntryConfChangeV2 {
                self.apply_membership(entry, out);
            }
        }
        out.insert(place, Output::Apply { entries: entries_from_library(committed) });
        self.applied = last;
        self.raw.advance_apply_to(last.0);
    }

    fn apply_membership(&mut self, entry: &Entry, out: &mut Vec<Output>) {
        let at = LogIndex(entry.index);
        let mut change = ConfChangeV2::default();
        change.merge_from_bytes(&entry.data).expect("the leader encoded the change it proposed");
        match self.raw.apply_conf_change(&change) {
            Ok(state) => {
                let membership = convert::membership_from_library(&state);
                self.memberships.push(at, membership.clone());
                self.lease.reconsider();
                out.push(Output::MembershipChanged { at, membership });
            }
            Err(error) => out.push(Output::Note(Note::MembershipIgnored { at, why: error.to_string() })),
        }
    }

    /// What the library leaves to its user once it is idle. Answers whether it did something.
    fn settle(&mut self, out: &mut Vec<Output>) -> bool {
        let raft = &self.raw.raft;
        if !raft.promotable() && raft.state != StateRole::Follower {
            // raft-rs issue 584: a leader that was removed leads on, and its heartbeats block the election of another.
            if raft.state == StateRole::Leader {
                out.push(Output::Note(Note::SteppedDownRemoved));
            }
            let term = raft.term;
            self.raw.raft.become_follower(term, raft::INVALID_ID);
            return true;
        }
        if raft.state == StateRole::Leader {
            return self.leave_joint(out);
        }
        // The library makes the only voter leader within one call and demands that its log be durable then.
        let durable = raft.raft_log.persisted == raft.raft_log.last_index() && self.unpersisted.is_empty();
        // Its leader may not know yet that the others vote no more, and counts on its promise.
        if self.is_only_voter() && durable && self.may_campaign && !self.promise.holds() {
            self.raw.campaign().expect("a campaign is never refused with an error");
            return self.is_leader();
        }
        false
    }

    fn leave_joint(&mut self, out: &mut Vec<Output>) -> bool {
        let joint = !self.membership().outgoing.is_empty();
        if !joint || self.raw.raft.has_pending_conf() || self.transferring().is_some() {
            return false;
        }
        let at = self.last_index().next();
        // An entry without data is never refused for its size.
        self.append(vec![leave_entry()]).expect("a leader that is in the group takes an empty entry");
        out.push(Output::Note(Note::LeavingJoint { at }));
        true
    }

    fn tell_role(&mut self, out: &mut Vec<Output>) {
        let (role, term, leader) = (self.role(), self.term(), self.leader());
        if (role, term, leader) == self.role_told {
            return;
        }
        // The library forgets the reads of its followers and its own when leadership changes.
        self.reads.drop_unconfirmed(|read| out.push(Output::ReadDropped { read }));
        if (role == Role::Leader) != (self.role_told.0 == Role::Leader) {
            self.stats.role_changes += 1;
        }
        self.role_told = (role, term, leader);
        self.stir();
        out.push(Output::RoleChanged { role, term, leader });
    }
}
