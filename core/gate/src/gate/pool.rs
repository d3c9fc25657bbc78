//! A pool as a gate sees it: who may be chosen, and what replies make of each upstream.

use std::collections::BTreeMap;

use skep_base::{Micros, Rng};

use super::learn::Told;
use super::{Note, Output, RequestId, Site};
use crate::balance::sticky::{Secret, upstream_name};
use crate::balance::zones::{self, ZoneShares};
use crate::balance::{Balancer, Choice, Cost, Load, Ties};
use crate::config::pool::{self as config, UpstreamProtocol};
use crate::health::{Checks, Counted, Record, out_max};
use crate::names::{PoolId, RouteId, UpstreamId};
use crate::resilience::retry::{self, Failure};
use crate::resilience::{Adaptive, Breaker, Outcome, Pass, Queue, State};
use crate::window::Counts;

/// How often an upstream is compared with the rest at most: that looks at all of them.
const COMPARE_EVERY: Micros = Micros::from_millis(10);
/// Retries under way that a pool always bears (Envoy's minimum).
const RETRIES_LEAST: u32 = 3;

/// What is kept of one upstream beside its load.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) name: u64,
    pub(super) checks: Option<Checks>,
    pub(super) record: Record,
    pub(super) breaker: Option<Breaker>,
    /// Who waits for a place here, and nowhere else.
    pub(super) line: Queue<RequestId>,
    compared: Micros,
}

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) id: PoolId,
    pub(super) config: config::Pool,
    pub(super) loads: Vec<Load>,
    pub(super) upstreams: Vec<Upstream>,
    balancer: Balancer,
    /// Who may be chosen, in order.
    open: Vec<u32>,
    zones: Option<ZoneShares>,
    open_by_zone: Vec<(String, Vec<u32>)>,
    panics: bool,
    pub(super) adaptive: Option<Adaptive>,
    /// Who waits for any upstream, and how many wait in lines of upstreams.
    pub(super) queue: Queue<RequestId>,
    pub(super) in_lines: usize,
    /// Attempts under way, and how many of them are retries or hedges.
    pub(super) in_flight: u32,
    pub(super) retries: u32,
    /// Routes whose failover goes by this pool.
    pub(super) watchers: Vec<RouteId>,
    /// Which upstream has the sessions of a name.
    sessions: BTreeMap<u64, u32>,
}

/// What a pool says to an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pick {
    Upstream(UpstreamId, Option<Pass>),
    /// There are upstreams, and all are at their limit.
    Full,
    /// There is none that may be tried.
    None,
}

/// What an attempt says of its upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Well,
    Failed,
    Nothing,
}

/// `limit` of a node for one of its cores.
pub(super) fn part(limit: u32, site: &Site) -> u32 {
    limit.div_ceil(site.cores.max(1))
}

impl Pool {
    /// A pool whose upstreams are those of `old` where the address is the same. Leaves a note if it panics and `old` did not, or the
    /// other way round.
    #[allow(clippy::too_many_arguments, reason = "each is a fact about the one pool")]
    pub(super) fn new(
        now: Micros,
        id: PoolId,
        config: &config::Pool,
        old: Option<Pool>,
        site: &Site,
        secret: &Secret,
        rng: &mut Rng,
        out: &mut Vec<Output>,
    ) -> Pool {
        let named: Vec<(&str, u32)> =
            config.upstreams.iter().map(|u| (u.address.0.as_str(), u.weight)).collect();
        let mean = old.as_ref().and_then(|old| old.mean_cost(now));
        let (is_new, panics) = (old.is_none(), old.as_ref().is_some_and(|old| old.panics));
        let mut kept = Vec::new();
        let (mut adaptive, mut queue) = (None, Queue::default());
        if let Some(old) = old {
            let addresses = old.config.upstreams.iter().map(|u| u.address.clone());
            kept = addresses.zip(old.loads.into_iter().zip(old.upstreams)).map(Some).collect();
            (adaptive, queue) = (old.adaptive, old.queue);
        }
        let (mut loads, mut upstreams) = (Vec::new(), Vec::new());
        for own in &config.upstreams {
            let found =
                kept.iter_mut().find(|k| k.as_ref().is_some_and(|(address, _)| *address == own.address));
            let (mut load, mut upstream) = match found.and_then(Option::take) {
                Some((_, kept)) => kept,
                None => {
                    let since = (!is_new).then_some(now);
                    let load = Load { weight: own.weight, in_flight: 0, cost: Cost::new(now, mean), since };
                    let (record, line) = (Record::default(), Queue::default());
                    (load, Upstream { name: 0, checks: None, record, breaker: None, line, compared: now })
                }
            };
            upstream.name = upstream_name(secret, &own.address.0);
            load.weight = own.weight;
            if upstream.record.set_rule(now, config.eject.as_ref()) {
                load.since = Some(now);
                out.push(Output::Note(Note::Readmitted {
                    pool: id,
                    upstream: UpstreamId(loads.len() as u32),
                }));
            }
            // A rule that changed begins anew; what stays the same keeps what it has learned.
            upstream.checks = config.health.as_ref().map(|rule| match upstream.checks.take() {
                Some(mut checks) => {
                    checks.set_rule(now, rule);
                    checks
                }
                None => Checks::new(now, rule, rng),
            });
            upstream.breaker = config
                .breaker
                .as_ref()
                .map(|rule| upstream.breaker.take().unwrap_or_else(|| Breaker::new(rule)));
            loads.push(load);
            upstreams.push(upstream);
        }
        let adaptive = config
            .adaptive
            .as_ref()
            .map(|rule| adaptive.unwrap_or_else(|| Adaptive::new(now, rule, site.cores)));
        let load_max = config.hash_load_max.fraction();
        let sessions = upstreams.iter().zip(0..).map(|(u, at)| (u.name, at)).collect();
        let mut pool = Pool {
            id,
            sessions,
            in_lines: upstreams.iter().map(|u| u.line.len()).sum(),
            balancer: Balancer::new(config.balance, &named, config.slow_start, load_max),
            config: config.clone(),
            loads,
            upstreams,
            open: Vec::new(),
            zones: None,
            open_by_zone: Vec::new(),
            panics,
            adaptive,
            queue,
            in_flight: 0,
            retries: 0,
            watchers: Vec::new(),
        };
        pool.in_flight = pool.loads.iter().map(|l| l.in_flight).sum();
        pool.reopen(site, out);
        pool
    }

    fn mean_cost(&self, now: Micros) -> Option<f64> {
        let count = self.loads.len() as f64;
        (count > 0.0).then(|| self.loads.iter().map(|l| l.cost.get(now)).sum::<f64>() / count)
    }

    /// Whether an upstream may be chosen as far as checks and ejection go.
    pub(super) fn is_fit(&self, at: u32) -> bool {
        let upstream = &self.upstreams[at as usize];
        upstream.checks.as_ref().is_none_or(Checks::is_up) && !upstream.record.is_out()
    }

    /// The share of upstreams that are fit and whose breakers are not open.
    pub(super) fn usable(&self, now: Micros) -> f64 {
        let takes_new = |at: &u32| !self.config.upstreams[*at as usize].drain;
        let all: Vec<u32> = (0..self.loads.len() as u32).filter(takes_new).collect();
        let usable = all.iter().filter(|at| self.is_fit(**at) && !self.is_open(now, **at)).count();
        if all.is_empty() { 0.0 } else { usable as f64 / all.len() as f64 }
    }

    /// Whether its breaker lets nobody through for a while.
    fn is_open(&self, now: Micros, at: u32) -> bool {
        let state = self.upstreams[at as usize].breaker.as_ref().map(Breaker::state);
        matches!(state, Some(State::Open { until }) if until > now)
    }

    /// Works out anew who may be chosen; to be called whenever fitness changes.
    pub(super) fn reopen(&mut self, site: &Site, out: &mut Vec<Output>) {
        let all: Vec<u32> =
            (0..self.loads.len() as u32).filter(|at| !self.config.upstreams[*at as usize].drain).collect();
        let fit: Vec<u32> = all.iter().copied().filter(|at| self.is_fit(*at)).collect();
        let panics = (fit.len() as f64) < all.len() as f64 * self.config.panic.fraction();
        if panics != self.panics {
            self.panics = panics;
            out.push(Output::Note(Note::Panic { pool: self.id, on: panics }));
        }
        self.open = if panics { all } else { fit };
        self.zones = None;
        self.open_by_zone.clear();
        if !self.config.zone_aware {
            return;
        }
        for at in &self.open {
            let zone = self.config.upstreams[*at as usize].zone.clone().unwrap_or_default();
            match self.open_by_zone.iter_mut().find(|(z, _)| *z == zone) {
                Some((_, members)) => members.push(*at),
                None => self.open_by_zone.push((zone, vec![*at])),
            }
        }
        let weight = |members: &[u32]| members.iter().map(|at| self.loads[*at as usize].weight).sum::<u32>();
        let counts: Vec<(String, u32)> =
            self.open_by_zone.iter().map(|(z, m)| (z.clone(), weight(m))).collect();
        self.zones = zones::shares(&site.zone, &site.zones, &counts);
    }

    /// How many attempts may be under way.
    pub(super) fn limit(&self, now: Micros) -> u32 {
        self.adaptive.as_ref().map_or(u32::MAX, |a| a.limit(now))
    }

    /// True if one more retry or hedge may be under way.
    pub(super) fn bears_retry(&self) -> bool {
        let share = f64::from(self.in_flight) * self.config.retries_max.fraction();
        self.config.retries_max.0 > 0 && self.retries < RETRIES_LEAST.max(share as u32)
    }

    /// True if an upstream beside `tried` might be chosen.
    pub(super) fn has_other(&self, now: Micros, tried: &[(PoolId, UpstreamId)]) -> bool {
        self.open.iter().any(|at| !tried.contains(&(self.id, UpstreamId(*at))) && self.admits(now, *at))
    }

    fn admits(&self, now: Micros, at: u32) -> bool {
        match (&self.upstreams[at as usize].breaker, &self.config.breaker) {
            (Some(breaker), Some(rule)) => breaker.admits(now, rule),
            _ => true,
        }
    }

    /// How many attempts may be under way at one upstream.
    fn room(&self, site: &Site) -> u32 {
        // Over HTTP/1.1 a request needs a connection of its own.
        let requests = match self.config.protocol {
            UpstreamProtocol::Http1 => self.config.requests.min(self.config.connections),
            UpstreamProtocol::Http2 => self.config.requests,
        };
        part(requests, site)
    }

    fn may(&self, now: Micros, tried: &[(PoolId, UpstreamId)], at: u32) -> bool {
        !tried.contains(&(self.id, UpstreamId(at))) && self.admits(now, at)
    }

    /// The upstream that has the session, and serves it; also one that takes no new sessions.
    pub(super) fn home(&self, now: Micros, ties: Ties) -> Option<u32> {
        let at = self.sessions.get(&ties.sticky?).copied()?;
        self.takes_sessions(now, at).then_some(at)
    }

    /// The upstream that has the session, if it may be tried.
    fn session(&self, now: Micros, ties: Ties, tried: &[(PoolId, UpstreamId)]) -> Option<u32> {
        self.home(now, ties).filter(|at| self.may(now, tried, *at))
    }

    /// Whether an upstream serves sessions that it has.
    pub(super) fn takes_sessions(&self, now: Micros, at: u32) -> bool {
        self.config.sticky.is_some() && self.is_believed(at) && self.admits(now, at)
    }

    /// Whether sessions stay as far as checks and ejection go. Where those speak against so many that all are used, a session that left
    /// would come to one that is no better, and leave that at its next request.
    fn is_believed(&self, at: u32) -> bool {
        self.panics || self.is_fit(at)
    }

    /// Whether a session that `home` serves may go on at `at`, which has answered for it: where both are one, or checks and ejection speak
    /// against `home` alone, though all are used.
    pub(super) fn is_better(&self, at: u32, home: u32) -> bool {
        at == home || (self.is_fit(at) && !self.is_fit(home))
    }

    /// The upstream that has the session, if that has no place.
    pub(super) fn full_session(
        &self,
        now: Micros,
        site: &Site,
        ties: Ties,
        tried: &[(PoolId, UpstreamId)],
    ) -> Option<UpstreamId> {
        let at = self.session(now, ties, tried)?;
        (self.loads[at as usize].in_flight >= self.room(site)).then_some(UpstreamId(at))
    }

    /// Whether an upstream that serves its sessions, or is on trial for that, has this one.
    pub(super) fn has_session(&self, now: Micros, ties: Ties, upstream: UpstreamId) -> bool {
        let is_its = ties.sticky == Some(self.upstreams[upstream.at()].name);
        let stays = self.is_believed(upstream.0) && !self.is_open(now, upstream.0);
        is_its && self.config.sticky.is_some() && stays
    }

    /// Whether an upstream has a place.
    pub(super) fn is_free(&self, now: Micros, site: &Site, at: u32) -> bool {
        let has_place = self.loads[at as usize].in_flight < self.room(site);
        has_place && self.in_flight < self.limit(now) && self.admits(now, at)
    }

    /// True if there is a place for whoever comes and may go anywhere. Looks at all upstreams.
    pub(super) fn has_place(&self, now: Micros, site: &Site) -> bool {
        self.open.iter().any(|at| self.is_free(now, site, *at))
    }

    /// True if there may be a place for somebody, or nobody is left to wait for. Looks at all upstreams.
    pub(super) fn has_room(&self, now: Micros, site: &Site) -> bool {
        // Sessions also go where nobody else does.
        let of_sessions = |at: u32| self.takes_sessions(now, at) && self.is_free(now, site, at);
        !self.open.iter().any(|at| self.admits(now, *at))
            || self.has_place(now, site)
            || (0..self.loads.len() as u32).any(of_sessions)
    }

    /// True if whoever has such ties, and has been at `tried`, finds only upstreams without a place. Takes none.
    pub(super) fn is_full_for(
        &self,
        now: Micros,
        site: &Site,
        ties: Ties,
        tried: &[(PoolId, UpstreamId)],
    ) -> bool {
        let room = self.room(site);
        let is_full = |at: u32| self.loads[at as usize].in_flight >= room;
        if let Some(at) = self.session(now, ties, tried) {
            return is_full(at);
        }
        let mut open = self.open.iter().copied().filter(|at| self.may(now, tried, *at)).peekable();
        open.peek().is_some() && open.all(is_full)
    }

    /// True if whoever has such ties, and has been at `tried`, would get a place.
    pub(super) fn has_place_for(
        &self,
        now: Micros,
        site: &Site,
        ties: Ties,
        tried: &[(PoolId, UpstreamId)],
    ) -> bool {
        self.in_flight < self.limit(now) && !self.is_full_for(now, site, ties, tried)
    }

    /// An upstream for an attempt, with a place taken there.
    pub(super) fn pick(
        &mut self,
        now: Micros,
        site: &Site,
        ties: Ties,
        tried: &[(PoolId, UpstreamId)],
        rng: &mut Rng,
    ) -> Pick {
        let room = self.room(site);
        let may = |pool: &Pool, at: u32| pool.may(now, tried, at);
        let has_room = |pool: &Pool, at: u32| pool.loads[at as usize].in_flight < room;
        let mut found = self.session(now, ties, tried);
        if self.in_flight >= self.limit(now) {
            let is_any = found.is_some() || self.open.iter().any(|at| may(self, *at));
            return if is_any { Pick::Full } else { Pick::None };
        }
        if found.is_some_and(|at| !has_room(self, at)) {
            // What the session is about is there and nowhere else.
            return Pick::Full;
        }
        if found.is_none() {
            // The balancer is lent out, since its test looks at the pool.
            let mut balancer = std::mem::replace(&mut self.balancer, Balancer::empty());
            let usable = |at: u32| may(self, at) && has_room(self, at);
            let zone = self.zones.as_ref().map(|z| z.zone(rng.below(1_000_000) as u32));
            let near = zone.and_then(|zone| self.open_by_zone.iter().find(|(z, _)| z == zone));
            let choice = |open| Choice { loads: &self.loads, open, key: ties.key };
            found = near.and_then(|(_, open)| balancer.pick(now, choice(open), rng, &usable));
            found = found.or_else(|| balancer.pick(now, choice(&self.open), rng, &usable));
            self.balancer = balancer;
        }
        let Some(at) = found else {
            return if self.open.iter().any(|at| may(self, *at)) { Pick::Full } else { Pick::None };
        };
        let upstream = &mut self.upstreams[at as usize];
        let pass = match (&mut upstream.breaker, &self.config.breaker) {
            (Some(breaker), Some(rule)) => breaker.enter(now, rule),
            _ => None,
        };
        self.loads[at as usize].in_flight += 1;
        self.in_flight += 1;
        Pick::Upstream(UpstreamId(at), pass)
    }

    /// Gives the place back that `pick` took.
    pub(super) fn release(&mut self, upstream: UpstreamId) {
        let load = &mut self.loads[upstream.at()];
        assert!(load.in_flight > 0 && self.in_flight > 0, "INV-GATE-13: {upstream:?} of {:?}", self.id);
        load.in_flight -= 1;
        self.in_flight -= 1;
    }

    /// Takes a place again that was given back, whatever the limits: its attempt was there all the time.
    pub(super) fn take_back(&mut self, upstream: UpstreamId, is_retry: bool) {
        self.loads[upstream.at()].in_flight += 1;
        self.in_flight += 1;
        self.retries += u32::from(is_retry);
    }

    /// Takes in how an attempt went. `verdict` is what it says of the upstream beside others, `breaking` what its breaker
    /// counts. Leaves notes of what changed by it. Returns what it was counted as if it was well.
    #[allow(clippy::too_many_arguments, reason = "each is a fact about the one attempt")]
    pub(super) fn learn(
        &mut self,
        now: Micros,
        site: &Site,
        upstream: UpstreamId,
        pass: Option<Pass>,
        latency: Micros,
        verdict: Verdict,
        breaking: bool,
        rng: &mut Rng,
        out: &mut Vec<Output>,
    ) -> Option<Counted> {
        let at = upstream.at();
        let in_flight = self.in_flight;
        let load = &mut self.loads[at];
        match verdict {
            Verdict::Failed => load.cost.fail(now, latency),
            Verdict::Well => load.cost.observe(now, latency),
            Verdict::Nothing => {}
        }
        if let (Some(adaptive), Some(rule)) = (&mut self.adaptive, &self.config.adaptive) {
            match verdict {
                Verdict::Well => adaptive.add(now, rule, latency, in_flight),
                Verdict::Failed | Verdict::Nothing => adaptive.fail(in_flight),
            }
        }
        let failed = verdict == Verdict::Failed;
        let counted =
            (verdict != Verdict::Nothing).then(|| self.upstreams[at].record.add(now, failed, latency));
        let outcome = if breaking { Outcome::Failed } else { Outcome::Well(latency) };
        self.leave_breaker(now, upstream, pass, outcome, rng, out);
        self.judge(now, site, upstream, failed, rng, out);
        counted.filter(|_| !failed)
    }

    /// Takes in that a reply broke after its head.
    pub(super) fn break_off(
        &mut self,
        now: Micros,
        site: &Site,
        upstream: UpstreamId,
        told: Told,
        rng: &mut Rng,
        out: &mut Vec<Output>,
    ) {
        self.loads[upstream.at()].cost.fail(now, Micros(0));
        let own = &mut self.upstreams[upstream.at()];
        if let (Some(breaker), Some(rule), Some(head)) =
            (&mut own.breaker, &self.config.breaker, told.breaker)
            && retry::is_listed(&rule.on, Failure::Broken)
            && breaker.break_off(now, rule, head, rng)
        {
            out.push(Output::Note(Note::UpstreamBreaker { pool: self.id, upstream, open: true }));
        }
        if let Some(head) = told.counted {
            own.record.break_off(now, head);
            self.judge(now, site, upstream, true, rng, out);
        }
    }

    /// Tells the breaker of an upstream how an attempt ended.
    pub(super) fn leave_breaker(
        &mut self,
        now: Micros,
        upstream: UpstreamId,
        pass: Option<Pass>,
        outcome: Outcome,
        rng: &mut Rng,
        out: &mut Vec<Output>,
    ) {
        let own = &mut self.upstreams[upstream.at()];
        if let (Some(breaker), Some(rule), Some(pass)) = (&mut own.breaker, &self.config.breaker, pass)
            && breaker.leave(now, rule, pass, outcome, rng)
        {
            let open = matches!(breaker.state(), State::Open { .. });
            if !open {
                // It was away: what it cost before says nothing, and it begins with a part of its traffic.
                self.loads[upstream.at()].since = Some(now);
            }
            out.push(Output::Note(Note::UpstreamBreaker { pool: self.id, upstream, open }));
        }
    }

    /// Ejects an upstream if it is worse than the rest.
    fn judge(
        &mut self,
        now: Micros,
        site: &Site,
        upstream: UpstreamId,
        failed: bool,
        rng: &mut Rng,
        out: &mut Vec<Output>,
    ) {
        let Some(rule) = &self.config.eject else { return };
        let own = &self.upstreams[upstream.at()];
        if own.record.is_out() || (!failed && rule.latency_factor == 0) {
            return;
        }
        let mut rest = Counts::default();
        if now.since(own.compared) >= COMPARE_EVERY {
            for (at, other) in self.upstreams.iter_mut().enumerate() {
                if at != upstream.at() && !other.record.is_out() {
                    rest.add(&other.record.counts(now));
                }
            }
            self.upstreams[upstream.at()].compared = now;
        }
        let Some(reason) = self.upstreams[upstream.at()].record.judge(now, rule, rest) else { return };
        // Of those that take new requests, whoever gets none counts, for whatever reason; and one must be left to take them.
        let takes_new = |at: &usize| !self.config.upstreams[*at].drain;
        let others: Vec<usize> =
            (0..self.upstreams.len()).filter(|at| *at != upstream.at()).filter(takes_new).collect();
        let fit = others.iter().filter(|at| self.is_fit(**at as u32)).count();
        let all = others.len() + usize::from(takes_new(&upstream.at()));
        if fit == 0 || others.len() - fit >= out_max(rule, all) {
            return;
        }
        self.upstreams[upstream.at()].record.eject(now, rule, rng);
        out.push(Output::Note(Note::Ejected { pool: self.id, upstream, reason }));
        self.reopen(site, out);
    }

    /// Lets back in whose time is over, and begins probes that are due.
    pub(super) fn tick(&mut self, now: Micros, site: &Site, rng: &mut Rng, out: &mut Vec<Output>) {
        let mut changed = false;
        for at in 0..self.upstreams.len() {
            let upstream = UpstreamId(at as u32);
            let own = &mut self.upstreams[at];
            if own.record.readmit(now) {
                self.loads[at].since = Some(now);
                changed = true;
                out.push(Output::Note(Note::Readmitted { pool: self.id, upstream }));
            }
            if let Some(checks) = own.checks.as_mut().filter(|_| site.probes) {
                let (probe, turned) = checks.tick(now, rng);
                if let Some(probe) = probe {
                    out.push(Output::Probe { pool: self.id, upstream, probe });
                }
                if turned {
                    changed = true;
                    out.push(Output::Health { pool: self.id, upstream, up: checks.is_up() });
                }
            }
        }
        if changed {
            self.reopen(site, out);
        }
    }

    /// Takes in what a probe, or another gate, says. `tell` if others must hear it.
    pub(super) fn set_up(
        &mut self,
        now: Micros,
        site: &Site,
        upstream: UpstreamId,
        tell: bool,
        out: &mut Vec<Output>,
    ) {
        let up = self.upstreams[upstream.at()].checks.as_ref().is_none_or(Checks::is_up);
        if up {
            self.loads[upstream.at()].since = Some(now);
        }
        if tell {
            out.push(Output::Health { pool: self.id, upstream, up });
        }
        self.reopen(site, out);
    }

    /// When `tick`, the queue or a breaker wants the gate's attention.
    pub(super) fn next_wakeup(&self, now: Micros, site: &Site) -> Option<Micros> {
        let own = self.upstreams.iter().flat_map(|u| {
            let probe = u.checks.as_ref().filter(|_| site.probes).map(Checks::next_wakeup);
            let breaker = u.breaker.as_ref().and_then(Breaker::next_change).filter(|at| *at > now);
            let line = u.line.next_wakeup(now, &self.config.queue);
            [u.record.until(), probe, breaker, line].into_iter().flatten()
        });
        own.chain(self.queue.next_wakeup(now, &self.config.queue)).min()
    }
}
