//! What the hub must know of the other cells, and they of it: told at the end of a turn, when it has changed.

use std::collections::BTreeMap;

use skep_base::{GroupId, Millis, NodeId};
use skep_peer::GroupBeat;

use super::{Cells, Message, View};
use crate::{Node, Output};

/// A cell says something each 100 ms; one that said nothing for this long may hang.
const HEARD_MS: u64 = 150;

/// What a cell tells the hub.
#[derive(Clone, Default)]
pub(crate) struct Report {
    /// Shards here that have a leader.
    pub serving: usize,
    /// Keys here, for the note that the node is ready.
    pub keys: u64,
    /// The disk has not answered this cell for too long.
    pub slow: bool,
    /// There are keys here that could be evicted, as far as is known.
    pub evicts: bool,
    /// More memory is in use than should be.
    pub short: bool,
    pub handed_over: bool,
    /// New commands are refused, and no operation of a client here is elsewhere.
    pub drained: bool,
    /// Nothing here holds up the end.
    pub finished: bool,
    /// Clients of this cell that are gone, since the start.
    pub clients_gone: u64,
    /// The replicas here, for the beats.
    pub groups: Vec<GroupBeat>,
}

impl Report {
    fn is_news(&self, told: &Report) -> bool {
        let flags = |r: &Report| [r.slow, r.evicts, r.short, r.handed_over, r.drained, r.finished];
        flags(self) != flags(told) || (self.serving, self.clients_gone) != (told.serving, told.clients_gone)
    }
}

impl Cells {
    /// What the other cells have to say of their replicas. For a cell that has not been heard of the hub does not vouch.
    pub fn beats(&self, now: Millis) -> impl Iterator<Item = GroupBeat> {
        let is_heard = move |at: &Millis| now.since(*at) < HEARD_MS;
        let of = self.reports.iter().zip(&self.reported_at).skip(1);
        of.flat_map(move |(report, at)| {
            let heard = is_heard(at);
            report.groups.iter().map(move |beat| GroupBeat { rests: beat.rests && heard, ..*beat })
        })
    }
}

impl Node {
    /// Tells the other cells what they must know and do not.
    pub(crate) fn tell_cells(&mut self) {
        match () {
            () if self.cells.is_only() => {}
            () if self.cells.is_hub() => self.tell_view(),
            () => self.report(),
        }
    }

    fn report(&mut self) {
        let serving = self.shards.iter().filter(|shard| self.serves(shard)).count();
        let report = Report {
            serving,
            keys: 0,
            slow: self.disk_busy_ms().is_some(),
            evicts: self.has_keys_to_evict(),
            short: self.memory.is_short(),
            handed_over: self.cells.handed_over,
            drained: self.stopping && self.cells.open_elsewhere == 0,
            finished: self.cells.view.finishing && self.has_finished(),
            clients_gone: self.cells.clients_gone,
            groups: Vec::new(),
        };
        if report.is_news(&self.cells.reported) || std::mem::take(&mut self.cells.beat_due) {
            self.cells.reported = report.clone();
            let keys = self.replicas().map(|replica| replica.keyspace.total_len() as u64).sum();
            let groups = self.own_beats();
            self.cells.send(super::HUB, Message::Report(Box::new(Report { keys, groups, ..report })));
        }
    }

    pub(crate) fn on_report(&mut self, from: usize, report: Report, out: &mut Vec<Output>) {
        let resting = |report: &Report| report.groups.iter().filter(|beat| beat.rests).count();
        if resting(&report) > resting(&self.cells.reports[from]) {
            self.peers.beat_at = self.now.mono;
        }
        self.cells.reports[from] = report;
        self.cells.reported_at[from] = self.now.mono;
        self.memory.others_evict = self.cells.reports().any(|report| report.evicts);
        self.go_on_starting(out);
    }

    /// Tells the other cells of the cluster's state and the node's.
    pub(crate) fn tell_view(&mut self) {
        let view = View {
            id: self.id,
            meta: self.meta.state.clone(),
            caught_up: self.meta.applied.index >= self.meta.recovered,
            ready: self.ready,
            slow: self.disk_slow,
            evicts: self.has_keys_to_evict() || self.cells.reports().any(|report| report.evicts),
            short: self.memory.is_short() || self.cells.reports().any(|report| report.short),
            handing_over: self.handing_over.is_some(),
            stopping: self.stopping,
            finishing: self.may_finish(),
            stopped: self.stopped,
        };
        if !self.cells.told.as_ref().is_some_and(|told| told.is_same(&view)) {
            for cell in self.cells.others() {
                self.cells.send(cell, Message::View(Box::new(view.clone())));
            }
            self.cells.told = Some(view);
        }
    }

    pub(crate) fn on_view(&mut self, view: View, out: &mut Vec<Output>) {
        self.id = view.id;
        let is_new = !std::sync::Arc::ptr_eq(&view.meta, &self.meta.state);
        (self.ready, self.stopping) = (view.ready, view.stopping);
        self.memory.others_evict = view.evicts;
        self.meta.state = view.meta.clone();
        self.cells.view = view;
        if self.cells.view.handing_over {
            self.begin_stop();
        }
        if self.cells.view.stopped && !self.stopped {
            self.stopped = true;
            out.push(Output::Stopped);
        }
        if is_new {
            self.on_meta_changed(out);
        }
    }

    /// The hub: every cell refuses new commands, and no operation is between two of them or ever will be - or those that are
    /// wait for a disk that stays full.
    pub(crate) fn may_finish(&self) -> bool {
        let drained = || self.cells.open_elsewhere == 0 && self.cells.reports().all(|report| report.drained);
        self.stopping && (drained() || self.has_waited_for_space())
    }

    /// Who leads each shard, as far as this node knows in all its cells.
    pub(crate) fn all_leaders(&self) -> BTreeMap<GroupId, NodeId> {
        let mut leaders = BTreeMap::new();
        if !self.cells.is_only() {
            let said = |group: &GroupId| Some((*group, self.peers.leader_of(*group)?.0));
            leaders.extend(self.meta.state.shards.keys().filter_map(said));
            leaders.extend(self.led_by_others().map(|group| (group, self.id)));
        }
        let known = |shard: &crate::shard::Shard| Some((shard.id, shard.leader()?.0));
        leaders.extend(self.shards.iter().filter_map(known));
        leaders
    }

    /// Shards that the other cells lead.
    pub(crate) fn led_by_others(&self) -> impl Iterator<Item = GroupId> {
        let beats = self.cells.reports().flat_map(|report| &report.groups);
        beats.filter(|beat| beat.leads.is_some()).map(|beat| beat.group)
    }
}
