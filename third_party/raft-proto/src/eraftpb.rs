//! The structs and enums, under the module name that `raft` re-exports. Numbers and meanings of the fields are those of
//! raft-rs's `eraftpb.proto`.

use bytes::Bytes;
use std::mem;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum EntryType {
    #[default]
    EntryNormal,
    EntryConfChange,
    EntryConfChangeV2,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum MessageType {
    #[default]
    MsgHup,
    MsgBeat,
    MsgPropose,
    MsgAppend,
    MsgAppendResponse,
    MsgRequestVote,
    MsgRequestVoteResponse,
    MsgSnapshot,
    MsgHeartbeat,
    MsgHeartbeatResponse,
    MsgUnreachable,
    MsgSnapStatus,
    MsgCheckQuorum,
    MsgTransferLeader,
    MsgTimeoutNow,
    MsgReadIndex,
    MsgReadIndexResp,
    MsgRequestPreVote,
    MsgRequestPreVoteResponse,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ConfChangeTransition {
    #[default]
    Auto,
    Implicit,
    Explicit,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ConfChangeType {
    #[default]
    AddNode,
    RemoveNode,
    AddLearnerNode,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Entry {
    pub entry_type: EntryType,
    pub term: u64,
    pub index: u64,
    pub data: Bytes,
    pub context: Bytes,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct HardState {
    pub term: u64,
    /// 0 is no vote.
    pub vote: u64,
    pub commit: u64,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct ConfState {
    pub voters: Vec<u64>,
    pub learners: Vec<u64>,
    pub voters_outgoing: Vec<u64>,
    pub learners_next: Vec<u64>,
    pub auto_leave: bool,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct SnapshotMetadata {
    pub conf_state: ConfState,
    pub index: u64,
    pub term: u64,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Snapshot {
    pub data: Bytes,
    pub metadata: SnapshotMetadata,
}

/// What [`Message::get_snapshot`] lends when there is none.
static NO_SNAPSHOT: Snapshot = Snapshot {
    data: Bytes::new(),
    metadata: SnapshotMetadata {
        conf_state: ConfState {
            voters: Vec::new(),
            learners: Vec::new(),
            voters_outgoing: Vec::new(),
            learners_next: Vec::new(),
            auto_leave: false,
        },
        index: 0,
        term: 0,
    },
};

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Message {
    pub msg_type: MessageType,
    pub to: u64,
    pub from: u64,
    pub term: u64,
    pub log_term: u64,
    pub index: u64,
    pub entries: Vec<Entry>,
    pub commit: u64,
    pub commit_term: u64,
    /// Boxed: rare, and would double the size of every message.
    pub snapshot: Option<Box<Snapshot>>,
    pub request_snapshot: u64,
    pub reject: bool,
    pub reject_hint: u64,
    pub context: Bytes,
    pub deprecated_priority: u64,
    pub priority: i64,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct ConfChange {
    pub id: u64,
    pub change_type: ConfChangeType,
    pub node_id: u64,
    pub context: Bytes,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct ConfChangeSingle {
    pub change_type: ConfChangeType,
    pub node_id: u64,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct ConfChangeV2 {
    pub transition: ConfChangeTransition,
    pub changes: Vec<ConfChangeSingle>,
    pub context: Bytes,
}

impl Entry {
    pub fn get_entry_type(&self) -> EntryType {
        self.entry_type
    }
    pub fn set_entry_type(&mut self, entry_type: EntryType) {
        self.entry_type = entry_type;
    }
    pub fn get_term(&self) -> u64 {
        self.term
    }
    pub fn get_index(&self) -> u64 {
        self.index
    }
    pub fn get_data(&self) -> &[u8] {
        &self.data
    }
    pub fn take_data(&mut self) -> Bytes {
        mem::take(&mut self.data)
    }
}

impl HardState {
    pub fn set_commit(&mut self, commit: u64) {
        self.commit = commit;
    }
}

impl ConfState {
    pub fn get_voters(&self) -> &[u64] {
        &self.voters
    }
    pub fn get_learners(&self) -> &[u64] {
        &self.learners
    }
    pub fn get_voters_outgoing(&self) -> &[u64] {
        &self.voters_outgoing
    }
    pub fn get_learners_next(&self) -> &[u64] {
        &self.learners_next
    }
    pub fn set_voters(&mut self, voters: Vec<u64>) {
        self.voters = voters;
    }
    pub fn set_learners(&mut self, learners: Vec<u64>) {
        self.learners = learners;
    }
    pub fn set_voters_outgoing(&mut self, voters: Vec<u64>) {
        self.voters_outgoing = voters;
    }
    pub fn set_learners_next(&mut self, learners: Vec<u64>) {
        self.learners_next = learners;
    }
}

impl SnapshotMetadata {
    pub fn get_conf_state(&self) -> &ConfState {
        &self.conf_state
    }
    pub fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }
    pub fn take_conf_state(&mut self) -> ConfState {
        mem::take(&mut self.conf_state)
    }
}

impl Snapshot {
    pub fn is_empty(&self) -> bool {
        self.metadata.index == 0
    }
    pub fn get_metadata(&self) -> &SnapshotMetadata {
        &self.metadata
    }
    pub fn mut_metadata(&mut self) -> &mut SnapshotMetadata {
        &mut self.metadata
    }
    pub fn take_metadata(&mut self) -> SnapshotMetadata {
        mem::take(&mut self.metadata)
    }
}

impl Message {
    pub fn get_msg_type(&self) -> MessageType {
        self.msg_type
    }
    pub fn set_msg_type(&mut self, msg_type: MessageType) {
        self.msg_type = msg_type;
    }
    pub fn get_index(&self) -> u64 {
        self.index
    }
    pub fn set_index(&mut self, index: u64) {
        self.index = index;
    }
    pub fn set_commit(&mut self, commit: u64) {
        self.commit = commit;
    }
    pub fn set_entries(&mut self, entries: Vec<Entry>) {
        self.entries = entries;
    }
    pub fn mut_entries(&mut self) -> &mut Vec<Entry> {
        &mut self.entries
    }
    pub fn take_entries(&mut self) -> Vec<Entry> {
        mem::take(&mut self.entries)
    }
    pub fn take_context(&mut self) -> Bytes {
        mem::take(&mut self.context)
    }
    pub fn get_snapshot(&self) -> &Snapshot {
        self.snapshot.as_deref().unwrap_or(&NO_SNAPSHOT)
    }
    pub fn set_snapshot(&mut self, snapshot: Snapshot) {
        self.snapshot = Some(Box::new(snapshot));
    }
    pub fn take_snapshot(&mut self) -> Snapshot {
        self.snapshot.take().map(|boxed| *boxed).unwrap_or_default()
    }
}

impl ConfChangeSingle {
    pub fn get_change_type(&self) -> ConfChangeType {
        self.change_type
    }
}

impl ConfChangeV2 {
    /// `Some` if the change goes through a joint configuration; the flag says whether it is left automatically.
    pub fn enter_joint(&self) -> Option<bool> {
        match self.transition {
            ConfChangeTransition::Explicit => Some(false),
            ConfChangeTransition::Implicit => Some(true),
            ConfChangeTransition::Auto => (self.changes.len() > 1).then_some(true),
        }
    }

    /// Whether this change leaves a joint configuration: it is empty but for the context.
    pub fn leave_joint(&self) -> bool {
        self.transition == ConfChangeTransition::Auto && self.changes.is_empty()
    }
}
