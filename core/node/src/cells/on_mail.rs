//! Mail of the other cells: operations and replies, and what the hub passes on from the links and to them.

use skep_base::{Args, GroupId, Term};
use skep_consensus as consensus;
use skep_keyspace::Handler;
use skep_peer::PeerMessage;

use super::{HUB, Mail, Message, Ops, Replies};
use crate::answer::{Desk, desk};
use crate::batch::{Call, Origin};
use crate::fresh::Reading;
use crate::on_client::BATCH_BYTES_MAX;
use crate::run::not_ready;
use crate::script_notes::Ran;
use crate::{Node, Output};

impl Node {
    pub(crate) fn on_mail(&mut self, mail: Mail, out: &mut Vec<Output>) {
        for message in mail.messages {
            self.on_cell_message(mail.from, message, out);
        }
        self.list_grown(out);
    }

    fn on_cell_message(&mut self, from: usize, message: Message, out: &mut Vec<Output>) {
        match message {
            Message::Ops(ops) => self.on_ops(&ops, out),
            Message::Replies(replies) => self.on_replies(&replies),
            Message::Parked(call) => self.on_parked_in_cell(&call),
            Message::OfScript { conn, notes } => self.on_script_notes(conn, notes, Ran::Elsewhere),
            Message::ScriptsFlushed => self.forget_scripts(),
            Message::Withdraw { group, asker, end } => self.withdraw(group, asker, end),
            Message::Part { number, part } => self.on_part(number, *part, out),
            Message::Published { batch } => self.on_published_mail(from, &batch, out),
            Message::PublishedTaken { bytes } => self.on_published_taken(from, bytes),
            Message::Subscribers { source, run, counts } => self.on_subscribers_mail(source, run, &counts),
            Message::MonitorLeft => self.on_monitor_left(from),
            Message::Shown(lines) => self.on_shown(&lines),
            Message::KeyEvents { batch } => self.on_key_events_mail(from, &batch, out),
            Message::KeyEventsWanted { node, wanted } => self.note_wanting(node, wanted),
            Message::Tracks { is_on } => self.on_tracks(from, is_on),
            Message::Redirected { from: by, to, keys } => self.on_redirected(from, (by, to), keys, out),
            Message::RedirectBroken { conn } => self.on_redirect_broken(conn, out),
            Message::Report(report) => self.on_report(from, *report, out),
            Message::Send { node, incarnation, message } => {
                self.send_for(from, node, incarnation, message);
            }
            Message::ReadMeta { number } => self.read_meta_for(from, number, out),
            Message::Wish(command) => self.wish(command),
            Message::Stop => self.begin_stop(),
            Message::Ask(ask) => self.pass_on(ask, out),
            Message::View(view) => self.on_view(*view, out),
            Message::Founded(group) => self.begin_founded(group, out),
            Message::PeerUp { node, incarnation, another_way } => {
                self.peers.set_way(node, Some(incarnation), self.now.mono);
                if another_way {
                    self.on_another_way(node, out);
                }
            }
            Message::PeerDown { node, lost_way } => {
                if lost_way == Some(false) {
                    self.peers.set_way(node, None, self.now.mono);
                }
                self.on_way_lost(node, lost_way, out);
            }
            Message::Received { node, incarnation, message, ahead } => {
                self.peers.on_heard_node(node, self.now.mono);
                self.on_member_message(node, incarnation, message, ahead, out);
            }
            Message::Undelivered { group, to } => {
                self.group_input(group, consensus::Input::CheckpointSent { to, arrived: false }, out);
            }
            Message::MetaRead { number } => self.on_meta_read(Reading::Hub(number), out),
            Message::Lead { group, to } => self.lead_away(group, to, out),
            Message::Asked(ask) => self.on_asked(ask, out),
        }
    }

    // ---- operations of the other cells' clients ----------------------------------------------------------------------

    fn on_ops(&mut self, ops: &Ops, out: &mut Vec<Output>) {
        for (group, call, args) in ops.iter() {
            match self.shard_of_group(group) {
                Some(at) => self.take_in_op(at, call, args, out),
                None => {
                    let mut desk = desk!(self, group, Term(0));
                    desk.answer(&call, |reply| reply.refusal(&not_ready()));
                }
            }
        }
    }

    /// Takes in an operation of another cell's client as if it were one of ours.
    fn take_in_op(&mut self, at: usize, call: Call, args: Args<'_>, out: &mut Vec<Output>) {
        if matches!(call.handler, Handler::Read(_)) {
            if call.wait.is_some() {
                return self.push_read(at, call, args);
            }
            if !(call.free && self.read_at_once(at, Term(0), &call, args)) {
                self.shards[at].batch.push_read(call, args);
            }
            return;
        }
        if self.shards[at].leads()
            && let Err(refusal) = self.admit_write(at, call.command, args)
        {
            let mut desk = desk!(self, self.shards[at].id, Term(0));
            return desk.answer(&call, |reply| reply.refusal(&refusal));
        }
        if self.shards[at].batch.bytes() + args.bytes() > BATCH_BYTES_MAX {
            self.drive_shard(at, out);
        }
        self.push_write(at, call, args);
    }

    fn on_replies(&mut self, replies: &Replies) {
        for (call, bytes) in replies.iter() {
            let Origin::Client { weight, .. } = call.origin else { continue };
            self.count_back(weight);
            let mut desk = desk!(self, GroupId::META, Term(0));
            desk.answer(&call, |reply| reply.raw(bytes));
        }
    }

    /// An operation is not on its way to another cell any more. One that waits there weighs nothing from then on.
    fn count_back(&mut self, weight: u32) {
        if weight > 0 {
            self.cells.open_elsewhere -= 1;
            self.cells.bytes_elsewhere -= u64::from(weight);
        }
    }

    fn on_parked_in_cell(&mut self, call: &Call) {
        let Origin::Client { weight, conn, .. } = call.origin else { return };
        self.count_back(weight);
        if let Some(client) = self.clients.get_mut(conn) {
            client.blocked = true;
        }
    }

    // ---- links, for the hub ------------------------------------------------------------------------------------------

    /// Sends a message of another cell, if its node is there still in the run that the cell means.
    fn send_for(&mut self, cell: usize, node: skep_base::NodeId, incarnation: u64, message: PeerMessage) {
        let checkpoint = match &message {
            PeerMessage::Raft { group, message } if message.checkpoint().is_some() => Some(*group),
            _ => None,
        };
        let sent = self.peers.incarnation_of(node) == Some(incarnation) && self.peers.send(node, message);
        if let (false, Some(group)) = (sent, checkpoint) {
            self.cells.send(cell, Message::Undelivered { group, to: node });
        }
    }

    /// Tells all other cells.
    pub(crate) fn tell_all(&mut self, message: impl Fn() -> Message) {
        for cell in self.cells.others() {
            self.cells.send(cell, message());
        }
    }

    /// Gives the hub what this cell has for other nodes.
    pub(crate) fn send_through_hub(&mut self) {
        for (node, incarnation, message) in self.peers.take_for_hub() {
            self.cells.send(HUB, Message::Send { node, incarnation, message });
        }
    }
}
