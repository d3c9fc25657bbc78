//! A world of nodes that form a cluster: processes with disks at addresses, connections that break late, messages that
//! take their time. What happens at the other end of a request to join is as simple as it can be: a member lets one in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use skep_base::{LinkId, Millis, NodeId, NodeUuid, Rng};
use skep_placement::{Decision, Forming, FormingInput, JoinReply, Offer};

const FAULTS_MS: u64 = 20_000;
/// Time for stale connections to be noticed, and then for two founders to show.
const PEACE_MS: u64 = 30_000;
/// A connection to a machine that died is noticed after this at the latest.
const STALE_MS: u64 = 6_000;

pub struct WorldConfig {
    /// Addresses, all in the list of each node.
    pub nodes: usize,
    /// Disks may be lost.
    pub wipes: bool,
}

pub struct World {
    rng: Rng,
    now: u64,
    wipes: bool,
    /// All lists lead to all nodes.
    one_list: bool,
    faults: bool,
    nodes: Vec<Node>,
    /// By time and number, so that equal times keep the order.
    events: BTreeMap<(u64, u64), Event>,
    next: u64,
    blocked: BTreeSet<(usize, usize)>,
    /// The founder's uuid and whom it had met, by cluster.
    foundings: BTreeMap<String, (NodeUuid, Vec<NodeUuid>)>,
}

struct Node {
    uuid: NodeUuid,
    /// On disk.
    cluster: String,
    /// Grows with each start; events of an earlier run are void.
    run: u64,
    list: Vec<String>,
    process: Option<Process>,
}

struct Process {
    forming: Option<Forming>,
    /// By the address dialed.
    links: BTreeMap<String, Link>,
    ticks_at: Option<u64>,
}

#[derive(Clone)]
struct Link {
    id: LinkId,
    to: usize,
    run: u64,
    uuid: NodeUuid,
}

enum Event {
    Start { node: usize },
    Tick { node: usize, run: u64 },
    Dial { node: usize, run: u64, address: String },
    Break { node: usize, run: u64, address: String, link: LinkId },
    Offer { from: NodeUuid, to: usize, run: u64, offer: Offer },
    Ask { node: usize, run: u64, link: LinkId },
    Reply { node: usize, run: u64, link: LinkId, reply: JoinReply },
    Saved { node: usize, run: u64, cluster: String, founded: Option<Vec<NodeUuid>> },
}

impl World {
    pub fn new(seed: u64, config: &WorldConfig) -> World {
        let mut rng = Rng::new(seed);
        let lists = (0..config.nodes)
            .map(|node| {
                // The same nodes in any order; a node may leave itself out or name another twice.
                let mut list: Vec<String> = (0..config.nodes).map(|n| format!("n{n}")).collect();
                if rng.one_in(3) {
                    list.remove(node);
                }
                if rng.one_in(3) {
                    list.push(format!("alias-n{}", rng.below(config.nodes as u64)));
                }
                list
            })
            .collect();
        World { wipes: config.wipes, one_list: true, ..World::build(rng, lists) }
    }

    pub fn with_random_lists(seed: u64, nodes: usize) -> World {
        let mut rng = Rng::new(seed);
        let mut list = |_| (0..nodes).filter(|_| !rng.one_in(3)).map(|n| format!("n{n}")).collect();
        let lists = (0..nodes).map(&mut list).collect();
        World::build(rng, lists)
    }

    fn build(mut rng: Rng, lists: Vec<Vec<String>>) -> World {
        let mut node = |list| {
            let uuid = NodeUuid(u128::from(rng.below(1 << 40)));
            Node { uuid, cluster: String::new(), run: 0, list, process: None }
        };
        let nodes: Vec<Node> = lists.into_iter().map(&mut node).collect();
        let mut world = World {
            rng,
            now: 0,
            wipes: false,
            one_list: false,
            faults: true,
            nodes,
            events: BTreeMap::new(),
            next: 0,
            blocked: BTreeSet::new(),
            foundings: BTreeMap::new(),
        };
        for node in 0..world.nodes.len() {
            let longest = if world.rng.one_in(2) { 300 } else { 10_000 };
            world.after(longest, Event::Start { node });
        }
        world
    }

    // ---- runs -------------------------------------------------------------------------------------------------------

    pub fn run_with_faults(&mut self) {
        while self.now < FAULTS_MS {
            if self.rng.one_in(40) {
                self.hurt();
            }
            self.step(FAULTS_MS);
        }
    }

    pub fn run_in_peace(&mut self) {
        self.faults = false;
        self.blocked.clear();
        for node in 0..self.nodes.len() {
            if self.nodes[node].process.is_none() {
                self.after(1000, Event::Start { node });
            }
        }
        while self.now < FAULTS_MS + PEACE_MS && !self.all_are_members() {
            self.step(FAULTS_MS + PEACE_MS);
        }
    }

    fn step(&mut self, until: u64) {
        match self.events.first_key_value().map(|(key, _)| *key) {
            Some(key) if key.0 <= until => {
                self.now = key.0;
                let event = self.events.remove(&key).unwrap();
                self.carry_out(event);
            }
            _ => self.now = until,
        }
        let clusters = self.clusters_on_disks();
        // Two that were founded by lists that fit are on two disks only if something is broken.
        assert!(
            !self.one_list || clusters.len() <= 1,
            "{clusters:?} on disks at {}\n{}",
            self.now,
            self.describe()
        );
    }

    fn hurt(&mut self) {
        let node = self.rng.below(self.nodes.len() as u64) as usize;
        let other = self.rng.below(self.nodes.len() as u64) as usize;
        match self.rng.below(8) {
            0..=2 => self.crash(node),
            3 if self.wipes => {
                self.crash(node);
                self.nodes[node].uuid = NodeUuid(u128::from(self.rng.below(1 << 40)));
                self.nodes[node].cluster.clear();
            }
            3 | 4 => {
                self.blocked.insert((node, other));
                self.break_links(|from, link| from == node && link.to == other);
            }
            5 => self.break_links(|from, link| from == node && link.to == other),
            _ => self.blocked.clear(),
        }
    }

    fn crash(&mut self, node: usize) {
        self.nodes[node].process = None;
        self.nodes[node].run += 1;
        let run = self.nodes[node].run;
        self.break_links(|_, link| link.to == node && link.run < run);
        self.after(4000, Event::Start { node });
    }

    /// Each of these connections ends some time soon, or late if nobody tells.
    fn break_links(&mut self, which: impl Fn(usize, &Link) -> bool) {
        let mut broken = Vec::new();
        for (from, node) in self.nodes.iter().enumerate() {
            let links = node.process.iter().flat_map(|process| &process.links);
            for (address, link) in links.filter(|(_, link)| which(from, link)) {
                broken.push(Event::Break {
                    node: from,
                    run: node.run,
                    address: address.clone(),
                    link: link.id,
                });
            }
        }
        for event in broken {
            let longest = if self.rng.one_in(4) { STALE_MS } else { 50 };
            self.after(longest, event);
        }
    }

    // ---- events -----------------------------------------------------------------------------------------------------

    fn after(&mut self, longest_ms: u64, event: Event) {
        let at = self.now + 1 + self.rng.below(longest_ms);
        self.next += 1;
        self.events.insert((at, self.next), event);
    }

    /// A message's way. Two of one pair may overtake each other, as on two connections.
    fn latency(&mut self) -> u64 {
        if self.faults && self.rng.one_in(10) { 2000 } else { 20 }
    }

    fn carry_out(&mut self, event: Event) {
        match event {
            Event::Start { node } => self.start(node),
            Event::Tick { node, run } => {
                if let Some(process) = self.process(node, run) {
                    process.ticks_at = None;
                    self.input(node, FormingInput::Tick);
                }
            }
            Event::Dial { node, run, address } => self.dial(node, run, address),
            Event::Break { node, run, address, link } => {
                if let Some(process) = self.process(node, run)
                    && process.links.get(&address).is_some_and(|known| known.id == link)
                {
                    process.links.remove(&address);
                    let reason = "the connection broke".to_owned();
                    self.input(node, FormingInput::Unreachable { address: address.clone(), reason });
                    self.after(500, Event::Dial { node, run, address });
                }
            }
            Event::Offer { from, to, run, offer } => {
                if self.process(to, run).is_some() {
                    self.input(to, FormingInput::Offered { from, offer });
                }
            }
            Event::Ask { node, run, link } => self.on_ask(node, run, link),
            Event::Reply { node, run, link, reply } => {
                let is_open = |process: &mut Process| process.links.values().any(|known| known.id == link);
                if self.process(node, run).is_some_and(is_open) {
                    self.input(node, FormingInput::JoinAnswered { link, reply });
                }
            }
            Event::Saved { node, run, cluster, founded } => {
                if self.process(node, run).is_none() {
                    return;
                }
                if let Some(met) = founded {
                    self.foundings.insert(cluster.clone(), (self.nodes[node].uuid, met));
                }
                self.nodes[node].cluster = cluster;
                // It introduces itself anew: connections end and are made again, in both directions.
                self.break_links(|from, link| from == node || link.to == node);
            }
        }
    }

    fn process(&mut self, node: usize, run: u64) -> Option<&mut Process> {
        let node = &mut self.nodes[node];
        node.process.as_mut().filter(|_| node.run == run)
    }

    fn start(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.process.is_some() {
            return;
        }
        node.run += 1;
        let forming = node.cluster.is_empty().then(|| Forming::new(node.uuid, node.list.iter().cloned()));
        node.process = Some(Process { forming, links: BTreeMap::new(), ticks_at: None });
        let (run, list) = (node.run, node.list.clone());
        for address in list {
            self.after(100, Event::Dial { node: index, run, address });
        }
        self.input(index, FormingInput::Tick);
    }

    fn dial(&mut self, index: usize, run: u64, address: String) {
        if self.process(index, run).is_none() {
            return;
        }
        let to: usize = address.trim_start_matches("alias-").trim_start_matches('n').parse().unwrap();
        if to == index {
            return self.input(index, FormingInput::SelfFound { address });
        }
        let target = &self.nodes[to];
        if target.process.is_none() || self.blocked.contains(&(index, to)) {
            let reason = "connection refused".to_owned();
            self.input(index, FormingInput::Unreachable { address: address.clone(), reason });
            return self.after(500, Event::Dial { node: index, run, address });
        }
        self.next += 1;
        let link = Link { id: LinkId(self.next), to, run: target.run, uuid: target.uuid };
        let (uuid, cluster_id) = (target.uuid, target.cluster.clone());
        let process = self.process(index, run).expect("it was there above");
        process.links.insert(address.clone(), link.clone());
        self.input(index, FormingInput::Answered { address, link: link.id, uuid, cluster_id });
        self.send_offer(index, to);
    }

    /// Over the connection that the sender dialed or the one that the receiver did: if there is any.
    fn send_offer(&mut self, from: usize, to: usize) {
        let Some(offer) =
            self.nodes[from].process.as_ref().and_then(|process| Some(process.forming.as_ref()?.offer()))
        else {
            return;
        };
        let (uuid, run) = (self.nodes[from].uuid, self.nodes[to].run);
        let is_linked = |a: usize, b: usize| {
            let process = self.nodes[a].process.as_ref();
            process.is_some_and(|process| {
                process.links.values().any(|link| link.to == b && link.run == self.nodes[b].run)
            })
        };
        let is_lost = self.blocked.contains(&(from, to));
        if self.nodes[from].cluster.is_empty() && !is_lost && (is_linked(from, to) || is_linked(to, from)) {
            let latency = self.latency();
            self.after(latency, Event::Offer { from: uuid, to, run, offer });
        }
    }

    fn on_ask(&mut self, asker: usize, run: u64, link: LinkId) {
        let Some(process) = self.process(asker, run) else { return };
        let Some(link) = process.links.values().find(|known| known.id == link).cloned() else { return };
        let member = &self.nodes[link.to];
        if member.run != link.run || member.uuid != link.uuid || member.process.is_none() {
            return;
        }
        let cluster_id = member.cluster.clone();
        let is_busy = self.rng.one_in(3);
        let reply = match is_busy || cluster_id.is_empty() {
            true => JoinReply::Later,
            false => JoinReply::Joined { node: NodeId(9), cluster_id },
        };
        let latency = self.latency();
        self.after(latency, Event::Reply { node: asker, run, link: link.id, reply });
    }

    // ---- the machine under test -------------------------------------------------------------------------------------

    fn input(&mut self, index: usize, input: FormingInput) {
        let (now, run) = (Millis(self.now), self.nodes[index].run);
        let mut out = Vec::new();
        let Some(forming) = self.nodes[index].process.as_mut().and_then(|p| p.forming.as_mut()) else {
            return;
        };
        forming.handle(now, input, &mut out);
        let (met, wakeup) = (forming.offer().met, forming.next_wakeup());
        for decision in out {
            match decision {
                Decision::Offer(_) => {
                    for to in 0..self.nodes.len() {
                        self.send_offer(index, to);
                    }
                }
                Decision::Wait { why } => assert!(!why.is_empty()),
                Decision::AskToJoin { link } => {
                    let latency = self.latency();
                    self.after(latency, Event::Ask { node: index, run, link });
                }
                Decision::Found => {
                    let cluster = format!("cluster-{}", self.next);
                    self.save(index, cluster, Some(met.clone()));
                }
                Decision::Joined { cluster_id, .. } => self.save(index, cluster_id, None),
            }
        }
        let Some(wakeup) = wakeup else { return };
        let process = self.nodes[index].process.as_mut().unwrap();
        if process.ticks_at.is_none_or(|at| at > wakeup.0) {
            process.ticks_at = Some(wakeup.0);
            self.next += 1;
            self.events.insert((wakeup.0.max(self.now + 1), self.next), Event::Tick { node: index, run });
        }
    }

    fn save(&mut self, node: usize, cluster: String, founded: Option<Vec<NodeUuid>>) {
        let run = self.nodes[node].run;
        let longest = if self.faults && self.rng.one_in(3) { 3000 } else { 20 };
        self.after(longest, Event::Saved { node, run, cluster, founded });
    }

    // ---- what came of it --------------------------------------------------------------------------------------------

    pub fn clusters_on_disks(&self) -> BTreeSet<&str> {
        self.nodes.iter().map(|node| node.cluster.as_str()).filter(|cluster| !cluster.is_empty()).collect()
    }

    pub fn all_are_members(&self) -> bool {
        self.nodes.iter().all(|node| !node.cluster.is_empty())
    }

    pub fn founded(&self) -> usize {
        self.foundings.len()
    }

    pub fn assert_founders_had_consent(&self) {
        let mut consented = BTreeMap::new();
        for (cluster, (founder, met)) in &self.foundings {
            assert!(met.contains(founder) && met[0] == *founder);
            for uuid in met {
                let other = consented.insert(*uuid, cluster);
                assert!(
                    other.is_none(),
                    "node {uuid} agreed to {cluster} and {other:?}\n{}",
                    self.describe()
                );
            }
        }
    }

    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let forming = node.process.as_ref().and_then(|process| process.forming.as_ref());
            let why = forming.map(|forming| forming.why().to_owned());
            let _ = writeln!(text, "n{index} {} {:?} list {:?}: {why:?}", node.uuid, node.cluster, node.list);
        }
        text
    }
}
