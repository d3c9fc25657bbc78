//! The other nodes, as this one reaches them: which link leads to whom, and when each was heard.

use std::collections::{BTreeMap, BTreeSet};

use skep_base::{GroupId, LinkId, LogIndex, Millis, NodeId, NodeUuid, Term};
use skep_peer::{GroupBeat, LinkOutput, Links, Peer, PeerMessage};

use crate::kept::Kept;

/// A node that was not heard for this long may be gone.
pub(crate) const SUSPECT_MS: u64 = 1_000;
/// A node that was not heard for this long is taken for gone.
pub(crate) const DOWN_MS: u64 = 5_000;

pub(crate) struct Peers {
    pub links: Links,
    /// Members of the cluster, by the ids that they say they have.
    nodes: BTreeMap<NodeId, Reach>,
    /// Links that are up.
    up: BTreeMap<LinkId, Up>,
    /// The addresses of links that are being made.
    pub dialing: BTreeMap<LinkId, String>,
    /// Effects of the links being carried out; kept for their memory.
    pub outputs: Vec<LinkOutput>,
    /// When the next beat is due.
    pub beat_at: Millis,
    /// Messages that may have been lost with a link and were sent again on another.
    pub said_again: u64,
    /// Where the hub has the links: what it is to send in this turn, each with the run of the node that it is for.
    for_hub: Option<Vec<(NodeId, u64, PeerMessage)>>,
}

/// A link over which messages go.
#[derive(Clone, Debug)]
pub(crate) struct Up {
    pub uuid: NodeUuid,
    pub node: NodeId,
    pub incarnation: u64,
    pub cluster_id: String,
    /// The address that this node dialed; `None` for a link that the other one made.
    pub dialed: Option<String>,
}

/// How to reach a node.
#[derive(Default)]
struct Reach {
    dialed: Option<LinkId>,
    accepted: BTreeSet<LinkId>,
    /// The hub has a way to it.
    through_hub: bool,
    incarnation: u64,
    heard: Option<Millis>,
    /// In order.
    groups: Vec<GroupBeat>,
    may_lead: bool,
    kept: Kept,
}

impl Reach {
    fn beat_of(&self, group: GroupId) -> Option<&GroupBeat> {
        let found = self.groups.binary_search_by_key(&group, |of| of.group);
        found.ok().map(|at| &self.groups[at])
    }
}

impl Peers {
    /// With `is_hub` unset nothing goes over `links`.
    pub fn new(links: Links, is_hub: bool) -> Peers {
        Peers {
            links,
            nodes: BTreeMap::new(),
            up: BTreeMap::new(),
            dialing: BTreeMap::new(),
            outputs: Vec::new(),
            beat_at: Millis(0),
            said_again: 0,
            for_hub: (!is_hub).then(Vec::new),
        }
    }

    /// Sends a message to a node. False if there is no way to it, or none that takes more.
    pub fn send(&mut self, node: NodeId, message: PeerMessage) -> bool {
        if let Some(for_hub) = &mut self.for_hub {
            let Some(reach) = self.nodes.get(&node) else { return false };
            // What is kept for a node until it is there again is kept by the hub.
            if reach.through_hub || Kept::is_kept(&message) {
                for_hub.push((node, reach.incarnation, message));
            }
            return reach.through_hub;
        }
        let sent = self.link_to(node).is_some_and(|link| self.links.send(link, &message));
        if let Some(reach) = self.nodes.get_mut(&node) {
            reach.kept.keep(message);
        }
        sent
    }

    /// A link that led to a node is gone, or the first one is there: says again what it may not have heard, if there is a way.
    pub fn say_again(&mut self, node: NodeId) {
        let (Some(link), Some(reach)) = (self.link_to(node), self.nodes.get(&node)) else { return };
        for message in reach.kept.all() {
            self.links.send(link, &message);
            self.said_again += 1;
        }
    }

    /// The other side of a link has all answers to what it forwarded before `floor`; see [`Kept::on_floor`].
    pub fn on_floor(&mut self, link: LinkId, (group, term): (GroupId, Term), floor: u64) {
        let Some(up) = self.up.get(&link) else { return };
        // What an earlier run of that node sent may be read behind the first words of the next one.
        if let Some(reach) = self.nodes.get_mut(&up.node)
            && reach.incarnation == up.incarnation
        {
            reach.kept.on_floor(group, term, floor);
        }
    }

    /// True if appends of a group wait here on their way to a node.
    pub fn holds_appends(&self, node: NodeId, group: GroupId) -> bool {
        self.link_to(node).is_some_and(|link| self.links.holds_appends(link, group))
    }

    /// What the hub is to send.
    pub fn take_for_hub(&mut self) -> Vec<(NodeId, u64, PeerMessage)> {
        self.for_hub.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The hub has a way to this run of a node, or none any more.
    pub fn set_way(&mut self, node: NodeId, incarnation: Option<u64>, now: Millis) {
        let reach = self.nodes.entry(node).or_default();
        reach.through_hub = incarnation.is_some();
        if let Some(incarnation) = incarnation {
            reach.incarnation = incarnation;
            reach.heard = Some(now);
        }
    }

    /// True if there is a way to a node.
    pub fn is_linked(&self, node: NodeId) -> bool {
        self.link_to(node).is_some() || self.nodes.get(&node).is_some_and(|reach| reach.through_hub)
    }

    /// The nodes that the hub has a link to.
    pub fn linked(&self) -> impl Iterator<Item = NodeId> {
        let has_link = |reach: &Reach| reach.dialed.is_some() || !reach.accepted.is_empty();
        self.nodes.iter().filter(move |(_, reach)| has_link(reach)).map(|(node, _)| *node)
    }

    /// Bytes that wait to be sent to a node.
    pub fn unsent_to(&self, node: NodeId) -> usize {
        self.link_to(node).map_or(0, |link| self.links.unsent_bytes(link))
    }

    /// The link to send on: the one that this node made, or one that the other made while there is none.
    #[inline]
    fn link_to(&self, node: NodeId) -> Option<LinkId> {
        let reach = self.nodes.get(&node)?;
        reach.dialed.or_else(|| reach.accepted.last().copied())
    }

    pub fn up(&self, link: LinkId) -> Option<&Up> {
        self.up.get(&link)
    }

    /// All links that are up.
    pub fn all_up(&self) -> impl Iterator<Item = (LinkId, &Up)> {
        self.up.iter().map(|(link, up)| (*link, up))
    }

    /// The start of a node that links lead to now.
    pub fn incarnation_of(&self, node: NodeId) -> Option<u64> {
        self.nodes.get(&node).map(|reach| reach.incarnation)
    }

    /// Takes note of a new link. True if what is sent to the node now takes another way than before.
    pub fn on_up(&mut self, link: LinkId, peer: Peer, dialed: Option<String>, now: Millis) -> bool {
        let Peer { uuid, node, cluster_id, incarnation, .. } = peer;
        let before = self.link_to(node);
        if node != NodeId(0) {
            let reach = self.nodes.entry(node).or_default();
            if std::mem::replace(&mut reach.incarnation, incarnation) != incarnation {
                reach.kept = Kept::default();
            }
            reach.heard = Some(now);
            match dialed {
                Some(_) => reach.dialed = Some(link),
                None => drop(reach.accepted.insert(link)),
            }
        }
        self.up.insert(link, Up { uuid, node, incarnation, cluster_id, dialed });
        self.link_to(node) != before
    }

    /// Takes note that a link is gone. The node that it led to, if what was sent to it took this way.
    pub fn on_down(&mut self, link: LinkId) -> Option<NodeId> {
        let up = self.up.remove(&link)?;
        let before = self.link_to(up.node);
        let reach = self.nodes.get_mut(&up.node)?;
        reach.accepted.remove(&link);
        reach.dialed.take_if(|dialed| *dialed == link);
        (before == Some(link)).then_some(up.node)
    }

    /// Takes note that something came from a node.
    pub fn on_heard(&mut self, link: LinkId, now: Millis) {
        if let Some(node) = self.up.get(&link).map(|up| up.node) {
            self.on_heard_node(node, now);
        }
    }

    pub fn on_heard_node(&mut self, node: NodeId, now: Millis) {
        if let Some(reach) = self.nodes.get_mut(&node) {
            reach.heard = Some(now);
        }
    }

    /// What a node says of itself.
    pub fn on_beat(&mut self, node: NodeId, mut groups: Vec<GroupBeat>, may_lead: bool) {
        groups.sort_unstable_by_key(|of| of.group);
        if let Some(reach) = self.nodes.get_mut(&node) {
            reach.groups = groups;
            reach.may_lead = may_lead;
        }
    }

    /// True if a node said last that leadership may be given to it.
    pub fn may_lead(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|reach| reach.may_lead)
    }

    /// The last entry that a node has applied, by what it said last.
    pub fn applied(&self, node: NodeId, group: GroupId) -> Option<LogIndex> {
        self.nodes.get(&node)?.beat_of(group).map(|of| of.applied)
    }

    /// True if a node said last that the state of its replica is wrong and being replaced.
    pub fn is_rebuilding(&self, node: NodeId, group: GroupId) -> bool {
        let said = self.nodes.get(&node).and_then(|reach| reach.beat_of(group));
        said.is_some_and(|of| of.rebuilding)
    }

    /// When a node was heard last.
    pub fn heard(&self, node: NodeId) -> Option<Millis> {
        self.nodes.get(&node)?.heard
    }

    /// Who leads a group, by what the nodes say of themselves.
    pub fn leader_of(&self, group: GroupId) -> Option<(NodeId, Term)> {
        let says = |reach: &Reach| reach.beat_of(group)?.leads;
        let all = self.nodes.iter().filter_map(|(node, reach)| Some((*node, says(reach)?)));
        all.max_by_key(|(_, term)| *term)
    }

    /// Forgets nodes that are no members any more. One that is linked may be a member that this node has not heard of yet.
    pub fn retain(&mut self, is_member: impl Fn(NodeId) -> bool) {
        let is_linked =
            |reach: &Reach| reach.dialed.is_some() || !reach.accepted.is_empty() || reach.through_hub;
        self.nodes.retain(|node, reach| is_member(*node) || is_linked(reach));
    }
}
