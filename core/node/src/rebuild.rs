//! A replica whose state differs from what most of its group has: it ceases to serve, and gets the state of one of them.
//!
//! Only the state is in doubt, which memory or a bug has changed; the log has checksums and is the same everywhere. So the
//! replica keeps its id and its vote, and goes on to log and to acknowledge. It does not lead, answers nothing, applies
//! nothing, and is no source of checkpoints. It fetches a checkpoint of a replica that agreed with the majority, at a position
//! behind its own newest, records it, and applies the log from there. That it is not to be trusted is in the log until that
//! checkpoint is recorded: what it would start from may hold the damage.
//!
//! INV-NODE-3: what is rebuilt is a minority of the voters. Whoever is odd at a position has a majority against it there, and
//! says nothing more of its state until it is rebuilt (decision 10).

use skep_base::{GroupId, LogId, LogIndex, Millis, NodeId};
use skep_consensus as consensus;
use skep_keyspace::{DB_COUNT, Keyspace};
use skep_log::Entry;
use skep_peer::PeerMessage;

use crate::{Node, Note, Output};

/// An ask for a checkpoint that brought none is repeated after this time, of another node.
const ASK_AGAIN_MS: u64 = 1_000;
/// Bytes of the log applied in a turn on the way back: a millisecond or so.
const STEP_BYTES: usize = 128 << 10;

/// The rebuilding of a replica.
#[derive(Default)]
pub(crate) struct Rebuild {
    /// Nodes whose digests were the majority's; unknown after a start.
    agreed: Vec<NodeId>,
    /// When a checkpoint was asked for last, and how many times.
    asked: Option<Millis>,
    asks: usize,
    /// Leadership was offered to somebody.
    offered: bool,
    /// The state is a right one, and lacks entries only.
    pub catches_up: bool,
}

impl Node {
    /// Takes note that the state of a replica here is not what most others have at `at`.
    pub(crate) fn distrust(&mut self, place: usize, at: LogId, agreed: Vec<NodeId>, out: &mut Vec<Output>) {
        let group = self.shards[place].id;
        if self.shards[place].replica.as_ref().is_none_or(|replica| replica.rebuild.is_some()) {
            return;
        }
        self.abandon_own_checkpoint(group, out);
        self.persist.distrust(group);
        let shard = &mut self.shards[place];
        shard.digests.forget_own();
        if let Some(replica) = &mut shard.replica {
            replica.keyspace.abandon_cut();
            replica.group.set_may_campaign(false);
            replica.rebuild = Some(Rebuild { agreed, ..Rebuild::default() });
        }
        out.push(Output::Note(Note::Distrusted { group, at }));
        self.forget_on_the_way(place);
        self.cease_to_lead(place, out);
        self.list_grown(out);
    }

    /// Entries that a replica whose state is not to be trusted does not apply.
    pub(crate) fn pass_over(&mut self, place: usize, entries: &[Entry], out: &mut Vec<Output>) {
        for entry in entries {
            // They may hold what was forwarded from here; its leader will tell, or nobody.
            self.shards[place].forwarded.iter_mut().for_each(|forwarded| forwarded.fate_unknown = true);
            let own = self.settle(place, entry.id, out);
            assert!(own.is_none(), "entry {:?} was proposed here while the state was not trusted", entry.id);
        }
    }

    /// Hands leadership to a replica that is right; if that fails, lays it down.
    fn cease_to_lead(&mut self, place: usize, out: &mut Vec<Output>) {
        let group = self.shards[place].id;
        let Some(of) = self.group(group).filter(|of| of.is_leader() && of.transferring().is_none()) else {
            return;
        };
        let Some(rebuild) = self.shards[place].replica.as_ref().and_then(|r| r.rebuild.as_ref()) else {
            return;
        };
        let heir = match rebuild.offered {
            true => None,
            false => self.heirs(of).into_iter().max_by_key(|node| rebuild.agreed.contains(node)),
        };
        match heir {
            Some(to) => self.transfer(group, to, out),
            None => {
                let mut effects = std::mem::take(&mut self.effects);
                self.group_mut(group).into_iter().for_each(|of| of.resign(&mut effects));
                self.carry_out(group, &mut effects, out);
                self.effects = effects;
            }
        }
        let replica = self.shards[place].replica.as_mut();
        if let Some(rebuild) = replica.and_then(|replica| replica.rebuild.as_mut()) {
            rebuild.offered = true;
        }
    }

    /// What only time brings about: leadership laid down, a checkpoint asked for.
    pub(crate) fn tick_rebuilds(&mut self, out: &mut Vec<Output>) {
        for place in 0..self.shards.len() {
            if self.shards[place].replica.as_ref().is_some_and(|replica| replica.rebuild.is_some()) {
                self.cease_to_lead(place, out);
                self.want_right_checkpoint(place);
            }
        }
    }

    fn want_right_checkpoint(&mut self, place: usize) {
        let (me, now, group) = (self.id, self.now.mono, self.shards[place].id);
        let Some(replica) = &self.shards[place].replica else { return };
        let Some(rebuild) = &replica.rebuild else { return };
        let is_early = rebuild.asked.is_some_and(|at| now.since(at) < ASK_AGAIN_MS);
        if rebuild.catches_up || is_early || self.fetch.is_fetching(group) {
            return;
        }
        let behind = replica.saved.index;
        let voters = &replica.group.membership().voters;
        let is_right = |node: &&NodeId| **node != me && !self.peers.is_rebuilding(**node, group);
        let mut able: Vec<NodeId> = voters.iter().filter(is_right).copied().collect();
        // After a start nobody is known to have agreed; a digest will tell if the state is wrong again.
        able.sort_by_key(|node| !rebuild.agreed.contains(node));
        let known = able.iter().filter(|node| rebuild.agreed.contains(node)).count();
        let choices = if known > 0 { known } else { able.len() };
        let Some(from) = able.get(rebuild.asks.checked_rem(choices).unwrap_or(0)).copied() else { return };
        self.peers.send(from, PeerMessage::CheckpointWanted { group, behind });
        let replica = self.shards[place].replica.as_mut();
        if let Some(rebuild) = replica.and_then(|replica| replica.rebuild.as_mut()) {
            rebuild.asked = Some(now);
            rebuild.asks += 1;
        }
    }

    /// Another node's replica is to be rebuilt from a checkpoint of ours. Where there is none behind the position, one is
    /// taken, and the other asks again.
    pub(crate) fn on_checkpoint_wanted(&mut self, from: NodeId, group: GroupId, behind: LogIndex) {
        let Some(place) = self.shard_of_group(group) else { return };
        let leads = self.shards[place].leads();
        let Some(replica) = self.shards[place].replica.as_ref().filter(|r| r.rebuild.is_none()) else {
            return;
        };
        let at = replica.saved;
        if at.index > behind {
            self.peers.send(from, PeerMessage::CheckpointOffered { group, at });
        } else if replica.applied.index > behind {
            self.want_checkpoint(group);
        } else if leads {
            // Nothing was written since the other's newest checkpoint.
            self.shards[place].batch.want_entry();
        }
    }

    /// A node has a checkpoint from which a replica here may be rebuilt.
    pub(crate) fn on_checkpoint_offered(
        &mut self,
        from: NodeId,
        group: GroupId,
        at: LogId,
        out: &mut Vec<Output>,
    ) {
        let Some(place) = self.shard_of_group(group) else { return };
        let Some(replica) = &self.shards[place].replica else { return };
        let wants = replica.rebuild.as_ref().is_some_and(|rebuild| !rebuild.catches_up);
        let of = &replica.group;
        // What this replica lacks of the log yet, it will have when the offer is repeated.
        let fits = at.index > replica.saved.index && at.index <= of.applied();
        if !wants || !fits || of.log_id_at(at.index) != Some(at) || self.fetch.is_fetching(group) {
            return;
        }
        let Some(membership) = of.membership_at(at.index).cloned() else { return };
        self.begin_rebuild(from, group, at, membership, out);
    }

    /// The file of the right state is durable.
    pub(crate) fn on_right_state(
        &mut self,
        group: GroupId,
        at: LogId,
        keyspace: Keyspace,
        out: &mut Vec<Output>,
    ) {
        let Some(place) = self.shard_of_group(group) else { return };
        let Some(replica) = &mut self.shards[place].replica else { return };
        let Some(rebuild) = replica.rebuild.as_mut().filter(|_| at.index > replica.saved.index) else {
            return;
        };
        rebuild.catches_up = true;
        let mut before = replica.replace_state(keyspace);
        (0..DB_COUNT).for_each(|db| before.flush(db));
        out.extend(before.take_garbage().map(Output::Drop));
        (replica.applied, replica.saved) = (at, at);
        self.configure();
        out.push(Output::Note(Note::Fetched { group, at }));
        self.group_input(group, consensus::Input::Checkpointed { at }, out);
    }

    /// Applies what the log has behind the right state, a piece in each turn.
    pub(crate) fn step_rebuilds(&mut self, out: &mut Vec<Output>) {
        for place in 0..self.shards.len() {
            let Some(replica) = &self.shards[place].replica else { continue };
            if !replica.rebuild.as_ref().is_some_and(|rebuild| rebuild.catches_up) {
                continue;
            }
            for entry in replica.group.applied_behind(replica.applied.index, STEP_BYTES) {
                self.apply_again(place, &entry);
            }
            let Some(replica) = &self.shards[place].replica else { continue };
            if replica.applied.index == replica.group.applied() {
                self.end_rebuild(place, out);
            }
        }
    }

    /// The state is right again: it serves as before.
    pub(crate) fn end_rebuild(&mut self, place: usize, out: &mut Vec<Output>) {
        let may_campaign = !self.disk_slow;
        let shard = &mut self.shards[place];
        let Some(replica) = shard.replica.as_mut().filter(|replica| replica.rebuild.is_some()) else {
            return;
        };
        replica.rebuild = None;
        replica.group.set_may_campaign(may_campaign);
        out.push(Output::Note(Note::Rebuilt { group: shard.id, at: replica.applied }));
        // What was passed over is in the state: reads that were sent before it must not run on it.
        self.forget_on_the_way(place);
        self.on_key_events_missed(out);
        self.list_grown(out);
    }
}

#[cfg(test)]
mod tests {
    use crate::Note;
    use crate::testing::{Cluster, World};

    /// Time for a mark and the digests, or a rebuilding.
    const A_WHILE_MS: u64 = 2_500;

    /// Nodes that hold the same, with digests that say so.
    fn settled(count: u16) -> Cluster {
        let mut c = Cluster::of(count, &[]);
        c.run(2_000);
        let conn = c.node(1).connect();
        c.ask(1, conn, "SET a 1\nRPUSH l x y\nHSET h f v");
        mark(&mut c);
        c.run(A_WHILE_MS);
        assert!(c.alive().all(|w| w.node.shards[0].digests.differing.is_empty() && !alarmed(w)));
        c
    }

    /// A minute is over.
    fn mark(c: &mut Cluster) {
        let leader = c.leader().expect("one leads");
        c.node(leader).node.shards[0].digests.ask_soon();
    }

    fn alarmed(w: &World) -> bool {
        w.notes.iter().any(|n| matches!(n, Note::Diverged { .. } | Note::Distrusted { .. }))
    }

    fn rebuilt(w: &World) -> bool {
        w.notes.iter().any(|n| matches!(n, Note::Rebuilt { .. }))
    }

    fn distrusted(w: &World) -> bool {
        w.node.shards[0].replica.as_ref().is_some_and(|replica| replica.rebuild.is_some())
    }

    /// A bit flips in the memory of one.
    fn damage(c: &mut Cluster, number: usize) {
        let replica = c.node(number).node.shards[0].replica.as_mut().unwrap();
        assert!(replica.keyspace.remove(0, b"l"));
    }

    /// How many copies each node calls odd, and how many are being rebuilt.
    fn odd(c: &Cluster) -> Vec<(usize, usize)> {
        let count = |w: &World| {
            let replicas = w.node.status().shards.swap_remove(0).replicas;
            (replicas.iter().filter(|r| r.differs).count(), replicas.iter().filter(|r| r.rebuilding).count())
        };
        c.alive().map(count).collect()
    }

    fn all_are_equal(c: &Cluster) -> bool {
        let digests: Vec<_> = c.alive().map(|w| w.node.digests()).collect();
        digests.iter().all(|of| *of == digests[0])
    }

    fn follower(c: &Cluster) -> usize {
        if c.leader() == Some(3) { 2 } else { 3 }
    }

    #[test]
    fn a_follower_that_differs_raises_an_alarm_on_all_and_is_rebuilt() {
        let mut c = settled(3);
        let at = follower(&c);
        damage(&mut c, at);
        let conn = c.node(at).connect();
        c.ask(at, conn, "SET a 2");
        mark(&mut c);
        c.run_until("it is found", |c| distrusted(c.nodes[at].as_ref().unwrap()));
        let source = (1..=3).filter(|n| *n != at);
        source.clone().for_each(|n| c.node(n).node.shards[0].digests.undecided = true);
        c.run(150);
        assert!(c.alive().all(alarmed), "each knows");
        assert!(odd(&c).iter().all(|of| *of == (1, 1)), "and each names the same one: {:?}", odd(&c));
        // Its clients are served by the leader meanwhile.
        assert_eq!(c.ask(at, conn, "LRANGE l 0 -1\nINCR a"), "*2 $1 x $1 y :3");
        assert!(distrusted(c.node(at)));
        source.for_each(|n| c.node(n).node.shards[0].digests.undecided = false);
        c.run_until("it is rebuilt", |c| rebuilt(c.nodes[at].as_ref().unwrap()));
        c.run(2_000);
        assert!(all_are_equal(&c));
        assert_eq!(odd(&c), [(0, 0); 3], "the next digests agree");
        assert_eq!(c.alive().filter(|w| rebuilt(w)).count(), 1);
        c.kill(c.leader().unwrap());
        c.run(3_000);
        assert_eq!(c.ask(at, conn, "LRANGE l 0 -1\nGET a"), "*2 $1 x $1 y $1 3", "it votes, and may lead");
    }

    #[test]
    fn a_leader_that_differs_hands_over_and_is_rebuilt() {
        let mut c = settled(3);
        let at = c.leader().unwrap();
        damage(&mut c, at);
        let conn = c.node(at).connect();
        assert_eq!(c.ask(at, conn, "LLEN l"), ":0", "as long as nobody knows");
        c.ask(at, conn, "SET a 2");
        mark(&mut c);
        c.run_until("it is found", |c| distrusted(c.nodes[at].as_ref().unwrap()));
        assert_eq!(c.ask(at, conn, "LLEN l\nRPUSH l z\nLLEN l"), ":2 :3 :3", "no wrong answer from then on");
        assert!(c.leader().is_some_and(|leader| leader != at));
        c.run_until("it is rebuilt", |c| rebuilt(c.nodes[at].as_ref().unwrap()));
        mark(&mut c);
        c.run(A_WHILE_MS);
        assert!(all_are_equal(&c));
        assert_eq!(odd(&c), [(0, 0); 3]);
    }

    #[test]
    fn a_leader_that_nobody_can_succeed_lays_leadership_down() {
        let mut c = settled(3);
        let at = c.leader().unwrap();
        damage(&mut c, at);
        let conn = c.node(at).connect();
        c.ask(at, conn, "SET a 2");
        for other in (1..=3).filter(|other| *other != at) {
            c.node(other).node.disk_full = true; // as its beats say
        }
        c.run(500);
        mark(&mut c);
        c.run_until("it is found", |c| distrusted(c.nodes[at].as_ref().unwrap()));
        c.step();
        assert!(!c.node(at).node.shards[0].replica.as_ref().unwrap().group.is_leader());
        c.run_until("it is rebuilt", |c| rebuilt(c.nodes[at].as_ref().unwrap()));
        assert_eq!(c.ask(at, conn, "LLEN l"), ":2");
    }

    #[test]
    fn of_two_copies_that_differ_none_is_rebuilt() {
        let mut c = settled(2);
        damage(&mut c, 2);
        let conn = c.node(1).connect();
        c.ask(1, conn, "SET a 2");
        mark(&mut c);
        c.run(A_WHILE_MS);
        assert!(c.alive().all(|w| alarmed(w) && !distrusted(w) && !rebuilt(w)));
        assert!(c.alive().all(|w| w.node.status().shards[0].undecided), "which is right is not known");
        assert_eq!(odd(&c), [(1, 0), (1, 0)]);
    }

    #[test]
    fn what_it_saved_while_it_was_wrong_is_not_started_from() {
        let mut c = settled(3);
        let at = follower(&c);
        damage(&mut c, at);
        let conn = c.node(at).connect();
        assert_eq!(c.ask(at, conn, "SAVE"), "+OK");
        mark(&mut c);
        c.run_until("it is found", |c| distrusted(c.nodes[at].as_ref().unwrap()));
        // Nobody can give it anything.
        c.cut.extend((1..=3).filter(|n| *n != at).map(|n| (at.min(n), at.max(n))));
        c.run(3_000);
        assert!(distrusted(c.node(at)));
        c.restart(at);
        c.run(3_000);
        assert!(distrusted(c.node(at)), "it knows after a start");
        assert_eq!(c.node(at).node.shards[0].replica.as_ref().unwrap().group.leader(), None);
        c.cut.clear();
        c.run_until("it is rebuilt", |c| rebuilt(c.nodes[at].as_ref().unwrap()));
        c.run(2_000);
        assert!(all_are_equal(&c));
        c.restart(at);
        c.run(2_000);
        assert!(!distrusted(c.node(at)));
        assert!(all_are_equal(&c), "what it starts from is right");
    }

    #[test]
    fn what_is_in_dispute_is_not_spread() {
        let mut c = settled(3);
        let at = follower(&c);
        let other = (1..=3).find(|n| *n != at && Some(*n) != c.leader()).unwrap();
        damage(&mut c, at);
        let conn = c.node(at).connect();
        c.ask(at, conn, "SET a 2");
        mark(&mut c);
        c.run_until("it is found", |c| distrusted(c.nodes[at].as_ref().unwrap()));
        c.cut.insert((at.min(other), at.max(other)));
        let leader = c.leader().unwrap();
        c.cut.insert((at.min(leader), at.max(leader)));
        damage(&mut c, other);
        let conn = c.node(other).connect();
        c.ask(other, conn, "SET a 3");
        mark(&mut c);
        c.run(A_WHILE_MS);
        assert!(!distrusted(c.node(other)), "two differ, one is silent");
        assert!(c.node(leader).node.status().shards[0].undecided);
        // Neither of them is a source for the third: it would make a majority of what may be wrong.
        c.cut.clear();
        c.run(A_WHILE_MS);
        assert!(
            distrusted(c.node(at)),
            "{:#?}",
            c.alive().map(|w| (&w.notes, w.node.status().shards)).collect::<Vec<_>>()
        );
        // Whoever knows which is wrong takes it out.
        let id = c.node(other).node.id;
        let conn = c.node(leader).connect();
        assert_eq!(c.ask(leader, conn, &format!("SKEP NODE DRAIN {id}")), "+OK");
        c.run_until("it is rebuilt", |c| rebuilt(c.nodes[at].as_ref().unwrap()));
        let conn = c.node(at).connect();
        assert_eq!(c.ask(at, conn, "LLEN l"), ":2");
    }
}
