//! This node as a member of the cluster: the meta group, changes of its state, and what a leader does about placement.
//!
//! Decisions are in `skep_placement`; here they are asked for and carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use skep_base::varint::Reader;
use skep_base::{ConnId, GroupId, LinkId, LogId, LogIndex, Millis, NodeId, NodeUuid, Refusal, Term};
use skep_consensus::{self as consensus, Group, Standing};
use skep_peer::PeerMessage;
use skep_placement::{
    MetaCommand, MetaState, NodeRecord, Step, View, better_leader, is_settled, membership_step, plan,
};
use skep_resp::{Protocol, Reply};

use crate::cells::{Caller, HUB, Message, Part};
use crate::peers::{DOWN_MS, SUSPECT_MS};
use crate::shard::Shard;
use crate::{Node, Note, Output};

/// How often a leader looks whether something is to be done about placement, and members whether their wishes were met.
const TICK_MS: u64 = 100;
/// Changes of the meta state that may wait for their answer at once.
const ASKS_MAX: usize = 1_024;
/// Ticks between two looks at who should lead what: time to hear what came of the last transfer.
const LEADER_TICKS: u64 = 10;
/// How long a node that was removed keeps its links, to be told.
const GOODBYE_MS: u64 = 1_000;
/// A leader whose disk has not answered for this long gives leadership away; longer, if much is on its way: a slow disk
/// writes that many bytes in a millisecond.
const DISK_SLOW_MS: u64 = 500;
const DISK_BYTES_PER_MS_MIN: u64 = 20_000;

/// The meta group on this node.
#[derive(Default)]
pub(crate) struct Meta {
    /// `None` until this node belongs to a cluster.
    pub group: Option<Group>,
    /// Shared with whoever looks at it; a change makes another one while somebody does.
    pub state: Arc<MetaState>,
    pub applied: LogId,
    /// The last entry that the log held at the start. What this node knew of its replicas then is in the state only once that
    /// is applied.
    pub recovered: LogIndex,
    /// The position of its newest checkpoint.
    pub saved: LogId,
    /// By group that this node leads: the epoch whose members are there, and an entry that came after.
    settling: BTreeMap<GroupId, (u64, LogId)>,
    /// Changes that this node proposed as leader, by position.
    proposed: BTreeMap<LogIndex, (Term, Asker)>,
    /// Changes that this node wants made, by number.
    asks: BTreeMap<u64, Ask>,
    next_ask: u64,
    /// A change was asked for in this turn.
    is_asked: bool,
    tick_at: Millis,
    tick_count: u64,
    /// The peer addresses that the shell was told.
    saved_peers: Vec<String>,
    /// The version of the gateway's configuration that the shell was told; 0 for none.
    pub gateway_told: u64,
    /// Nodes that were removed and are being told, each until when.
    leaving: BTreeMap<NodeId, Millis>,
    /// Since when members have been down, as this node sees it.
    down: BTreeMap<NodeId, Millis>,
}

impl Meta {
    pub fn new(state: MetaState) -> Meta {
        Meta { state: Arc::new(state), ..Meta::default() }
    }
}

/// Who wants to know what became of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asker {
    Nobody,
    /// This node, under a number of its own.
    Here(u64),
    Peer {
        node: NodeId,
        number: u64,
    },
}

/// A change that this node wants made.
struct Ask {
    command: MetaCommand,
    client: Option<Asking>,
    reply: AskReply,
    /// It was carried out, and this node makes sure that it knows what came of it.
    is_done: bool,
    /// This node knows what came of it from this position of the meta group on, and the others are to know too.
    known_at: Option<LogIndex>,
    since: Millis,
    /// The leader it was given to, in its term.
    given_to: Option<(NodeId, Term)>,
}

/// What is answered when a change was made.
#[derive(Clone, Copy)]
pub(crate) enum AskReply {
    Ok,
    Count(usize),
}

/// Whom a change was asked for.
#[derive(Clone, Copy)]
enum Asking {
    Client(AskingClient),
    /// As a part of a command about the whole node.
    Part(Caller),
}

#[derive(Clone, Copy)]
struct AskingClient {
    conn: ConnId,
    seq: u64,
    protocol: Protocol,
    heard: bool,
}

/// The next multiple of an interval: what all is due each 100 ms shares turns with the other cells', and the groups' ticks.
pub(crate) fn after(now: Millis, interval_ms: u64) -> Millis {
    Millis((now.0 + 1).next_multiple_of(interval_ms))
}

impl Node {
    // ---- changes of the meta state -----------------------------------------------------------------------------------

    /// Asks for a change on behalf of a client, which waits for the answer.
    ///
    /// # Errors
    /// Too many changes wait already; nothing was asked.
    pub(crate) fn ask_meta_for(
        &mut self,
        conn: ConnId,
        command: MetaCommand,
        reply: AskReply,
        heard: bool,
    ) -> Result<(), Refusal> {
        self.admit_ask()?;
        let client = self.client(conn);
        let (seq, protocol) = (client.begin_op(true), client.protocol);
        client.waiting = true;
        self.ask_meta(command, Some(Asking::Client(AskingClient { conn, seq, protocol, heard })), reply);
        Ok(())
    }

    /// The same for a client of any cell of this node, which gets the hub's part when it is known what became of it.
    ///
    /// # Errors
    /// As [`Node::ask_meta_for`].
    pub(crate) fn ask_meta_for_part(
        &mut self,
        caller: Caller,
        command: MetaCommand,
        reply: AskReply,
    ) -> Result<Part, Refusal> {
        self.admit_ask()?;
        self.ask_meta(command, Some(Asking::Part(caller)), reply);
        Ok(Part::Later)
    }

    fn admit_ask(&self) -> Result<(), Refusal> {
        if self.meta.asks.len() >= ASKS_MAX {
            return Err(Refusal::text(
                "TRYAGAIN too many changes of the cluster wait already; nothing was done",
            ));
        }
        Ok(())
    }

    fn ask_meta(&mut self, command: MetaCommand, client: Option<Asking>, reply: AskReply) {
        let (since, given_to, known_at) = (self.now.mono, None, None);
        let ask = Ask { command, client, reply, is_done: false, known_at, since, given_to };
        self.meta.asks.insert(self.meta.next_ask, ask);
        self.meta.next_ask += 1;
        self.meta.is_asked = true;
    }

    /// Asks for a change that this node wants itself, unless it has asked already.
    pub(crate) fn wish(&mut self, command: MetaCommand) {
        if !self.cells.is_hub() {
            return self.cells.send(HUB, Message::Wish(command));
        }
        let known = self.meta.asks.values().any(|ask| ask.command == command);
        if !known && self.meta.asks.len() < ASKS_MAX {
            self.ask_meta(command, None, AskReply::Ok);
        }
    }

    /// Gives wishes to the meta group's leader, and gives up what takes too long.
    fn drive_asks(&mut self, out: &mut Vec<Output>) {
        let Some(group) = &self.meta.group else { return };
        let (leader, term) = (group.leader(), group.term());
        let limit = self.now.mono.0.saturating_sub(self.settings.request_timeout_ms());
        let numbers: Vec<u64> = self.meta.asks.keys().copied().collect();
        for number in numbers {
            let Some(ask) = self.meta.asks.get_mut(&number) else { continue };
            if ask.is_done {
                let (since, known_at) = (ask.since, ask.known_at);
                if since.0 < limit || known_at.is_some_and(|at| self.all_have(at)) {
                    self.end_ask(number, Ok(()), out);
                }
                continue;
            }
            if ask.since.0 < limit {
                let why = "UNCERTAIN the cluster's leader did not answer in time; look with `skep status` before you repeat it";
                self.end_ask(number, Err(why.into()), out);
                continue;
            }
            let Some(leader) = leader else { continue };
            if ask.given_to == Some((leader, term)) {
                continue;
            }
            ask.given_to = Some((leader, term));
            let command = ask.command.clone();
            if leader == self.id {
                self.propose_meta(command, Asker::Here(number), out);
            } else if self.peers.is_linked(leader) {
                let command = Bytes::from(command.encode());
                self.peers.send(leader, PeerMessage::MetaAsk { number, command });
            } else if let Some(ask) = self.meta.asks.get_mut(&number) {
                ask.given_to = None;
            }
        }
    }

    /// True if every node that is heard has said that it has the meta group's entry.
    fn all_have(&self, at: LogIndex) -> bool {
        let has = |node| self.peers.applied(node, GroupId::META).is_some_and(|applied| applied >= at);
        let mut others = self.meta.state.nodes.keys().copied().filter(|node| *node != self.id);
        others.all(|node| has(node) || !self.is_alive(node))
    }

    fn end_ask(&mut self, number: u64, outcome: Result<(), String>, out: &mut Vec<Output>) {
        let (asking, done) = match self.meta.asks.remove(&number) {
            Some(Ask { client: Some(Asking::Client(asking)), reply, .. }) => (asking, reply),
            Some(Ask { client: Some(Asking::Part(caller)), reply, .. }) => {
                let part = match reply {
                    AskReply::Ok => Part::Done,
                    AskReply::Count(count) => Part::Count(count),
                };
                // Whoever hears that the change was made sees it.
                self.tell_view();
                return self.answer_part(caller, outcome.map(|()| part).map_err(Refusal::format), out);
            }
            _ => return,
        };
        let Some(client) = self.clients.get_mut(asking.conn) else { return };
        let mut bytes = Vec::new();
        let mut reply = Reply::new(&mut bytes, asking.protocol);
        match outcome {
            Ok(()) => match done {
                AskReply::Ok => reply.ok(),
                AskReply::Count(count) => reply.len(count),
            },
            Err(why) => reply.error(&why),
        }
        drop(reply);
        if !asking.heard {
            bytes.clear();
        }
        // The client waits for this alone, so it is the next reply.
        assert!(
            client.is_next(asking.seq),
            "INV-NODE-1: a change of the cluster was asked for behind other commands"
        );
        client.output.extend_from_slice(&bytes);
        if client.answered() {
            self.to_resume.push(asking.conn);
        }
        self.list_output(asking.conn, out);
    }

    /// Appends a change to the meta group's log, if this node leads it.
    fn propose_meta(&mut self, command: MetaCommand, asker: Asker, out: &mut Vec<Output>) {
        let mut effects = std::mem::take(&mut self.effects);
        let outcome = match &mut self.meta.group {
            Some(group) => group.propose([Bytes::from(command.encode())], &mut effects).ok(),
            None => None,
        };
        match outcome {
            Some(at) => drop(self.meta.proposed.insert(at.index, (at.term, asker))),
            None => self.tell_asker(asker, Err(None), out),
        }
        self.carry_out(GroupId::META, &mut effects, out);
        self.effects = effects;
    }

    /// Appends a change that nobody waits for.
    pub(crate) fn propose_meta_for_nobody(&mut self, command: MetaCommand, out: &mut Vec<Output>) {
        self.propose_meta(command, Asker::Nobody, out);
    }

    /// Another node wants a change made.
    pub(crate) fn on_meta_ask(&mut self, from: NodeId, number: u64, command: &[u8], out: &mut Vec<Output>) {
        let asker = Asker::Peer { node: from, number };
        match MetaCommand::decode(command) {
            Ok(command) if self.leads_meta() => self.propose_meta(command, asker, out),
            Ok(_) => self.tell_asker(asker, Err(None), out),
            Err(cause) => {
                let why = format!("ERR node {} does not understand the change: {cause}", self.id);
                self.tell_asker(asker, Err(Some(why)), out);
            }
        }
    }

    /// What became of a change that was given to the leader.
    pub(crate) fn on_meta_answer(
        &mut self,
        number: u64,
        refused: Option<String>,
        retry: bool,
        out: &mut Vec<Output>,
    ) {
        match retry {
            true => {
                if let Some(ask) = self.meta.asks.get_mut(&number) {
                    ask.given_to = None;
                }
            }
            false => match (refused, self.meta.asks.get_mut(&number)) {
                // The leader has it, and this node must too before it says so: who makes a user logs in as it next, and who
                // changes the gateway's configuration or settings looks at them.
                (None, Some(ask))
                    if matches!(
                        ask.command,
                        MetaCommand::SetUser { .. }
                            | MetaCommand::DelUsers { .. }
                            | MetaCommand::SetGateway(_)
                            | MetaCommand::SetSettings { .. }
                    ) =>
                {
                    ask.is_done = true;
                    self.read_meta_for_ask(number, out);
                }
                (refused, _) => self.end_ask(number, refused.map_or(Ok(()), Err), out),
            },
        }
    }

    /// This node knows what became of a change that was carried out. Of settings the others must know as well before it is
    /// answered: who asked for events of keys listens at any of them.
    pub(crate) fn on_ask_known(&mut self, number: u64, out: &mut Vec<Output>) {
        let known_at = self.meta.applied.index;
        match self.meta.asks.get_mut(&number) {
            Some(ask) if matches!(ask.command, MetaCommand::SetSettings { .. }) => {
                (ask.is_done, ask.known_at) = (true, Some(known_at));
                if self.all_have(known_at) {
                    self.end_ask(number, Ok(()), out);
                }
            }
            _ => self.end_ask(number, Ok(()), out),
        }
    }

    /// A change was applied.
    pub(crate) fn answer_meta(&mut self, at: LogId, outcome: Result<(), String>, out: &mut Vec<Output>) {
        // What stands before it and was not applied was lost with its term.
        while let Some((index, (term, asker))) = self.meta.proposed.first_key_value().map(|(i, v)| (*i, *v)) {
            if index > at.index && term >= at.term {
                break;
            }
            self.meta.proposed.remove(&index);
            let applied = (index, term) == (at.index, at.term);
            let told =
                if applied { outcome.clone().map_err(|why| Some(format!("ERR {why}"))) } else { Err(None) };
            self.tell_asker(asker, told, out);
        }
    }

    /// `Err(None)`: it was not done, and can be asked again.
    fn tell_asker(&mut self, asker: Asker, outcome: Result<(), Option<String>>, out: &mut Vec<Output>) {
        match asker {
            Asker::Nobody => {}
            Asker::Here(number) => match outcome {
                Err(None) => self.on_meta_answer(number, None, true, out),
                Err(Some(why)) => self.end_ask(number, Err(why), out),
                Ok(()) => self.on_ask_known(number, out),
            },
            Asker::Peer { node, number } => {
                let retry = outcome == Err(None);
                let refused = outcome.err().flatten();
                self.peers.send(node, PeerMessage::MetaAnswer { number, refused, retry });
            }
        }
    }

    /// A node that belongs to no cluster wants to belong to this one.
    pub(crate) fn on_join_ask(
        &mut self,
        link: LinkId,
        uuid: NodeUuid,
        replaces: Option<NodeId>,
        record: &[u8],
        out: &mut Vec<Output>,
    ) {
        use skep_peer::JoinAnswer;
        let answer = match self.meta.state.node_of(uuid) {
            Some(node) => JoinAnswer::Joined { node, cluster_id: self.meta.state.cluster_id.clone() },
            None if self.id == NodeId(0) => JoinAnswer::Later,
            None => match NodeRecord::decode(&mut Reader::new(record)) {
                Err(cause) => JoinAnswer::Refused { reason: format!("its record cannot be read: {cause}") },
                // It was heard a moment ago, so it may be running yet.
                Ok(_) if replaces.is_some_and(|old| self.is_alive(old)) => JoinAnswer::Later,
                Ok(record) => {
                    let command = match replaces {
                        Some(node) => MetaCommand::Replace { node, uuid, record },
                        None => MetaCommand::Join { uuid, record },
                    };
                    match MetaState::clone(&self.meta.state).apply(command.clone()) {
                        Err(reason) => JoinAnswer::Refused { reason },
                        Ok(()) => {
                            self.wish(command);
                            self.drive_asks(out);
                            JoinAnswer::Later
                        }
                    }
                }
            },
        };
        self.peers.links.send(link, &PeerMessage::JoinAnswer(answer));
    }

    // ---- what follows from the state ---------------------------------------------------------------------------------

    /// Brings everything that follows from the meta state up to date.
    pub(crate) fn on_meta_changed(&mut self, out: &mut Vec<Output>) {
        let state = self.meta.state.clone();
        for shard in state.shards.keys() {
            if self.cells.is_home(*shard) && self.shard_of_group(*shard).is_none() {
                self.add_shard(Shard::new(*shard, None));
            }
        }
        self.cells.one_shard = self.meta.state.shards.len() <= 1;
        self.on_users_changed(out);
        if self.settings.learn(&self.meta.state.settings) {
            self.configure();
        }
        if !self.cells.is_hub() {
            let members = self.meta.state.clone();
            return self.peers.retain(|node| members.nodes.contains_key(&node));
        }
        self.say_goodbyes();
        self.tell_links_of_members(out);
        self.set_addresses(out);
        self.tell_peers_to_shell(out);
        self.tell_gateway(out);
        if self.meta.state.was_removed(self.id) {
            self.on_removed(out);
        }
    }

    fn tell_links_of_members(&mut self, out: &mut Vec<Output>) {
        let state = &self.meta.state;
        let members: BTreeMap<NodeId, NodeUuid> =
            state.nodes.iter().map(|(node, member)| (*node, member.uuid)).collect();
        self.peers.retain(|node| members.contains_key(&node));
        let is_left = |node: &NodeId| !self.meta.leaving.contains_key(node);
        let removed: BTreeSet<NodeId> = state.removed.keys().copied().filter(is_left).collect();
        let mut outputs = std::mem::take(&mut self.peers.outputs);
        self.peers.links.set_known(members, removed, &mut outputs);
        self.carry_out_links(&mut outputs, out);
        self.peers.outputs = outputs;
    }

    /// Tells nodes that were removed over the links that there are: they will not see it in the log.
    fn say_goodbyes(&mut self) {
        let linked: Vec<(LinkId, NodeId)> = self.peers.all_up().map(|(link, up)| (link, up.node)).collect();
        for (link, node) in linked {
            if self.meta.state.was_removed(node) && !self.meta.leaving.contains_key(&node) {
                self.say_goodbye(link, node);
            }
        }
    }

    /// Tells a node that it was removed, and gives it a moment to read that before its links are closed.
    pub(crate) fn say_goodbye(&mut self, link: LinkId, node: NodeId) {
        let reason = format!("node {node} was removed from the cluster");
        let goodbye = skep_peer::JoinAnswer::Refused { reason };
        self.peers.links.send(link, &PeerMessage::JoinAnswer(goodbye));
        self.meta.leaving.insert(node, self.now.mono.plus(GOODBYE_MS));
    }

    fn end_goodbyes(&mut self, out: &mut Vec<Output>) {
        let (now, before) = (self.now.mono, self.meta.leaving.len());
        self.meta.leaving.retain(|_, until| *until > now);
        if self.meta.leaving.len() != before {
            self.tell_links_of_members(out);
        }
    }

    /// The cluster has removed this node: nobody listens to it any more.
    pub(crate) fn on_removed(&mut self, out: &mut Vec<Output>) {
        if !self.stopping {
            out.push(Output::Note(Note::Removed));
            self.begin_stop();
            self.stopping = true;
        }
    }

    /// Keeps links to all members, and to the addresses given with `--join`, where they may be found if they moved.
    pub(crate) fn set_addresses(&mut self, out: &mut Vec<Output>) {
        let members = self.meta.state.nodes.iter().filter(|(node, _)| **node != self.id);
        let members = members.map(|(_, member)| member.record.peer.clone());
        let addresses = members.chain(self.settings.join().iter().cloned()).collect();
        let mut outputs = std::mem::take(&mut self.peers.outputs);
        self.peers.links.set_addresses(addresses, &mut outputs);
        self.carry_out_links(&mut outputs, out);
        self.peers.outputs = outputs;
    }

    fn tell_peers_to_shell(&mut self, out: &mut Vec<Output>) {
        let others = self.meta.state.nodes.iter().filter(|(node, _)| **node != self.id);
        let peers: Vec<String> = others.map(|(_, member)| member.record.peer.clone()).collect();
        if peers != self.meta.saved_peers {
            self.meta.saved_peers = peers.clone();
            out.push(Output::SavePeers(peers));
        }
    }

    // ---- leading -----------------------------------------------------------------------------------------------------

    pub(crate) fn leads_meta(&self) -> bool {
        self.meta.group.as_ref().is_some_and(Group::is_leader)
    }

    pub(crate) fn on_meta_role(&mut self, leads: bool, out: &mut Vec<Output>) {
        self.note_leader(GroupId::META, out);
        if leads {
            self.meta.tick_at = self.now.mono;
        }
    }

    pub(crate) fn note_leader(&mut self, group: GroupId, out: &mut Vec<Output>) {
        let Some(of) = self.group(group) else { return };
        if let Some(leader) = of.leader() {
            let term = of.term();
            out.push(Output::Note(Note::Leader { group, leader, term }));
        }
    }

    /// What only time brings about.
    pub(crate) fn tick_cluster(&mut self, out: &mut Vec<Output>) {
        self.tell_undelivered(out);
        if std::mem::take(&mut self.meta.is_asked) {
            self.drive_asks(out);
        }
        if self.meta.tick_at > self.now.mono {
            return;
        }
        self.meta.tick_at = after(self.now.mono, TICK_MS);
        self.meta.tick_count += 1;
        self.tick_join(out);
        self.tick_fetch(out);
        if self.id == NodeId(0) {
            return;
        }
        self.tick_rebuilds(out);
        if self.cells.is_hub() {
            self.end_goodbyes(out);
            self.tell_gateway(out);
            self.look_at_members(out);
            self.announce();
            self.plan_placement(out);
        }
        self.watch_leaders(out);
        self.step_memberships(out);
        if self.cells.is_hub() {
            self.step_leaders(out);
        }
        self.doubt_replicas();
        self.read_meta(out);
        self.watch_disk(out);
        self.cells.beat_due = true;
        self.drive_asks(out);
        self.go_on_starting(out);
    }

    /// When [`Node::tick_cluster`] or the links need a turn.
    pub(crate) fn next_cluster_timer(&self) -> Option<Millis> {
        let alone = self.meta.state.nodes.len() <= 1 && self.id != NodeId(0) && self.ready;
        let busy = !self.meta.asks.is_empty() || self.handing_over.is_some();
        let tick = (!alone || busy).then_some(self.meta.tick_at);
        [tick, self.next_link_timer(), self.fetch.next_wakeup()].into_iter().flatten().min()
    }

    /// What the groups sent and could not leave, since there is no link.
    fn tell_undelivered(&mut self, out: &mut Vec<Output>) {
        for (group, to) in std::mem::take(&mut self.undelivered) {
            self.group_input(group, consensus::Input::CheckpointSent { to, arrived: false }, out);
        }
    }

    fn look_at_members(&mut self, out: &mut Vec<Output>) {
        let now = self.now.mono;
        let others = self.meta.state.nodes.keys().filter(|node| **node != self.id);
        let silent = |node: &NodeId| {
            let heard = self.peers.heard(*node).unwrap_or(self.started.mono);
            (now.since(heard) >= DOWN_MS).then_some((*node, heard))
        };
        self.meta.down = others.filter_map(silent).collect();
        let others = self.meta.state.nodes.keys().filter(|node| !self.is_alive(**node));
        let silent = others.copied().collect();
        self.note_silent(silent, out);
    }

    /// True if a node was heard lately.
    pub(crate) fn is_alive(&self, node: NodeId) -> bool {
        let heard = self.peers.heard(node);
        node == self.id || heard.is_some_and(|heard| self.now.mono.since(heard) < SUSPECT_MS)
    }

    /// Tells the cluster of this node's addresses, if it knows others.
    fn announce(&mut self) {
        let (node, record) = (self.id, &self.announced);
        if self.meta.state.nodes.get(&node).is_some_and(|member| member.record != *record) {
            self.wish(MetaCommand::Announce { node, record: record.clone() });
        }
    }

    fn plan_placement(&mut self, out: &mut Vec<Output>) {
        if !self.leads_meta() || !self.meta.proposed.is_empty() {
            return;
        }
        let view = self.view();
        if let Some(command) = plan(&self.meta.state, &view, self.now.mono) {
            self.propose_meta(command, Asker::Nobody, out);
        }
    }

    fn view(&self) -> View {
        View { down: self.meta.down.clone(), ..View::default() }
    }

    /// Hands a shard to the replica that should rather lead it: one in a tick, so that all nodes hear what came of it
    /// before the next.
    fn step_leaders(&mut self, out: &mut Vec<Output>) {
        if !self.meta.tick_count.is_multiple_of(LEADER_TICKS) {
            return;
        }
        let leaders = self.all_leaders();
        let view = self.view();
        let own = self.shards.iter().filter(|shard| shard.leads()).map(|shard| shard.id);
        let mut led: Vec<GroupId> = own.chain(self.led_by_others()).collect();
        if !self.cells.is_only() && !led.is_empty() {
            // Whether another cell's replica can be handed over now is seen there, so each gets its turn.
            let first = (self.meta.tick_count / LEADER_TICKS) as usize % led.len();
            led.rotate_left(first);
        }
        let moved = led.into_iter().find_map(|group| {
            let to = better_leader(self.id, group, &self.meta.state, &view, &leaders)?;
            (!self.cells.is_home(group) || self.may_hand_over(group, to)).then_some((group, to))
        });
        match moved {
            Some((group, to)) if self.cells.is_home(group) => self.transfer(group, to, out),
            Some((group, to)) => self.cells.send(self.cells.home(group), Message::Lead { group, to }),
            None => {}
        }
    }

    fn may_hand_over(&self, group: GroupId, to: NodeId) -> bool {
        let Some(of) = self.group(group) else { return false };
        of.is_leader() && of.transferring().is_none() && of.caught_up(to) && self.is_alive(to)
    }

    /// The hub found that another node should rather lead a shard.
    pub(crate) fn lead_away(&mut self, group: GroupId, to: NodeId, out: &mut Vec<Output>) {
        if self.may_hand_over(group, to) {
            self.transfer(group, to, out);
        }
    }

    pub(crate) fn transfer(&mut self, group: GroupId, to: NodeId, out: &mut Vec<Output>) {
        if self.peers.is_rebuilding(to, group) {
            return;
        }
        let mut effects = std::mem::take(&mut self.effects);
        // A refusal means that it is on its way, or too early; it is asked for again.
        let begun = self.group_mut(group).map(|of| of.transfer_leadership(to, &mut effects));
        if matches!(begun, Some(Ok(()))) {
            let what = format!("leadership goes to {}", self.called(to));
            out.push(Output::Note(Note::Members { group, what }));
        }
        self.carry_out(group, &mut effects, out);
        self.effects = effects;
    }

    /// Goes a step towards the wanted members of each group that this node leads.
    fn step_memberships(&mut self, out: &mut Vec<Output>) {
        let led: Vec<GroupId> = std::iter::once(GroupId::META)
            .chain(self.shards.iter().map(|shard| shard.id))
            .filter(|group| self.group(*group).is_some_and(Group::is_leader))
            .collect();
        for group in led {
            self.step_membership(group, out);
        }
    }

    /// True if no voter will find itself in an earlier membership of a group again, not even after a start, so that those who
    /// have left are not needed for an election. The commit index is durable only beside later entries, so this leader
    /// appends one, and looks whether all have it.
    fn all_know(&mut self, group: GroupId, epoch: u64, voters: &[NodeId], out: &mut Vec<Output>) -> bool {
        let Some(of) = self.group_mut(group) else { return false };
        let term = of.term();
        let known = self.meta.settling.get(&group).filter(|(of, at)| (*of, at.term) == (epoch, term));
        if let Some((_, at)) = known.copied() {
            let Some(of) = self.group(group) else { return false };
            return voters.iter().all(|node| of.matched(*node).is_some_and(|has| has >= at.index));
        }
        let mut effects = std::mem::take(&mut self.effects);
        let proposed = self.group_mut(group).map(|of| of.propose([Bytes::new()], &mut effects));
        if let Some(Ok(at)) = proposed {
            self.meta.settling.insert(group, (epoch, at));
        }
        self.carry_out(group, &mut effects, out);
        self.effects = effects;
        false
    }

    fn step_membership(&mut self, group: GroupId, out: &mut Vec<Output>) {
        if !self.may_step(group) {
            return;
        }
        let Some(record) = self.meta.state.group(group) else { return };
        let (epoch, settled) = (record.epoch, record.settled);
        let wanted = self.meta.state.wanted(group);
        let Some(of) = self.group(group) else { return };
        let step = membership_step(
            self.id,
            &wanted,
            of.membership(),
            |node| of.caught_up(node),
            |node| self.is_alive(node),
        );
        // A change that is on its way may make it otherwise.
        let is_there = !of.may_be_changing() && is_settled(&wanted, of.membership());
        if !settled && is_there && self.all_know(group, epoch, &wanted.voters, out) {
            self.wish(MetaCommand::Settled { shard: group, epoch });
        }
        let changes = match step {
            Step::Nothing => return,
            Step::Transfer(to) => return self.transfer(group, to, out),
            Step::Change(changes) => changes,
        };
        let mut effects = std::mem::take(&mut self.effects);
        // A refusal means that it is too early; the next tick asks again.
        let begun = self.group_mut(group).map(|of| of.change_membership(&changes, &mut effects));
        if matches!(begun, Some(Ok(_))) {
            let of = |(node, standing): &(NodeId, Standing)| {
                let becomes = match standing {
                    Standing::Voter => "becomes a voter",
                    Standing::Learner => "becomes a learner",
                    Standing::Removed => "leaves",
                };
                format!("{} {becomes}", self.called(*node))
            };
            let what = changes.iter().map(of).collect::<Vec<_>>().join(", ");
            out.push(Output::Note(Note::Members { group, what }));
        }
        self.carry_out(group, &mut effects, out);
        self.effects = effects;
    }

    /// A node as operators know it.
    fn called(&self, node: NodeId) -> String {
        let member = self.meta.state.nodes.get(&node);
        member.map_or_else(|| format!("node {}", node.0), |m| format!("{} (node {})", m.record.name, node.0))
    }

    /// For how long the disk has not answered, if that is too long.
    pub(crate) fn disk_busy_ms(&self) -> Option<u64> {
        let busy_ms = self.persist.disk_busy_since().map_or(0, |since| self.now.mono.since(since));
        let allowed_ms = DISK_SLOW_MS + self.persist.bytes_waiting / DISK_BYTES_PER_MS_MIN;
        (busy_ms >= allowed_ms && !self.disk_full).then_some(busy_ms)
    }

    /// Gives leadership away while the disk does not answer or is full: others can go on.
    fn watch_disk(&mut self, out: &mut Vec<Output>) {
        let own_ms = self.disk_busy_ms();
        let others = match self.cells.is_hub() {
            true => self.cells.reports().any(|report| report.slow),
            false => self.cells.view.slow,
        };
        let slow = own_ms.is_some() || others;
        if slow != self.disk_slow {
            self.disk_slow = slow;
            if let (true, Some(ms)) = (slow, own_ms) {
                out.push(Output::Note(Note::DiskSlow { ms }));
            }
            let right =
                self.shards.iter_mut().filter_map(|s| s.replica.as_mut()).filter(|r| r.rebuild.is_none());
            for group in self.meta.group.iter_mut().chain(right.map(|r| &mut r.group)) {
                group.set_may_campaign(!slow);
            }
        }
        if slow || self.disk_full {
            self.give_away_leadership(out);
        }
    }

    /// Who could lead a group in this node's place; who has most of the log comes last.
    pub(crate) fn heirs(&self, of: &Group) -> Vec<NodeId> {
        let voters = of.membership().voters.iter().filter(|node| **node != self.id);
        let is_able = |node: &NodeId| {
            self.is_alive(*node) && self.peers.may_lead(*node) && !self.peers.is_rebuilding(*node, of.id())
        };
        let mut able: Vec<NodeId> = voters.copied().filter(is_able).collect();
        able.reverse();
        able.sort_by_key(|node| of.matched(*node));
        able
    }

    /// Begins to hand each group that this node leads to another voter that is up to date. True if there is such a group.
    pub(crate) fn give_away_leadership(&mut self, out: &mut Vec<Output>) -> bool {
        let groups: Vec<GroupId> =
            std::iter::once(GroupId::META).chain(self.shards.iter().map(|s| s.id)).collect();
        let mut any = false;
        for group in groups {
            let Some(of) = self.group(group).filter(|of| of.is_leader()) else { continue };
            let Some(to) = self.heirs(of).last().copied() else { continue };
            any = true;
            if of.transferring().is_some() {
                continue;
            }
            self.transfer(group, to, out);
        }
        any
    }
}
