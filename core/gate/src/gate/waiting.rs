//! Who waits at a pool: in its queue for any upstream, and in a line at each upstream whoever has its session there.
//!
//! Apart, so that one upstream that is full for long takes no room and no time from those who may go anywhere. Where it is the limit
//! of the whole pool that is reached, lines and the queue are served by how long somebody as important has waited in each.

use skep_base::Micros;

use super::pool::{Pool, part};
use super::{RequestId, Site};
use crate::config::resilience::Priority;
use crate::names::UpstreamId;

impl Pool {
    /// True if somebody waits.
    pub(super) fn is_waited_for(&self) -> bool {
        self.in_lines > 0 || !self.queue.is_empty()
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        let lines: usize = self.upstreams.iter().map(|upstream| upstream.line.len()).sum();
        assert_eq!(lines, self.in_lines, "INV-GATE-8: who waits in lines of {:?}", self.id);
        self.queue.len() + lines
    }

    /// Lets `it` wait, in the line of an upstream or for any. Returns who is turned away for it, which may be itself.
    pub(super) fn push(
        &mut self,
        now: Micros,
        site: &Site,
        line: Option<UpstreamId>,
        priority: Priority,
        it: RequestId,
    ) -> Option<RequestId> {
        let mut rule = self.config.queue.clone();
        rule.size = part(rule.size, site);
        let Some(upstream) = line else {
            let turned_away = self.queue.push(now, &rule, priority, it);
            self.rest(now, site);
            return turned_away;
        };
        let line = &mut self.upstreams[upstream.at()].line;
        let before = line.len();
        let turned_away = line.push(now, &rule, priority, it);
        self.in_lines = self.in_lines - before + line.len();
        turned_away
    }

    /// Takes out one that waits no more.
    pub(super) fn leave(&mut self, line: Option<UpstreamId>, it: RequestId) {
        match line {
            Some(upstream) => self.in_lines -= usize::from(self.upstreams[upstream.at()].line.remove(it)),
            None => _ = self.queue.remove(it),
        }
    }

    /// Takes out one that waited too long, if there is one.
    pub(super) fn shed(&mut self, now: Micros) -> Option<RequestId> {
        let rule = &self.config.queue;
        let late = self.queue.shed(now, rule);
        if late.is_some() || self.in_lines == 0 {
            return late;
        }
        let late = self.upstreams.iter_mut().find_map(|upstream| upstream.line.shed(now, rule));
        self.in_lines -= usize::from(late.is_some());
        late
    }

    /// A queue in which all wait for something of their own, while others would get a place at once, does not stand.
    pub(super) fn rest(&mut self, now: Micros, site: &Site) {
        if !self.queue.is_empty() && self.has_place(now, site) {
            self.queue.rest();
        }
    }

    /// Of those in line who are as important as `class`, or more, and whose upstream has a place, or whose upstream has sessions no
    /// more: who is next in the line whose turn it is by [`Queue::rank`]. Looks at all upstreams.
    pub(super) fn next_in_line(
        &self,
        now: Micros,
        site: &Site,
        class: usize,
    ) -> Option<(UpstreamId, RequestId)> {
        if self.in_lines == 0 {
            return None;
        }
        let rank = |at: u32| {
            let rank = self.upstreams[at as usize].line.rank()?;
            let is_due = !self.takes_sessions(now, at) || (rank.0 <= class && self.is_free(now, site, at));
            is_due.then_some((rank, at))
        };
        let (_, at) = (0..self.upstreams.len() as u32).filter_map(rank).min()?;
        let next = self.upstreams[at as usize].line.peek(now, &self.config.queue)?;
        Some((UpstreamId(at), next))
    }

    /// True if the limit of the whole pool leaves no place but one.
    pub(super) fn has_one_place(&self, now: Micros) -> bool {
        self.in_flight.saturating_add(1) >= self.limit(now)
    }
}
