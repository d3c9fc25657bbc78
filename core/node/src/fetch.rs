//! Checkpoints between nodes: a replica that is too far behind gets the state itself, chunk by chunk, while writes go on.
//!
//! The receiver asks for chunk after chunk, and for none while its disk is behind, so that it is never sent more than it can write; what it has is kept
//! if the connection breaks. Chunks go into a checkpoint file of its own and into a state beside the present one. When the
//! file is durable, the group is given the leader's message, records the checkpoint, and the new state takes the old one's
//! place.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use skep_base::{GroupId, LogId, Millis, NodeId};
use skep_consensus::{self as consensus, Message};
use skep_keyspace::{DB_COUNT, Keyspace, Restore};
use skep_log::{GroupLog, Membership};
use skep_peer::PeerMessage;
use skep_placement::MetaState;

use crate::checkpoint::BYTES_AHEAD_MAX;
use crate::join::FOUNDER;
use crate::shard::Replica;
use crate::{Node, Note, Output, Piece};

/// A checkpoint is fetched; others wait for their turn.
const FETCHES_MAX: usize = 64;
/// An ask that was not answered for this long is repeated.
const ASK_AGAIN_MS: u64 = 1_000;
/// A checkpoint that was asked for this recently is kept, though a newer one is there.
const SERVED_MS: u64 = 10_000;

/// Checkpoints on their way here, and those that others fetch from here.
#[derive(Default)]
pub(crate) struct Fetches {
    current: Option<Fetch>,
    queue: VecDeque<Wanted>,
    /// By group: what others fetch, and when they asked last.
    served: BTreeMap<GroupId, (LogId, Millis)>,
    /// Who waits for chunks that were asked of the disk.
    asked: VecDeque<Asked>,
    /// By group: who was told last what became of its checkpoint.
    told: BTreeMap<GroupId, (NodeId, LogId, bool)>,
    /// Removals of older checkpoints that wait for those who fetch them.
    held: BTreeMap<GroupId, LogId>,
}

struct Wanted {
    from: NodeId,
    group: GroupId,
    at: LogId,
    purpose: Purpose,
}

/// What a checkpoint is fetched for.
enum Purpose {
    /// The group gets the leader's message when the file is durable.
    CatchUp(Message),
    /// It takes the place of a state that is not to be trusted, and had this membership at its position.
    Rebuild(Membership),
}

impl Purpose {
    fn membership(&self) -> Option<Membership> {
        match self {
            Purpose::CatchUp(message) => message.checkpoint_membership(),
            Purpose::Rebuild(membership) => Some(membership.clone()),
        }
    }
}

struct Asked {
    node: NodeId,
    group: GroupId,
    at: LogId,
    chunk: u64,
}

struct Fetch {
    of: Wanted,
    next_chunk: u64,
    asked_at: Option<Millis>,
    state: Building,
    /// All chunks are here; the file is being completed.
    complete: bool,
    /// The file is durable and the group has the message.
    saved: bool,
}

/// The state that is being built.
enum Building {
    Meta(Vec<u8>),
    Shard(Box<Restore>),
    MetaReady(Box<MetaState>),
    ShardReady(Box<Keyspace>),
}

impl Building {
    fn of(group: GroupId) -> Building {
        if group == GroupId::META { Building::Meta(Vec::new()) } else { Building::Shard(Box::default()) }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        match self {
            Building::Meta(all) => all.extend_from_slice(bytes),
            Building::Shard(restore) => restore.feed(bytes).map_err(|e| e.to_string())?,
            Building::MetaReady(_) | Building::ShardReady(_) => {
                return Err("it goes on behind its end".into());
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Building, String> {
        Ok(match self {
            Building::Meta(all) => {
                Building::MetaReady(Box::new(MetaState::decode(&all).map_err(|e| e.to_string())?))
            }
            Building::Shard(restore) => {
                Building::ShardReady(Box::new(restore.finish().map_err(|e| e.to_string())?))
            }
            ready => ready,
        })
    }
}

impl Fetches {
    /// True if a checkpoint of this group is being written from another node's.
    pub fn is_writing(&self, group: GroupId) -> bool {
        self.current.as_ref().is_some_and(|fetch| fetch.of.group == group && !fetch.saved)
    }

    /// True if a checkpoint of this group is on its way here, or waits for its turn.
    pub fn is_fetching(&self, group: GroupId) -> bool {
        self.current.as_ref().is_some_and(|fetch| fetch.of.group == group)
            || self.queue.iter().any(|wanted| wanted.group == group)
    }

    /// True if the next chunk is not asked for, since the disk is behind.
    pub fn waits_for_disk(&self) -> bool {
        self.current.as_ref().is_some_and(|fetch| !fetch.complete && fetch.asked_at.is_none())
    }

    /// When an ask is to be repeated, or a removal can be given out.
    pub fn next_wakeup(&self) -> Option<Millis> {
        let again = self.current.as_ref().and_then(|f| f.asked_at).map(|at| at.plus(ASK_AGAIN_MS));
        let held = self.held.keys().filter_map(|group| self.served.get(group));
        let freed = held.map(|(_, at)| at.plus(SERVED_MS)).min();
        [again, freed].into_iter().flatten().min()
    }
}

impl Node {
    // ---- receiving ---------------------------------------------------------------------------------------------------

    /// A leader says that a replica here needs its checkpoint at `at`, and then `message`.
    pub(crate) fn begin_fetch(
        &mut self,
        from: NodeId,
        group: GroupId,
        at: LogId,
        message: Message,
        out: &mut Vec<Output>,
    ) {
        self.fetch_for(Wanted { from, group, at, purpose: Purpose::CatchUp(message) }, out);
    }

    /// Fetches the checkpoint with which a replica here is rebuilt.
    pub(crate) fn begin_rebuild(
        &mut self,
        from: NodeId,
        group: GroupId,
        at: LogId,
        membership: Membership,
        out: &mut Vec<Output>,
    ) {
        self.fetch_for(Wanted { from, group, at, purpose: Purpose::Rebuild(membership) }, out);
    }

    fn fetch_for(&mut self, wanted: Wanted, out: &mut Vec<Output>) {
        let (group, at) = (wanted.group, wanted.at);
        match &mut self.fetch.current {
            // The leader repeats itself: what is here is kept.
            Some(fetch) if (fetch.of.group, fetch.of.at) == (group, at) && !fetch.saved => {
                fetch.of = wanted;
                return;
            }
            Some(fetch) if fetch.of.group == group && !fetch.saved => self.give_up_fetch(out),
            _ => {}
        }
        self.fetch.queue.retain(|other| other.group != group);
        if self.fetch.queue.len() < FETCHES_MAX {
            self.fetch.queue.push_back(wanted);
        }
        self.next_fetch(out);
    }

    fn next_fetch(&mut self, out: &mut Vec<Output>) {
        if self.fetch.current.is_some() {
            return;
        }
        let Some(of) = self.fetch.queue.pop_front() else { return };
        let (group, at, from) = (of.group, of.at, of.from);
        let Some(membership) = of.purpose.membership() else { return };
        self.abandon_own_checkpoint(group, out);
        out.push(Output::Note(Note::Fetching { group, at, from }));
        out.push(Output::CheckpointBegin { group, at, membership });
        let state = Building::of(group);
        self.fetch.current =
            Some(Fetch { of, next_chunk: 0, asked_at: None, state, complete: false, saved: false });
        self.ask_for_chunk();
    }

    fn ask_for_chunk(&mut self) {
        let now = self.now.mono;
        let Some(fetch) = self.fetch.current.as_mut().filter(|fetch| !fetch.complete) else { return };
        fetch.asked_at = Some(now);
        let Wanted { from, group, at, .. } = fetch.of;
        let chunk = fetch.next_chunk;
        self.peers.send(from, PeerMessage::CheckpointAsk { group, at, chunk });
    }

    pub(crate) fn on_checkpoint_piece(
        &mut self,
        group: GroupId,
        at: LogId,
        chunk: u64,
        bytes: &[u8],
        last: bool,
        out: &mut Vec<Output>,
    ) {
        let Some(fetch) = &mut self.fetch.current else { return };
        if (fetch.of.group, fetch.of.at, fetch.next_chunk) != (group, at, chunk) || fetch.complete {
            return;
        }
        fetch.next_chunk += 1;
        let fed = fetch.state.feed(bytes).and_then(|()| {
            if last {
                let state = std::mem::replace(&mut fetch.state, Building::of(group));
                fetch.state = state.finish()?;
            }
            Ok(())
        });
        if let Err(reason) = fed {
            out.push(Output::Note(Note::CheckpointFailed { group, reason }));
            return self.give_up_fetch(out);
        }
        fetch.complete = last;
        fetch.asked_at = None;
        out.push(Output::CheckpointChunk { group, bytes: bytes.to_vec() });
        if last {
            out.push(Output::CheckpointFinish { group });
        } else if self.checkpoints.bytes_ahead <= BYTES_AHEAD_MAX {
            self.ask_for_chunk();
        }
    }

    pub(crate) fn on_checkpoint_gone(&mut self, group: GroupId, at: LogId, out: &mut Vec<Output>) {
        if self.fetch.current.as_ref().is_some_and(|f| (f.of.group, f.of.at) == (group, at) && !f.complete) {
            self.give_up_fetch(out);
        }
    }

    /// The connection to a node is another one: what was asked of it may be lost.
    pub(crate) fn on_fetch_interrupted(&mut self, node: NodeId) {
        if self.fetch.current.as_ref().is_some_and(|f| f.of.from == node) {
            self.ask_for_chunk();
        }
    }

    /// A fetched file is durable. True if it was one.
    pub(crate) fn on_fetched(&mut self, group: GroupId, at: LogId, out: &mut Vec<Output>) -> bool {
        let Some(fetch) = &mut self.fetch.current else { return false };
        if (fetch.of.group, fetch.of.at) != (group, at) || !fetch.complete || fetch.saved {
            return false;
        }
        let from = fetch.of.from;
        let message = match &fetch.of.purpose {
            Purpose::CatchUp(message) => message.clone(),
            Purpose::Rebuild(_) => {
                if let Some(Fetch { state: Building::ShardReady(keyspace), .. }) = self.fetch.current.take() {
                    self.on_right_state(group, at, *keyspace, out);
                }
                self.next_fetch(out);
                return true;
            }
        };
        fetch.saved = true;
        self.group_input(group, consensus::Input::Receive(message), out);
        self.tell_taken(from, group, at, true);
        // A group that has gone on by itself meanwhile takes no notice.
        let installing = self.group(group).is_some_and(consensus::Group::is_installing);
        if !installing && self.fetch.current.as_ref().is_some_and(|f| f.of.at == at && f.of.group == group) {
            self.fetch.current = None;
            self.next_fetch(out);
        }
        true
    }

    /// A fetched file could not be written. True if it was one.
    pub(crate) fn on_fetch_failed(&mut self, group: GroupId, out: &mut Vec<Output>) -> bool {
        let is_ours = self.fetch.is_writing(group);
        if is_ours {
            self.give_up_fetch(out);
        }
        is_ours
    }

    /// The group has recorded the checkpoint that was fetched: its state takes the place of the present one.
    pub(crate) fn on_install(&mut self, group: GroupId, at: LogId, out: &mut Vec<Output>) {
        let fetch = self.fetch.current.take().filter(|f| (f.of.group, f.of.at) == (group, at));
        let Some(fetch) = fetch else {
            panic!("{group:?} installs a checkpoint at {at:?} that was not fetched");
        };
        match fetch.state {
            Building::MetaReady(state) => {
                self.meta.state = Arc::new(*state);
                self.meta.applied = at;
                self.meta.saved = at;
                self.on_meta_changed(out);
            }
            Building::ShardReady(keyspace) => {
                let place = self.shard_of_group(group).expect("a group that installs is a shard's");
                let shard = &mut self.shards[place];
                let replica = shard.replica.as_mut().expect("what installs has a replica");
                let mut before = replica.replace_state(*keyspace);
                (0..DB_COUNT).for_each(|db| before.flush(db));
                out.extend(before.take_garbage().map(Output::Drop));
                (replica.applied, replica.saved) = (at, at);
                self.forget_on_the_way(place);
                self.configure();
                self.end_rebuild(place, out);
                self.on_key_events_missed(out);
            }
            Building::Meta(_) | Building::Shard(_) => panic!("{group:?} installs half a checkpoint"),
        }
        out.push(Output::Note(Note::Fetched { group, at }));
        self.next_fetch(out);
    }

    fn give_up_fetch(&mut self, out: &mut Vec<Output>) {
        let Some(Fetch { of: Wanted { from, group, at, purpose }, saved, .. }) = self.fetch.current.take()
        else {
            return;
        };
        if !saved {
            out.push(Output::CheckpointAbandon { group });
        }
        if let Purpose::CatchUp(_) = purpose {
            self.tell_taken(from, group, at, false);
        }
        self.next_fetch(out);
    }

    fn tell_taken(&mut self, from: NodeId, group: GroupId, at: LogId, arrived: bool) {
        self.fetch.told.insert(group, (from, at, arrived));
        self.peers.send(from, PeerMessage::CheckpointTaken { group, at, arrived });
    }

    /// There is a new link to a node: what it was told on the one before may be lost, and its groups send nothing else before
    /// they hear it. Heard twice it changes nothing.
    pub(crate) fn tell_taken_again(&mut self, node: NodeId) {
        for (group, (_, at, arrived)) in self.fetch.told.iter().filter(|(_, told)| told.0 == node) {
            let message = PeerMessage::CheckpointTaken { group: *group, at: *at, arrived: *arrived };
            self.peers.send(node, message);
        }
    }

    /// Goes on with a fetch that waited for the disk.
    pub(crate) fn go_on_fetching(&mut self) {
        if self.fetch.waits_for_disk() && self.checkpoints.bytes_ahead <= BYTES_AHEAD_MAX {
            self.ask_for_chunk();
        }
    }

    /// Repeats what was not answered.
    pub(crate) fn tick_fetch(&mut self, out: &mut Vec<Output>) {
        let now = self.now.mono;
        let asked = self.fetch.current.as_ref().and_then(|f| f.asked_at);
        if asked.is_some_and(|at| now.since(at) >= ASK_AGAIN_MS) {
            self.ask_for_chunk();
        }
        self.release_held(out);
    }

    // ---- sending -----------------------------------------------------------------------------------------------------

    pub(crate) fn on_checkpoint_ask(
        &mut self,
        node: NodeId,
        group: GroupId,
        at: LogId,
        chunk: u64,
        out: &mut Vec<Output>,
    ) {
        self.fetch.asked.retain(|asked| (asked.node, asked.group) != (node, group));
        let place = self.shard_of_group(group);
        if place.and_then(|at| self.shards[at].replica.as_ref()).is_some_and(|r| r.rebuild.is_some()) {
            // Its file may hold the damage.
            self.peers.send(node, PeerMessage::CheckpointGone { group, at });
            return;
        }
        if self.fetch.asked.len() >= FETCHES_MAX {
            return; // it asks again
        }
        self.fetch.served.insert(group, (at, self.now.mono));
        self.fetch.asked.push_back(Asked { node, group, at, chunk });
        out.push(Output::ReadCheckpoint { group, at, chunk });
    }

    pub(crate) fn on_checkpoint_read(&mut self, group: GroupId, at: LogId, chunk: u64, piece: Piece) {
        let is_answer = |a: &Asked| (a.group, a.at, a.chunk) == (group, at, chunk);
        let (answered, waiting) =
            std::mem::take(&mut self.fetch.asked).into_iter().partition::<VecDeque<_>, _>(is_answer);
        self.fetch.asked = waiting;
        let message = match piece {
            Piece::Bytes { bytes, last } => {
                PeerMessage::CheckpointPiece { group, at, chunk, bytes: bytes.into(), last }
            }
            Piece::Gone => PeerMessage::CheckpointGone { group, at },
        };
        for Asked { node, .. } in answered {
            self.peers.send(node, message.clone());
        }
    }

    /// The log names a checkpoint: older ones can go, unless another node is fetching one.
    pub(crate) fn on_checkpoint_recorded(&mut self, group: GroupId, at: LogId, out: &mut Vec<Output>) {
        let now = self.now.mono;
        let served = self.fetch.served.get(&group);
        if served.is_some_and(|(of, since)| *of != at && now.since(*since) < SERVED_MS) {
            self.fetch.held.insert(group, at);
        } else {
            self.fetch.held.remove(&group);
            out.push(Output::CheckpointRecorded { group, at });
        }
    }

    fn release_held(&mut self, out: &mut Vec<Output>) {
        let now = self.now.mono;
        let served = &self.fetch.served;
        let is_free = |group: &GroupId| served.get(group).is_none_or(|(_, at)| now.since(*at) >= SERVED_MS);
        let free: Vec<(GroupId, LogId)> =
            self.fetch.held.iter().filter(|(group, _)| is_free(group)).map(|(g, at)| (*g, *at)).collect();
        for (group, at) in free {
            self.fetch.held.remove(&group);
            out.push(Output::CheckpointRecorded { group, at });
        }
    }

    /// A shard that this node has a part in according to the cluster gets an empty replica, which its leader fills.
    pub(crate) fn ensure_replica(&mut self, group: GroupId) {
        let me = self.id;
        let wanted = self.meta.state.shards.get(&group).is_some_and(|record| record.replicas.contains(&me));
        let Some(at) = self.shard_of_group(group).filter(|_| wanted) else { return };
        if self.shards[at].replica.is_none() {
            // With the membership that the group began with the founder would lead it alone.
            let group = match me == FOUNDER {
                true => self.new_group(group, GroupLog::default()),
                false => self.first_replica(group),
            };
            self.shards[at].replica = Some(Replica::new(group, Keyspace::default(), LogId::default()));
            self.configure();
        }
    }
}
