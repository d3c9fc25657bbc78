//! Calls that shall wait no more: their clients are gone, or somebody said so.
//!
//! What waits is taken out of its order at once; what is in an entry already is done if it finds something.

use skep_base::{ConnId, GroupId};

use crate::Node;
use crate::batch::{Asker, InFlight, Origin, Unblock};
use crate::cells::Message;
use crate::waiting::Try;

impl Node {
    /// A call of one of this node's clients shall wait no more.
    pub(crate) fn withdraw(&mut self, group: GroupId, asker: Asker, end: Unblock) {
        if !self.cells.is_home(group) {
            return self.cells.send(self.cells.home(group), Message::Withdraw { group, asker, end });
        }
        let Some(at) = self.shard_of_group(group) else { return };
        self.withdraw_here(at, asker, end);
    }

    /// Takes out a call that waits here, or sees to it that it does not begin to.
    pub(crate) fn withdraw_here(&mut self, at: usize, asker: Asker, end: Unblock) {
        let shard = &mut self.shards[at];
        if let Some(place) = shard.waiting.place_of(asker) {
            if shard.waiting.get(place).is_some_and(|waiter| waiter.trying != Try::None) {
                return shard.waiting.set_end(place, end);
            }
            if let Some(waiter) = shard.waiting.remove(place) {
                self.end_wait(at, &waiter.call, waiter.args.args(), waiter.copies, end);
            }
            return;
        }
        if self.withdraw_away(at, asker, end) {
            return;
        }
        let shard = &mut self.shards[at];
        shard.batch.end_wait(asker, end);
        let in_flight = shard.in_flight.iter_mut().filter_map(|proposed| proposed.batch.as_mut());
        let closed = shard.closed.iter_mut().map(|closed| &mut closed.batch);
        let forwarded = shard.forwarded.iter_mut().map(|forwarded| &mut forwarded.batch);
        in_flight.chain(closed).chain(forwarded).for_each(|batch: &mut InFlight| batch.end_wait(asker, end));
    }

    /// Nobody waits here any more, and no client of this node elsewhere. Other nodes' clients go to the next leader.
    pub(crate) fn end_all_waits(&mut self, end: Unblock) {
        for at in 0..self.shards.len() {
            for mut waiter in self.stop_waiting(at) {
                if let (Origin::Client { .. }, Some(wait)) = (waiter.call.origin, &mut waiter.call.wait) {
                    wait.end = Some(end);
                }
                self.wait_elsewhere(at, vec![waiter]);
            }
            self.withdraw_all_away(at, end);
            let shard = &mut self.shards[at];
            let in_flight = shard.in_flight.iter_mut().filter_map(|proposed| proposed.batch.as_mut());
            let closed = shard.closed.iter_mut().map(|closed| &mut closed.batch);
            let forwarded = shard.forwarded.iter_mut().map(|forwarded| &mut forwarded.batch);
            in_flight.chain(closed).chain(forwarded).for_each(|batch| batch.end_own_waits(end));
            shard.batch.end_own_waits(end);
        }
    }

    /// Ends the wait of a client of this cell. False if it does not wait.
    pub(crate) fn unblock(&mut self, conn: ConnId, end: Unblock) -> bool {
        let Some(client) = self.clients.get(conn).filter(|client| client.blocked) else { return false };
        let Some((groups, asker)) = client.wait(self.cells.me) else { return false };
        groups.into_iter().for_each(|group| self.withdraw(group, asker, end));
        true
    }
}
