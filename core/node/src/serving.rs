//! Who waits gets his turn: behind the write that brings what he waits for, or when an entry turns out to have brought it.
//!
//! A try is the command itself in the batch; what comes of it is in `blocked.rs`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use skep_base::{Args, NodeId};
use skep_command::CommandSpec;
use skep_keyspace::{Brings, Handler, ReadCx, WaitKind, brings, each_queued};
use skep_resp::Reply;

use crate::Node;
use crate::answer::{Desk, desk};
use crate::batch::{CallWait, Origin};
use crate::transaction::EXEC;
use crate::waiting::{Place, Try, Turn, Waiter};

/// A node that was not heard for so long, ten of its beats, may be gone, and its clients with it.
const HEARD_MS: u64 = 1_000;

/// A key that a write may bring something to: in which database, for whom, if that is known, and for how many calls.
struct Brought<'a> {
    db: u8,
    key: Cow<'a, [u8]>,
    kind: Option<WaitKind>,
    count: usize,
}

/// What comes next behind a write.
enum Next {
    /// A try of who waits there; if it is sure that there is something for it.
    Try(Place, bool),
    /// Those who stand in line for a key.
    Line(u8, Box<[u8]>),
}

impl Next {
    fn place(&self) -> Option<Place> {
        match self {
            Next::Try(place, _) => Some(*place),
            Next::Line(..) => None,
        }
    }
}

/// For how many calls of a key a write may be enough of which nobody knows. Those behind have their turn after its entry.
const PERHAPS: usize = 8;

impl Node {
    /// Puts those who wait for what a write brings, or may bring, into the batch behind it.
    #[inline]
    pub(crate) fn serve_behind(&mut self, at: usize, db: u8, command: &CommandSpec, args: Args<'_>) {
        if self.shards[at].waiting.is_empty() || !self.shards[at].leads() {
            return;
        }
        // Also a script under terms (`run_script`), of whatever name.
        if args.is(0, EXEC.spec().name) {
            return self.serve_behind_transaction(at, args);
        }
        match brings(command, args) {
            Brings::To { place, kind, count, for_certain } => {
                let Some(key) = args.get(place) else { return };
                let is_sure = for_certain && self.gives_on(at, kind, db, key);
                self.serve_keys(
                    at,
                    &[Brought { db, key: Cow::Borrowed(key), kind: Some(kind), count }],
                    is_sure,
                );
            }
            what => {
                let mut brought = Vec::new();
                self.each_waited(at, db, what, (command, args), &mut |one| brought.push(one));
                self.serve_keys(at, &brought, false);
            }
        }
    }

    /// Calls `look` with those keys of a write that may bring something to them, and that somebody waits for.
    fn each_waited<'a>(
        &mut self,
        at: usize,
        db: u8,
        what: Brings,
        (command, args): (&CommandSpec, Args<'a>),
        look: &mut dyn FnMut(Brought<'a>),
    ) {
        let (db, releases) = match what {
            Brings::Perhaps(other) => (other.unwrap_or(db), false),
            Brings::Releases => (db, true),
            Brings::Nothing | Brings::To { .. } => return,
        };
        let Ok(keys) = command.keys(args) else { return };
        for key in keys.iter().filter_map(|key| args.get(key.index)) {
            // A queue without limits holds nothing back.
            let waits = self.shards[at].waiting.holds_key(db, key);
            if waits && !(releases && self.gives_on(at, WaitKind::Queue, db, key)) {
                look(Brought { db, key: Cow::Borrowed(key), kind: None, count: PERHAPS });
            }
        }
    }

    /// True if what is added to a key goes on to those who wait for it, by what is there so far; also if nobody waits.
    fn gives_on(&mut self, at: usize, kind: WaitKind, db: u8, key: &[u8]) -> bool {
        let now = self.now;
        let shard = &mut self.shards[at];
        let Some(replica) = shard.replica.as_mut().filter(|_| shard.waiting.holds_key(db, key)) else {
            return true;
        };
        let time = replica.time(now);
        replica.keyspace.gives_on(kind, db, key, time)
    }

    /// The same for a transaction, which may be stopped by what it watches, or take away again what it brings.
    fn serve_behind_transaction(&mut self, at: usize, args: Args<'_>) {
        // In the order in which they are first brought something.
        let mut brought: Vec<Brought<'static>> = Vec::new();
        let mut places: BTreeMap<(u8, Vec<u8>, Option<WaitKind>), usize> = BTreeMap::new();
        let mut add = |new: Brought<'_>| {
            let place = (new.db, new.key.to_vec(), new.kind);
            match places.get(&place) {
                Some(old) if new.kind.is_some() => brought[*old].count += new.count,
                Some(_) => {}
                None => {
                    places.insert(place, brought.len());
                    brought.push(Brought { key: Cow::Owned(new.key.into_owned()), ..new });
                }
            }
        };
        each_queued(args, |db, args| {
            let Ok(command) = skep_command::resolve(args) else { return };
            match brings(command, args) {
                Brings::To { place, kind, count, .. } => {
                    if let Some(key) = args.get(place)
                        && self.shards[at].waiting.holds_key(db, key)
                    {
                        add(Brought { db, key: Cow::Borrowed(key), kind: Some(kind), count });
                    }
                }
                what => self.each_waited(at, db, what, (command, args), &mut add),
            }
        });
        self.serve_keys(at, &brought, false);
    }

    /// Puts those who wait for what keys get into the batch. Whoever is not sure to get something stands in the line of the entry
    /// from there on, and has the next turn in it.
    fn serve_keys(&mut self, at: usize, brought: &[Brought<'_>], is_sure: bool) {
        let (mut before, mut behind) = (Vec::new(), Vec::new());
        let (mut lines, mut is_held) = (Vec::new(), false);
        // Who has the turn for one key does not take it from those behind him for another.
        let mut named = BTreeSet::new();
        for Brought { db, key, kind, count } in brought {
            let mut turn = self.next_in_turn(at, (*db, key), *kind, (*count, false), &named);
            if brought.len() > 1 {
                named.extend(&turn.places);
            }
            if let Some(first) = turn.line {
                lines.push((*db, key));
                behind.extend(turn.places.split_off(first));
            }
            before.extend(turn.places);
            is_held |= turn.held;
        }
        if brought.len() > 1 {
            // Who waits for several would else take what somebody else has waited for longer. Where nobody does, the keys have
            // their turn as they were brought something, as in Redis.
            let keys: Vec<(u8, &[u8])> = brought.iter().map(|one| (one.db, &*one.key)).collect();
            for places in [&mut before, &mut behind] {
                if self.shards[at].waiting.waits_for_several(places, &keys) {
                    places.sort_unstable();
                }
            }
            // Nor does anybody come before a line who comes behind that of another key.
            if let Some(first) = behind.iter().min().copied() {
                let later = before.extract_if(.., |place| *place >= first);
                behind = later.chain(std::mem::take(&mut behind)).collect();
                behind.sort_unstable();
            }
        }
        let is_sure = is_sure && lines.is_empty();
        let tries = |places: Vec<Place>| places.into_iter().map(move |place| Next::Try(place, is_sure));
        let lines = lines.into_iter().map(|(db, key)| Next::Line(db, Box::from(&**key)));
        self.serve_in_turn(at, tries(before).chain(lines).chain(tries(behind)).collect(), is_held);
    }

    /// Puts tries into the batch, and behind them those of who waits for what they move on.
    fn serve_in_turn(&mut self, at: usize, mut chosen: VecDeque<Next>, mut is_held: bool) {
        // Who waits for several keys may take what was for somebody else.
        let takes_any = |node: &Node, place: Place| {
            node.shards[at].waiting.get(place).is_some_and(|waiter| waiter.keys().nth(1).is_some())
        };
        // Those chosen, once somebody moves something on, and whether each of them waits for one key alone.
        let mut known: Option<(BTreeSet<Place>, bool)> = None;
        // Who is served with a BLMOVE brings something to its target, where others have their turn after those here: after the
        // entry, if somebody here holds the turn.
        while let Some(next) = chosen.pop_front() {
            let (place, is_sure) = match next {
                Next::Try(place, is_sure) => (place, is_sure),
                Next::Line(db, key) => {
                    self.shards[at].batch.push_serve(db, &key);
                    continue;
                }
            };
            if self.shards[at].waiting.get(place).is_none_or(|waiter| waiter.trying != Try::None) {
                continue; // chosen for another reason before
            }
            self.try_again(at, place, is_sure);
            if is_held {
                continue;
            }
            let Some(waiter) = self.shards[at].waiting.get(place) else { continue };
            let (db, args) = (waiter.call.db, waiter.args.args());
            if let Brings::To { place, kind, count, .. } = brings(waiter.call.command, args)
                && let Some(key) = args.get(place).map(Box::<[u8]>::from)
                && self.shards[at].waiting.holds_key(db, &key)
            {
                let (known, is_certain) = known.get_or_insert_with(|| {
                    let known: BTreeSet<Place> = chosen.iter().filter_map(Next::place).collect();
                    let is_certain = !known.iter().any(|place| takes_any(self, *place));
                    (known, is_certain)
                });
                // Those have theirs.
                let mut turn = self.next_in_turn(at, (db, &key), Some(kind), (count, false), known);
                let behind = turn.line.map(|first| turn.places.split_off(first));
                *is_certain &= ![Some(&turn.places), behind.as_ref()]
                    .into_iter()
                    .flatten()
                    .flatten()
                    .any(|place| takes_any(self, *place));
                let is_sure = is_sure && *is_certain && behind.is_none() && self.gives_on(at, kind, db, &key);
                let is_new = |place: &Place| known.insert(*place);
                let tries = turn.places.into_iter().filter(is_new).map(|place| Next::Try(place, is_sure));
                chosen.extend(tries);
                if let Some(behind) = behind {
                    chosen.push_back(Next::Line(db, key));
                    let behind = behind.into_iter().filter(|place| known.insert(*place));
                    chosen.extend(behind.map(|place| Next::Try(place, false)));
                }
                is_held = turn.held;
            }
        }
    }

    /// Whose turn it is when `key` gets something for `count` calls, or in all has so much, beside those `named` before; see
    /// [`crate::waiting::Waiting::next`].
    fn next_in_turn(
        &self,
        at: usize,
        key: (u8, &[u8]),
        kind: Option<WaitKind>,
        count: (usize, bool),
        named: &BTreeSet<Place>,
    ) -> Turn {
        let may = |waiter: &Waiter| match waiter.call.origin {
            // Its node is cut off, or was started again: nothing shall be taken for a client that may be gone.
            Origin::Peer { node, incarnation, .. } => {
                let reaches = self.reaches(node, incarnation);
                if !reaches {
                    self.shards[at].waiting.note_passed_over(node);
                }
                reaches
            }
            _ => true,
        };
        let shard = &self.shards[at];
        shard.waiting.next(key, kind, count, (shard.batch_number(), named), may)
    }

    /// True if there is a way to a run of another node, which was heard a moment ago.
    pub(crate) fn reaches(&self, node: NodeId, incarnation: u64) -> bool {
        let is_heard = self.peers.heard(node).is_some_and(|at| self.now.mono.since(at) <= HEARD_MS);
        is_heard && self.peers.is_linked(node) && self.peers.incarnation_of(node) == Some(incarnation)
    }

    /// Puts a try of a waiting write into the batch.
    fn try_again(&mut self, at: usize, place: Place, is_sure: bool) {
        let shard = &mut self.shards[at];
        let trying = if is_sure { Try::Sure } else { Try::InLine(shard.batch_number()) };
        shard.waiting.set_trying(place, trying);
        let Some(waiter) = shard.waiting.get(place) else { return };
        let mut call = waiter.call;
        call.wait = call.wait.map(|wait| CallWait { again: true, ..wait });
        shard.batch.push_write(call, waiter.args.args());
    }

    /// Gives those who wait for `key` their turn, if it has something for them; `all` if it went away from some of them.
    pub(crate) fn offer(&mut self, at: usize, db: u8, key: &[u8], all: bool) {
        let now = self.now;
        let shard = &mut self.shards[at];
        let Some(replica) = shard.replica.as_mut().filter(|replica| replica.leads()) else { return };
        let time = replica.time(now);
        let supply = replica.keyspace.supply(db, key, time);
        self.note_held_back(at, db, key);
        self.run_waiting_reads(at, db, key);
        let is_stream = supply.is_some_and(|(kind, _)| kind == WaitKind::Stream);
        let mut chosen = match supply.filter(|_| !(is_stream && all)) {
            Some((kind, count)) => {
                self.next_in_turn(at, (db, key), Some(kind), (count, true), &BTreeSet::new()).places
            }
            None => Vec::new(),
        };
        // A group or its stream is gone, whatever has taken its place, which each of its readers is told.
        if all || !is_stream {
            let is_reader = |w: &Waiter| w.kind == WaitKind::Stream && is_write(w) && w.trying == Try::None;
            let waiting = self.shards[at].waiting.of_key(db, key);
            chosen.extend(waiting.filter(|(_, w)| is_reader(w)).map(|(place, _)| place));
        }
        chosen.into_iter().for_each(|place| self.try_again(at, place, false));
    }

    /// Takes note of when a queue's rate gives way, if that is all that holds it back.
    pub(crate) fn note_held_back(&mut self, at: usize, db: u8, key: &[u8]) {
        let now = self.now;
        let shard = &mut self.shards[at];
        let Some(replica) = &mut shard.replica else { return };
        let time = replica.time(now);
        if let Some(from) = replica.keyspace.supplies_from(db, key, time) {
            shard.held_back.insert((replica.instant_after(from, now), db, key.into()));
        }
    }

    /// Tries the reads that wait for a key.
    fn run_waiting_reads(&mut self, at: usize, db: u8, key: &[u8]) {
        let waiting = self.shards[at].waiting.of_key(db, key);
        let reads: Vec<Place> = waiting.filter(|(_, w)| !is_write(w)).map(|(place, _)| place).collect();
        for place in reads {
            let shard = &mut self.shards[at];
            let (Some(replica), Some(waiter)) = (&shard.replica, shard.waiting.get(place)) else { return };
            let (call, keyspace) = (waiter.call, &replica.keyspace);
            let (now, term) = (keyspace.stamp(), replica.group.term());
            keyspace.access.set_paused(call.no_touch);
            let mut bytes = Vec::new();
            let mut cx = ReadCx { keyspace, db: call.db, now, rng: &mut self.rng };
            let mut reply = Reply::new(&mut bytes, call.protocol);
            let unserved = call.handler.attempt_read(&mut cx, waiter.args.args(), &mut reply, true);
            drop(reply);
            if unserved.is_none() {
                shard.waiting.remove(place);
                let mut desk = desk!(self, shard.id, term);
                desk.answer(&call, |reply| reply.raw(&bytes));
            }
        }
    }
}

fn is_write(waiter: &Waiter) -> bool {
    matches!(waiter.call.handler, Handler::Write(_))
}

#[cfg(test)]
mod tests {
    use crate::testing::{World, pipeline};

    #[test]
    fn what_a_transaction_brings_goes_to_those_who_wait_before_anybody_else() {
        for durability in ["disk", "memory"] {
            let mut w = World::new(&[("durability", durability)]);
            let waiting = [(); 3].map(|()| w.connect());
            for (conn, command) in waiting.iter().zip(["BLPOP k 0", "BLMOVE k l LEFT LEFT 0", "BZPOPMIN z 0"])
            {
                assert_eq!(w.ask(*conn, command), "");
            }
            let (writer, other) = (w.connect(), w.connect());
            w.receive(
                writer,
                pipeline("MULTI\nRPUSH k a\nRPUSH k b c\nSELECT 1\nRPUSH k d\nSELECT 0\nZADD z 1 m\nEXEC"),
            );
            w.receive(other, pipeline("LPOP k\nLPOP k\nLPOP l\nZPOPMIN z\nSELECT 1\nLPOP k"));
            w.settle();
            assert_eq!(w.replies(writer).split(" *6 ").nth(1), Some(":1 :3 +OK :1 +OK :1"));
            assert_eq!(waiting.map(|conn| w.replies(conn)), ["*2 $1 k $1 a", "$1 b", "*3 $1 z $1 m $1 1"]);
            assert_eq!(w.replies(other), "$1 c $-1 $1 b *0 +OK $1 d", "{durability}");
        }
    }

    #[test]
    fn what_a_write_turns_out_to_bring_goes_to_those_who_wait_before_anybody_else() {
        let (list, zset) = (("BLPOP k 0", "LPOP k"), ("BZPOPMIN k 0", "ZPOPMIN k"));
        let brought = [
            (list, "RPUSH l a", "RENAME l k"),
            (list, "RPUSH l a", "RENAMENX l k"),
            (list, "RPUSH l a", "COPY l k"),
            (list, "SELECT 1\nRPUSH k a", "MOVE k 0"),
            (list, "SELECT 1\nRPUSH l a", "COPY l k DB 0"),
            (list, "RPUSH l a", "SORT l ALPHA STORE k"),
            (list, "RPUSH l a", "LMOVE l k LEFT LEFT"),
            (list, "PING", "EVAL return(redis.call('rpush',KEYS[1],'a')) 1 k"),
            (list, "PING", "EVAL return(redis.call('rpush',KEYS[2],'a')) 2 other k"),
            (list, "PING", "ONCE t RPUSH k a"),
            (list, "PING", "MULTI\nEVAL return(redis.call('rpush',KEYS[1],'a')) 1 k\nEXEC"),
            (zset, "ZADD l 1 a", "ZUNIONSTORE k 1 l"),
            (zset, "ZADD l 1 a", "ZRANGESTORE k l 0 -1"),
            (zset, "PING", "GEOADD k 1 1 a"),
            (zset, "GEOADD l 1 1 a", "GEOSEARCHSTORE k l FROMMEMBER a BYRADIUS 1 m"),
            (zset, "PING", "ZADD k 1 a 2 a"),
        ];
        for durability in ["disk", "memory"] {
            for ((waits, pops), before, brings) in brought {
                let mut w = World::new(&[("durability", durability)]);
                let (waiter, writer, other) = (w.connect(), w.connect(), w.connect());
                w.ask(writer, before);
                assert_eq!(w.ask(waiter, waits), "");
                w.receive(writer, pipeline(brings));
                w.receive(other, pipeline(pops));
                w.settle();
                assert!(["$-1", "*0"].contains(&&*w.replies(other)), "{brings}");
                assert!(w.replies(waiter).contains(" $1 a"), "{brings}");
            }
        }
    }

    #[test]
    fn who_waits_for_several_keys_does_not_pass_over_who_has_waited_longer_for_one() {
        for brings in [
            "EVAL return(redis.call('zadd',KEYS[2],1,'m')) 2 y z",
            "MULTI\nZADD y 1 m\nZREM y m\nZADD z 1 m\nEXEC",
            "ZADD x 1 m\nZUNIONSTORE z 2 x y",
            "EVAL return(1) 1 y\nEVAL return(redis.call('zadd',KEYS[1],1,'m')) 1 z",
            "MULTI\nEVAL return(1) 1 y\nEXEC\nMULTI\nZADD z 1 m\nEXEC",
        ] {
            let mut w = World::new(&[]);
            let [long, both, writer] = [(); 3].map(|()| w.connect());
            assert_eq!(w.ask(long, "BZPOPMIN z 0"), "");
            assert_eq!(w.ask(both, "BZMPOP 0 2 y z MAX"), "");
            w.receive(writer, pipeline(brings));
            w.settle();
            w.replies(writer);
            assert_eq!(w.replies(both), "", "{brings}");
            assert_eq!(w.replies(long), "*3 $1 z $1 m $1 1", "{brings}");
            assert_eq!(w.ask(writer, "ZADD z 2 n"), ":1");
            assert_eq!(w.replies(both), "*2 $1 z *1 *2 $1 n $1 2", "{brings}");
        }
    }

    #[test]
    fn who_waits_for_several_keys_takes_the_share_of_nobody_behind_him() {
        let eight = "EVAL return({redis.call('rpush',KEYS[1],1,2,3,4,5,6,7,8),redis.call('rpush',KEYS[2],2)}) 2 high low";
        for (several, brings) in [(1, "MULTI\nRPUSH high 1\nRPUSH low 2\nEXEC"), (super::PERHAPS, eight)] {
            let mut w = World::new(&[]);
            let both: Vec<_> = (0..several).map(|_| w.connect()).collect();
            both.iter().for_each(|conn| assert_eq!(w.ask(*conn, "BLPOP high low 0"), ""));
            let [one, writer, other] = [(); 3].map(|()| w.connect());
            assert_eq!(w.ask(one, "BLPOP low 0"), "");
            w.receive(writer, pipeline(brings));
            w.receive(other, pipeline("LPOP low"));
            w.settle();
            for (at, conn) in both.into_iter().enumerate() {
                assert_eq!(w.replies(conn), format!("*2 $4 high $1 {}", at + 1), "{brings}");
            }
            assert_eq!((&*w.replies(one), &*w.replies(other)), ("*2 $3 low $1 2", "$-1"), "{brings}");
        }
    }

    #[test]
    fn what_turns_out_to_be_at_several_keys_goes_to_as_many() {
        let mut w = World::new(&[]);
        let [both, one, writer, other] = [(); 4].map(|()| w.connect());
        assert_eq!(w.ask(both, "BLPOP high low 0") + &w.ask(one, "BLPOP low 0"), "");
        w.receive(
            writer,
            pipeline("EVAL return({redis.call('rpush','high',1),redis.call('rpush','low',2)}) 0"),
        );
        w.turn();
        w.persist();
        w.receive(other, pipeline("LPOP low"));
        w.settle();
        assert_eq!([both, one].map(|conn| w.replies(conn)), ["*2 $4 high $1 1", "*2 $3 low $1 2"]);
        assert_eq!(w.replies(other), "$-1");
    }

    #[test]
    fn what_is_moved_on_in_front_of_a_line_lets_nobody_behind_it_pass() {
        let mut w = World::new(&[]);
        let [moves, line, behind, last, writer] = [(); 5].map(|()| w.connect());
        let waits = [
            (moves, "BLMOVE k t LEFT LEFT 0"),
            (line, "BLPOP j k 0"),
            (behind, "BLPOP k t 0"),
            (last, "BLPOP t 0"),
        ];
        waits.iter().for_each(|(conn, command)| assert_eq!(w.ask(*conn, command), ""));
        w.receive(writer, pipeline("EVAL return(1) 1 j\nRPUSH k 1 2"));
        w.settle();
        assert_eq!(
            [moves, line, behind, last].map(|conn| w.replies(conn)),
            ["$1 1", "*2 $1 k $1 2", "*2 $1 t $1 1", ""]
        );
    }

    #[test]
    fn who_has_waited_longer_than_the_line_of_a_target_comes_before_it() {
        let mut w = World::new(&[]);
        let [moves, long, line, writer] = [(); 4].map(|()| w.connect());
        let waits = [(moves, "BLMOVE k t LEFT LEFT 0"), (long, "BLPOP t 0"), (line, "BLPOP j t 0")];
        waits.iter().for_each(|(conn, command)| assert_eq!(w.ask(*conn, command), ""));
        w.receive(writer, pipeline("EVAL return(1) 1 j\nRPUSH k 1"));
        w.settle();
        assert_eq!([moves, long, line].map(|conn| w.replies(conn)), ["$1 1", "*2 $1 t $1 1", ""]);
    }

    #[test]
    fn what_several_move_to_a_key_has_as_many_takers() {
        let mut w = World::new(&[]);
        let [first, one, two, writer] = [(); 4].map(|()| w.connect());
        assert_eq!(w.ask(first, "BLPOP e 0"), "");
        assert_eq!(w.ask(one, "BLMOVE d e LEFT RIGHT 0"), "");
        assert_eq!(w.ask(two, "BLMOVE d e LEFT LEFT 0"), "");
        for conn in [w.connect(), w.connect()] {
            assert_eq!(w.ask(conn, "BLMOVE a d LEFT LEFT 0"), "");
        }
        w.ask(writer, "RPUSH b 1 2 3\nCOPY b a");
        assert_eq!(
            [one, two, first].map(|conn| w.replies(conn)),
            ["$1 2", "$1 1", "*2 $1 e $1 1"],
            "as in Redis"
        );
    }

    #[test]
    fn no_more_takers_are_chosen_than_elements_are_moved() {
        let mut w = World::new(&[]);
        for _ in 0..3 {
            let conn = w.connect();
            assert_eq!(w.ask(conn, "BLMOVE a d LEFT RIGHT 0"), "");
        }
        let takers = [(); 5].map(|()| w.connect());
        takers.iter().for_each(|conn| assert_eq!(w.ask(*conn, "BLPOP d 0"), ""));
        let (writer, other) = (w.connect(), w.connect());
        w.receive(writer, pipeline("RPUSH a 1 2 3"));
        w.receive(other, pipeline("RPUSH d 4"));
        w.settle();
        let got = takers.map(|conn| w.replies(conn));
        assert_eq!(got, ["*2 $1 d $1 1", "*2 $1 d $1 2", "*2 $1 d $1 3", "*2 $1 d $1 4", ""]);
    }

    #[test]
    fn who_stands_in_line_for_one_key_comes_before_who_came_later_for_it_and_another() {
        let mut w = World::new(&[]);
        let [first, both, writer] = [(); 3].map(|()| w.connect());
        assert_eq!(w.ask(first, "BLPOP y 0"), "");
        w.receive(writer, pipeline("EVAL return(1) 1 y"));
        // In its place in the batch, since its connection has written something before.
        w.receive(both, pipeline("SET s v\nBLPOP y z 0"));
        w.receive(writer, pipeline("EVAL return(redis.call('lpush',KEYS[1],1)) 2 y z"));
        w.settle();
        assert_eq!((w.replies(first), w.replies(both)), ("*2 $1 y $1 1".into(), "+OK".into()));
    }

    #[test]
    fn keys_have_their_turn_as_they_were_brought_something() {
        let mut w = World::new(&[]);
        let [late, early, writer] = [(); 3].map(|()| w.connect());
        assert_eq!(w.ask(late, "BLMOVE a d LEFT LEFT 0"), "");
        assert_eq!(w.ask(early, "BLMOVE c d LEFT LEFT 0"), "");
        w.ask(writer, "MULTI\nRPUSH c 1\nRPUSH a 2\nEXEC");
        assert_eq!((w.replies(early), w.replies(late)), ("$1 1".into(), "$1 2".into()));
        assert_eq!(w.ask(writer, "LRANGE d 0 -1"), "*2 $1 2 $1 1", "as in Redis");
    }

    #[test]
    fn a_key_of_another_database_is_another_key() {
        let mut w = World::new(&[]);
        let [late, early, last, other, writer] = [(); 5].map(|()| w.connect());
        assert_eq!(w.ask(late, "BLMOVE a d LEFT LEFT 0") + &w.ask(early, "BLMOVE c d LEFT LEFT 0"), "");
        assert_eq!(w.ask(last, "BLPOP c y 0") + &w.ask(other, "SELECT 1\nBLPOP y 0"), "+OK");
        w.ask(writer, "MULTI\nRPUSH c 1 3\nRPUSH a 2\nSELECT 1\nRPUSH y 4\nEXEC");
        assert_eq!([last, other].map(|conn| w.replies(conn)), ["*2 $1 c $1 3", "*2 $1 y $1 4"]);
        assert_eq!(
            w.ask(writer, "SELECT 0\nLRANGE d 0 -1"),
            "+OK *2 $1 2 $1 1",
            "as they were brought something"
        );
    }

    #[test]
    fn who_found_nothing_is_tried_again_behind_each_write_of_the_entry() {
        let nothing = [
            "RPOPLPUSH none k",
            "LPUSHX k no",
            "EVAL return(1) 1 k",
            "MULTI\nRPUSH k no\nLPOP k\nEXEC",
            "RPUSH k no\nRPOP k",
        ];
        for nothing in nothing {
            for brings in ["RPUSH k a b", "MULTI\nRPUSH k a\nRPUSH k b\nEXEC", "RPUSH k a\nRPUSH k b"] {
                let mut w = World::new(&[]);
                let waiting = [(); 3].map(|()| w.connect());
                let (writer, other) = (w.connect(), w.connect());
                // Tried in its place in the batch, since its connection has written something before.
                waiting.iter().for_each(|conn| w.receive(*conn, pipeline("SET s v\nBLPOP j k 0")));
                w.receive(writer, pipeline(&format!("{nothing}\n{brings}")));
                w.receive(other, pipeline("LPOP k\nRPUSH k c\nLLEN k"));
                w.settle();
                let expected = match nothing {
                    // Brought for certain.
                    "RPUSH k no\nRPOP k" => ["$2 no", "$1 a", "$1 b"],
                    _ => ["$1 a", "$1 b", "$1 c"],
                };
                let got = waiting.map(|conn| w.replies(conn));
                assert_eq!(got, expected.map(|e| format!("+OK *2 $1 k {e}")), "{nothing}, {brings}");
                let left = if nothing.starts_with("RPUSH k no") { "$-1 :1 :1" } else { "$-1 :1 :0" };
                assert_eq!(w.replies(other), left, "{nothing}, {brings}");
            }
        }
    }

    #[test]
    fn more_than_a_line_holds_is_served_in_order() {
        let mut w = World::new(&[]);
        let waiting = [(); 3 * super::PERHAPS].map(|()| w.connect());
        waiting.iter().for_each(|conn| assert_eq!(w.ask(*conn, "BLPOP k 0"), ""));
        let writer = w.connect();
        let elements: Vec<String> = (0..waiting.len()).map(|n| n.to_string()).collect();
        w.ask(writer, &format!("RPUSH l {}\nRENAME l k", elements.join(" ")));
        for (conn, element) in waiting.into_iter().zip(elements) {
            assert_eq!(w.replies(conn), format!("*2 $1 k ${} {element}", element.len()));
        }
    }

    #[test]
    fn what_somebody_in_line_is_served_with_and_moves_on_goes_to_those_who_wait_for_its_target() {
        let mut w = World::new(&[]);
        let (moves, waits, writer, other) = (w.connect(), w.connect(), w.connect(), w.connect());
        assert_eq!(w.ask(moves, "BLMOVE k t LEFT LEFT 0") + &w.ask(waits, "BLPOP t 0"), "");
        w.receive(writer, pipeline("EVAL return(1) 1 k\nRPUSH k a"));
        w.receive(other, pipeline("LPOP t\nLPOP k"));
        w.settle();
        assert_eq!([moves, waits].map(|conn| w.replies(conn)), ["$1 a", "*2 $1 t $1 a"]);
        assert_eq!(w.replies(other), "$-1 $-1");
    }

    #[test]
    fn what_is_moved_to_a_key_of_another_type_is_certain_to_nobody() {
        let mut w = World::new(&[]);
        let [moves, first, second, writer] = [(); 4].map(|()| w.connect());
        let waits = [(moves, "BLMOVE k t LEFT LEFT 0"), (first, "BLPOP t 0"), (second, "BLPOP t 0")];
        waits.iter().for_each(|(conn, command)| assert_eq!(w.ask(*conn, command), ""));
        w.ask(writer, "SET t v");
        w.receive(writer, pipeline("RPUSH k a\nDEL t\nRPUSH t x"));
        w.settle();
        assert!(w.replies(moves).starts_with("-WRONGTYPE "));
        assert_eq!([first, second].map(|conn| w.replies(conn)), ["*2 $1 t $1 x", ""]);
    }

    #[test]
    fn a_job_that_may_be_there_already_is_certain_to_nobody() {
        let first =
            ["QADD q x ID a", "QADD q x GROUP g", "QADD q x DEDUP d 60000", "QADD q x AT 99999999999999"];
        for first in first.into_iter().chain(["QADD q x PRIO 99", "QADD q x NOSUCH"]) {
            let mut w = World::new(&[]);
            let (worker, waits, later, adds) = (w.connect(), w.connect(), w.connect(), w.connect());
            w.ask(worker, &format!("{first}\nQTAKE 1 q"));
            assert_eq!(w.ask(waits, "QTAKE 1 q BLOCK 0") + &w.ask(later, "QTAKE 1 q BLOCK 0"), "");
            w.receive(adds, pipeline(&format!("{first}\nQADD q y")));
            w.settle();
            assert!(w.replies(waits).contains(" $1 y"), "who has waited longest gets it, after {first}");
            assert_eq!(w.replies(later), "");
        }
    }

    #[test]
    fn who_reads_a_group_is_told_that_something_else_has_taken_the_place_of_its_stream() {
        for instead in
            ["MULTI\nDEL s\nRPUSH s a\nEXEC", "MULTI\nDEL s\nZADD s 1 a\nEXEC", "RPUSH l a\nRENAME l s"]
        {
            let mut w = World::new(&[]);
            let (reads, writes) = (w.connect(), w.connect());
            w.ask(writes, "XGROUP CREATE s g $ MKSTREAM");
            assert_eq!(w.ask(reads, "XREADGROUP GROUP g c BLOCK 0 STREAMS s >"), "");
            w.ask(writes, instead);
            assert!(w.replies(reads).starts_with("-WRONGTYPE "), "after {instead}");
        }
    }

    #[test]
    fn a_transaction_that_is_stopped_or_takes_away_again_what_it_brought_serves_nobody() {
        let mut w = World::new(&[]);
        let (waits, writer, other) = (w.connect(), w.connect(), w.connect());
        assert_eq!(w.ask(waits, "BLPOP k 0"), "");
        assert_eq!(w.ask(writer, "WATCH s"), "+OK");
        assert_eq!(w.ask(other, "SET s v"), "+OK");
        assert_eq!(w.ask(writer, "MULTI\nRPUSH k a\nEXEC"), "+OK +QUEUED *-1");
        assert_eq!(w.ask(writer, "MULTI\nRPUSH k a\nLPOP k\nEXEC"), "+OK +QUEUED +QUEUED *2 :1 $1 a");
        assert_eq!(w.replies(waits), "");
        assert_eq!(w.ask(other, "RPUSH k b\nLLEN k"), ":1 :0");
        assert_eq!(w.replies(waits), "*2 $1 k $1 b");
    }
}
