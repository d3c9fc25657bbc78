//! Another configuration, another place: what is known is carried over by name, and what is under way goes on.

use std::collections::{BTreeMap, BTreeSet};

use skep_base::Micros;

use super::pool::Pool;
use super::request::State;
use super::timers::Timer;
use super::{Gate, Note, Output, Route, Site};
use crate::config::{self, Config, Named};
use crate::names::{Generation, PoolId, RouteId, UpstreamId};
use crate::resilience::{Breaker, Budget, Failover, Latencies, Queue};

/// Places by name.
fn places<S, Id>(all: &[Named<S>], id: fn(u32) -> Id) -> BTreeMap<&str, Id> {
    all.iter().enumerate().map(|(at, named)| (named.name.as_str(), id(at as u32))).collect()
}

/// Old places by new ones.
fn places_before<Id: Ord + Copy>(new: &[Option<Id>]) -> BTreeMap<Id, usize> {
    new.iter().enumerate().filter_map(|(old, new)| Some(((*new)?, old))).collect()
}

impl Gate {
    /// Puts a checked configuration in force. Pools and upstreams with the same names and addresses keep what was learned of
    /// them; requests under way end as they began, by the time limits that they came with; those of routes that are gone
    /// are not sent again.
    ///
    /// `of` is unlike that of all configurations before, unless its routes and pools are those of the one before in the same order
    /// (upstreams may be others); who arrives with the numbers of another is told to come again.
    ///
    /// Cost: that of building all pools; a millisecond for each that uses maglev.
    pub fn configure(&mut self, now: Micros, config: Config, of: Generation, out: &mut Vec<Output>) {
        self.generation = of;
        let old_config = std::mem::take(&mut self.config);
        let pools: BTreeMap<&str, PoolId> = places(&config.pools, PoolId);
        let routes: BTreeMap<&str, RouteId> = places(&config.routes, RouteId);
        let pool_of = |name: &str| pools.get(name).copied();
        let new_pool: Vec<Option<PoolId>> = old_config.pools.iter().map(|p| pool_of(&p.name)).collect();
        let new_route: Vec<Option<RouteId>> =
            old_config.routes.iter().map(|route| routes.get(&*route.name).copied()).collect();
        // By the new number: the old one.
        let old_pool: BTreeMap<PoolId, usize> = places_before(&new_pool);
        let old_route: BTreeMap<RouteId, usize> = places_before(&new_route);
        let new_upstream = |pool: PoolId, upstream: UpstreamId| -> Option<(PoolId, UpstreamId)> {
            let address = &old_config.pools[pool.at()].it.upstreams[upstream.at()].address;
            let new = new_pool[pool.at()]?;
            let at = config.pools[new.at()].it.upstreams.iter().position(|u| u.address == *address)?;
            Some((new, UpstreamId(at as u32)))
        };

        // Whether a route's breaker goes on, by the new number: its rule is the same.
        let same_rule = |(at, named): (usize, &Named<config::route::Route>)| {
            let old = old_route.get(&RouteId(at as u32)).map(|old| &old_config.routes[*old]);
            old.is_some_and(|old| old.it.breaker == named.it.breaker)
        };
        let keeps_breaker: Vec<bool> = config.routes.iter().enumerate().map(same_rule).collect();

        // Requests speak of the new configuration first, so that what is built below can count them.
        let mut homeless = Vec::new();
        for (id, request) in &mut self.requests {
            request.route = request.route.and_then(|route| new_route[route.at()]);
            request.pool = request.pool.and_then(|pool| new_pool[pool.at()]);
            request.tried = request.tried.iter().filter_map(|(p, u)| new_upstream(*p, *u)).collect();
            for attempt in &mut request.attempts {
                let was = attempt.place;
                attempt.place = was.and_then(|(p, u)| new_upstream(p, u));
                // Passes belong to breakers; one whose rule changed is another.
                let same = match (was, attempt.place) {
                    (Some((old, _)), Some((new, _))) => {
                        old_config.pools[old.at()].it.breaker == config.pools[new.at()].it.breaker
                    }
                    _ => false,
                };
                let same_route = request.route.is_some_and(|r| keeps_breaker[r.at()]);
                attempt.pass = attempt.pass.filter(|_| same);
                attempt.route_pass = attempt.route_pass.filter(|_| same_route);
                attempt.told.breaker = attempt.told.breaker.filter(|_| same);
                attempt.told.route_breaker = attempt.told.route_breaker.filter(|_| same_route);
            }
            request.holds_bulkhead = request.holds_bulkhead.and_then(|route| new_route[route.at()]);
            let still_waits = match request.state {
                State::AtRoute(route) => new_route[route.at()].map(State::AtRoute),
                State::AtPool(pool, None) => new_pool[pool.at()].map(|pool| State::AtPool(pool, None)),
                State::AtPool(pool, Some(upstream)) => {
                    new_upstream(pool, upstream).map(|(pool, upstream)| State::AtPool(pool, Some(upstream)))
                }
                other => Some(other),
            };
            match still_waits {
                Some(state) => request.state = state,
                None => {
                    request.state = State::Running;
                    homeless.push(*id);
                }
            }
        }

        let mut old_pools: Vec<Option<Pool>> =
            std::mem::take(&mut self.pools).into_iter().map(Some).collect();
        let mut old_routes: Vec<Option<Route>> =
            std::mem::take(&mut self.routes).into_iter().map(Some).collect();
        for (at, named) in config.pools.iter().enumerate() {
            let id = PoolId(at as u32);
            let from = old_pool.get(&id).copied();
            let mut old = from.and_then(|from| old_pools[from].take());
            if let (Some(old), Some(from)) = (&mut old, from)
                && old_config.pools[from].it.breaker != named.it.breaker
            {
                old.upstreams.iter_mut().for_each(|u| u.breaker = None);
            }
            let Gate { site, secret, rng, .. } = self;
            let mut pool = Pool::new(now, id, &named.it, old, site, secret, rng, out);
            let attempts = self.requests.values().flat_map(|r| &r.attempts);
            pool.retries = attempts
                .filter(|a| a.is_retry && a.held_until.is_none() && a.place.is_some_and(|(p, _)| p == id))
                .count() as u32;
            self.pools.push(pool);
        }
        let mut moved_routes = BTreeSet::new();
        for (at, named) in config.routes.iter().enumerate() {
            let id = RouteId(at as u32);
            let from = old_route.get(&id).copied();
            let old = from.and_then(|from| old_routes[from].take());
            let rule = &named.it;
            let retry = rule.retry.as_ref();
            let (mut failover, mut latencies, mut queue) = (None, None, Queue::default());
            let (mut breaker, mut budget) = (None, None);
            if let (Some(old), Some(from)) = (old, from) {
                let before = &old_config.routes[from].it;
                let pools =
                    |r: &config::route::Route| (r.pool.clone(), r.failover.as_ref().map(|f| f.pool.clone()));
                if pools(before) != pools(rule) {
                    moved_routes.insert(id);
                }
                (latencies, queue) = (old.latencies, old.queue);
                // That one pool was down says nothing of another.
                let was_on_backup = old.failover.as_ref().is_some_and(Failover::is_on_backup);
                failover = old.failover.filter(|_| before.pool == rule.pool);
                if was_on_backup && failover.is_none() {
                    out.push(Output::Note(Note::Failover { route: id, on_backup: false }));
                }
                breaker = old.breaker.filter(|_| keeps_breaker[at]);
                budget = old.budget.filter(|_| old_config.routes[from].it.retry == rule.retry);
            }
            let new_budget =
                |r: &config::resilience::Retry| Budget::new(now, r.budget, r.budget_min, self.site.gateways);
            let backup = rule.failover.as_ref().and_then(|f| pool_of(&f.pool));
            let primary = rule.pool.as_ref().and_then(|name| pool_of(name));
            if let Some(primary) = primary.filter(|_| backup.is_some()) {
                self.pools[primary.at()].watchers.push(id);
            }
            self.routes.push(Route {
                budget: retry.map(|r| budget.unwrap_or_else(|| new_budget(r))),
                breaker: rule.breaker.as_ref().map(|r| breaker.unwrap_or_else(|| Breaker::new(r))),
                failover: rule.failover.as_ref().map(|_| failover.unwrap_or_else(Failover::default)),
                latencies: rule.hedge.as_ref().map(|_| latencies.unwrap_or_else(|| Latencies::new(now))),
                in_flight: self.requests.values().filter(|r| r.holds_bulkhead == Some(id)).count() as u32,
                queue,
                primary,
                backup,
            });
        }
        self.config = config;
        self.timers.retain(|timer| matches!(timer, Timer::Request(_)));
        self.freed_pools = (0..self.pools.len() as u32).map(PoolId).collect();
        self.freed_routes = (0..self.routes.len() as u32).map(RouteId).collect();
        self.moved_routes = moved_routes;
        for id in homeless {
            // Where it waited is gone; another place may take it, as the route says.
            self.start(now, id, out);
        }
        (0..self.pools.len() as u32).for_each(|at| self.wake_pool(now, PoolId(at)));
        // The primary may have other upstreams, or be another pool.
        (0..self.routes.len() as u32).for_each(|at| self.check_failover(now, RouteId(at), out));
        self.serve_queues(now, out);
    }

    /// The node or the cluster has changed: limits are divided anew.
    pub(super) fn on_site(&mut self, now: Micros, site: Site) {
        self.site = site;
        for (route, named) in self.routes.iter_mut().zip(&self.config.routes) {
            if let (Some(budget), Some(rule)) = (&mut route.budget, &named.it.retry) {
                budget.set_gateways(now, rule.budget_min, self.site.gateways);
            }
        }
        for pool in &mut self.pools {
            pool.reopen(&self.site, &mut Vec::new());
        }
        for at in 0..self.pools.len() {
            self.timers.wake(Timer::Pool(PoolId(at as u32)), now);
        }
    }

    pub(super) fn on_probed(
        &mut self,
        now: Micros,
        pool: PoolId,
        upstream: UpstreamId,
        probe: u64,
        well: bool,
        out: &mut Vec<Output>,
    ) {
        let Gate { pools, site, rng, .. } = self;
        let Some(own) = pools.get_mut(pool.at()) else { return };
        let Some(checks) = own.upstreams.get_mut(upstream.at()).and_then(|u| u.checks.as_mut()) else {
            return;
        };
        if checks.on_answer(now, probe, well, rng) {
            own.set_up(now, site, upstream, true, out);
        }
        self.pool_changed(now, pool, out);
    }

    pub(super) fn on_not_probed(&mut self, now: Micros, pool: PoolId, upstream: UpstreamId, probe: u64) {
        let Gate { pools, rng, .. } = self;
        let own = pools.get_mut(pool.at()).and_then(|own| own.upstreams.get_mut(upstream.at()));
        if let Some(checks) = own.and_then(|own| own.checks.as_mut()) {
            checks.leave_out(now, probe, rng);
            self.wake_pool(now, pool);
        }
    }

    pub(super) fn on_health(
        &mut self,
        now: Micros,
        pool: PoolId,
        upstream: UpstreamId,
        up: bool,
        out: &mut Vec<Output>,
    ) {
        let Gate { pools, site, .. } = self;
        let Some(own) = pools.get_mut(pool.at()) else { return };
        let Some(checks) = own.upstreams.get_mut(upstream.at()).and_then(|u| u.checks.as_mut()) else {
            return;
        };
        if checks.on_word(up) {
            own.set_up(now, site, upstream, false, out);
            self.pool_changed(now, pool, out);
        }
    }
}
