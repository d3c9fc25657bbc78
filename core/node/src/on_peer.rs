//! What other nodes send, and what is sent to them at the end of a turn.

use skep_base::{GroupId, LinkId, Millis, NodeId, Refusal, Term};
use skep_command::Flags;
use skep_consensus as consensus;
use skep_keyspace::{DB_COUNT, Handler, ReadCx, Wait};
use skep_peer::{
    Answer, CACHES, FREE, Forward, GroupBeat, LinkInput, LinkOutput, NO_TOUCH, PeerMessage, READ, RESP3,
    SILENT,
};
use skep_pubsub::Counts;
use skep_resp::{Protocol, Reply};

use crate::answer::{Desk, desk};
use crate::batch::{Call, CallWait, Origin};
use crate::cells::{HUB, Message};
use crate::cluster::after;
use crate::operation::operation;
use crate::peers::Up;
use crate::script_notes::script_notes_of;
use crate::shard::Inbound;
use crate::{Node, Note, Now, Output};

/// How often each node tells each other that it is there, and what it leads.
const BEAT_MS: u64 = 100;

impl Node {
    /// Takes a new connection from another node; `None` if there are too many.
    pub fn accept_link(&mut self, now: Now, address: String) -> Option<LinkId> {
        self.peers.links.accept(now.mono, address)
    }

    /// The next link that has something to send; each is named once until it has more.
    pub fn next_link_with_output(&mut self) -> Option<LinkId> {
        self.peers.links.next_with_output()
    }

    /// The bytes that wait to be sent on a link.
    pub fn unsent_on(&self, link: LinkId) -> &[u8] {
        self.peers.links.unsent(link)
    }

    /// Takes note that the first `bytes` of [`Node::unsent_on`] have left.
    pub fn on_link_sent(&mut self, link: LinkId, bytes: usize) {
        self.peers.links.on_sent(link, bytes);
    }

    /// Gives the links an input and carries out what they answer.
    pub(crate) fn on_link(&mut self, input: LinkInput<'_>, out: &mut Vec<Output>) {
        let mut outputs = std::mem::take(&mut self.peers.outputs);
        self.peers.links.handle(self.now.mono, input, &mut outputs);
        self.carry_out_links(&mut outputs, out);
        self.peers.outputs = outputs;
    }

    pub(crate) fn carry_out_links(&mut self, outputs: &mut Vec<LinkOutput>, out: &mut Vec<Output>) {
        for output in outputs.drain(..) {
            match output {
                LinkOutput::Dial { link, address } => {
                    self.peers.dialing.insert(link, address.clone());
                    out.push(Output::Dial { link, address });
                }
                LinkOutput::Close { link } => out.push(Output::CloseLink { link }),
                LinkOutput::Up { link, peer, dialed } => self.on_link_up(link, peer, dialed, out),
                LinkOutput::Message { link, message } => self.on_message(link, message, out),
                LinkOutput::Down { link, peer, reason } => {
                    let peer =
                        peer.map_or_else(|| "a peer".to_string(), |p| format!("{} ({})", p.name, p.node));
                    self.on_link_down(link, peer, reason, out);
                }
                LinkOutput::SelfFound { address } => {
                    // Its link ends, which says nothing of the address.
                    self.peers.dialing.retain(|_, dialed| *dialed != address);
                    self.on_self_found(address, out);
                }
                LinkOutput::Note(note) => out.push(Output::Note(Note::Link(note))),
            }
        }
    }

    fn on_link_up(
        &mut self,
        link: LinkId,
        peer: skep_peer::Peer,
        dialed: Option<String>,
        out: &mut Vec<Output>,
    ) {
        let (node, name) = (peer.node, peer.name.clone());
        self.peers.dialing.remove(&link);
        if self.meta.state.was_removed(node) {
            // It was down or cut off when that happened. Nothing else that it says is heard.
            return self.say_goodbye(link, node);
        }
        let had_way = self.peers.is_linked(node);
        let another_way = self.peers.on_up(link, peer, dialed, self.now.mono);
        self.on_met(link, out);
        if node == NodeId(0) {
            return;
        }
        let incarnation = self.peers.incarnation_of(node).unwrap_or_default();
        self.tell_all(|| Message::PeerUp { node, incarnation, another_way });
        if another_way {
            out.push(Output::Note(Note::PeerUp { node, name }));
            self.on_another_way(node, out);
        }
        if !had_way {
            self.peers.say_again(node);
        }
        self.send_beat(link);
    }

    /// What is sent to a node takes another way than before, on which it has seen nothing.
    pub(crate) fn on_another_way(&mut self, node: NodeId, out: &mut Vec<Output>) {
        self.on_unreachable(node, out);
        self.forward_again(node);
        self.withdraw_again(node);
        self.offer_to_node(node, out);
        self.tell_taken_again(node);
        self.tell_all_counts(node);
    }

    /// A link to or from a node is gone. If what was sent to it took this way, `lost_way` says whether there is another.
    pub(crate) fn on_way_lost(&mut self, node: NodeId, lost_way: Option<bool>, out: &mut Vec<Output>) {
        // What came on a link that is not ours to send on may be lost as well: that a checkpoint has arrived, say.
        self.on_unreachable(node, out);
        self.peers.say_again(node);
        match lost_way {
            Some(true) => {
                self.forward_again(node);
                self.tell_all_counts(node);
            }
            Some(false) => {
                self.on_leader_unreachable(node, out);
                self.forget_counts(node);
            }
            None => {}
        }
    }

    fn on_link_down(&mut self, link: LinkId, peer: String, reason: String, out: &mut Vec<Output>) {
        let up = self.peers.up(link).cloned();
        let dialing = self.peers.dialing.remove(&link);
        let other = up.as_ref().map(|up| up.node).filter(|node| *node != NodeId(0));
        let address = up.map_or(dialing, |up| up.dialed);
        let lost_way = self.peers.on_down(link);
        if let Some(node) = other {
            let lost_way = lost_way.map(|node| self.peers.is_linked(node));
            self.tell_all(|| Message::PeerDown { node, lost_way });
            self.on_way_lost(node, lost_way, out);
            out.push(Output::Note(Note::PeerDown { peer, reason: reason.clone() }));
        }
        if let Some(address) = address {
            self.on_lost(address, reason, out);
        }
    }

    /// What was sent to a node may be lost.
    fn on_unreachable(&mut self, node: NodeId, out: &mut Vec<Output>) {
        self.on_fetch_interrupted(node);
        self.group_input(GroupId::META, consensus::Input::Unreachable(node), out);
        for at in 0..self.shards.len() {
            self.group_input(self.shards[at].id, consensus::Input::Unreachable(node), out);
        }
    }

    fn on_message(&mut self, link: LinkId, message: PeerMessage, out: &mut Vec<Output>) {
        self.peers.on_heard(link, self.now.mono);
        let Some(&Up { node, incarnation, uuid, .. }) = self.peers.up(link) else { return };
        match message {
            PeerMessage::Offer { met, complete } => return self.on_offer(uuid, met, complete, out),
            PeerMessage::JoinAsk { replaces, record } => {
                return self.on_join_ask(link, uuid, replaces, &record, out);
            }
            PeerMessage::JoinAnswer(answer) => return self.on_join_answer(link, answer, out),
            // The rest is for members only.
            _ if node == NodeId(0) || self.id == NodeId(0) => return,
            _ => {}
        }
        let mut ahead = false;
        match &message {
            PeerMessage::Forward(forward) => {
                self.peers.on_floor(link, (forward.group, forward.term), forward.floor);
            }
            PeerMessage::ForwardFloor { group, term, floor } => {
                return self.peers.on_floor(link, (*group, *term), *floor);
            }
            PeerMessage::Raft { group, .. } => ahead = self.peers.holds_appends(node, *group),
            _ => {}
        }
        if let PeerMessage::Beat { groups, may_lead } = &message {
            self.pass_on_beat((node, incarnation), groups, *may_lead);
        }
        let home = group_of(&message).map_or(HUB, |group| self.cells.home(group));
        match home == HUB {
            true => self.on_member_message(node, incarnation, message, ahead, out),
            false => self.cells.send(home, Message::Received { node, incarnation, message, ahead }),
        }
    }

    /// Gives each other cell what a beat says of the groups whose home it is.
    fn pass_on_beat(&mut self, (node, incarnation): (NodeId, u64), groups: &[GroupBeat], may_lead: bool) {
        for cell in self.cells.others() {
            let groups = groups.iter().filter(|beat| self.cells.home(beat.group) == cell).copied().collect();
            let message = PeerMessage::Beat { groups, may_lead };
            self.cells.send(cell, Message::Received { node, incarnation, message, ahead: false });
        }
    }

    /// What another member says, to the cell that it concerns; `ahead` of appends that wait here on their way.
    pub(crate) fn on_member_message(
        &mut self,
        node: NodeId,
        incarnation: u64,
        message: PeerMessage,
        ahead: bool,
        out: &mut Vec<Output>,
    ) {
        match message {
            PeerMessage::Raft { group, message } => self.on_raft(node, group, message, ahead, out),
            PeerMessage::Forward(forward) => self.on_forward(node, incarnation, &forward),
            PeerMessage::ForwardAnswers(answers) => self.on_forward_answers(node, &answers, out),
            PeerMessage::ForwardRejected { group, term, number, leader, leader_term } => {
                self.on_heard_leader(group, leader, leader_term);
                self.on_forward_rejected(node, group, term, number);
            }
            PeerMessage::Withdraw { group, term, number, index, end } => {
                self.on_withdraw((node, incarnation), (group, term), (number, index), end);
            }
            PeerMessage::CheckpointAsk { group, at, chunk } => {
                self.on_checkpoint_ask(node, group, at, chunk, out)
            }
            PeerMessage::CheckpointPiece { group, at, chunk, bytes, last } => {
                self.on_checkpoint_piece(group, at, chunk, &bytes, last, out);
            }
            PeerMessage::CheckpointGone { group, at } => self.on_checkpoint_gone(group, at, out),
            PeerMessage::CheckpointTaken { group, at: _, arrived } => {
                self.group_input(group, consensus::Input::CheckpointSent { to: node, arrived }, out);
            }
            PeerMessage::CheckpointWanted { group, behind } => self.on_checkpoint_wanted(node, group, behind),
            PeerMessage::CheckpointOffered { group, at } => self.on_checkpoint_offered(node, group, at, out),
            PeerMessage::MetaAsk { number, command } => self.on_meta_ask(node, number, &command, out),
            PeerMessage::MetaAnswer { number, refused, retry } => {
                self.on_meta_answer(number, refused, retry, out);
            }
            PeerMessage::StateDigest { group, at, digest } => self.on_digest(node, group, at, digest, out),
            PeerMessage::Beat { groups, may_lead, .. } => {
                self.on_beat(node, groups, may_lead, out);
                self.offer_if_passed_over(node, out);
            }
            PeerMessage::KeyEvents { batch } => self.on_key_events_of(&batch, out),
            PeerMessage::KeyEventsWanted { wanted } => self.on_key_events_wanted(node, wanted),
            PeerMessage::Published { batch } => self.on_published(&batch, out),
            PeerMessage::Subscribers { cell, version, is_first, counts } => {
                let counts = Counts { version, is_first, bytes: counts };
                self.on_subscribers(node, incarnation, cell, &counts);
            }
            PeerMessage::Offer { .. }
            | PeerMessage::JoinAsk { .. }
            | PeerMessage::JoinAnswer(_)
            | PeerMessage::ForwardFloor { .. } => {}
        }
    }

    fn on_raft(
        &mut self,
        from: NodeId,
        group: GroupId,
        message: consensus::Message,
        ahead: bool,
        out: &mut Vec<Output>,
    ) {
        if message.from() != from || message.to() != self.id {
            return;
        }
        if group != GroupId::META {
            self.ensure_replica(group);
        }
        if self.group(group).is_none() || self.is_doubted(group) {
            return;
        }
        match message.checkpoint() {
            Some(at) => self.begin_fetch(from, group, at, message, out),
            None => {
                let input = if ahead { consensus::Input::ReceiveAhead } else { consensus::Input::Receive };
                self.group_input(group, input(message), out);
            }
        }
    }

    fn on_beat(&mut self, node: NodeId, groups: Vec<GroupBeat>, may_lead: bool, out: &mut Vec<Output>) {
        for beat in groups.iter().filter(|beat| !beat.rebuilding) {
            if self.peers.is_rebuilding(node, beat.group)
                && let Some(at) = self.shard_of_group(beat.group)
            {
                self.shards[at].digests.ask_soon();
            }
        }
        for beat in &groups {
            let Some(term) = beat.leads else { continue };
            self.on_heard_leader(beat.group, Some(node), term);
            if beat.rests && !self.is_doubted(beat.group) {
                let vouched = consensus::Input::Vouched { leader: node, term, last: beat.applied };
                self.group_input(beat.group, vouched, out);
            }
        }
        self.peers.on_beat(node, groups, may_lead);
    }

    /// Somebody says who leads a shard; what a replica of ours knows of it counts more.
    fn on_heard_leader(&mut self, group: GroupId, leader: Option<NodeId>, term: Term) {
        let Some(at) = self.shard_of_group(group) else { return };
        let heard = &mut self.shards[at].heard;
        if let Some(leader) = leader
            && heard.is_none_or(|(_, known)| known < term)
        {
            *heard = Some((leader, term));
            if self.shards[at].replica.is_none() {
                self.settle_away_without_log(at, term);
            }
        }
    }

    // ---- operations of other nodes' clients --------------------------------------------------------------------------

    fn on_forward(&mut self, from: NodeId, incarnation: u64, forward: &Forward) {
        let Some(at) = self.shard_of_group(forward.group) else { return self.reject(from, forward, None) };
        let shard = &mut self.shards[at];
        if !shard.leads() || shard.leader() != Some((self.id, forward.term)) {
            let taken_in = |i: &Inbound| {
                (i.incarnation, i.term) == (incarnation, forward.term) && forward.number <= i.last
            };
            // What came while this node led in that term may be in its log, which tells the sender.
            if !shard.inbound.get(&from).is_some_and(taken_in) {
                let leader = shard.leader();
                self.reject(from, forward, leader);
            }
            return;
        }
        let term = forward.term;
        let inbound = shard.inbound.entry(from).or_insert(Inbound { incarnation, term, last: 0 });
        if (inbound.incarnation, inbound.term) != (incarnation, term) {
            *inbound = Inbound { incarnation, term, last: 0 };
        }
        // Sent again over a new link, since the answers may be lost: the log has them for the sender. If one before it that the
        // sender still wants is missing, the link that lost it is broken, and all of them come again.
        if forward.number != forward.floor.max(inbound.last + 1) {
            return;
        }
        inbound.last = forward.number;
        let mut reader = forward.reader();
        let mut spans = Vec::new();
        let mut index = 0;
        while let Some((flags, db)) = reader.next_op(&mut spans) {
            let origin = Origin::Peer { node: from, incarnation, number: forward.number, index };
            let waited_ms = reader.waited_ms();
            self.take_in(at, term, origin, (flags, waited_ms), db, reader.args(&spans));
            index += 1;
        }
    }

    fn reject(&mut self, from: NodeId, forward: &Forward, leader: Option<(NodeId, Term)>) {
        let (leader, leader_term) = leader.map_or((None, Term(0)), |(leader, term)| (Some(leader), term));
        let Forward { group, term, number, .. } = *forward;
        self.peers.send(from, PeerMessage::ForwardRejected { group, term, number, leader, leader_term });
    }

    /// Takes in one operation of another node's client as if it were one of ours.
    fn take_in(
        &mut self,
        at: usize,
        term: Term,
        origin: Origin,
        (flag, waited_ms): (u8, Option<u64>),
        db: u8,
        args: skep_base::Args<'_>,
    ) {
        let has = |wanted: u8| flag & wanted != 0;
        let protocol = if has(RESP3) { Protocol::Resp3 } else { Protocol::Resp2 };
        let (command, handler) = match operation(args, !has(READ)) {
            Ok(found) => found,
            // A version of skep that knows other commands than this one.
            Err(refusal) => return self.answer_peer(at, term, origin, protocol, &refusal),
        };
        if db >= DB_COUNT {
            let text = format!("ERR DB index is out of range: {db}, there are {DB_COUNT}");
            return self.answer_peer(at, term, origin, protocol, &Refusal::format(text));
        }
        let (silent, no_touch, caches, free) = (has(SILENT), has(NO_TOUCH), has(CACHES), has(FREE));
        let since = Millis(self.now.mono.0.saturating_sub(waited_ms.unwrap_or(0)));
        let waits = command.flags.has(Flags::BLOCKING) && Wait::of(command, args).is_some();
        let wait = CallWait { since, again: waited_ms.is_some(), parked: false, end: None };
        let wait = waits.then_some(wait);
        let call = Call { origin, command, handler, db, protocol, silent, no_touch, caches, free, wait };
        if matches!(handler, Handler::Write(_)) {
            if let Err(refusal) = self.admit_write(at, command, args) {
                return self.answer_peer(at, term, origin, protocol, &refusal);
            }
            self.push_write(at, call, args);
        } else if call.wait.is_some() {
            self.push_read(at, call, args);
        } else if !(free && self.read_at_once(at, term, &call, args)) {
            self.shards[at].batch.push_read(call, args);
        }
    }

    /// Runs a read under the lease. False if it has to wait.
    pub(crate) fn read_at_once(
        &mut self,
        at: usize,
        term: Term,
        call: &Call,
        args: skep_base::Args<'_>,
    ) -> bool {
        let now = self.now;
        let shard = &mut self.shards[at];
        if shard.holds_reads() {
            return false;
        }
        let Some(replica) = &mut shard.replica else { return false };
        if !replica.may_read(now.mono) {
            return false;
        }
        let time = replica.time(now);
        let keyspace = &replica.keyspace;
        keyspace.access.set_paused(call.no_touch);
        self.reply_scratch.clear();
        let mut cx = ReadCx { keyspace, db: call.db, now: time, rng: &mut self.rng };
        call.handler.read(&mut cx, args, &mut Reply::new(&mut self.reply_scratch, call.protocol));
        let notes = script_notes_of(keyspace, call.command);
        if keyspace.take_saw_due() && !self.disk_full {
            shard.batch.want_entry();
            return false;
        }
        let bytes = &self.reply_scratch;
        if let Origin::Peer { node, incarnation, number, index } = call.origin {
            let reply = if call.silent { &[][..] } else { bytes };
            let (to, session) = ((node, incarnation), (shard.id, term));
            self.answers.push(to, session, (number, index), Answer::Reply(reply));
        } else {
            let mut desk = desk!(self, shard.id, term);
            desk.answer(call, |reply| reply.raw(bytes));
        }
        shard.batch.pass(call.origin);
        self.tell_script_notes(at, term, call, notes);
        true
    }

    fn answer_peer(&mut self, at: usize, term: Term, origin: Origin, protocol: Protocol, refusal: &Refusal) {
        let Origin::Peer { node, incarnation, number, index } = origin else { return };
        self.reply_scratch.clear();
        Reply::new(&mut self.reply_scratch, protocol).refusal(refusal);
        let answer = Answer::Reply(&self.reply_scratch);
        self.answers.push((node, incarnation), (self.shards[at].id, term), (number, index), answer);
    }

    // ---- the end of a turn -------------------------------------------------------------------------------------------

    /// Sends what was collected for other nodes in this turn.
    pub(crate) fn flush_peers(&mut self, out: &mut Vec<Output>) {
        self.flush_answers();
        if !self.cells.is_hub() {
            if self.peers.beat_at <= self.now.mono {
                self.peers.beat_at = after(self.now.mono, BEAT_MS);
                self.tell_floors();
            }
            return self.send_through_hub();
        }
        let now = self.now.mono;
        if self.peers.beat_at <= now {
            self.peers.beat_at = after(now, BEAT_MS);
            let links: Vec<LinkId> = self.peers.all_up().map(|(link, _)| link).collect();
            links.into_iter().for_each(|link| self.send_beat(link));
            self.tell_floors();
        }
        self.on_link(LinkInput::Tick, out);
        self.peers.links.flush();
    }

    fn flush_answers(&mut self) {
        for (node, incarnation, answers) in std::mem::take(&mut self.answers.of) {
            // Of an earlier run of that node nobody waits any more.
            if self.peers.incarnation_of(node) == Some(incarnation) {
                self.peers.send(node, PeerMessage::ForwardAnswers(answers));
            }
        }
    }

    /// When the links or the beats need a turn.
    pub(crate) fn next_link_timer(&self) -> Option<Millis> {
        let beat = self.peers.all_up().next().map(|_| self.peers.beat_at);
        [beat, self.peers.links.next_wakeup()].into_iter().flatten().min()
    }

    fn send_beat(&mut self, link: LinkId) {
        let mut groups = self.own_beats();
        groups.extend(self.cells.beats(self.now.mono));
        let may_lead = !self.disk_slow && !self.disk_full && self.handing_over.is_none();
        self.peers.links.send(link, &PeerMessage::Beat { groups, may_lead });
    }

    /// What this cell has to say of its replicas.
    pub(crate) fn own_beats(&self) -> Vec<GroupBeat> {
        let beat = |(group, rebuilding): (&consensus::Group, bool)| GroupBeat {
            group: group.id(),
            leads: (group.is_leader() && !rebuilding).then(|| group.term()),
            rests: group.leads_at_rest() && !rebuilding,
            applied: group.applied(),
            rebuilding,
        };
        let meta = self.meta.group.iter().map(|group| (group, false));
        let shards = self.replicas().map(|r| (&r.group, r.rebuild.is_some()));
        meta.chain(shards).map(beat).collect()
    }
}

/// The group that a message is about, if it is about one.
fn group_of(message: &PeerMessage) -> Option<GroupId> {
    match message {
        PeerMessage::Raft { group, .. }
        | PeerMessage::ForwardRejected { group, .. }
        | PeerMessage::Withdraw { group, .. }
        | PeerMessage::CheckpointAsk { group, .. }
        | PeerMessage::CheckpointPiece { group, .. }
        | PeerMessage::CheckpointGone { group, .. }
        | PeerMessage::CheckpointTaken { group, .. }
        | PeerMessage::CheckpointWanted { group, .. }
        | PeerMessage::CheckpointOffered { group, .. }
        | PeerMessage::StateDigest { group, .. } => Some(*group),
        PeerMessage::Forward(forward) => Some(forward.group),
        PeerMessage::ForwardAnswers(answers) => Some(answers.group),
        PeerMessage::Offer { .. }
        | PeerMessage::JoinAsk { .. }
        | PeerMessage::JoinAnswer(_)
        | PeerMessage::MetaAsk { .. }
        | PeerMessage::MetaAnswer { .. }
        | PeerMessage::ForwardFloor { .. }
        | PeerMessage::KeyEvents { .. }
        | PeerMessage::KeyEventsWanted { .. }
        | PeerMessage::Published { .. }
        | PeerMessage::Subscribers { .. }
        | PeerMessage::Beat { .. } => None,
    }
}
