//! From an empty data directory to a member of a cluster: founding one, alone or as one of several that list each other, or
//! joining one. Who founds is decided in `skep_placement::Forming`.

use skep_base::{GroupId, LinkId, LogId, NodeId, NodeUuid};
use skep_consensus::{Group, GroupConfig, Input as GroupInput};
use skep_keyspace::Keyspace;
use skep_log::{GroupLog, Membership, NodeIdentity, Record};
use skep_peer::{JoinAnswer, Me, PeerMessage};
use skep_placement::{Decision, Forming, FormingInput, JoinReply, MetaCommand, Offer};

use crate::cells::Message;
use crate::shard::{Replica, Shard};
use crate::{Node, Note, Output};

/// The id of the node that founds a cluster.
pub(crate) const FOUNDER: NodeId = NodeId(1);

/// A node on its way into a cluster.
#[derive(Default)]
pub(crate) struct Joining {
    /// `None` once it is decided.
    forming: Option<Forming>,
    decisions: Vec<Decision>,
    /// The identity that is being made durable.
    saving: Option<NodeIdentity>,
    /// The founding was proposed.
    founding: bool,
    /// Shards of the founding whose first records the log has, for the cells that are their homes.
    begun: Vec<GroupId>,
}

impl Joining {
    /// What an empty node waits for.
    pub fn why(&self) -> &str {
        self.forming.as_ref().map_or("", Forming::why)
    }
}

/// What this node says of itself to others.
pub(crate) fn introduction(identity: &NodeIdentity, incarnation: u64, name: &str, password: &str) -> Me {
    Me {
        uuid: identity.uuid,
        node: identity.node,
        cluster_id: identity.cluster_id.clone(),
        incarnation,
        name: name.to_owned(),
        password: password.as_bytes().to_vec(),
    }
}

impl Node {
    /// Begins to look for a cluster, or to found one.
    pub(crate) fn begin_joining(&mut self, out: &mut Vec<Output>) {
        let addresses = self.settings.join().to_vec();
        if addresses.is_empty() {
            return self.found(out);
        }
        self.join.forming = Some(Forming::new(self.identity.uuid, addresses));
        self.set_addresses(out);
        self.form(FormingInput::Tick, out);
    }

    fn form(&mut self, input: FormingInput, out: &mut Vec<Output>) {
        let Some(forming) = &mut self.join.forming else { return };
        let mut decisions = std::mem::take(&mut self.join.decisions);
        forming.handle(self.now.mono, input, &mut decisions);
        for decision in decisions.drain(..) {
            match decision {
                Decision::Offer(offer) => self.send_offer(&offer, None),
                Decision::Wait { why } => out.push(Output::Note(Note::Waits { why })),
                Decision::AskToJoin { link } => {
                    let mut record = Vec::new();
                    self.announced.encode(&mut record);
                    self.peers
                        .links
                        .send(link, &PeerMessage::JoinAsk { replaces: self.replaces, record: record.into() });
                }
                Decision::Found if self.replaces.is_some() => self.look_again(out),
                Decision::Found => self.found(out),
                Decision::Joined { node, cluster_id } => {
                    self.join.forming = None;
                    self.save_identity(NodeIdentity { uuid: self.identity.uuid, node, cluster_id }, out);
                }
            }
        }
        self.join.decisions = decisions;
    }

    /// The nodes that were found are empty like this one, which was a member of a cluster: it must not begin another, as if
    /// there had been no data.
    fn look_again(&mut self, out: &mut Vec<Output>) {
        let why =
            "no member of the cluster that this node belonged to was found; start one whose data is whole"
                .into();
        out.push(Output::Note(Note::Waits { why }));
        self.join.forming = Some(Forming::new(self.identity.uuid, self.settings.join().to_vec()));
    }

    /// Tells nodes that belong to no cluster whom this one has met.
    fn send_offer(&mut self, offer: &Offer, only: Option<LinkId>) {
        let message = PeerMessage::Offer { met: offer.met.clone(), complete: offer.complete };
        let links: Vec<LinkId> = self
            .peers
            .all_up()
            .filter(|(link, up)| up.cluster_id.is_empty() && only.is_none_or(|only| only == *link))
            .map(|(link, _)| link)
            .collect();
        for link in links {
            self.peers.links.send(link, &message);
        }
    }

    // ---- what the links bring ----------------------------------------------------------------------------------------

    pub(crate) fn on_met(&mut self, link: LinkId, out: &mut Vec<Output>) {
        let Some(forming) = &self.join.forming else { return };
        let offer = forming.offer();
        let Some(up) = self.peers.up(link).cloned() else { return };
        self.send_offer(&offer, Some(link));
        if let Some(address) = up.dialed {
            let (uuid, cluster_id) = (up.uuid, up.cluster_id);
            self.form(FormingInput::Answered { address, link, uuid, cluster_id }, out);
        }
    }

    /// A link to `address` is gone, or could not be made.
    pub(crate) fn on_lost(&mut self, address: String, reason: String, out: &mut Vec<Output>) {
        self.form(FormingInput::Unreachable { address, reason }, out);
    }

    pub(crate) fn on_self_found(&mut self, address: String, out: &mut Vec<Output>) {
        self.form(FormingInput::SelfFound { address }, out);
    }

    pub(crate) fn on_offer(
        &mut self,
        from: NodeUuid,
        met: Vec<NodeUuid>,
        complete: bool,
        out: &mut Vec<Output>,
    ) {
        self.form(FormingInput::Offered { from, offer: Offer { met, complete } }, out);
    }

    pub(crate) fn on_join_answer(&mut self, link: LinkId, answer: JoinAnswer, out: &mut Vec<Output>) {
        if self.join.forming.is_none() {
            if matches!(answer, JoinAnswer::Refused { .. }) && self.join.saving.is_none() {
                self.on_removed(out);
            }
            return;
        }
        let reply = match answer {
            JoinAnswer::Joined { node, cluster_id } => JoinReply::Joined { node, cluster_id },
            JoinAnswer::Later => JoinReply::Later,
            JoinAnswer::Refused { reason } => JoinReply::Refused { reason },
        };
        self.form(FormingInput::JoinAnswered { link, reply }, out);
    }

    pub(crate) fn tick_join(&mut self, out: &mut Vec<Output>) {
        self.form(FormingInput::Tick, out);
    }

    // ---- becoming a member -------------------------------------------------------------------------------------------

    /// Founds a cluster of this node alone. Its identity is written when the founding is durable: what a node has voted
    /// under an id must never be forgotten while the id is known.
    fn found(&mut self, out: &mut Vec<Output>) {
        self.join.forming = None;
        self.id = FOUNDER;
        self.meta.group = Some(self.first_replica(GroupId::META));
        for shard in 1..=self.settings.shards() {
            if !self.cells.is_home(GroupId(shard)) {
                self.begin_log(GroupId(shard));
                self.join.begun.push(GroupId(shard));
                continue;
            }
            let group = self.first_replica(GroupId(shard));
            let replica = Replica::new(group, Keyspace::default(), LogId::default());
            self.add_shard(Shard::new(GroupId(shard), Some(replica)));
        }
        self.configure();
        self.start_groups(out);
        self.go_on_starting(out);
    }

    /// A replica of a group from its very beginning, when the founder was alone in it. The log tells the rest, or a
    /// checkpoint does; without the first membership the changes in the log would not fit.
    pub(crate) fn first_replica(&mut self, group: GroupId) -> Group {
        let membership = self.begin_log(group);
        self.new_group(group, GroupLog { membership, ..GroupLog::default() })
    }

    /// Makes the log begin a group's.
    fn begin_log(&mut self, group: GroupId) -> Membership {
        let membership = Membership { voters: vec![FOUNDER], ..Membership::default() };
        let (at, of) = (LogId::default(), membership.clone());
        self.persist.begin(Record::Checkpoint { group, at, membership: of });
        membership
    }

    /// The hub has made the log begin this shard's, durably: here is its replica.
    pub(crate) fn begin_founded(&mut self, group: GroupId, out: &mut Vec<Output>) {
        self.id = FOUNDER;
        let membership = Membership { voters: vec![FOUNDER], ..Membership::default() };
        let of = self.new_group(group, GroupLog { membership, ..GroupLog::default() });
        let replica = Replica::new(of, Keyspace::default(), LogId::default());
        match self.shard_of_group(group) {
            Some(at) => self.shards[at].replica = Some(replica),
            None => self.add_shard(Shard::new(group, Some(replica))),
        }
        self.configure();
        self.group_input(group, GroupInput::Tick, out);
    }

    pub(crate) fn new_group(&self, group: GroupId, log: GroupLog) -> Group {
        let config = GroupConfig::new(group, self.id, self.incarnation, self.seed);
        Group::new(GroupConfig { rest: Some(self.rest), ..config }, log)
    }

    /// Lets the groups that were recovered, or made, begin.
    pub(crate) fn start_groups(&mut self, out: &mut Vec<Output>) {
        self.group_input(GroupId::META, GroupInput::Tick, out);
        for at in 0..self.shards.len() {
            self.group_input(self.shards[at].id, GroupInput::Tick, out);
        }
    }

    fn save_identity(&mut self, identity: NodeIdentity, out: &mut Vec<Output>) {
        self.join.saving = Some(identity.clone());
        out.push(Output::SaveIdentity(identity));
    }

    /// This node's id is durable.
    pub(crate) fn on_identity_saved(&mut self, out: &mut Vec<Output>) {
        let Some(identity) = self.join.saving.take() else { return };
        let (node, cluster_id) = (identity.node, identity.cluster_id.clone());
        self.id = node;
        self.identity = identity;
        if self.meta.group.is_none() {
            self.meta.group = Some(self.first_replica(GroupId::META));
        }
        out.push(Output::Note(Note::Joined { node, cluster_id }));
        let me =
            introduction(&self.identity, self.incarnation, &self.announced.name, self.settings.requirepass());
        let mut outputs = std::mem::take(&mut self.peers.outputs);
        self.peers.links.set_me(me, &mut outputs);
        self.carry_out_links(&mut outputs, out);
        self.peers.outputs = outputs;
        self.start_groups(out);
        self.go_on_starting(out);
    }

    /// Goes on from whatever is done of: the founding, the identity, the first sight of every shard's leader.
    pub(crate) fn go_on_starting(&mut self, out: &mut Vec<Output>) {
        if self.ready || self.id == NodeId(0) || self.join.saving.is_some() || !self.cells.is_hub() {
            return;
        }
        if !self.meta.state.is_founded() {
            let leads = self.meta.group.as_ref().is_some_and(Group::leads_with_all_applied);
            if leads && !self.join.founding && self.is_alone(GroupId::META) {
                self.join.founding = true;
                // What this node led by was durable, and with it all that the log was given before.
                for group in std::mem::take(&mut self.join.begun) {
                    self.cells.send(self.cells.home(group), Message::Founded(group));
                }
                self.propose_founding(out);
            }
            return;
        }
        if self.identity.node == NodeId(0) {
            let (uuid, cluster_id) = (self.identity.uuid, self.meta.state.cluster_id.clone());
            return self.save_identity(NodeIdentity { uuid, node: self.id, cluster_id }, out);
        }
        let is_member = self.meta.state.nodes.contains_key(&self.id);
        let here = self.shards.iter().filter(|shard| self.serves(shard)).count();
        let serving = here + self.cells.reports().map(|report| report.serving).sum::<usize>();
        if is_member && serving > 0 && serving == self.meta.state.shards.len() {
            if !self.may_serve() {
                return self.read_meta(out);
            }
            self.ready = true;
            self.tell_gateway(out);
            let here: u64 = self.replicas().map(|replica| replica.keyspace.total_len() as u64).sum();
            let keys = here + self.cells.reports().map(|report| report.keys).sum::<u64>();
            let applied = self.replicas().map(|replica| replica.applied).next().unwrap_or_default();
            let cluster_id = self.meta.state.cluster_id.clone();
            out.push(Output::Note(Note::Ready { cluster_id, keys, applied }));
        }
    }

    /// True if a shard here has a leader, which knows its whole log if it is this node.
    pub(crate) fn serves(&self, shard: &Shard) -> bool {
        match &shard.replica {
            Some(replica) if replica.group.is_leader() => replica.group.leads_with_all_applied(),
            _ => shard.leader().is_some(),
        }
    }

    fn propose_founding(&mut self, out: &mut Vec<Output>) {
        let command = MetaCommand::Found {
            cluster_id: self.new_cluster_id.clone(),
            replicas: self.settings.replicas() as u32,
            shards: self.settings.shards() as u32,
            node: self.id,
            uuid: self.identity.uuid,
            record: self.announced.clone(),
        };
        self.propose_meta_for_nobody(command, out);
    }

    /// The replicas of shards on this node.
    pub(crate) fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.shards.iter().filter_map(|shard| shard.replica.as_ref())
    }
}
