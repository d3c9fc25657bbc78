//! How a node without a cluster comes to one: it founds it, alone or as the one that all listed nodes agree on, or joins
//! the one that a listed address leads to.
//!
//! Nodes without a cluster tell one another whom their lists led to ([`Offer`]). When all of them met the same nodes, and
//! each address of each list has answered, the smallest uuid founds; the others see a member soon and ask to join.
//!
//! INV-PLACE-8: nodes with equal lists found one cluster. Two founders would each need the offer of the other or of a node
//! that is gone from the other's address, and: an address counts only while a live node answers there; a decision to
//! found is final within a run, so no later offer contradicts it (DESIGN.md has the argument).

use std::collections::{BTreeMap, BTreeSet};

use skep_base::{LinkId, Millis, NodeId, NodeUuid};

/// Nodes in one list; a cluster's limit.
pub const LIST_MAX: usize = crate::state::NODES_MAX;
/// Between two repetitions of an offer, which may be lost or overtaken when links change.
const OFFER_EVERY_MS: u64 = 500;
/// Between two requests to join: as long as an election may take.
const ASK_EVERY_MS: u64 = 500;
/// After a refusal, which only an operator can change.
const ASK_AGAIN_AFTER_REFUSAL_MS: u64 = 5000;
/// Items of a list told in words; the rest are counted.
const TOLD_MAX: usize = 8;

/// What a node tells all nodes that belong to no cluster, as it does itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Offer {
    /// Itself and the nodes that its listed addresses lead to, ascending.
    pub met: Vec<NodeUuid>,
    /// Each listed address has answered.
    pub complete: bool,
}

/// What a member answered to a request to join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinReply {
    Joined {
        node: NodeId,
        cluster_id: String,
    },
    /// Ask again: the meta group has no leader, say.
    Later,
    Refused {
        reason: String,
    },
}

/// One event. Links that were dialed count by the address given, without regard to case or order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FormingInput {
    /// The dialed address leads to this node, which is a member of the cluster named or (empty) of none.
    Answered {
        address: String,
        link: LinkId,
        uuid: NodeUuid,
        cluster_id: String,
    },
    /// The dialed address leads to this node itself.
    SelfFound {
        address: String,
    },
    /// The dialed address does not answer, or the link there broke.
    Unreachable {
        address: String,
        reason: String,
    },
    /// A node that belongs to no cluster told whom it met; over any link.
    Offered {
        from: NodeUuid,
        offer: Offer,
    },
    /// The member at the other end of a link answered a request to join.
    JoinAnswered {
        link: LinkId,
        reply: JoinReply,
    },
    Tick,
}

/// What follows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Send this to all linked nodes that belong to no cluster.
    Offer(Offer),
    /// Nothing can be done yet, for this reason; told when it changes.
    Wait { why: String },
    /// Send a request to join over this link.
    AskToJoin { link: LinkId },
    /// Found a cluster: make its identity durable, then propose the founding. Final.
    Found,
    /// This node has an id: make it durable. Final.
    Joined { node: NodeId, cluster_id: String },
}

/// The state of a node that belongs to no cluster. Dropped when it does.
pub struct Forming {
    me: NodeUuid,
    addresses: BTreeMap<String, Answer>,
    offers: BTreeMap<NodeUuid, Offer>,
    /// What was last told.
    told_offer: Offer,
    told_why: String,
    offer_due: Millis,
    ask_due: Millis,
    /// Requests to join so far: each goes to another member, as one may be cut off from the rest.
    asked: usize,
    refusal: Option<String>,
    is_decided: bool,
}

/// What a listed address led to.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Answer {
    None { reason: String },
    Me,
    Empty { uuid: NodeUuid },
    Member { link: LinkId, cluster_id: String },
}

impl Forming {
    /// A node with the list of `--join`; an empty one founds at the first event. Addresses beyond [`LIST_MAX`] panic: the
    /// settings refuse them.
    pub fn new(me: NodeUuid, addresses: impl IntoIterator<Item = String>) -> Forming {
        let unknown = |address| (address, Answer::None { reason: "not reached yet".to_owned() });
        let addresses: BTreeMap<String, Answer> = addresses.into_iter().map(unknown).collect();
        assert!(addresses.len() <= LIST_MAX, "{} addresses to join, limit is {LIST_MAX}", addresses.len());
        Forming {
            me,
            addresses,
            offers: BTreeMap::new(),
            told_offer: Offer::default(),
            told_why: String::new(),
            offer_due: Millis(0),
            ask_due: Millis(0),
            asked: 0,
            refusal: None,
            is_decided: false,
        }
    }

    /// Advances by one event. After [`Decision::Found`] or [`Decision::Joined`] nothing more comes.
    pub fn handle(&mut self, now: Millis, input: FormingInput, out: &mut Vec<Decision>) {
        if self.is_decided {
            return;
        }
        match input {
            FormingInput::Answered { address, link, uuid, cluster_id } => {
                let answer = match cluster_id.is_empty() {
                    true => Answer::Empty { uuid },
                    false => Answer::Member { link, cluster_id },
                };
                self.on_answer(&address, answer);
            }
            FormingInput::SelfFound { address } => self.on_answer(&address, Answer::Me),
            FormingInput::Unreachable { address, reason } => {
                self.on_answer(&address, Answer::None { reason });
            }
            FormingInput::Offered { from, offer } => self.on_offer(from, offer),
            FormingInput::JoinAnswered { link, reply } => self.on_reply(now, link, reply, out),
            FormingInput::Tick => {}
        }
        if !self.is_decided {
            self.decide(now, out);
        }
    }

    /// When to give [`FormingInput::Tick`] if nothing else comes.
    pub fn next_wakeup(&self) -> Option<Millis> {
        (!self.is_decided).then(|| match self.cluster_in_sight() {
            Sight::One { .. } => self.offer_due.min(self.ask_due),
            _ => self.offer_due,
        })
    }

    /// What to tell a node without a cluster that was just linked.
    pub fn offer(&self) -> Offer {
        let met = self.addresses.values().filter_map(|answer| match answer {
            Answer::Empty { uuid } => Some(*uuid),
            _ => None,
        });
        let met: BTreeSet<NodeUuid> = met.chain([self.me]).collect();
        let answered = |answer: &Answer| matches!(answer, Answer::Me | Answer::Empty { .. });
        Offer { met: met.into_iter().collect(), complete: self.addresses.values().all(answered) }
    }

    /// What this node waits for, in words; empty once it decided.
    pub fn why(&self) -> &str {
        &self.told_why
    }

    // ---- events -----------------------------------------------------------------------------------------------------

    fn on_answer(&mut self, address: &str, answer: Answer) {
        // Others than the listed addresses may be dialed too.
        let Some(known) = self.addresses.get_mut(address) else { return };
        *known = answer;
        let met = self.offer().met;
        self.offers.retain(|uuid, _| met.contains(uuid));
    }

    /// Offers of nodes that the list did not lead to say nothing yet; they are repeated.
    fn on_offer(&mut self, from: NodeUuid, offer: Offer) {
        if offer.met.len() <= LIST_MAX + 1 && from != self.me && self.offer().met.contains(&from) {
            let met: BTreeSet<NodeUuid> = offer.met.into_iter().collect();
            self.offers.insert(from, Offer { met: met.into_iter().collect(), ..offer });
        }
    }

    fn on_reply(&mut self, now: Millis, link: LinkId, reply: JoinReply, out: &mut Vec<Decision>) {
        let asked = self.addresses.values().find_map(|answer| match answer {
            Answer::Member { link: known, cluster_id } if *known == link => Some(cluster_id),
            _ => None,
        });
        // What the members of a cluster say that the list leads to no more is of the past.
        let Some(asked) = asked else { return };
        match reply {
            JoinReply::Joined { node, cluster_id } if cluster_id == *asked => {
                self.is_decided = true;
                self.told_why.clear();
                out.push(Decision::Joined { node, cluster_id });
            }
            JoinReply::Joined { .. } | JoinReply::Later => self.refusal = None,
            JoinReply::Refused { reason } => {
                self.refusal = Some(reason);
                self.ask_due = now.plus(ASK_AGAIN_AFTER_REFUSAL_MS);
            }
        }
    }

    // ---- decisions --------------------------------------------------------------------------------------------------

    fn decide(&mut self, now: Millis, out: &mut Vec<Decision>) {
        match self.cluster_in_sight() {
            Sight::One { links, cluster_id } => self.ask(now, &links, &cluster_id, out),
            Sight::Several { clusters } => self.wait(clusters, out),
            Sight::None => {
                self.refusal = None;
                match self.causes_to_wait() {
                    causes if causes.is_empty() => return self.found(out),
                    causes => self.wait(some_of(&causes, "; "), out),
                }
            }
        }
        self.tell_offer(now, out);
    }

    fn cluster_in_sight(&self) -> Sight {
        let mut clusters: BTreeMap<&String, Vec<(&String, LinkId)>> = BTreeMap::new();
        for (address, answer) in &self.addresses {
            if let Answer::Member { link, cluster_id } = answer {
                clusters.entry(cluster_id).or_default().push((address, *link));
            }
        }
        if clusters.len() > 1 {
            let places: Vec<String> =
                clusters.iter().map(|(cluster, members)| format!("{cluster} at {}", members[0].0)).collect();
            let places = some_of(&places, ", ");
            let clusters = format!("--join leads to different clusters: {places}; list nodes of one only");
            return Sight::Several { clusters };
        }
        match clusters.pop_first() {
            None => Sight::None,
            Some((cluster_id, members)) => {
                let links = members.into_iter().map(|(_, link)| link).collect();
                Sight::One { links, cluster_id: cluster_id.clone() }
            }
        }
    }

    fn ask(&mut self, now: Millis, links: &[LinkId], cluster_id: &str, out: &mut Vec<Decision>) {
        match &self.refusal {
            Some(reason) => {
                self.wait(format!("cluster {cluster_id} refused this node: {reason}"), out);
            }
            None => self.wait(format!("asking cluster {cluster_id} to let this node in"), out),
        }
        if now >= self.ask_due {
            self.ask_due = now.plus(match self.refusal {
                Some(_) => ASK_AGAIN_AFTER_REFUSAL_MS,
                None => ASK_EVERY_MS,
            });
            out.push(Decision::AskToJoin { link: links[self.asked % links.len()] });
            self.asked += 1;
        }
    }

    fn found(&mut self, out: &mut Vec<Decision>) {
        self.is_decided = true;
        self.told_why.clear();
        out.push(Decision::Found);
    }

    /// What stands between this node and founding; empty if it is to found.
    fn causes_to_wait(&self) -> Vec<String> {
        let mut causes: Vec<String> = self
            .addresses
            .iter()
            .filter_map(|(address, answer)| match answer {
                Answer::None { reason } => Some(format!("waiting for {address}: {reason}")),
                _ => None,
            })
            .collect();
        if !causes.is_empty() {
            return causes;
        }
        let mine = self.offer();
        for other in mine.met.iter().filter(|uuid| **uuid != self.me) {
            causes.extend(self.disagreement(&mine, *other));
        }
        if causes.is_empty() && mine.met[0] != self.me {
            causes.push(format!("{} is about to found the cluster", self.called(mine.met[0])));
        }
        causes
    }

    fn disagreement(&self, mine: &Offer, other: NodeUuid) -> Option<String> {
        let name = self.called(other);
        let Some(theirs) = self.offers.get(&other) else {
            return Some(format!("waiting for {name} to say whom it met"));
        };
        if theirs.met != mine.met {
            let listed = |offer: &Offer| {
                let names: Vec<String> = offer.met.iter().map(|uuid| self.called(*uuid)).collect();
                some_of(&names, ", ")
            };
            return Some(format!(
                "{name} has met {}, this node has met {}; if that stays, give all of them the same --join list",
                listed(theirs),
                listed(mine)
            ));
        }
        (!theirs.complete).then(|| format!("waiting for {name} to reach all addresses of its list"))
    }

    /// A node by the address that led to it, as people know it.
    fn called(&self, uuid: NodeUuid) -> String {
        if uuid == self.me {
            return "this node".to_owned();
        }
        let leads_there = |answer: &Answer| matches!(answer, Answer::Empty { uuid: found } if *found == uuid);
        match self.addresses.iter().find(|(_, answer)| leads_there(answer)) {
            Some((address, _)) => address.clone(),
            None => format!("node {uuid}"),
        }
    }

    fn wait(&mut self, why: String, out: &mut Vec<Decision>) {
        if self.told_why != why {
            self.told_why.clone_from(&why);
            out.push(Decision::Wait { why });
        }
    }

    fn tell_offer(&mut self, now: Millis, out: &mut Vec<Decision>) {
        let offer = self.offer();
        if offer != self.told_offer || now >= self.offer_due {
            self.offer_due = now.plus(OFFER_EVERY_MS);
            self.told_offer = offer.clone();
            out.push(Decision::Offer(offer));
        }
    }
}

/// What members the listed addresses lead to.
enum Sight {
    None,
    One { links: Vec<LinkId>, cluster_id: String },
    Several { clusters: String },
}

/// The first of `texts`, and how many more there are.
fn some_of(texts: &[String], between: &str) -> String {
    let told = texts[..texts.len().min(TOLD_MAX)].join(between);
    match texts.len().saturating_sub(TOLD_MAX) {
        0 => told,
        more => format!("{told}{between}and {more} more"),
    }
}
