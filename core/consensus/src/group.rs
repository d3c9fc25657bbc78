//! A group as its node sees it: made from what the log gave back, fed with events and requests, asked for its state.
//! How the library is driven between them is in `drive`.

use crate::convert;
use crate::lease::{Lease, NO_STAMP, Promise};
use crate::membership::{self, CHANGES_MAX, History};
use crate::message::{PAYLOAD_BYTES_MAX, travels};
use crate::reads::{READS_MAX, Reads};
use crate::rest::{AWAKE, Rest};
use crate::store::Store;
use crate::{
    GroupConfig, Input, MembershipRefusal, Message, Note, Output, ProposeRefusal, ReadId, ReadRefusal, Role,
    Standing, Stats, TransferRefusal,
};
use bytes::Bytes;
use raft::eraftpb::{self, EntryType, MessageType};
use raft::{ProgressState, RawNode, SnapshotStatus, StateRole};
use skep_base::{GroupId, LogId, LogIndex, Millis, NodeId, Term};
use skep_log::{Entry, EntryKind, GroupLog, HardState, Membership, Record};
use std::collections::VecDeque;

/// One replica of one Raft group.
pub struct Group {
    pub(crate) config: GroupConfig,
    pub(crate) raw: RawNode<Store>,
    /// What was given to [`Output::Persist`] and not yet answered.
    pub(crate) unpersisted: VecDeque<Unpersisted>,
    pub(crate) ticket_last: u64,
    pub(crate) ticket_persisted: u64,
    /// The library's number of the last batch taken from it.
    pub(crate) batch_last: u64,
    /// The ticket that carries the present term and vote.
    pub(crate) ticket_of_term: u64,
    /// The hard state as last handed to the disk; the commit index may be behind.
    pub(crate) hard_state: HardState,
    pub(crate) checkpoint: LogId,
    /// A checkpoint from the leader whose record is not durable yet.
    pub(crate) installing: Option<Installing>,
    pub(crate) applied: LogIndex,
    pub(crate) memberships: History,
    pub(crate) reads: Reads,
    /// What the last [`Output::RoleChanged`] said.
    pub(crate) role_told: (Role, Term, Option<NodeId>),
    /// Campaigns begun since creation.
    pub(crate) attempts: u64,
    /// The latest instant told. Messages are stamped with it.
    pub(crate) now: Millis,
    /// Whether an event came yet.
    begun: bool,
    pub(crate) promise: Promise,
    pub(crate) lease: Lease,
    pub(crate) rest: Rest,
    /// Before this instant the state machine may be read as it is; kept up to date by `drive::settle_reads`.
    pub(crate) readable_until: Millis,
    pub(crate) may_campaign: bool,
    pub(crate) next_tick: Option<Millis>,
    /// Which interval between heartbeats the last one was sent in.
    pub(crate) beat_last: u64,
    pub(crate) stats: Stats,
}

/// In the context of a rejected append: entries are of no use to the sender, any checkpoint with it as a member is.
const WANTS_CHECKPOINT: &[u8] = b"checkpoint";
/// The first that a checkpoint can be at.
const FIRST_INDEX: u64 = 1;

/// One [`Output::Persist`] that waits for its answer.
pub(crate) struct Unpersisted {
    pub ticket: u64,
    pub batch: u64,
}

/// Payload bytes of applied entries that a replica without others keeps in memory: forgetting in steps costs less.
const ALONE_BYTES_MAX: u64 = 256 << 10;

/// Entries that a node may lack and still count as caught up: what is written while one message goes there and back.
const CAUGHT_UP_ENTRIES_MAX: u64 = 64;

/// A checkpoint on its way into the state machine.
pub(crate) struct Installing {
    pub at: LogId,
    pub ticket: u64,
}

impl Group {
    /// A group from what its log gave back. A new group has nothing in it but its membership; a replica that joins one
    /// that runs has the membership that the group began with; or none, and then it takes no entries but asks for a
    /// checkpoint.
    ///
    /// Everything in `recovered` must be durable: flush recovered files before this. Call [`handle`](Self::handle) with
    /// [`Input::Tick`] next, so that a group of one can begin to lead.
    ///
    /// # Panics
    /// If the log contradicts itself: a gap, or an entry of a later term than the hard state. The log's checksums exclude
    /// damage, so it is a bug. A commit index out of range is brought into range, since it is written lazily.
    pub fn new(config: GroupConfig, recovered: GroupLog) -> Group {
        config.assert_sane();
        // What the state machine makes of the log is the node's affair.
        let GroupLog { checkpoint, membership, hard_state, entries, distrusted: _ } = recovered;
        let last = entries.last().map_or(checkpoint, |entry| entry.id);
        assert!(
            hard_state.term >= last.term,
            "{:?} of {:?} recovered {last:?} beyond its term {}",
            config.node,
            config.group,
            hard_state.term
        );
        let hard_state =
            HardState { commit: hard_state.commit.max(checkpoint.index).min(last.index), ..hard_state };
        let may_have_promised = may_have_promised(&config, &membership, &hard_state, &entries);
        let entries: Vec<eraftpb::Entry> = entries.into_iter().map(convert::entry_to_library).collect();
        let store = Store::new(
            convert::hard_state_to_library(&hard_state),
            convert::membership_to_library(&membership),
            checkpoint,
            entries,
        );
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config.library(checkpoint.index.0), store, &logger)
            .expect("the configuration was checked and the store in memory cannot fail");
        let promised = if may_have_promised { config.election_ticks } else { 0 };
        Group {
            reads: Reads::new(config.node, config.incarnation),
            unpersisted: VecDeque::new(),
            ticket_last: 0,
            ticket_persisted: 0,
            batch_last: 0,
            ticket_of_term: 0,
            hard_state,
            checkpoint,
            installing: None,
            applied: checkpoint.index,
            memberships: History::new(checkpoint.index, membership),
            role_told: (Role::Follower, hard_state.term, None),
            attempts: 0,
            now: Millis(0),
            begun: false,
            promise: Promise::new(promised),
            lease: Lease::new(),
            rest: Rest::default(),
            readable_until: Millis(0),
            may_campaign: true,
            next_tick: None,
            beat_last: 0,
            stats: Stats::default(),
            config,
            raw,
        }
    }

    /// Advances the group by one event. Never blocks; `out` receives effects in the order they must happen. `now` is
    /// monotonic and goes on while the machine sleeps.
    ///
    /// # Panics
    /// If the event is impossible (an unknown ticket, a checkpoint ahead of the state machine) or the library finds an
    /// invariant broken.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        self.begin(now);
        match input {
            Input::Tick => self.on_tick(now, out),
            Input::Receive(message) => self.on_receive(message, out),
            Input::ReceiveAhead(message) => {
                let (from, before) = (message.raft.from, self.raw.raft.msgs.len());
                let is_beat_answer = message.raft.msg_type == MessageType::MsgHeartbeatResponse;
                self.on_receive(message, out);
                if is_beat_answer {
                    self.take_back_appends(from, before);
                }
            }
            Input::Persisted(ticket) => self.on_persisted(ticket, out),
            Input::Checkpointed { at } => self.on_checkpointed(at, out),
            Input::CheckpointSent { to, arrived } => self.on_checkpoint_sent(to, arrived),
            Input::Vouched { leader, term, last } => self.on_vouched(leader, term, last, out),
            Input::Unreachable(node) => {
                self.raw.report_unreachable(node.0);
                self.on_checkpoint_sent(node, false);
            }
        }
        self.pump(out);
        self.forget_applied();
        self.schedule(now);
    }

    /// Appends `payloads` as consecutive entries of this leader, and answers the position of the first. Each is known to
    /// be committed when [`Output::Apply`] brings the same position; another term there means that it was lost.
    ///
    /// # Errors
    /// [`ProposeRefusal`]; nothing was appended.
    ///
    /// # Panics
    /// If there is no payload.
    ///
    /// Cost: one message per follower however many payloads, so a turn's proposals belong in one call.
    pub fn propose(
        &mut self,
        payloads: impl IntoIterator<Item = Bytes>,
        out: &mut Vec<Output>,
    ) -> Result<LogId, ProposeRefusal> {
        let entries: Vec<_> =
            payloads.into_iter().map(|data| eraftpb::Entry { data, ..eraftpb::Entry::default() }).collect();
        assert!(!entries.is_empty(), "a proposal of no entries for {:?}", self.config.group);
        let result = self.try_propose(entries);
        match result {
            Ok(_) => {
                self.pump(out);
                self.forget_applied();
            }
            Err(_) => self.stats.proposals_refused += 1,
        }
        result
    }

    fn try_propose(&mut self, entries: Vec<eraftpb::Entry>) -> Result<LogId, ProposeRefusal> {
        if !self.is_leader() {
            return Err(ProposeRefusal::NotLeader { leader: self.leader() });
        }
        if let Some(to) = self.transferring() {
            return Err(ProposeRefusal::Transferring { to });
        }
        if let Some(entry) = entries.iter().find(|entry| entry.data.len() > PAYLOAD_BYTES_MAX) {
            return Err(ProposeRefusal::TooLarge { bytes: entry.data.len(), bytes_max: PAYLOAD_BYTES_MAX });
        }
        self.stir();
        let count = entries.len() as u64;
        let first = LogId { term: self.term(), index: self.last_index().next() };
        self.append(entries)
            .map_err(|_| ProposeRefusal::Full { bytes_max: self.config.limits.uncommitted_bytes_max })?;
        self.stats.entries_proposed += count;
        Ok(first)
    }

    /// Only on a leader: a follower's library would forward the proposal, and its outcome could not be told.
    pub(crate) fn append(&mut self, entries: Vec<eraftpb::Entry>) -> raft::Result<()> {
        assert!(self.is_leader(), "{:?} appends without leading", self.config.node);
        let msg_type = MessageType::MsgPropose;
        let from = self.config.node.0;
        self.raw.raft.step(eraftpb::Message { msg_type, from, entries, ..eraftpb::Message::default() })
    }

    /// Asks for a linearizable read on this replica, whichever it is. One call serves all reads that wait at this moment.
    ///
    /// # Errors
    /// [`ReadRefusal`]; no output will follow. After `Ok` exactly one of [`Output::ReadReady`] and
    /// [`Output::ReadDropped`] follows, perhaps already in `out`.
    ///
    /// Cost: a heartbeat to each voter and back, unless this node is the only one.
    pub fn read_index(&mut self, now: Millis, out: &mut Vec<Output>) -> Result<ReadId, ReadRefusal> {
        if self.reads.len() >= READS_MAX {
            return Err(ReadRefusal::TooManyReads { reads_max: READS_MAX });
        }
        if self.leader().is_none() {
            return Err(ReadRefusal::NoLeader);
        }
        if self.is_leader() && !self.raw.raft.commit_to_current_term() {
            return Err(ReadRefusal::LeaderTooNew);
        }
        self.begin(now);
        self.stir();
        let (read, context) = self.reads.add(now.plus(self.config.election_timeout_ms()));
        self.stats.reads += 1;
        self.raw.read_index(context);
        self.pump(out);
        Ok(read)
    }

    /// Proposes to change what `changes` name, all at once, and answers the entry's position. The group passes through a
    /// joint membership, which the leader of the time ends; [`Output::MembershipChanged`] tells both steps.
    ///
    /// A node that shall vote is best a learner first, until it has caught up.
    ///
    /// # Errors
    /// [`MembershipRefusal`]; nothing was appended.
    pub fn change_membership(
        &mut self,
        changes: &[(NodeId, Standing)],
        out: &mut Vec<Output>,
    ) -> Result<LogId, MembershipRefusal> {
        if !self.is_leader() {
            return Err(MembershipRefusal::NotLeader { leader: self.leader() });
        }
        if let Some(to) = self.transferring() {
            return Err(MembershipRefusal::Transferring { to });
        }
        // The library would accept a second change and turn it into an empty entry.
        if self.may_be_changing() {
            return Err(MembershipRefusal::ChangeInFlight);
        }
        let invalid = |why: String| Err(MembershipRefusal::Invalid { why });
        if changes.is_empty() || changes.len() > CHANGES_MAX {
            return invalid(format!("{} nodes, between 1 and {CHANGES_MAX} may change", changes.len()));
        }
        if changes.iter().any(|(node, _)| *node == NodeId(0)) {
            return invalid("node 0 is no node".to_owned());
        }
        if changes.iter().any(|(node, standing)| *node == self.config.node && *standing != Standing::Voter) {
            return Err(MembershipRefusal::WouldRemoveLeader);
        }
        let change = membership::joint_change(changes);
        if let Err(error) = raft::Changer::new(self.raw.raft.prs()).enter_joint(false, &change.changes) {
            return invalid(error.to_string());
        }
        self.stir();
        let at = LogId { term: self.term(), index: self.last_index().next() };
        let accepted = self.raw.propose_conf_change(Vec::new(), change);
        // Refused only when too many bytes wait; a change is a few bytes, so room will come soon.
        accepted.map_err(|_| MembershipRefusal::ChangeInFlight)?;
        self.pump(out);
        Ok(at)
    }

    /// Whether a change of membership is under way, by this leader or one before: also true until a new leader has applied
    /// the entries of earlier terms, which may hold one. While it is, [`membership`](Self::membership) is not the last word.
    /// Says nothing on a node that does not lead.
    pub fn may_be_changing(&self) -> bool {
        self.raw.raft.has_pending_conf() || !self.membership().outgoing.is_empty()
    }

    /// Begins to hand leadership to `to`. Proposals are refused until it succeeded, which [`Output::RoleChanged`] tells, or
    /// an election timeout has passed.
    ///
    /// # Errors
    /// [`TransferRefusal`]; nothing was begun.
    pub fn transfer_leadership(&mut self, to: NodeId, out: &mut Vec<Output>) -> Result<(), TransferRefusal> {
        if !self.is_leader() {
            return Err(TransferRefusal::NotLeader { leader: self.leader() });
        }
        if let Some(to) = self.transferring() {
            return Err(TransferRefusal::Transferring { to });
        }
        if to == self.config.node || !self.membership().voters.contains(&to) {
            return Err(TransferRefusal::NotAVoter { to });
        }
        self.stir();
        self.raw.transfer_leader(to.0);
        self.pump(out);
        Ok(())
    }

    /// The next instant at which `handle` wants [`Input::Tick`], if nothing else arrives. `None` for a leader without other
    /// replicas, or at rest: an idle group costs nothing.
    pub fn next_wakeup(&self) -> Option<Millis> {
        if self.begun { self.next_tick } else { Some(Millis(0)) }
    }

    /// Counters since creation. Cheap enough to call every second.
    pub fn stats(&self) -> Stats {
        let store = self.raw.store();
        Stats { log_entries: store.len() as u64, log_bytes: store.payload_bytes(), ..self.stats }
    }

    pub fn id(&self) -> GroupId {
        self.config.group
    }

    pub fn node(&self) -> NodeId {
        self.config.node
    }

    pub fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Follower => Role::Follower,
            StateRole::PreCandidate | StateRole::Candidate => Role::Candidate,
            StateRole::Leader => Role::Leader,
        }
    }

    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// Whether this node leads and has committed in its term, so that all that was ever acknowledged has been handed out by
    /// [`Output::Apply`]. In a group of one, reads may then go straight to the state machine.
    pub fn leads_with_all_applied(&self) -> bool {
        self.is_leader()
            && self.raw.raft.commit_to_current_term()
            && self.applied == self.commit_index().min(LogIndex(self.raw.raft.raft_log.persisted))
    }

    /// Whether the state machine may be read at `now`, for an answer that is never older than what any node of the group
    /// answered before: this node leads, nobody else can lead before its lease is over, and all that is committed has been
    /// handed out by [`Output::Apply`] (carry out all outputs first). `now` must have been taken after the request arrived.
    ///
    /// Where it may not, [`read_index`](Self::read_index) asks the other voters.
    ///
    /// Cost: one comparison.
    pub fn may_read(&self, now: Millis) -> bool {
        now < self.readable_until
    }

    /// Whether this node may become the leader by itself or by a transfer; it may at first. Off while its disk hangs: it
    /// goes on to follow, to vote and to lead if it does, until leadership is handed over.
    pub fn set_may_campaign(&mut self, may: bool) {
        self.may_campaign = may;
    }

    /// Whether `node` has nearly all of the log, so that it may become a voter without holding up commits. False unless this
    /// node leads, and after a silence of `node`.
    pub fn caught_up(&self, node: NodeId) -> bool {
        let raft = &self.raw.raft;
        self.is_leader()
            && raft.prs().get(node.0).is_some_and(|progress| {
                let lacks = raft.raft_log.last_index().saturating_sub(progress.matched);
                // The library leaves a node that was out of reach in `Probe` until there is a new entry for it.
                let flows = progress.state == ProgressState::Replicate || lacks == 0;
                // At rest all have answered lately, though the library may just have begun to look anew.
                let answers = progress.recent_active || self.is_resting();
                node == self.config.node || flows && answers && lacks <= CAUGHT_UP_ENTRIES_MAX
            })
    }

    /// Who leads, as far as this replica knows.
    pub fn leader(&self) -> Option<NodeId> {
        convert::node(self.raw.raft.leader_id)
    }

    pub fn term(&self) -> Term {
        Term(self.raw.raft.term)
    }

    /// The last entry of this replica's log, durable or not.
    pub fn last_index(&self) -> LogIndex {
        LogIndex(self.raw.raft.raft_log.last_index())
    }

    pub fn commit_index(&self) -> LogIndex {
        LogIndex(self.raw.raft.raft_log.committed)
    }

    /// The last entry that [`Output::Apply`] handed out.
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// The position of `index`, if its entry is in memory or just before.
    pub fn log_id_at(&self, index: LogIndex) -> Option<LogId> {
        let term = self.raw.raft.raft_log.term(index.0).ok()?;
        (index == LogIndex(0) || term != 0).then_some(LogId { term: Term(term), index })
    }

    /// Entries behind `from` that [`Output::Apply`] has handed out, oldest first, for a state machine that was set back: about
    /// `bytes_max` of them, at least one if there is one. They are in memory from the checkpoint on.
    ///
    /// # Panics
    /// If `from` is older than the entries in memory: ask [`log_id_at`](Self::log_id_at) first.
    pub fn applied_behind(&self, from: LogIndex, bytes_max: usize) -> Vec<Entry> {
        let mut bytes = 0;
        let entries = self.raw.store().behind(from).take_while(|entry| {
            let fits = bytes < bytes_max && entry.index <= self.applied.0;
            bytes += entry.data.len();
            fits
        });
        entries.cloned().map(convert::entry_from_library).collect()
    }

    /// The membership that a checkpoint at `index` has, if it is known still.
    pub fn membership_at(&self, index: LogIndex) -> Option<&Membership> {
        self.memberships.at(index)
    }

    /// Ceases to lead, at once and without an heir: the others elect one when they have not heard of this node for an election
    /// timeout. Nothing happens if it does not lead.
    pub fn resign(&mut self, out: &mut Vec<Output>) {
        if self.is_leader() {
            self.stir();
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, raft::INVALID_ID);
            self.pump(out);
        }
    }

    /// The membership in force at [`applied`](Self::applied), or at the checkpoint that is being installed.
    pub fn membership(&self) -> &Membership {
        self.memberships.current()
    }

    /// Whether a checkpoint of the leader's was recorded and its [`Output::Install`] is still to come.
    pub fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    /// The node to which leadership is being handed.
    pub fn transferring(&self) -> Option<NodeId> {
        self.raw.raft.lead_transferee.map(NodeId)
    }

    /// The last index known to be durable on `node`, while this node leads.
    pub fn matched(&self, node: NodeId) -> Option<LogIndex> {
        if !self.is_leader() {
            return None;
        }
        self.raw.raft.prs().get(node.0).map(|progress| LogIndex(progress.matched))
    }

    pub(crate) fn is_only_voter(&self) -> bool {
        self.raw.raft.promotable() && self.raw.raft.prs().is_singleton()
    }

    fn begin(&mut self, now: Millis) {
        self.now = self.now.max(now);
        if !self.begun {
            self.begun = true;
            self.reads.begin(now);
        }
    }

    fn on_receive(&mut self, message: Message, out: &mut Vec<Output>) {
        self.stats.messages_received += 1;
        let from = message.from();
        let Message { raft: message, echo } = message;
        let drop_since = if message.to != self.config.node.0 || from == self.config.node {
            Some("it is not for this node")
        } else if !travels(message.msg_type) {
            Some("its kind does not travel")
        } else if message.msg_type == MessageType::MsgTimeoutNow && self.is_only_voter() {
            Some("the only voter needs no handing over")
        } else if message.msg_type == MessageType::MsgTimeoutNow && !self.may_campaign {
            Some("this node may not campaign")
        } else if message.msg_type == MessageType::MsgTimeoutNow && self.installing.is_some() {
            Some("a checkpoint is being installed")
        } else if message.msg_type == MessageType::MsgHeartbeat && message.commit > self.last_index().0 {
            // It takes no part until another leader asks for what it has. The library would stop the process.
            Some("its sender believes that this replica holds entries that it does not: it lost records")
        } else if message.msg_type == MessageType::MsgReadIndex && !self.is_leader() {
            // The library would pass it on, in the name of the node that asked; who asked asks again.
            Some("it asks a leader")
        } else {
            None
        };
        if let Some(why) = drop_since {
            return self.drop_message(from, why, out);
        }
        if message.msg_type == MessageType::MsgAppend && self.membership().voters.is_empty() {
            return self.ask_for_checkpoint(&message, out);
        }
        // While its leader is vouched for, as while a promise holds.
        if self.is_resting() && !self.is_leader() && breaks_promise(&message) {
            out.push(Output::Note(Note::VoteWithheld { to: from }));
            return;
        }
        let mut message = message;
        let is_beat_answer = message.msg_type == MessageType::MsgHeartbeatResponse;
        if is_beat_answer && &message.context[..] == AWAKE {
            message.context = Bytes::new();
            self.stir();
        } else if !(is_beat_answer && message.term == self.raw.raft.term) {
            // The answer to the last heartbeat comes when its leader rests already.
            self.stir();
        }
        if message.msg_type == MessageType::MsgAppendResponse && message.reject {
            if &message.context[..] == WANTS_CHECKPOINT {
                message.request_snapshot = FIRST_INDEX;
            }
            message.context = Bytes::new();
        }
        if self.promise.holds() && breaks_promise(&message) {
            out.push(Output::Note(Note::VoteWithheld { to: from }));
            return;
        }
        let (kind, term) = (message.msg_type, message.term);
        if self.raw.step(message).is_err() {
            return self.drop_message(from, "the sender is not of this group", out);
        }
        if term == self.raw.raft.term {
            self.on_stamp(kind, from, echo);
        }
    }

    /// Takes back what an answer to a heartbeat made the library send. It takes the answer for a sign that what it sent before
    /// has come or is lost, since heartbeats do not overtake appends where it comes from; of a large entry it would send
    /// another copy at each heartbeat.
    fn take_back_appends(&mut self, to: u64, before: usize) {
        let raft = &mut self.raw.raft;
        let mut first = None;
        let mut at = before.min(raft.msgs.len());
        while at < raft.msgs.len() {
            let message = &raft.msgs[at];
            if message.to == to && message.msg_type == MessageType::MsgAppend {
                if !message.entries.is_empty() {
                    first.get_or_insert(message.index + 1);
                }
                raft.msgs.remove(at);
            } else {
                at += 1;
            }
        }
        // Where it probes it waits for the next answer; else it takes what it gave out for sent.
        if let (Some(first), Some(progress)) = (first, raft.mut_prs().get_mut(to))
            && progress.state == ProgressState::Replicate
        {
            progress.next_idx = first;
        }
    }

    /// A replica that does not know who votes cannot make anything of entries, since changes of the membership among them would
    /// not fit: it wants a checkpoint, which tells.
    fn ask_for_checkpoint(&mut self, append: &eraftpb::Message, out: &mut Vec<Output>) {
        let response = eraftpb::Message {
            msg_type: MessageType::MsgAppendResponse,
            from: append.to,
            to: append.from,
            term: append.term,
            index: append.index,
            reject: true,
            context: Bytes::from_static(WANTS_CHECKPOINT),
            ..eraftpb::Message::default()
        };
        let message = Message { raft: response, echo: NO_STAMP };
        out.push(Output::Send { to: NodeId(append.from), message });
    }

    /// INV-CONSENSUS-9: the library has handled a message of the present term with this stamp.
    fn on_stamp(&mut self, kind: MessageType, from: NodeId, echo: Millis) {
        let (term, follows) = (self.term(), self.leader() == Some(from));
        match kind {
            MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot if follows => {
                self.promise.make(self.config.election_ticks, term, from, echo);
            }
            // A stamp from the future is not ours, whatever it is.
            MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse
                if self.is_leader() && echo != NO_STAMP && echo <= self.now =>
            {
                self.lease.lead(term);
                self.lease.echoed(from, echo);
            }
            _ => {}
        }
    }

    fn drop_message(&mut self, from: NodeId, why: &'static str, out: &mut Vec<Output>) {
        self.stats.messages_dropped += 1;
        out.push(Output::Note(Note::MessageDropped { from, why }));
    }

    fn on_persisted(&mut self, ticket: u64, out: &mut Vec<Output>) {
        assert!(
            ticket <= self.ticket_last,
            "ticket {ticket} was never given, the last is {}",
            self.ticket_last
        );
        while self.unpersisted.front().is_some_and(|first| first.ticket <= ticket) {
            self.unpersisted.pop_front();
        }
        self.ticket_persisted = self.ticket_persisted.max(ticket);
        // Batches without records have no ticket; they are durable with the one before.
        let batch = self.unpersisted.front().map_or(self.batch_last, |first| first.batch - 1);
        self.raw.on_persist_ready(batch);
        if let Some(done) = self.installing.take_if(|installing| installing.ticket <= ticket) {
            self.checkpoint = done.at;
            self.applied = done.at.index;
            self.raw.advance_apply_to(done.at.index.0);
            out.push(Output::Install { at: done.at, membership: self.memberships.current().clone() });
            self.reads.ready(self.applied, |read| out.push(Output::ReadReady { read }));
        }
    }

    fn on_checkpoint_sent(&mut self, to: NodeId, arrived: bool) {
        // Whether a follower's leader is gone its own node tells.
        if self.is_leader() {
            self.stir();
        }
        let status = if arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(to.0, status);
    }

    /// A replica without others needs no entry that is applied: the log on disk has it until there is a checkpoint. So the
    /// log in memory stays small however rare checkpoints are. A replica that joins gets a checkpoint first.
    fn forget_applied(&mut self) {
        if self.raw.store().payload_bytes() > ALONE_BYTES_MAX && self.raw.raft.prs().iter().len() == 1 {
            let applied = self.applied;
            self.raw.mut_store().truncate_front(applied, 0);
        }
    }

    fn on_checkpointed(&mut self, at: LogId, out: &mut Vec<Output>) {
        assert!(at.index <= self.applied, "a checkpoint at {at:?} is ahead of {} applied", self.applied);
        if at.index <= self.checkpoint.index || self.installing.is_some() {
            return;
        }
        // A group of one may have forgotten the entry; see `forget_applied`.
        assert!(
            self.log_id_at(at.index).is_none_or(|known| known == at),
            "a checkpoint of another log at {at:?}"
        );
        let membership = self.memberships.checkpoint(at.index);
        self.checkpoint = at;
        let others = self.raw.raft.prs().iter().len() > 1;
        let kept_bytes_max = if others { self.config.limits.kept_bytes_max } else { 0 };
        let store = self.raw.mut_store();
        store.set_checkpoint(at, convert::membership_to_library(&membership));
        store.truncate_front(at.index, kept_bytes_max);
        let records = vec![Record::Checkpoint { group: self.config.group, at, membership }];
        // Every batch so far has a ticket before this one, so this ticket stands for none.
        self.persist(records, self.batch_last + 1, Vec::new(), out);
    }

    /// Panics, naming the broken rule, if the state is impossible. The simulator calls it after each step.
    pub fn assert_invariants(&self) {
        let raft = &self.raw.raft;
        let log = &raft.raft_log;
        let bound = log.committed.min(log.persisted);
        assert!(self.applied.0 <= bound, "INV-CONSENSUS-3: applied {} beyond {bound}", self.applied);
        assert_eq!(log.applied, self.applied.0, "INV-CONSENSUS-3: the library knows another applied index");
        assert!(
            self.checkpoint.index <= self.applied,
            "INV-CONSENSUS-3: checkpoint {:?} beyond applied {}",
            self.checkpoint,
            self.applied
        );
        assert!(!self.raw.has_ready(), "INV-CONSENSUS-1: work was left behind after an event");
        let handed = &self.hard_state;
        assert!(
            (handed.term.0, convert::hard_state_to_library(handed).vote) == (raft.term, raft.vote),
            "INV-CONSENSUS-1: term {} and vote {} were not handed to the disk, {handed:?} was",
            raft.term,
            raft.vote
        );
        let knows_all = self.is_leader() && log.committed == self.applied.0 && raft.commit_to_current_term();
        assert!(
            knows_all || !self.may_read(Millis(0)),
            "INV-CONSENSUS-9: {:?} may read until {:?} as {:?} with {} applied of {}",
            self.config.node,
            self.readable_until,
            raft.state,
            self.applied,
            log.committed
        );
        self.assert_rest();
        self.raw.store().assert_bounds();
        assert_eq!(
            *self.membership(),
            convert::membership_from_library(&raft.prs().conf().to_conf_state()),
            "INV-CONSENSUS-4: the library knows another membership"
        );
        assert!(
            self.raw.raft.state != StateRole::Leader
                || self.membership().voters.contains(&self.config.node)
                || self.membership().outgoing.contains(&self.config.node),
            "INV-CONSENSUS-4: {:?} leads a group that it is no voter of",
            self.config.node
        );
    }
}

/// Whether this replica may have promised to follow a leader before it restarted: unless it is new, or has been the only
/// voter since the membership recovered. Learners do not matter, nor does its own candidature.
fn may_have_promised(
    config: &GroupConfig,
    membership: &Membership,
    hard_state: &HardState,
    entries: &[Entry],
) -> bool {
    let alone = membership.voters == [config.node] && membership.outgoing.is_empty();
    let changed = entries.iter().any(|entry| entry.kind == EntryKind::Membership);
    hard_state.term > Term(0) && (!alone || changed)
}

/// INV-CONSENSUS-6, INV-CONSENSUS-9: whether to grant what it asks would help another leader. Not if it campaigns since its
/// leader handed leadership over: that leader has no lease in its term, and in a later one the campaign cannot be won.
fn breaks_promise(message: &eraftpb::Message) -> bool {
    matches!(message.msg_type, MessageType::MsgRequestVote | MessageType::MsgRequestPreVote)
        && message.context != raft::CAMPAIGN_TRANSFER
}

/// An entry without data and of kind membership leaves a joint membership.
pub(crate) fn leave_entry() -> eraftpb::Entry {
    eraftpb::Entry { entry_type: EntryType::EntryConfChangeV2, ..eraftpb::Entry::default() }
}

/// As the node and the log know them.
pub(crate) fn entries_from_library(entries: Vec<eraftpb::Entry>) -> Vec<Entry> {
    entries.into_iter().map(convert::entry_from_library).collect()
}
