//! `WAIT` and `WAITAOF`: clients that wait until copies hold on disk what they wrote (decision 17).
//!
//! Such a call is a read that waits at the leader of the shard that its client wrote to, as other commands that wait do, for what
//! the leader had applied when the call came: all that its client was answered is among it. The leader counts what its
//! followers have confirmed, which they do from their disks only. A count once true stays true, so no lease is needed to tell
//! it. A client that wrote to several shards waits at each, and is answered the least.

use skep_base::{GroupId, LogIndex, NodeId, Refusal};
use skep_command::{CommandId, CommandSpec, id_of};
use skep_keyspace::CopiesWanted;
use skep_resp::{Reply, Value};
use skep_settings::Durability;

use crate::answer::{Desk, desk};
use crate::batch::Call;
use crate::client::{Client, WaitsOn};
use crate::joined::Becomes;
use crate::local::Call as LocalCall;
use crate::on_client::Flow;
use crate::run::{Asked, call_of, not_ready};
use crate::waiting::Place;
use crate::{Node, Output};

const WAIT: CommandId = id_of("wait");
const WAITAOF: CommandId = id_of("waitaof");

/// True for `WAIT` and `WAITAOF`.
#[inline]
pub(crate) fn waits_for_copies(command: &CommandSpec) -> bool {
    [WAIT, WAITAOF].contains(&command.id())
}

/// What copies are to hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    index: LogIndex,
    /// The output to the disk here behind which it is durable here.
    output: u64,
}

/// How many copies hold something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Held {
    local: bool,
    replicas: u64,
}

impl Held {
    fn is_enough(self, wanted: CopiesWanted) -> bool {
        (self.local || !wanted.local) && self.replicas >= wanted.replicas
    }

    fn answer(self, command: &CommandSpec, reply: &mut Reply<'_>) {
        if command.id() == WAITAOF {
            reply.array(2);
            reply.int(i64::from(self.local));
        }
        reply.int(i64::try_from(self.replicas).expect("nodes are few"));
    }
}

/// Shards that a connection has written to, as a bit for each number.
#[derive(Default)]
pub(crate) struct Written(Vec<u64>);

impl Written {
    pub fn add(&mut self, group: GroupId) {
        let (word, bit) = (group.0 as usize / 64, group.0 % 64);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << bit;
    }

    fn has(&self, group: GroupId) -> bool {
        self.0.get(group.0 as usize / 64).is_some_and(|word| word & (1 << (group.0 % 64)) != 0)
    }
}

impl Node {
    /// What the copies of a shard are to hold for a call that comes now.
    pub(crate) fn copies_target(&self, at: usize) -> Option<Target> {
        let replica = self.shards[at].replica.as_ref()?;
        Some(Target { index: replica.applied.index, output: self.persist.last_output() })
    }

    fn held(&self, at: usize, target: Target) -> Held {
        let Some(replica) = self.shards[at].replica.as_ref().filter(|replica| replica.leads()) else {
            return Held { local: false, replicas: 0 };
        };
        let group = &replica.group;
        let of = group.membership();
        let all = of.voters.iter().chain(&of.learners);
        let holds = |node: &NodeId| group.matched(*node).is_some_and(|matched| matched >= target.index);
        let replicas = all.clone().filter(|node| **node != self.id && holds(node)).count() as u64;
        // What is applied is on this disk, but for the shards of one copy that do not wait for it.
        let local = self.settings.durability() == Durability::Disk
            || all.count() > 1
            || self.persist.durable_to() >= target.output;
        Held { local, replicas }
    }

    /// Answers a call that waits for copies if there are enough. True if it was answered.
    pub(crate) fn end_if_copied(&mut self, at: usize, place: Place) -> bool {
        let Some(waiter) = self.shards[at].waiting.get(place) else { return false };
        let (Some(target), Ok(wanted)) = (waiter.copies, CopiesWanted::parse(waiter.args.args())) else {
            return false;
        };
        let held = self.held(at, target);
        if !held.is_enough(wanted) {
            return false;
        }
        let waiter = self.shards[at].waiting.remove(place).expect("found above");
        self.answer_held(at, &waiter.call, held);
        true
    }

    /// Answers a call that waits for copies with those that there are.
    pub(crate) fn end_with_copies(&mut self, at: usize, call: &Call, target: Option<Target>) {
        let held = target.map_or(Held { local: false, replicas: 0 }, |target| self.held(at, target));
        self.answer_held(at, call, held);
    }

    fn answer_held(&mut self, at: usize, call: &Call, held: Held) {
        let shard = &self.shards[at];
        let mut desk = desk!(self, shard.id, shard.led.unwrap_or_default());
        desk.answer(call, |reply| held.answer(call.command, reply));
    }

    /// Answers those who wait for copies and have enough. Looks at them only if a copy has moved since the last time: who begins
    /// to wait is looked at then.
    pub(crate) fn end_copied(&mut self, at: usize) {
        if !self.shards[at].waiting.has_for_copies() || !self.have_copies_moved(at) {
            return;
        }
        for place in self.shards[at].waiting.for_copies() {
            self.end_if_copied(at, place);
        }
    }

    fn have_copies_moved(&mut self, at: usize) -> bool {
        let durable = self.persist.durable_to();
        let shard = &mut self.shards[at];
        let Some(replica) = shard.replica.as_ref().filter(|replica| replica.leads()) else { return true };
        let of = replica.group.membership();
        let all = of.voters.iter().chain(&of.learners);
        let matched = all.map(|node| (*node, replica.group.matched(*node)));
        let seen = &mut shard.copies_seen;
        if seen.0 == durable && matched.clone().eq(seen.1.iter().copied()) {
            return false;
        }
        *seen = (durable, matched.collect());
        true
    }

    /// The shards that a client has written to; one that wrote nothing asks the first.
    fn written_by(&self, client: &Client) -> Vec<GroupId> {
        let all = self.meta.state.shards.keys();
        let written: Vec<GroupId> =
            all.clone().filter(|group| client.written.has(**group)).copied().collect();
        if written.is_empty() { all.take(1).copied().collect() } else { written }
    }

    /// Runs `WAIT` or `WAITAOF` where there are several shards.
    pub(crate) fn run_on_written(&mut self, asked: Asked<'_>, out: &mut Vec<Output>) -> Flow {
        let Asked { conn, command, args, .. } = asked;
        let client = self.client(conn);
        if client.pending() > 0 {
            client.waiting = true;
            return Flow::Wait;
        }
        let groups = self.written_by(self.clients.get(conn).expect("seen above"));
        if groups.is_empty() {
            return self.refuse(conn, Some(command), &not_ready());
        }
        let (me, mono) = (self.cells.me, self.now.mono);
        let client = self.client(conn);
        let silent = client.begin_command(command.name);
        client.join_replies(groups.len(), Some(Becomes::LeastCopies), command, silent);
        client.waiting = true;
        let mut call = call_of(client, me, asked, false);
        call.let_wait(client, WaitsOn::Many(groups.clone()), args, mono);
        for group in groups {
            self.give(group, call, args, out);
        }
        Flow::Done
    }
}

/// `WAIT` or `WAITAOF` in a transaction, which waits for nothing: how many copies are certain to hold what the client wrote, without
/// asking any other cell or node.
pub(crate) fn count_at_once(node: &mut Node, call: LocalCall<'_, '_>) -> Result<(), Refusal> {
    CopiesWanted::parse(call.args)?;
    let command = skep_command::resolve(call.args)?;
    let client = node.clients.get(call.conn).ok_or_else(not_ready)?;
    let held_by = |group: GroupId| {
        let at = node.shard_of_group(group)?;
        Some(node.held(at, node.copies_target(at)?))
    };
    let held = node.written_by(client).into_iter().map(|group| held_by(group).unwrap_or(NONE));
    held.reduce(least).unwrap_or(NONE).answer(command, call.reply);
    Ok(())
}

const NONE: Held = Held { local: false, replicas: 0 };

fn least(one: Held, other: Held) -> Held {
    Held { local: one.local && other.local, replicas: one.replicas.min(other.replicas) }
}

/// The reply to a client that waited at several shards: the least of each number, or the first error.
pub(crate) fn least_copies(replies: &[Vec<u8>], reply: &mut Reply<'_>) {
    if let Some(error) = replies.iter().find(|bytes| bytes.first() == Some(&b'-')) {
        return reply.raw(error);
    }
    let values = replies.iter().filter_map(|bytes| Value::parse(bytes).ok().flatten());
    let numbers = values.map(|(value, _)| match value.as_elements() {
        Some(elements) => elements.iter().filter_map(Value::as_int).collect(),
        None => Vec::from_iter(value.as_int()),
    });
    let least = |one: Vec<i64>, other: Vec<i64>| one.into_iter().zip(other).map(|(a, b)| a.min(b)).collect();
    let numbers: Vec<i64> = numbers.reduce(least).unwrap_or_default();
    if numbers.len() > 1 {
        reply.array(numbers.len());
    }
    numbers.into_iter().for_each(|number| reply.int(number));
}

#[cfg(test)]
mod tests;
