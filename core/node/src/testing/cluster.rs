//! Several nodes, each with its disk, and a network that delivers at once unless it is cut.

use std::collections::{BTreeMap, BTreeSet};

use skep_base::{ConnId, LinkId, NodeId};

use super::{World, pipeline};
use crate::{Input, Output, Piece};

pub(crate) struct Cluster {
    /// By number from 1; `None` where a node is dead.
    pub nodes: Vec<Option<World>>,
    /// Both ends of each connection.
    links: BTreeMap<(usize, LinkId), (usize, LinkId)>,
    /// Pairs of nodes between which nothing is delivered, in either direction.
    pub cut: BTreeSet<(usize, usize)>,
    /// Ends of connections from which nothing arrives.
    lossy: BTreeSet<(usize, LinkId)>,
    /// Bytes that each end of a connection sends in a step at most.
    rate: usize,
    /// Ends that have more to send than that.
    behind: BTreeSet<(usize, LinkId)>,
    /// Milliseconds that pass in a step.
    pub step_ms: u64,
}

impl Cluster {
    /// Nodes that form a cluster, until all are ready.
    pub fn of(count: u16, settings: &[(&str, &str)]) -> Cluster {
        let join = (1..=count).map(|n| format!("n{n}:17001")).collect::<Vec<_>>().join(",");
        let mut cluster = Cluster::empty();
        for number in 1..=count {
            cluster.start(number, &[settings, &[("join", &join)]].concat());
        }
        cluster.run_until("all are ready", |c| c.alive().all(|w| w.node.is_ready()));
        cluster
    }

    fn empty() -> Cluster {
        Cluster {
            nodes: vec![None],
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
            lossy: BTreeSet::new(),
            rate: usize::MAX,
            behind: BTreeSet::new(),
            step_ms: 5,
        }
    }

    /// Starts an empty node.
    pub fn start(&mut self, number: u16, settings: &[(&str, &str)]) {
        let at = usize::from(number);
        self.nodes.resize_with(self.nodes.len().max(at + 1), || None);
        let mut world = World::numbered(number, settings);
        if let Some(other) = self.alive().next() {
            world.now = other.now;
        }
        self.nodes[at] = Some(world);
    }

    /// Starts an empty node that was another one before it lost its data.
    pub fn start_in_place_of(&mut self, number: u16, was: u16, lost: NodeId) {
        self.start(number, &[("join", "n1:17001,n2:17001")]);
        let node = &mut self.node(usize::from(number)).node;
        node.replaces = Some(lost);
        node.announced.name = format!("n{was}");
    }

    pub fn alive(&self) -> impl Iterator<Item = &World> {
        self.nodes.iter().flatten()
    }

    pub fn node(&mut self, number: usize) -> &mut World {
        self.nodes[number].as_mut().expect("the node lives")
    }

    /// A node dies; what it had not sent is lost.
    pub fn kill(&mut self, number: usize) {
        self.nodes[number] = None;
        let ends: Vec<_> = self.links.keys().filter(|(node, _)| *node == number).copied().collect();
        ends.into_iter().for_each(|end| self.close(end));
    }

    /// A node dies, and starts again from what its disk was given.
    pub fn restart(&mut self, number: usize) {
        let world = self.nodes[number].take();
        self.kill(number);
        self.nodes[number] = world;
        self.node(number).start_again();
    }

    /// The number of the node that leads shard 1 as most others see it.
    pub fn leader(&self) -> Option<usize> {
        let leads = |w: &World| w.node.shards.first().is_some_and(|s| s.leads());
        (1..self.nodes.len()).find(|n| self.nodes[*n].as_ref().is_some_and(leads))
    }

    /// Lets time pass until `done`.
    pub fn run_until(&mut self, what: &str, done: impl Fn(&Cluster) -> bool) {
        for _ in 0..4_000 {
            if done(self) {
                return;
            }
            self.step();
        }
        let notes: Vec<_> = self.alive().map(|w| (&w.notes, w.node.status())).collect();
        panic!("not within 20 s: {what}: {notes:#?}");
    }

    /// Lets time pass.
    pub fn run(&mut self, ms: u64) {
        (0..ms.div_ceil(self.step_ms)).for_each(|_| self.step());
    }

    pub fn step(&mut self) {
        for at in 1..self.nodes.len() {
            let Some(world) = &mut self.nodes[at] else { continue };
            world.advance(self.step_ms);
            world.turn();
            if !world.holds_disk {
                world.persist();
                while world.save_checkpoint() {}
            }
            world.turn();
            self.carry(at);
        }
    }

    /// Sends commands to a node and gives the replies when all are there.
    pub fn ask(&mut self, number: usize, conn: ConnId, commands: &str) -> String {
        self.node(number).receive(conn, pipeline(commands));
        let mut replies = String::new();
        for _ in 0..400 {
            self.step();
            let more = self.node(number).replies(conn);
            if !more.is_empty() {
                replies = [replies, more].join(" ").trim().to_string();
            }
            let client = self.node(number).node.clients.get(conn);
            if client.is_none_or(|c| c.pending() == 0 && !c.waiting) {
                break;
            }
        }
        replies
    }

    /// Moves what a node has for others.
    fn carry(&mut self, at: usize) {
        for asked in std::mem::take(&mut self.node(at).asked) {
            match asked {
                Output::Dial { link, address } => self.dial(at, link, &address),
                Output::CloseLink { link } => self.close((at, link)),
                Output::ReadCheckpoint { group, at: position, chunk } => {
                    let world = self.node(at);
                    let chunks = world.chunks.get(&(group, position));
                    let piece = chunks.and_then(|chunks| {
                        let bytes = chunks.get(chunk as usize)?.clone();
                        Some(Piece::Bytes { bytes, last: chunk as usize + 1 == chunks.len() })
                    });
                    let piece = piece.unwrap_or(Piece::Gone);
                    world.input(Input::CheckpointRead { group, at: position, chunk, piece });
                }
                other => panic!("not asked of the network: {other:?}"),
            }
        }
        let rate = self.rate;
        let mut sent: BTreeMap<LinkId, usize> = BTreeMap::new();
        let of_node = |(node, link): &(usize, LinkId)| (*node == at).then_some(*link);
        let mut ready: Vec<LinkId> = self.behind.iter().filter_map(of_node).collect();
        self.behind.retain(|(node, _)| *node != at);
        while let Some(link) = ready.pop().or_else(|| self.node(at).node.next_link_with_output()) {
            let sent = sent.entry(link).or_default();
            let unsent = self.node(at).node.unsent_on(link);
            let bytes = unsent[..unsent.len().min(rate - *sent)].to_vec();
            if bytes.len() < unsent.len() {
                self.behind.insert((at, link));
            }
            if bytes.is_empty() {
                continue;
            }
            *sent += bytes.len();
            self.node(at).node.on_link_sent(link, bytes.len());
            let Some((to, other)) = self.links.get(&(at, link)).copied() else { continue };
            if self.cut.contains(&(at.min(to), at.max(to))) || self.lossy.contains(&(at, link)) {
                continue;
            }
            if let Some(peer) = &mut self.nodes[to] {
                peer.input(Input::LinkReceived { link: other, bytes: &bytes });
            }
        }
    }

    fn dial(&mut self, from: usize, link: LinkId, address: &str) {
        let to = address.strip_prefix('n').and_then(|a| a.split_once(':')).and_then(|(n, _)| n.parse().ok());
        let to: usize = to.expect("addresses are n<number>:<port>");
        let is_cut = self.cut.contains(&(from.min(to), from.max(to)));
        let now = self.node(from).now;
        let other = match self.nodes.get_mut(to).and_then(Option::as_mut) {
            Some(peer) if !is_cut => peer.node.accept_link(now, format!("n{from}:5000")),
            _ => None,
        };
        match other {
            Some(other) => {
                self.links.insert((from, link), (to, other));
                self.links.insert((to, other), (from, link));
                self.node(from).input(Input::LinkDialed { link });
            }
            None => {
                let reason = "connection refused".to_string();
                self.node(from).input(Input::LinkClosed { link, reason });
            }
        }
    }

    /// The end at `from` of the connection that `from` made to `to`.
    fn dialed(&self, from: usize, to: usize) -> (usize, LinkId) {
        let peers = &self.nodes[from].as_ref().expect("the node lives").node.peers;
        let mut dialed = peers.all_up().filter(|(_, up)| up.dialed.is_some()).map(|(link, _)| (from, link));
        dialed.find(|end| self.links.get(end).is_some_and(|other| other.0 == to)).expect("they are linked")
    }

    /// A connection breaks, for both of its ends.
    fn break_link(&mut self, end: (usize, LinkId)) {
        self.node(end.0).input(Input::LinkClosed { link: end.1, reason: "broken".into() });
        self.close(end);
    }

    fn close(&mut self, end: (usize, LinkId)) {
        let Some((to, link)) = self.links.remove(&end) else { return };
        self.links.remove(&(to, link));
        if let Some(peer) = &mut self.nodes[to] {
            peer.input(Input::LinkClosed { link, reason: "connection reset".into() });
        }
    }
}

#[cfg(test)]
mod tests {
    use skep_base::GroupId;

    use super::*;
    use crate::Note;

    fn applied(world: &World) -> u64 {
        world.node.applied_index()
    }

    #[test]
    fn three_empty_nodes_form_one_cluster_and_share_every_write() {
        let mut c = Cluster::of(3, &[]);
        c.run_until("three voters everywhere", |c| {
            c.alive().all(|w| {
                let status = w.node.status();
                status.shards.iter().all(|s| s.replicas.iter().filter(|r| r.voter).count() == 3)
            })
        });
        let ids: BTreeSet<String> = c.alive().map(|w| w.node.status().cluster_id).collect();
        assert_eq!(ids.len(), 1);
        for number in 1..=3 {
            let conn = c.node(number).connect();
            let reply = c.ask(number, conn, &format!("SET k{number} v{number}\nGET k{number}"));
            assert_eq!(reply, format!("+OK $2 v{number}"));
        }
        let conn = c.node(3).connect();
        assert_eq!(c.ask(3, conn, "GET k1\nGET k2\nDBSIZE"), "$2 v1 $2 v2 :3");
        c.run_until("all have applied all", |c| {
            let all: BTreeSet<u64> = c.alive().map(applied).collect();
            all.len() == 1
        });
        let digests: BTreeSet<_> = c.alive().map(|w| w.node.digests()).collect();
        assert_eq!(digests.len(), 1);
    }

    #[test]
    fn a_dead_leader_is_not_noticed_by_clients_of_others() {
        let mut c = Cluster::of(3, &[]);
        c.run(2_000);
        let dead = c.leader().expect("one leads");
        let number = if dead == 1 { 2 } else { 1 };
        let conn = c.node(number).connect();
        assert_eq!(c.ask(number, conn, "SET a 1"), "+OK");
        // On its way when the leader dies.
        c.node(number).receive(conn, pipeline("INCR a\nRPUSH list x\nGET a"));
        c.node(number).turn();
        c.carry(number);
        c.kill(dead);
        let mut replies = Vec::new();
        for _ in 0..400 {
            c.step();
            replies.extend(Some(c.node(number).replies(conn)).filter(|r| !r.is_empty()));
        }
        assert_eq!(replies.join(" "), ":2 :1 $1 2");
        assert_eq!(c.ask(number, conn, "LRANGE list 0 -1"), "*1 $1 x", "carried out once");
    }

    #[test]
    fn a_node_joins_one_that_has_data_and_gets_a_copy() {
        let mut c = Cluster::empty();
        c.start(1, &[]);
        c.run_until("it is ready", |c| c.alive().all(|w| w.node.is_ready()));
        let conn = c.node(1).connect();
        for round in 0..20 {
            let sets: String = (0..50).map(|n| format!("SET k{round}-{n} {}\n", "v".repeat(100))).collect();
            c.ask(1, conn, &sets);
        }
        c.ask(1, conn, "BGSAVE");
        c.start(2, &[("join", "n1:17001")]);
        c.run_until("it has a copy", |c| {
            c.alive().count() == 2 && c.alive().all(|w| w.node.status().keys == 1_000)
        });
        let conn = c.node(2).connect();
        assert_eq!(c.ask(2, conn, "DBSIZE\nSET last 1\nGET last"), ":1000 +OK $1 1");
        c.run(1_000);
        let digests: BTreeSet<_> = c.alive().map(|w| w.node.digests()).collect();
        assert_eq!(digests.len(), 1);
    }

    #[test]
    fn a_drained_node_gives_up_its_copies_and_can_be_removed() {
        let mut c = Cluster::of(3, &[]);
        c.run(2_000);
        let conn = c.node(2).connect();
        assert_eq!(
            c.ask(2, conn, "SET a 1\nSKEP NODE REMOVE n1"),
            "+OK -ERR node 1 is not drained; run 'skep node drain 1' first"
        );
        assert_eq!(c.ask(2, conn, "SKEP NODE DRAIN n1"), "+OK");
        c.run_until("no copy is on node 1", |c| {
            let status = c.nodes[2].as_ref().unwrap().node.status();
            status.shards.iter().all(|s| s.leader.is_some() && s.replicas.iter().all(|r| r.node.0 != 1))
        });
        c.run(1_000);
        assert_eq!(
            c.ask(2, conn, "SKEP NODE REMOVE n1\nGET a\nSKEP NODE DRAIN nobody"),
            "+OK $1 1 -ERR no node is called nobody; there are n2, n3"
        );
        c.run_until("it stops", |c| c.nodes[1].as_ref().unwrap().stopped);
        c.kill(1);
        assert_eq!(c.ask(2, conn, "SET a 2\nGET a"), "+OK $1 2");
        c.start(4, &[("join", "n2:17001,n3:17001")]);
        c.run_until("the new one has a copy", |c| {
            let status = c.nodes[2].as_ref().unwrap().node.status();
            status.shards.iter().all(|s| s.replicas.iter().filter(|r| r.voter).count() == 3)
        });
        let conn = c.node(4).connect();
        assert_eq!(c.ask(4, conn, "GET a"), "$1 2");
    }

    #[test]
    fn a_node_that_was_cut_off_while_it_was_removed_is_told_when_it_comes_back() {
        let mut c = Cluster::of(3, &[]);
        c.run(2_000);
        let gone = if c.leader() == Some(3) { 2 } else { 3 };
        let left: Vec<usize> = (1..=3).filter(|n| *n != gone).collect();
        c.cut.extend(left.iter().map(|n| (gone.min(*n), gone.max(*n))));
        let conn = c.node(left[0]).connect();
        assert_eq!(c.ask(left[0], conn, &format!("SKEP NODE DRAIN n{gone}")), "+OK");
        let two_voters = |w: &World| {
            let status = w.node.status();
            status.meta.voters.len() == 2 && status.shards.iter().all(|s| s.replicas.len() == 2)
        };
        c.run_until("it holds nothing", |c| left.iter().all(|n| two_voters(c.nodes[*n].as_ref().unwrap())));
        c.run(1_000);
        assert_eq!(c.ask(left[0], conn, &format!("SKEP NODE REMOVE n{gone}")), "+OK");
        c.run(2_000);
        assert!(!c.node(gone).stopped, "nothing reaches it");
        c.cut.clear();
        c.run_until("it stops", |c| c.nodes[gone].as_ref().unwrap().stopped);
        assert_eq!(c.ask(left[0], conn, "SET a 1\nGET a"), "+OK $1 1");
    }

    #[test]
    fn a_node_that_is_told_to_stop_hands_over_and_nobody_notices() {
        let mut c = Cluster::of(3, &[]);
        c.run(2_000);
        let leader = c.leader().expect("one leads");
        let other = if leader == 1 { 2 } else { 1 };
        let (conn, own) = (c.node(other).connect(), c.node(leader).connect());
        assert_eq!(c.ask(other, conn, "SET a 1"), "+OK");
        c.node(leader).input(Input::Stop);
        let mut replies = Vec::new();
        for _ in 0..40 {
            c.node(other).receive(conn, pipeline("INCR a"));
            c.node(leader).receive(own, pipeline("INCR b"));
            c.step();
            replies.push(c.node(other).replies(conn));
            if c.node(leader).stopped {
                break;
            }
        }
        assert!(c.node(leader).stopped);
        assert!(!c.node(leader).replies(own).contains("UNCERTAIN"));
        c.kill(leader);
        c.run(1_000);
        replies.push(c.node(other).replies(conn));
        assert!(replies.iter().all(|r| !r.contains('-')), "{replies:?}");
        assert!(c.leader().is_some_and(|now| now != leader));
    }

    #[test]
    fn shards_are_spread_over_slots_and_a_command_over_several_says_so() {
        let mut c = Cluster::of(3, &[("shards", "4")]);
        c.run(8_000);
        let conn = c.node(2).connect();
        let sets: String = (0..100).map(|n| format!("SET k{n} {n}\n")).collect();
        let reply = c.ask(2, conn, &sets);
        assert_eq!(reply, vec!["+OK"; 100].join(" "), "replies keep their order over shards");
        let conn = c.node(3).connect();
        let gets: String = (0..100).map(|n| format!("GET k{n}\n")).collect();
        let expected: Vec<String> = (0..100).map(|n: i32| format!("${} {n}", n.to_string().len())).collect();
        assert_eq!(c.ask(3, conn, &gets), expected.join(" "));
        let led: Vec<u64> = c.alive().map(|w| w.node.status().leading).collect();
        assert!(led.iter().all(|led| (1..=2).contains(led)), "{led:?} of 4 shards");
        let refused = c.ask(3, conn, "MSET a 1 b 2");
        assert!(refused.starts_with("-ERR the keys of mset are in shards"), "{refused}");
        assert_eq!(c.ask(3, conn, "MSET {t}a 1 {t}b 2"), "+OK");
        let refused = c.ask(3, conn, "DBSIZE");
        assert!(refused.starts_with("-ERR dbsize concerns all 4 shards"), "{refused}");
    }

    #[test]
    fn forwards_that_were_given_up_do_not_hold_up_those_behind_them() {
        let mut c = Cluster::of(3, &[("request-timeout", "1000")]);
        c.run(2_000);
        let leader = c.leader().expect("one leads");
        let other = if leader == 1 { 2 } else { 1 };
        let conn = c.node(other).connect();
        assert_eq!(c.ask(other, conn, "SET a 1"), "+OK");
        // Lost on the way, with the link that carried it, for longer than its client waits; the leader stays.
        c.node(other).receive(conn, pipeline("INCR a"));
        c.node(other).turn();
        while let Some(link) = c.node(other).node.next_link_with_output() {
            let bytes = c.node(other).node.unsent_on(link).len();
            c.node(other).node.on_link_sent(link, bytes);
        }
        c.cut.insert((other.min(leader), other.max(leader)));
        let between = |(a, b): &(&(usize, LinkId), &(usize, LinkId))| a.0 == other && b.0 == leader;
        let ends: Vec<_> = c.links.iter().filter(between).map(|(end, _)| *end).collect();
        for end in ends {
            c.node(other).input(Input::LinkClosed { link: end.1, reason: "cut".into() });
            c.close(end);
        }
        c.run(1_500);
        let told = c.node(other).replies(conn);
        assert!(told.is_empty() || told == ":2" || told.starts_with("-UNCERTAIN"), "{told}");
        c.cut.clear();
        c.run(3_000);
        let conn = c.node(other).connect();
        assert_eq!(c.ask(other, conn, "SET b 1\nGET b"), "+OK $1 1");
    }

    #[test]
    fn a_read_never_sees_a_write_that_was_sent_behind_it_and_came_with_a_checkpoint() {
        let mut c = Cluster::of(3, &[("request-timeout", "20000")]);
        c.run(2_000);
        let leader = c.leader().expect("one leads");
        let other = if leader == 1 { 2 } else { 1 };
        let (conn, own) = (c.node(other).connect(), c.node(leader).connect());
        assert_eq!(c.ask(other, conn, "RPUSH list a"), ":1");
        // Carried out, but the answers are lost.
        c.node(other).receive(conn, pipeline("LRANGE list 0 -1\nRPUSH list x"));
        c.node(other).turn();
        c.carry(other);
        c.cut.extend((1..=3).filter(|n| *n != other).map(|n| (other.min(n), other.max(n))));
        // More than the leader keeps in memory behind a checkpoint.
        let much = format!("SET big {}", "v".repeat(9 << 20));
        assert_eq!(c.ask(leader, own, &format!("{much}\n{much}\nLLEN list\nSAVE")), "+OK +OK :2 +OK");
        let fetched = |c: &Cluster| {
            let of_shard = |n: &&Note| matches!(n, Note::Fetched { group: GroupId(1), .. });
            c.nodes[other].as_ref().unwrap().notes.iter().filter(of_shard).count()
        };
        let before = fetched(&c);
        c.cut.clear();
        c.run_until("it has the checkpoint", |c| fetched(c) > before);
        // An entry of the same term that goes on with what was forwarded.
        let later = c.node(other).connect();
        assert_eq!(c.ask(other, later, "RPUSH list y"), ":3");
        let replies = c.node(other).replies(conn);
        assert!(replies.starts_with("-TRYAGAIN a checkpoint took the place"), "{replies}");
    }

    #[test]
    fn answers_lost_with_the_link_of_the_leader_alone_are_given_again() {
        for replicas in ["1", "3"] {
            let mut c = Cluster::of(3, &[("replicas", replicas)]);
            c.run(3_000);
            let leader = c.leader().expect("one leads");
            let other = if leader == 1 { 2 } else { 1 };
            let conn = c.node(other).connect();
            assert_eq!(c.ask(other, conn, "SET a 1"), "+OK");
            for (commands, expected) in [("GET a", "$1 1"), ("INCR a\nGET a\nINCR a", ":2 $1 2 :3")] {
                let end = c.dialed(leader, other);
                c.lossy.insert(end);
                c.node(other).receive(conn, pipeline(commands));
                c.run(100);
                assert_eq!(c.node(other).replies(conn), "");
                c.break_link(end);
                c.run(100);
                assert_eq!(c.node(other).replies(conn), expected, "{replicas} replicas");
                assert!(c.node(leader).node.peers.said_again > 0);
                c.run(1_000);
            }
            assert_eq!(c.ask(other, conn, "GET a"), "$1 3", "carried out once");
        }
    }

    #[test]
    fn a_large_value_on_a_slow_network_costs_no_election_and_holds_nobody_up() {
        let mut c = Cluster::of(3, &[("request-timeout", "60000")]);
        c.run(2_000);
        let terms = |c: &Cluster| -> BTreeSet<_> { c.alive().map(|w| w.node.shards[0].leader()).collect() };
        let before = terms(&c);
        assert_eq!(before.len(), 1, "all know the leader");
        // 25 MB a second, and a value of 120 MiB: five seconds, after 0.3 of which a silent leader is no more.
        c.rate = 125_000;
        let leader = c.leader().expect("one leads");
        for through in [leader, if leader == 1 { 2 } else { 1 }] {
            let (big, small) = (c.node(through).connect(), c.node(leader).connect());
            let value = "v".repeat(120 << 20);
            c.node(through).receive(big, pipeline(&format!("SET big {value}")));
            let mut steps = 0;
            while c.node(through).replies(big).is_empty() {
                c.step();
                assert_eq!(terms(&c), before, "after {steps} steps");
                // What the leader reads by its lease needs heartbeats and their answers.
                c.node(leader).receive(small, pipeline("GET nothing"));
                assert_eq!(c.node(leader).replies(small), "$-1", "after {steps} steps");
                steps += 1;
                assert!(steps < 10_000, "the value never comes");
            }
            assert!(steps > 900, "the network was not slow: {steps} steps");
            c.run(1_000);
            assert_eq!(c.ask(leader, small, "STRLEN big"), format!(":{}", 120 << 20));
        }
        assert_eq!(terms(&c), before);
    }

    #[test]
    fn a_rejection_lost_with_its_link_is_told_again() {
        let mut c = Cluster::of(4, &[("replicas", "3")]);
        c.run(3_000);
        let has_copy = |c: &Cluster, n: usize| c.nodes[n].as_ref().unwrap().node.shards[0].replica.is_some();
        let other = (1..=4).find(|n| !has_copy(&c, *n)).expect("one has no copy");
        let conn = c.node(other).connect();
        assert_eq!(c.ask(other, conn, "SET a 1"), "+OK");
        let leader = c.leader().expect("one leads");
        // What it heard last is that the old one leads, whose word that it does not is lost.
        let heard = c.node(other).node.shards[0].heard;
        let end = c.dialed(leader, other);
        c.lossy.insert(end);
        c.node(leader).input(Input::DiskFull(true));
        c.run_until("another leads", |c| c.leader().is_some_and(|now| now != leader));
        c.node(other).node.shards[0].heard = heard;
        c.node(other).receive(conn, pipeline("INCR a"));
        c.run(300);
        assert_eq!(c.node(other).replies(conn), "");
        c.break_link(end);
        c.run(300);
        assert_eq!(c.node(other).replies(conn), ":2");
    }

    #[test]
    fn answers_that_have_come_are_not_kept() {
        let mut c = Cluster::of(3, &[]);
        c.run(2_000);
        let leader = c.leader().expect("one leads");
        let other = if leader == 1 { 2 } else { 1 };
        let conn = c.node(other).connect();
        for _ in 0..10 {
            assert_eq!(c.ask(other, conn, "SET a 1\nGET a"), "+OK $1 1");
        }
        c.run(200);
        c.break_link(c.dialed(leader, other));
        c.run(200);
        assert_eq!(c.node(leader).node.peers.said_again, 0);
    }

    #[test]
    fn a_machine_that_lost_its_data_takes_the_place_of_what_it_was() {
        let mut c = Cluster::of(3, &[]);
        c.run(2_000);
        let conn = c.node(1).connect();
        assert_eq!(c.ask(1, conn, "SET a 1"), "+OK");
        let lost = c.node(3).node.status().node;
        let three_voters = |c: &Cluster| {
            let status = c.nodes[1].as_ref().unwrap().node.status();
            status.nodes.len() == 3
                && status.nodes.iter().all(|n| n.id != lost)
                && status.shards.iter().all(|s| s.replicas.iter().filter(|r| r.voter).count() == 3)
        };
        c.kill(3);
        c.run(2_000);
        c.start_in_place_of(4, 3, lost);
        c.run_until("it has taken the place", three_voters);
        let name = |c: &Cluster| c.nodes[1].as_ref().unwrap().node.status().nodes[2].record.name.clone();
        assert_eq!(name(&c), "n3");
        let conn = c.node(4).connect();
        assert_eq!(c.ask(4, conn, "GET a\nSET a 2"), "$1 1 +OK");
    }

    #[test]
    fn a_checkpoint_is_not_fetched_faster_than_it_can_be_written() {
        let mut c = Cluster::empty();
        c.start(1, &[]);
        c.run_until("it is ready", |c| c.alive().all(|w| w.node.is_ready()));
        let conn = c.node(1).connect();
        for round in 0..100 {
            let sets: String = (0..100).map(|n| format!("SET k{round}-{n} {}\n", "v".repeat(100))).collect();
            c.ask(1, conn, &sets);
        }
        c.ask(1, conn, "BGSAVE");
        c.start(2, &[("join", "n1:17001")]);
        c.node(2).load.checkpoint_bytes = 1 << 30;
        c.run(3_000);
        let chunks = |c: &Cluster| {
            let of = c.nodes[2].as_ref().unwrap().chunks.iter();
            of.filter(|((group, _), _)| group.0 == 1).map(|(_, chunks)| chunks.len()).sum::<usize>()
        };
        assert_eq!(chunks(&c), 1, "the disk is behind");
        c.node(2).load.checkpoint_bytes = 0;
        c.run_until("it has a copy", |c| c.alive().all(|w| w.node.status().keys == 10_000));
        assert!(chunks(&c) > 2);
    }
}
