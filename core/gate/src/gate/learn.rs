//! What attempts teach: of upstreams beside one another, and of whether there is anybody at all.
//!
//! A reply counts when its head is here, since its body may be a stream of hours; if it breaks after that, what was told of its
//! head is put right.

use skep_base::Micros;

use super::pool::Verdict;
use super::{Gate, Note, Output, RequestId};
use crate::config::resilience::Failing;
use crate::health;
use crate::names::PoolId;
use crate::resilience::retry::{self, Failure};
use crate::resilience::{Counted, Outcome};

/// As what a head that was well was counted: by the breakers, and beside other upstreams.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Told {
    pub(super) breaker: Option<Counted>,
    pub(super) route_breaker: Option<Counted>,
    pub(super) counted: Option<health::Counted>,
}

/// What a reply says of its upstream beside others.
pub(super) fn verdict(status: u16) -> Verdict {
    match status {
        // That its client asks for too much. It costs the upstream nothing, so it is no latency that may draw more traffic.
        429 => Verdict::Nothing,
        status if Failing::Any5xx.is_status(status) => Verdict::Failed,
        _ => Verdict::Well,
    }
}

impl Gate {
    /// Takes in how an attempt went: at the head of its reply, or its failure.
    pub(super) fn learn(
        &mut self,
        now: Micros,
        id: RequestId,
        number: u32,
        verdict: Verdict,
        failure: Failure,
        out: &mut Vec<Output>,
    ) {
        let request = self.requests.get_mut(&id).expect("its attempt is there");
        let route = request.route;
        let attempt =
            request.attempts.iter_mut().find(|a| a.number == number).expect("the caller has seen it");
        let latency = attempt.latency(now);
        let (place, pass, route_pass) = (attempt.place, attempt.pass.take(), attempt.route_pass.take());
        let mut told = Told::default();
        if let (Some(route), Some(pass)) = (route, route_pass) {
            let rule = self.config.routes[route.at()].it.breaker.as_ref();
            let breaking = rule.is_some_and(|r| retry::is_listed(&r.on, failure));
            let outcome = if breaking { Outcome::Failed } else { Outcome::Well(latency) };
            let breaker = self.routes[route.at()].breaker.as_mut().filter(|_| !breaking);
            told.route_breaker = breaker.map(|breaker| breaker.counted(now, pass));
            self.leave_route(now, route, pass, outcome, out);
        }
        if let Some((pool, upstream)) = place {
            let before = out.len();
            let Gate { pools, site, rng, .. } = self;
            let own = &mut pools[pool.at()];
            let breaking = own.config.breaker.as_ref().is_some_and(|r| retry::is_listed(&r.on, failure));
            let breaker = own.upstreams[upstream.at()].breaker.as_mut().filter(|_| !breaking);
            told.breaker = breaker.zip(pass).map(|(breaker, pass)| breaker.counted(now, pass));
            told.counted = own.learn(now, site, upstream, pass, latency, verdict, breaking, rng, out);
            self.after_learning(now, pool, before, out);
        }
        if let Some(attempt) = self.attempt_mut(id, number) {
            attempt.told = told;
        }
    }

    /// A reply broke after its head: its attempt failed, though it was told to be well.
    pub(super) fn break_off(&mut self, now: Micros, id: RequestId, number: u32, out: &mut Vec<Output>) {
        let route = self.requests.get(&id).and_then(|request| request.route);
        let Some(attempt) = self.attempt_mut(id, number) else { return };
        let (told, place) = (std::mem::take(&mut attempt.told), attempt.place);
        if let (Some(route), Some(head)) = (route, told.route_breaker) {
            let Gate { config, routes, rng, .. } = self;
            let rule = config.routes[route.at()].it.breaker.as_ref();
            let rule = rule.filter(|rule| retry::is_listed(&rule.on, Failure::Broken));
            if let (Some(breaker), Some(rule)) = (&mut routes[route.at()].breaker, rule)
                && breaker.break_off(now, rule, head, rng)
            {
                self.stats.breakers_opened += 1;
                out.push(Output::Note(Note::RouteBreaker { route, open: true }));
            }
        }
        let Some((pool, upstream)) = place else { return };
        let before = out.len();
        let Gate { pools, site, rng, .. } = self;
        pools[pool.at()].break_off(now, site, upstream, told, rng, out);
        self.after_learning(now, pool, before, out);
    }

    /// What changed by learning has consequences.
    pub(super) fn after_learning(&mut self, now: Micros, pool: PoolId, before: usize, out: &mut Vec<Output>) {
        if out.len() == before {
            return;
        }
        for output in &out[before..] {
            match output {
                Output::Note(Note::Ejected { .. }) => self.stats.ejected += 1,
                Output::Note(Note::UpstreamBreaker { open: true, .. }) => self.stats.breakers_opened += 1,
                _ => {}
            }
        }
        self.pool_changed(now, pool, out);
    }
}
