//! The Raft groups of this node: what goes into them, and carrying out what comes out.

use skep_base::{GroupId, NodeId};
use skep_consensus::{self as consensus, Message};
use skep_peer::PeerMessage;

use crate::fresh::Reading;
use crate::shard::Shard;
use crate::{Node, Output};

impl Node {
    /// The place of a shard.
    pub(crate) fn shard_of_group(&self, group: GroupId) -> Option<usize> {
        self.shards.binary_search_by_key(&group, |shard| shard.id).ok()
    }

    /// Takes in a shard that is not there, in the order of their numbers.
    pub(crate) fn add_shard(&mut self, shard: Shard) {
        let place = self.shards.partition_point(|other| other.id < shard.id);
        self.shards.insert(place, shard);
    }

    /// The replica of a group here, if there is one.
    pub(crate) fn group(&self, group: GroupId) -> Option<&consensus::Group> {
        if group == GroupId::META {
            return self.meta.group.as_ref();
        }
        self.shards[self.shard_of_group(group)?].replica.as_ref().map(|r| &r.group)
    }

    pub(crate) fn group_mut(&mut self, group: GroupId) -> Option<&mut consensus::Group> {
        if group == GroupId::META {
            return self.meta.group.as_mut();
        }
        let at = self.shard_of_group(group)?;
        self.shards[at].replica.as_mut().map(|r| &mut r.group)
    }

    /// True if no other node has a replica of the group.
    pub(crate) fn is_alone(&self, group: GroupId) -> bool {
        let Some(group) = self.group(group) else { return false };
        let of = group.membership();
        let mut all = of.voters.iter().chain(&of.learners).chain(&of.outgoing).chain(&of.learners_next);
        all.all(|node| *node == self.id)
    }

    /// Gives a group an input and carries out what it answers. Nothing happens if there is no such group here.
    pub(crate) fn group_input(&mut self, group: GroupId, input: consensus::Input, out: &mut Vec<Output>) {
        let mut effects = std::mem::take(&mut self.effects);
        let mono = self.now.mono;
        if let Some(of) = self.group_mut(group) {
            of.handle(mono, input, &mut effects);
        }
        self.carry_out(group, &mut effects, out);
        self.effects = effects;
    }

    /// Carries out a group's effects, and those that they cause, until there are none.
    pub(crate) fn carry_out(
        &mut self,
        group: GroupId,
        effects: &mut Vec<consensus::Output>,
        out: &mut Vec<Output>,
    ) {
        let mut carried = std::mem::take(&mut self.carried);
        while !effects.is_empty() {
            let mut persisted = None;
            std::mem::swap(&mut carried, effects);
            for effect in carried.drain(..) {
                match effect {
                    consensus::Output::Persist { ticket, records, must_sync: _, then_send } => {
                        if self.persist(group, ticket, records, then_send) {
                            persisted = Some(ticket);
                        }
                    }
                    consensus::Output::Send { to, message } => self.send_raft(group, to, message),
                    consensus::Output::Apply { entries } => self.apply(group, entries, out),
                    consensus::Output::Install { at, .. } => self.on_install(group, at, out),
                    consensus::Output::CheckpointWanted => self.want_checkpoint(group),
                    consensus::Output::MembershipChanged { .. } => {}
                    consensus::Output::RoleChanged { role, term, .. } => {
                        self.on_role_changed(group, role, term, out);
                    }
                    consensus::Output::ReadReady { read } => {
                        if group == GroupId::META {
                            self.on_meta_read(Reading::Group(read), out);
                        } else if let Some(at) = self.shard_of_group(group) {
                            self.on_read_ready(at, read);
                        }
                    }
                    consensus::Output::ReadDropped { read } => {
                        if group == GroupId::META {
                            self.on_meta_read_dropped(Reading::Group(read));
                        } else if let Some(at) = self.shard_of_group(group) {
                            self.on_read_dropped(at, read);
                        }
                    }
                    consensus::Output::Note(_) => {}
                }
            }
            if let Some(ticket) = persisted {
                let mono = self.now.mono;
                if let Some(of) = self.group_mut(group) {
                    of.handle(mono, consensus::Input::Persisted(ticket), effects);
                }
            }
        }
        self.carried = carried;
    }

    /// Sends a group's message. A lost one is repeated by the groups themselves.
    pub(crate) fn send_raft(&mut self, group: GroupId, to: NodeId, message: Message) {
        let is_checkpoint = message.checkpoint().is_some();
        let sent = self.peers.send(to, PeerMessage::Raft { group, message });
        if !sent && is_checkpoint {
            self.undelivered.push((group, to));
        }
    }

    fn on_role_changed(
        &mut self,
        group: GroupId,
        role: consensus::Role,
        term: skep_base::Term,
        out: &mut Vec<Output>,
    ) {
        let leads = role == consensus::Role::Leader;
        if group == GroupId::META {
            return self.on_meta_role(leads, out);
        }
        let Some(at) = self.shard_of_group(group) else { return };
        self.cells.beat_due = true;
        let led = std::mem::replace(&mut self.shards[at].led, leads.then_some(term));
        if led.is_some() && self.shards[at].led != led {
            self.on_lead_lost(at);
            self.tell_missed(at);
            self.memory.forget_chosen();
        }
        if leads {
            self.tell_missed(at);
        }
        self.note_leader(group, out);
    }
}

#[cfg(test)]
mod tests;
