//! Attempts of a request: how they begin and end, and whether another follows.

use skep_base::Micros;

use super::learn::{Told, verdict};
use super::pool::Verdict;
use super::request::State;
use super::{Gate, Output, RequestId, Why};
use crate::config::resilience::Queue;
use crate::config::scalar::Share;
use crate::names::{PoolId, RouteId, UpstreamId};
use crate::resilience::retry::{self, Failure, Final};
use crate::resilience::{Outcome, Pass};

/// A reply that another attempt is to follow later than this is not held back, and one that is held is given on if the attempt
/// waits for a place for longer than this, and let go if an attempt beside it takes longer: its connection would be kept from
/// others for so long.
const HOLD_MAX: Micros = Micros::from_secs(1);
/// Replies that a percentile needs before a hedge goes by it.
const HEDGE_SAMPLES: u64 = 100;

#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) number: u32,
    /// Where it is; none if the configuration has that no more.
    pub(super) place: Option<(PoolId, UpstreamId)>,
    pub(super) pass: Option<Pass>,
    pub(super) route_pass: Option<Pass>,
    pub(super) is_retry: bool,
    /// It was sent, as far as is known, and its upstream did not say that it did nothing.
    pub(super) may_have_run: bool,
    /// Moved by what the client took for its body.
    pub(super) started: Micros,
    /// It waits for a connection that the pool's own limit allows.
    pub(super) waits: bool,
    /// When it had a connection.
    pub(super) connected: Option<Micros>,
    /// All of the request is sent, as far as is known.
    pub(super) sent: bool,
    /// The head of its reply is here.
    pub(super) replied: bool,
    /// Its reply is held back, until it is known whether another attempt follows, or what becomes of the one beside it, and no longer
    /// than this. Its upstream has done its part, so it has no place there meanwhile.
    pub(super) held_until: Option<Micros>,
    /// What was told of a head that was well.
    pub(super) told: Told,
    /// When it must have a connection; none once it has.
    pub(super) connect_until: Option<Micros>,
    /// When it must have a reply; none before all of the request is sent, and once it has.
    pub(super) reply_until: Option<Micros>,
}

impl Attempt {
    pub(super) fn until(&self) -> Micros {
        let [connect, reply] = [self.connect_until, self.reply_until].map(|at| at.unwrap_or(Micros::NEVER));
        connect.min(reply)
    }

    /// When something is due: it is late then, or was held for long enough.
    pub(super) fn next_wakeup(&self) -> Micros {
        self.until().min(self.held_until.unwrap_or(Micros::NEVER))
    }

    /// How it failed, if its time is over.
    fn lateness(&self) -> Failure {
        if self.connect_until.is_some() { Failure::NotSent } else { Failure::Timeout }
    }

    /// How long its upstream has taken; what the client takes for its body is not counted.
    pub(super) fn latency(&self, now: Micros) -> Micros {
        match self.connected.filter(|_| !self.sent) {
            Some(connected) => connected.since(self.started),
            None => now.since(self.started),
        }
    }
}

impl Gate {
    #[allow(clippy::too_many_arguments, reason = "each is a fact about the one attempt")]
    pub(super) fn launch(
        &mut self,
        now: Micros,
        id: RequestId,
        place: (PoolId, UpstreamId),
        pass: Option<Pass>,
        route_pass: Option<Pass>,
        is_retry: bool,
        out: &mut Vec<Output>,
    ) {
        if let Some(held) = self.requests[&id].held() {
            self.abandon(now, id, held, out);
        }
        self.stats.attempts += 1;
        self.pools[place.0.at()].retries += u32::from(is_retry);
        let delay = self.hedge_delay(now, id);
        let request = self.request_mut(id);
        request.sent += 1;
        request.tried.push(place);
        request.state = State::Running;
        let sent = !request.arrival.sends_body;
        request.hedge_at = delay.filter(|_| !is_retry && sent).map(|delay| now.plus(delay));
        let attempt = Attempt {
            number: request.sent,
            place: Some(place),
            pass,
            route_pass,
            is_retry,
            may_have_run: false,
            started: now,
            waits: false,
            connected: None,
            sent,
            replied: false,
            held_until: None,
            told: Told::default(),
            connect_until: Some(now.plus(request.timeout.connect)),
            reply_until: sent.then(|| now.plus(request.timeout.request)),
        };
        request.attempts.push(attempt);
        let (attempt, left) = (request.sent, request.deadline.since(now));
        let stall = request.timeout.request;
        self.wake_request(id);
        out.push(Output::Try { request: id, attempt, pool: place.0, upstream: place.1, left, stall });
    }

    /// After which time a hedge may follow the first attempt.
    fn hedge_delay(&mut self, now: Micros, id: RequestId) -> Option<Micros> {
        let request = &self.requests[&id];
        let route = request.route?;
        let config = &self.config.routes[route.at()].it;
        let (hedge, retry) = (config.hedge.as_ref()?, config.retry.as_ref()?);
        let arrival = &request.arrival;
        if !arrival.hedgeable || arrival.nested || !retry::may_run_twice(retry, arrival.traits) {
            return None;
        }
        let usual = self.routes[route.at()].latencies.as_mut();
        let usual = usual
            .filter(|_| hedge.percentile > Share(0))
            .and_then(|l| l.percentile(now, hedge.percentile.fraction(), HEDGE_SAMPLES));
        Some(usual.map_or(hedge.after, |usual| usual.max(hedge.after)))
    }

    pub(super) fn on_waits(&mut self, now: Micros, id: RequestId, number: u32) {
        let Some(attempt) = self.attempt_mut(id, number).filter(|a| a.connect_until.is_some()) else {
            return;
        };
        attempt.waits = true;
        let pool = attempt.place.map(|(pool, _)| pool);
        let time = pool.map_or_else(|| Queue::default().time, |pool| self.pools[pool.at()].config.queue.time);
        self.connect_by(id, number, now.plus(time));
    }

    pub(super) fn on_connects(&mut self, now: Micros, id: RequestId, number: u32) {
        let Some(attempt) = self.attempt_mut(id, number).filter(|a| a.waits) else { return };
        attempt.waits = false;
        let time = self.requests[&id].timeout.connect;
        self.connect_by(id, number, now.plus(time));
    }

    fn connect_by(&mut self, id: RequestId, number: u32, until: Micros) {
        if let Some(attempt) = self.attempt_mut(id, number) {
            attempt.connect_until = Some(until);
        }
        self.wake_request(id);
    }

    pub(super) fn on_connected(&mut self, now: Micros, id: RequestId, number: u32) {
        if let Some(attempt) = self.attempt_mut(id, number) {
            attempt.connect_until = None;
            attempt.waits = false;
            attempt.connected = Some(now);
            attempt.may_have_run = true;
        }
    }

    pub(super) fn on_sent(&mut self, now: Micros, id: RequestId, number: u32) {
        let delay = self.requests.contains_key(&id).then(|| self.hedge_delay(now, id)).flatten();
        let Some(request) = self.requests.get_mut(&id) else { return };
        let time = request.timeout.request;
        let Some(attempt) = request.attempts.iter_mut().find(|a| a.number == number) else { return };
        if attempt.sent || attempt.replied {
            return;
        }
        let waited = attempt.connected.map_or(Micros(0), |connected| now.since(connected));
        attempt.sent = true;
        attempt.started = attempt.started.plus(waited);
        attempt.reply_until = Some(now.plus(time));
        request.hedge_at = delay.filter(|_| !attempt.is_retry).map(|delay| now.plus(delay));
        self.wake_request(id);
    }

    pub(super) fn attempt_mut(&mut self, id: RequestId, number: u32) -> Option<&mut Attempt> {
        self.requests.get_mut(&id)?.attempts.iter_mut().find(|a| a.number == number)
    }

    pub(super) fn on_replied(
        &mut self,
        now: Micros,
        id: RequestId,
        number: u32,
        status: u16,
        retry_after: Option<Micros>,
        out: &mut Vec<Output>,
    ) {
        // One that was abandoned meanwhile, or that has its reply.
        let Some(attempt) = self.attempt_mut(id, number).filter(|a| !a.replied) else { return };
        (attempt.connect_until, attempt.reply_until, attempt.replied) = (None, None, true);
        let latency = attempt.latency(now);
        let failure = Failure::Status { status, retry_after };
        self.learn(now, id, number, verdict(status), failure, out);
        let route = self.requests[&id].route;
        let rule = route.and_then(|r| self.config.routes[r.at()].it.retry.as_ref());
        let did_nothing = rule.is_some_and(|r| r.not_run.contains(&status));
        let bad = did_nothing || rule.is_some_and(|r| retry::is_listed(&r.on, failure));
        if let Some(attempt) = self.attempt_mut(id, number) {
            attempt.may_have_run = !did_nothing;
        }
        if !bad {
            if let Some(latencies) = route.and_then(|r| self.routes[r.at()].latencies.as_mut()) {
                latencies.add(now, latency);
            }
            return self.forward(now, id, number, out);
        }
        let request = &self.requests[&id];
        if request.attempts.iter().any(|a| a.number != number && a.held_until.is_none()) {
            // The other one may still be well; if it is not, this is what the client gets.
            self.request_mut(id).said = Some(failure);
            self.hold(now, id, number, Micros(0), out);
            return self.wake_request(id);
        }
        if let Some(before) = request.held() {
            // What came last says most.
            self.abandon(now, id, before, out);
        }
        match self.next_attempt(now, id, failure, false) {
            Ok(wait) => {
                self.hold(now, id, number, wait, out);
                self.back_off(now, id, wait);
            }
            // The client gets what the upstream said.
            Err(_) => self.forward(now, id, number, out),
        }
    }

    /// Keeps a reply for the client until another attempt begins, which is to be tried after `wait`, or until the one beside it ends.
    fn hold(&mut self, now: Micros, id: RequestId, number: u32, wait: Micros, out: &mut Vec<Output>) {
        if wait > HOLD_MAX {
            return self.abandon(now, id, number, out);
        }
        let route = self.requests[&id].route;
        let attempt = self.attempt_mut(id, number).expect("its reply is here");
        let had_place = attempt.held_until.is_none();
        attempt.held_until = Some(now.plus(wait).plus(HOLD_MAX));
        let attempt = *attempt;
        if had_place {
            self.give_back(now, route, &attempt, out);
        }
    }

    pub(super) fn on_failed(
        &mut self,
        now: Micros,
        id: RequestId,
        number: u32,
        failure: Failure,
        out: &mut Vec<Output>,
    ) {
        let Some(attempt) = self.attempt_mut(id, number) else { return };
        let (waits, held, place) = (attempt.waits, attempt.held_until.is_some(), attempt.place);
        if held {
            // Another attempt is to follow anyway, or is there.
            return self.release(now, id, number, out);
        }
        let forwarding = matches!(self.requests[&id].state, State::Forwarding { .. });
        let failure = if forwarding { Failure::Broken } else { failure };
        if let Some(attempt) = self.attempt_mut(id, number) {
            attempt.may_have_run = failure.was_sent();
        }
        match () {
            () if forwarding => self.break_off(now, id, number, out),
            () if waits || failure == Failure::NotTaken => {}
            () => self.learn(now, id, number, Verdict::Failed, failure, out),
        }
        self.release(now, id, number, out);
        if forwarding {
            return self.end(id);
        }
        if self.requests[&id].runs() {
            return;
        }
        let said = self.request_mut(id).said.take();
        // Of one that never ran nothing follows: what there is to repeat is what failed beside it.
        let (failure, waits) = match said {
            Some(said) if waits || failure == Failure::NotTaken => (said, false),
            _ => (failure, waits),
        };
        let next = match waits && self.has_session(now, id, place) {
            // What it is about is there and nowhere else.
            true => Err(Final::NoUpstream),
            false => self.next_attempt(now, id, failure, waits),
        };
        match next {
            Ok(wait) => {
                if let Some(held) = self.requests[&id].held() {
                    self.hold(now, id, held, wait, out);
                }
                self.back_off(now, id, wait);
            }
            // It was a place of ours that was missing.
            Err(_) if waits => self.answer(now, id, Why::QueueLate, out),
            Err(why) => self.answer(now, id, Why::Failed(said.unwrap_or(failure), why), out),
        }
    }

    /// Whether the session of a request is at this upstream.
    fn has_session(&self, now: Micros, id: RequestId, place: Option<(PoolId, UpstreamId)>) -> bool {
        let request = &self.requests[&id];
        place.is_some_and(|(pool, at)| self.pools[pool.at()].has_session(now, *request.ties(pool), at))
    }

    /// Who waits to be sent again, and whose held reply's upstream still reads the body, waits in vain.
    pub(super) fn on_body_gone(&mut self, now: Micros, id: RequestId, out: &mut Vec<Output>) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.arrival.traits.replayable = false;
        let waits = matches!(request.state, State::BackOff { .. } | State::AtPool(..));
        if let Some(failure) = request.failed.filter(|failure| waits && failure.was_sent()) {
            self.answer(now, id, Why::Failed(failure, Final::BodyGone), out);
        }
    }

    fn back_off(&mut self, now: Micros, id: RequestId, wait: Micros) {
        let request = self.request_mut(id);
        request.state = State::BackOff { until: now.plus(wait) };
        (request.hedge_at, request.said) = (None, None);
        self.wake_request(id);
    }

    /// Whether another attempt follows, all having failed, the last one so, or while it waited for a connection; and after which
    /// time. A retry of the budget is taken then.
    fn next_attempt(
        &mut self,
        now: Micros,
        id: RequestId,
        failure: Failure,
        waits: bool,
    ) -> Result<Micros, Final> {
        self.request_mut(id).failed = Some(failure);
        let request = &self.requests[&id];
        let rule = match (request.arrival.route, request.route) {
            (None, _) => Some(&self.routeless),
            (Some(_), Some(route)) => self.config.routes[route.at()].it.retry.as_ref(),
            // Its route is no more in the configuration.
            (Some(_), None) => None,
        };
        retry::may_repeat(rule, request.arrival.traits, failure)?;
        let rule = rule.ok_or(Final::Off)?;
        if request.arrival.nested {
            return Err(Final::Nested);
        }
        if request.sent >= rule.attempts {
            return Err(Final::Attempts);
        }
        let pools = self.pools_for(id);
        let other = pools.iter().find(|p| self.pools[p.at()].has_other(now, &request.tried));
        let other = *other.ok_or(Final::NoUpstream)?;
        if waits || failure == Failure::NotTaken {
            // Nothing failed: it is at once with whoever is next, and no retry of the budget, which any client could use up so.
            return Ok(Micros(0));
        }
        let wait = retry::back_off(rule, request.sent + 1, failure, &mut self.rng);
        if now.plus(wait) >= request.deadline {
            return Err(Final::Deadline);
        }
        self.spend(now, id, other)?;
        self.request_mut(id).is_retry = true;
        self.stats.retries += 1;
        Ok(wait)
    }

    /// Takes a retry from the route's budget, if `pool` bears one.
    fn spend(&mut self, now: Micros, id: RequestId, pool: PoolId) -> Result<(), Final> {
        let request = &self.requests[&id];
        let has_none = request.arrival.route.is_none();
        let budget = request.route.and_then(|r| self.routes[r.at()].budget.as_mut());
        if self.pools[pool.at()].bears_retry() && (has_none || budget.is_some_and(|b| b.spend(now))) {
            return Ok(());
        }
        self.stats.over_budget += 1;
        Err(Final::Budget)
    }

    pub(super) fn on_request_timer(&mut self, now: Micros, id: RequestId, out: &mut Vec<Output>) {
        let Some(request) = self.requests.get(&id) else { return };
        if let State::Forwarding { .. } = request.state {
            return;
        }
        if request.deadline <= now {
            self.fail_late(now, id, out);
        } else if let Some(held) = request.attempts.iter().find(|a| a.held_until.is_some_and(|at| at <= now))
        {
            let number = held.number;
            match request.runs() {
                true => self.abandon(now, id, number, out),
                false => self.forward(now, id, number, out),
            }
        } else if let Some(late) = request.attempts.iter().find(|a| a.until() <= now) {
            let (number, failure) = (late.number, late.lateness());
            out.push(Output::Abandon { request: id, attempt: number });
            self.on_failed(now, id, number, failure, out);
        } else if request.hedge_at.is_some_and(|at| at <= now) {
            self.hedge(now, id, out);
        } else if let State::BackOff { until } = request.state
            && until <= now
        {
            self.request_mut(id).state = State::Running;
            self.start(now, id, out);
        }
        self.serve_queues(now, out);
        self.wake_request(id);
    }

    /// The deadline has come: that speaks against upstreams that had as long as an attempt may take, and says nothing of
    /// others, nor of one that still waits for the client's body.
    fn fail_late(&mut self, now: Micros, id: RequestId, out: &mut Vec<Output>) {
        let attempts = self.requests[&id].attempts.clone();
        for attempt in attempts.iter().filter(|a| a.until() <= now && !a.waits) {
            self.learn(now, id, attempt.number, Verdict::Failed, attempt.lateness(), out);
        }
        let is_sending = |a: &Attempt| a.connected.is_some() && !a.sent;
        let why = match self.requests[&id].said {
            // What is known beside the attempt that takes so long.
            Some(said) => Why::Failed(said, Final::Deadline),
            None if attempts.iter().any(is_sending) => Why::BodyLate,
            None => Why::Deadline,
        };
        self.answer(now, id, why, out);
    }

    fn hedge(&mut self, now: Micros, id: RequestId, out: &mut Vec<Output>) {
        let request = self.request_mut(id);
        request.hedge_at = None;
        let (sent, traits) = (request.sent, request.arrival.traits);
        let Some(place) = request.attempts.first().and_then(|a| a.place) else { return };
        let pool = place.0;
        let tried = request.tried.clone();
        let route = request.route.and_then(|r| self.config.routes[r.at()].it.retry.as_ref());
        let attempts = route.map_or(0, |r| r.attempts);
        if !traits.replayable || sent >= attempts || !self.pools[pool.at()].has_other(now, &tried) {
            return;
        }
        let ties = *self.requests[&id].ties(pool);
        let own = &self.pools[pool.at()];
        if self.has_session(now, id, Some(place)) || own.home(now, ties).is_some() {
            // What it is about is there and nowhere else.
            return;
        }
        let is_refused = self.breaker_route(id, pool).is_some_and(|route| !self.route_admits(now, route));
        if is_refused || !own.has_place_for(now, &self.site, ties, &tried) {
            // What others may need for a retry is not spent on what does not come to be.
            return;
        }
        if self.spend(now, id, pool).is_ok() && self.try_at(now, id, pool, true, out) == Ok(true) {
            self.stats.hedges += 1;
        }
    }

    /// Ends an attempt that nobody waits for any more.
    pub(super) fn abandon(&mut self, now: Micros, id: RequestId, number: u32, out: &mut Vec<Output>) {
        out.push(Output::Abandon { request: id, attempt: number });
        self.release(now, id, number, out);
    }

    /// Ends what is known of an attempt, and gives back what it holds.
    pub(super) fn release(&mut self, now: Micros, id: RequestId, number: u32, out: &mut Vec<Output>) {
        let request = self.request_mut(id);
        let route = request.route;
        let at = request.attempts.iter().position(|a| a.number == number);
        let attempt = request.attempts.remove(at.expect("an attempt is released once"));
        request.may_have_run |= attempt.may_have_run;
        if attempt.held_until.is_none() {
            self.give_back(now, route, &attempt, out);
        }
    }

    /// Gives back what an attempt holds. If nothing was learned of it, it has shown how long it takes at least.
    fn give_back(&mut self, now: Micros, route: Option<RouteId>, attempt: &Attempt, out: &mut Vec<Output>) {
        if let (Some(route), Some(pass)) = (route, attempt.route_pass) {
            self.leave_route(now, route, pass, Outcome::Unknown, out);
        }
        let Some((pool, upstream)) = attempt.place else { return };
        let before = out.len();
        let Gate { pools, rng, .. } = self;
        let own = &mut pools[pool.at()];
        own.release(upstream);
        own.retries -= u32::from(attempt.is_retry);
        if attempt.reply_until.is_some() {
            let so_far = now.since(attempt.started);
            let cost = &mut own.loads[upstream.at()].cost;
            if so_far.0 as f64 > cost.get(now) {
                cost.observe(now, so_far);
            }
        }
        own.leave_breaker(now, upstream, attempt.pass, Outcome::Unknown, rng, out);
        self.freed_pools.insert(pool);
        self.after_learning(now, pool, before, out);
    }
}
