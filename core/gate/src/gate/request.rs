//! A request's way: places, attempts, the end.

use skep_base::Micros;

use super::attempt::Attempt;
use super::pool::Pick;
use super::timers::Timer;
use super::{Arrival, Gate, Note, Output, RequestId, Why};
use crate::balance::Ties;
use crate::balance::sticky::upstream_name;
use crate::config;
use crate::config::resilience::{Bulkhead, Queue, Timeout};
use crate::names::{PoolId, RouteId, UpstreamId};
use crate::resilience::retry::{Failure, Final};
use crate::resilience::{Breaker, CLASSES, Pass, State as BreakerState};

/// The request is told to come again after this, where nothing better is known.
const COME_AGAIN: Micros = Micros::from_secs(1);

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum State {
    /// Waits for a place of the route's bulkhead.
    AtRoute(RouteId),
    /// Waits for an upstream, or for the one that has its session.
    AtPool(PoolId, Option<UpstreamId>),
    /// Waits before the next attempt.
    BackOff { until: Micros },
    /// Attempts are under way.
    Running,
    /// This attempt's reply goes to the client.
    Forwarding { attempt: u32 },
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) arrival: Arrival,
    /// Its route and the pool that the route chose, as the configuration numbers them; none if it has them no more.
    pub(super) route: Option<RouteId>,
    pub(super) pool: Option<PoolId>,
    pub(super) timeout: Timeout,
    pub(super) deadline: Micros,
    pub(super) attempts: Vec<Attempt>,
    /// Attempts so far.
    pub(super) sent: u32,
    pub(super) tried: Vec<(PoolId, UpstreamId)>,
    /// Of the attempts that have ended, one may have run.
    pub(super) may_have_run: bool,
    /// How its last attempt failed; none before one has.
    pub(super) failed: Option<Failure>,
    /// What an attempt said, whose reply could not be held for as long as the one beside it took.
    pub(super) said: Option<Failure>,
    /// The next attempt is a retry, which a budget has paid.
    pub(super) is_retry: bool,
    pub(super) state: State,
    pub(super) hedge_at: Option<Micros>,
    pub(super) holds_bulkhead: Option<RouteId>,
}

impl Request {
    /// The attempt whose reply is held back.
    pub(super) fn held(&self) -> Option<u32> {
        self.attempts.iter().find(|attempt| attempt.held_until.is_some()).map(|attempt| attempt.number)
    }

    /// What binds it to an upstream of a pool: its own, or the backup.
    pub(super) fn ties(&self, pool: PoolId) -> &Ties {
        if self.pool == Some(pool) { &self.arrival.ties } else { &self.arrival.backup_ties }
    }

    /// Whether an attempt is under way whose reply is not here.
    pub(super) fn runs(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.held_until.is_none())
    }

    pub(super) fn is_queued(&self) -> bool {
        matches!(self.state, State::AtRoute(_) | State::AtPool(..))
    }

    /// The next instant at which something is due.
    pub(super) fn next_wakeup(&self) -> Option<Micros> {
        let next = match self.state {
            State::Forwarding { .. } => return None,
            State::BackOff { until } => until,
            _ => self.hedge_at.unwrap_or(Micros::NEVER),
        };
        let attempts = self.attempts.iter().map(Attempt::next_wakeup);
        Some(attempts.chain([next, self.deadline]).min().expect("there is a deadline"))
    }

    pub(super) fn assert_invariants(&self, id: RequestId) {
        let mut places = self.tried.clone();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), self.tried.len(), "INV-GATE-14: {id:?} was tried at {:?}", self.tried);
        let held = self.attempts.iter().filter(|attempt| attempt.held_until.is_some()).count();
        assert!(held <= 1, "INV-GATE-12: {id:?} holds {:?}", self.attempts);
        match self.state {
            State::AtRoute(_) | State::AtPool(..) | State::BackOff { .. } => {
                assert!(!self.runs(), "INV-GATE-12: {id:?} waits and has {:?}", self.attempts);
            }
            State::Running => {
                assert!(self.runs(), "INV-GATE-12: {id:?} runs with {:?}", self.attempts);
            }
            State::Forwarding { attempt } => {
                let only = self.attempts.len() == 1 && self.attempts[0].number == attempt;
                assert!(only, "INV-GATE-12: {id:?} forwards {attempt} of {:?}", self.attempts);
            }
        }
    }
}

impl Gate {
    pub(super) fn route_config(&self, route: RouteId) -> &config::route::Route {
        &self.config.routes[route.at()].it
    }

    pub(super) fn on_arrived(&mut self, now: Micros, id: RequestId, arrival: Arrival, out: &mut Vec<Output>) {
        self.stats.arrived += 1;
        if arrival.of != self.generation {
            self.stats.answered += 1;
            let (why, retry_after) = (Why::Changed, Some(COME_AGAIN));
            return out.push(Output::Answer { request: id, why, ran: false, retry_after });
        }
        let route = arrival.route;
        assert!(
            route.is_none_or(|route| route.at() < self.routes.len()),
            "{id:?} came for {route:?}, and there are {}",
            self.routes.len()
        );
        assert!(arrival.pool.at() < self.pools.len(), "{id:?} came for {:?}", arrival.pool);
        let timeout = route.map_or_else(Timeout::default, |route| self.route_config(route).timeout.clone());
        let own = now.plus(timeout.total);
        let request = Request {
            route,
            pool: Some(arrival.pool),
            deadline: arrival.deadline.map_or(own, |d| d.min(own)),
            timeout,
            // Most requests need one attempt.
            attempts: Vec::with_capacity(1),
            sent: 0,
            tried: Vec::with_capacity(1),
            may_have_run: false,
            failed: None,
            said: None,
            is_retry: false,
            state: State::Running,
            hedge_at: None,
            holds_bulkhead: None,
            arrival,
        };
        let (nested, priority, deadline) =
            (request.arrival.nested, request.arrival.priority, request.deadline);
        let previous = self.requests.insert(id, Box::new(request));
        assert!(previous.is_none(), "{id:?} arrived twice");
        if deadline <= now {
            return self.answer(now, id, Why::Deadline, out);
        }
        let Some(route) = route else { return self.start(now, id, out) };
        if let Some(budget) = self.routes[route.at()].budget.as_mut().filter(|_| !nested) {
            budget.earn(now);
        }
        if let Some(bulkhead) = &self.config.routes[route.at()].it.bulkhead {
            let own = &mut self.routes[route.at()];
            if own.in_flight >= bulkhead.requests.div_ceil(self.site.cores.max(1)) {
                let mut rule = bulkhead.queue.clone();
                rule.size = rule.size.div_ceil(self.site.cores.max(1));
                let turned_away = own.queue.push(now, &rule, priority, id);
                self.request_mut(id).state = State::AtRoute(route);
                self.wait(now, id, Timer::Route(route), turned_away, out);
                return;
            }
            own.in_flight += 1;
            self.request_mut(id).holds_bulkhead = Some(route);
        }
        self.start(now, id, out);
    }

    pub(super) fn request_mut(&mut self, id: RequestId) -> &mut Request {
        self.requests.get_mut(&id).expect("a request is there until it is ended")
    }

    /// After `id` has entered a queue: sets the timers, and answers who was turned away for it.
    fn wait(
        &mut self,
        now: Micros,
        id: RequestId,
        of: Timer,
        turned_away: Option<RequestId>,
        out: &mut Vec<Output>,
    ) {
        if let Some(turned_away) = turned_away {
            // It is in no queue any more.
            self.request_mut(turned_away).state = State::Running;
            self.answer(now, turned_away, Why::QueueFull, out);
        }
        self.wake_request(id);
        match of {
            Timer::Route(route) => self.wake_route(now, route),
            Timer::Pool(pool) => self.wake_pool(now, pool),
            Timer::Request(_) => {}
        }
    }

    pub(super) fn wake_request(&mut self, id: RequestId) {
        if let Some(at) = self.requests.get(&id).and_then(|request| request.next_wakeup()) {
            self.timers.wake(Timer::Request(id), at);
        }
    }

    /// The pools that may serve a request, in the order in which they are asked.
    pub(super) fn pools_for(&self, id: RequestId) -> Vec<PoolId> {
        let request = &self.requests[&id];
        let route = request.route.map(|r| &self.routes[r.at()]);
        let backup = route.and_then(|r| r.backup);
        let on_backup = route.and_then(|r| r.failover.as_ref()).is_some_and(|f| f.is_on_backup());
        // The primary is not well, so it is asked only where the backup did nothing.
        let is_new = !request.may_have_run && !request.attempts.iter().any(|a| a.may_have_run);
        match (on_backup, backup) {
            (true, Some(backup)) => std::iter::once(backup).chain(request.pool.filter(|_| is_new)).collect(),
            _ => request.pool.into_iter().chain(backup).collect(),
        }
    }

    /// Sends the next attempt, or lets the request wait for a place, or answers it.
    pub(super) fn start(&mut self, now: Micros, id: RequestId, out: &mut Vec<Output>) {
        let Request { failed, is_retry, .. } = *self.requests[&id];
        let (mut full, mut refused) = (None, Why::NoUpstream);
        for pool in self.pools_for(id) {
            match self.try_at(now, id, pool, is_retry, out) {
                Ok(true) => return,
                Ok(false) => {
                    // One that has upstreams is waited for.
                    full = Some(pool);
                    break;
                }
                Err(why) => refused = why,
            }
        }
        let Some(pool) = full else {
            let why = failed.map_or(refused, |failure| Why::Failed(failure, Final::NoUpstream));
            return self.answer(now, id, why, out);
        };
        let request = &self.requests[&id];
        let (priority, ties) = (request.arrival.priority, *request.ties(pool));
        let own = &mut self.pools[pool.at()];
        // A retry waits for whether its pool bears one, too.
        let line = own.full_session(now, &self.site, ties, &request.tried).filter(|_| !is_retry);
        let turned_away = own.push(now, &self.site, line, priority, id);
        self.request_mut(id).state = State::AtPool(pool, line);
        self.wait(now, id, Timer::Pool(pool), turned_away, out);
    }

    /// Sends an attempt to `pool`. False if all its upstreams are at their limits, or it bears no retry more.
    ///
    /// # Errors
    /// Why it cannot go there: nothing is taken.
    pub(super) fn try_at(
        &mut self,
        now: Micros,
        id: RequestId,
        pool: PoolId,
        is_retry: bool,
        out: &mut Vec<Output>,
    ) -> Result<bool, Why> {
        let request = &self.requests[&id];
        let breaker_route = self.breaker_route(id, pool);
        if let Some(route) = breaker_route
            && !self.route_admits(now, route)
        {
            return Err(Why::BreakerOpen);
        }
        if is_retry && !self.pools[pool.at()].bears_retry() {
            let may_go = self.pools[pool.at()].has_other(now, &request.tried);
            return if may_go { Ok(false) } else { Err(Why::NoUpstream) };
        }
        let (ties, tried) = (*request.ties(pool), request.tried.clone());
        let picked = self.pools[pool.at()].pick(now, &self.site, ties, &tried, &mut self.rng);
        let (upstream, pass) = match picked {
            Pick::Upstream(upstream, pass) => (upstream, pass),
            Pick::Full => return Ok(false),
            Pick::None => return Err(Why::NoUpstream),
        };
        let route_pass = breaker_route.and_then(|route| self.enter_route(now, route));
        self.launch(now, id, (pool, upstream), pass, route_pass, is_retry, out);
        Ok(true)
    }

    /// The route whose breaker hears of attempts at `pool`: it is about its own pool; what the backup does says nothing of it.
    pub(super) fn breaker_route(&self, id: RequestId, pool: PoolId) -> Option<RouteId> {
        let request = &self.requests[&id];
        request.route.filter(|_| request.pool == Some(pool))
    }

    pub(super) fn route_admits(&self, now: Micros, route: RouteId) -> bool {
        match (&self.routes[route.at()].breaker, &self.route_config(route).breaker) {
            (Some(breaker), Some(rule)) => breaker.admits(now, rule),
            _ => true,
        }
    }

    fn enter_route(&mut self, now: Micros, route: RouteId) -> Option<Pass> {
        let rule = self.config.routes[route.at()].it.breaker.as_ref()?;
        self.routes[route.at()].breaker.as_mut()?.enter(now, rule)
    }

    /// Gives the client an attempt's reply, and ends all others.
    pub(super) fn forward(&mut self, now: Micros, id: RequestId, attempt: u32, out: &mut Vec<Output>) {
        let others = self.requests[&id].attempts.iter().map(|a| a.number).filter(|n| *n != attempt);
        for other in others.collect::<Vec<_>>() {
            self.abandon(now, id, other, out);
        }
        self.leave_queue(id);
        let secret = &self.secret;
        let request = self.requests.get_mut(&id).expect("its attempt has a reply");
        request.state = State::Forwarding { attempt };
        request.hedge_at = None;
        let (place, is_retry) = (request.attempts[0].place, request.attempts[0].is_retry);
        let was_held = request.attempts[0].held_until.take().is_some();
        if let Some((pool, upstream)) = place.filter(|_| was_held) {
            self.pools[pool.at()].take_back(upstream, is_retry);
        }
        let ran = request.may_have_run || request.attempts[0].may_have_run;
        let ties = place.map(|(pool, _)| *request.ties(pool)).unwrap_or_default();
        let stick_to = place.and_then(|(pool, upstream)| {
            let pool = &self.pools[pool.at()];
            // What another answered while its upstream serves it is no reason for a session to move.
            let stays = pool.home(now, ties).is_some_and(|home| !pool.is_better(upstream.0, home));
            let address = &pool.config.upstreams[upstream.at()].address.0;
            pool.config.sticky.as_ref().filter(|_| !stays).map(|_| upstream_name(secret, address))
        });
        let stick_to = stick_to.filter(|name| ties.sticky != Some(*name) || ties.renew);
        let idle = request.timeout.idle;
        self.timers.cancel(Timer::Request(id));
        self.stats.forwarded += 1;
        out.push(Output::Forward { request: id, attempt, ran, stick_to, idle });
    }

    /// Answers by ourselves, and ends the request; but a reply that was held back is a better answer.
    pub(super) fn answer(&mut self, now: Micros, id: RequestId, why: Why, out: &mut Vec<Output>) {
        if let Some(held) = self.requests[&id].held() {
            return self.forward(now, id, held, out);
        }
        self.abandon_all(now, id, out);
        let Request { may_have_run: ran, failed, .. } = *self.requests[&id];
        let is_shed = matches!(why, Why::QueueFull | Why::QueueLate);
        self.stats.answered += 1;
        self.stats.shed += u64::from(is_shed);
        let why = match failed {
            // Who is told to come again sends it again, though it may have run; and a status is what the upstream said of it.
            Some(failure) if is_shed && (ran || matches!(failure, Failure::Status { .. })) => {
                Why::Failed(failure, Final::NoUpstream)
            }
            _ => why,
        };
        let retry_after = match why {
            Why::BreakerOpen => self.route_opens(now, id).or(Some(COME_AGAIN)),
            Why::Changed | Why::NoUpstream | Why::QueueFull | Why::QueueLate => Some(COME_AGAIN),
            Why::Failed(Failure::Status { retry_after, .. }, _) => retry_after,
            Why::Deadline | Why::BodyLate | Why::Failed(..) => None,
        };
        out.push(Output::Answer { request: id, why, ran, retry_after });
        self.end(id);
    }

    fn route_opens(&self, now: Micros, id: RequestId) -> Option<Micros> {
        let route = self.requests[&id].route?;
        self.routes[route.at()].breaker.as_ref().and_then(Breaker::next_change).map(|at| at.since(now))
    }

    pub(super) fn abandon_all(&mut self, now: Micros, id: RequestId, out: &mut Vec<Output>) {
        let attempts: Vec<u32> = self.requests[&id].attempts.iter().map(|a| a.number).collect();
        attempts.into_iter().for_each(|attempt| self.abandon(now, id, attempt, out));
    }

    /// Forgets a request that holds no attempt any more; who waits for its place is served soon.
    pub(super) fn end(&mut self, id: RequestId) {
        self.leave_queue(id);
        let request = self.requests.remove(&id).expect("a request ends once");
        assert!(request.attempts.is_empty(), "INV-GATE-13: {id:?} ends with {:?}", request.attempts);
        self.timers.cancel(Timer::Request(id));
        if let Some(route) = request.holds_bulkhead {
            self.routes[route.at()].in_flight -= 1;
            self.freed_routes.insert(route);
        }
    }

    fn leave_queue(&mut self, id: RequestId) {
        let request = self.requests.get_mut(&id).expect("a request is there until it is ended");
        match request.state {
            State::AtRoute(route) => _ = self.routes[route.at()].queue.remove(id),
            State::AtPool(pool, line) => self.pools[pool.at()].leave(line, id),
            _ => return,
        }
        request.state = State::Running;
    }

    pub(super) fn on_done(&mut self, now: Micros, id: RequestId, out: &mut Vec<Output>) {
        let Some(request) = self.requests.get(&id) else { return };
        let State::Forwarding { attempt } = request.state else { return };
        self.release(now, id, attempt, out);
        self.end(id);
    }

    pub(super) fn on_gone(&mut self, now: Micros, id: RequestId, out: &mut Vec<Output>) {
        if self.requests.contains_key(&id) {
            self.stats.gone += 1;
            self.abandon_all(now, id, out);
            self.end(id);
        }
    }

    /// Serves who waits where places were freed. Each round frees places only by answering, so it ends.
    pub(super) fn serve_queues(&mut self, now: Micros, out: &mut Vec<Output>) {
        loop {
            if !self.moved_routes.is_empty() {
                self.move_waiting(now, out);
            } else if let Some(route) = self.freed_routes.pop_first() {
                self.serve_route(now, route, out);
            } else if let Some(pool) = self.freed_pools.pop_first() {
                self.serve_pool(now, pool, out);
            } else {
                return;
            }
        }
    }

    /// Lets those of the moved routes who wait for an upstream start anew, since another pool comes first. Looks at all requests once,
    /// however many routes a pool's end has moved.
    fn move_waiting(&mut self, now: Micros, out: &mut Vec<Output>) {
        let moved = std::mem::take(&mut self.moved_routes);
        let has_moved = |r: &Request| r.route.is_some_and(|route| moved.contains(&route));
        let waits = |r: &Request| matches!(r.state, State::AtPool(..)) && has_moved(r);
        let waiting = self.requests.iter().filter(|(_, request)| waits(request));
        for id in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            // Unless it was turned away for one before it.
            if self.requests.get(&id).is_some_and(|request| waits(request)) {
                self.leave_queue(id);
                self.start(now, id, out);
            }
        }
    }

    fn serve_route(&mut self, now: Micros, id: RouteId, out: &mut Vec<Output>) {
        let (limit, queue) = match self.config.routes[id.at()].it.bulkhead.clone() {
            Some(Bulkhead { requests, queue }) => (requests.div_ceil(self.site.cores.max(1)), queue),
            // A route that lost its bulkhead lets all in, however long they have waited.
            None => (u32::MAX, Queue { time: Micros::NEVER, standing: Micros::NEVER, ..Queue::default() }),
        };
        while let Some(late) = self.routes[id.at()].queue.shed(now, &queue) {
            self.request_mut(late).state = State::Running;
            self.answer(now, late, Why::QueueLate, out);
        }
        while self.routes[id.at()].in_flight < limit {
            let Some(next) = self.routes[id.at()].queue.pop(now, &queue) else { break };
            self.routes[id.at()].in_flight += 1;
            let request = self.request_mut(next);
            request.holds_bulkhead = Some(id);
            request.state = State::Running;
            self.start(now, next, out);
        }
        self.wake_route(now, id);
    }

    fn serve_pool(&mut self, now: Micros, id: PoolId, out: &mut Vec<Output>) {
        if !self.pools[id.at()].is_waited_for() {
            return;
        }
        while let Some(late) = self.pools[id.at()].shed(now) {
            self.request_mut(late).state = State::Running;
            self.answer(now, late, Why::QueueLate, out);
        }
        // Of two as important, who has nowhere else to go is first.
        for class in 0..CLASSES {
            self.serve_lines(now, id, class, out);
            self.serve_queue(now, id, class, out);
        }
        self.pools[id.at()].rest(now, &self.site);
        self.wake_pool(now, id);
    }

    /// Serves who waits for the upstream that has its session, if it is as important as `class`.
    fn serve_lines(&mut self, now: Micros, id: PoolId, class: usize, out: &mut Vec<Output>) {
        while let Some((line, next)) = self.pools[id.at()].next_in_line(now, &self.site, class) {
            if self.is_queue_first(now, id, line, class) && self.serve_queue(now, id, class, out) {
                continue;
            }
            self.pools[id.at()].leave(Some(line), next);
            self.request_mut(next).state = State::Running;
            self.start(now, next, out);
        }
    }

    /// True if a place is the queue's rather than that of a line: it is the last that the limit of the whole pool leaves, so no upstream's
    /// own, and somebody whom it would serve has waited for any upstream longer than all in that line.
    fn is_queue_first(&self, now: Micros, id: PoolId, line: UpstreamId, class: usize) -> bool {
        let pool = &self.pools[id.at()];
        let Some(in_line) = pool.upstreams[line.at()].line.rank().filter(|_| pool.has_one_place(now)) else {
            return false;
        };
        let is_sooner = |rank: (usize, Micros)| rank.0 <= class && rank < in_line;
        let mut sooner = pool.queue.by_rank().take_while(|(rank, _)| is_sooner(*rank));
        sooner.any(|(_, next)| {
            let request = &self.requests[&next];
            let is_full = pool.is_full_for(now, &self.site, *request.ties(id), &request.tried);
            !is_full && (!request.is_retry || pool.bears_retry())
        })
    }

    /// Serves who waits for any upstream, if it is as important as `class`. True if it served somebody.
    fn serve_queue(&mut self, now: Micros, id: PoolId, class: usize, out: &mut Vec<Output>) -> bool {
        if self.pools[id.at()].queue.rank().is_none_or(|first| first.0 > class) {
            return false;
        }
        let rule = self.pools[id.at()].config.queue.clone();
        let (mut passed_over, mut served) = (0, false);
        let mut has_room = self.pools[id.at()].has_room(now, &self.site);
        while has_room && let Some(next) = self.pools[id.at()].queue.nth(now, &rule, passed_over) {
            let request = &self.requests[&next];
            if request.arrival.priority as usize > class {
                break;
            }
            let (ties, is_retry) = (*request.ties(id), request.is_retry);
            // What is free may be for others: who wants what is full keeps its turn.
            let is_full = self.pools[id.at()].is_full_for(now, &self.site, ties, &request.tried);
            let result = if is_full { Ok(false) } else { self.try_at(now, next, id, is_retry, out) };
            if result == Ok(false) {
                passed_over += 1;
                continue;
            }
            self.pools[id.at()].queue.remove(next);
            served = true;
            if result.is_err() {
                // Nobody is left here; another pool may take it.
                self.request_mut(next).state = State::Running;
                self.start(now, next, out);
            }
            has_room = self.pools[id.at()].has_room(now, &self.site);
        }
        served
    }

    pub(super) fn wake_pool(&mut self, now: Micros, id: PoolId) {
        if let Some(at) = self.pools[id.at()].next_wakeup(now, &self.site) {
            self.timers.wake(Timer::Pool(id), at);
        }
    }

    pub(super) fn wake_route(&mut self, now: Micros, id: RouteId) {
        let (route, config) = (&self.routes[id.at()], &self.config.routes[id.at()].it);
        let rule = config.bulkhead.as_ref().map(|b| b.queue.clone()).unwrap_or_default();
        let queue = route.queue.next_wakeup(now, &rule);
        let failover = match (&route.failover, &config.failover) {
            (Some(failover), Some(rule)) => failover.next_wakeup(rule),
            _ => None,
        };
        if let Some(at) = [queue, failover].into_iter().flatten().min() {
            self.timers.wake(Timer::Route(id), at);
        }
    }

    pub(super) fn on_route_timer(&mut self, now: Micros, id: RouteId, out: &mut Vec<Output>) {
        if id.at() < self.routes.len() {
            self.check_failover(now, id, out);
            self.freed_routes.insert(id);
            self.serve_queues(now, out);
        }
    }

    pub(super) fn on_pool_timer(&mut self, now: Micros, id: PoolId, out: &mut Vec<Output>) {
        if id.at() < self.pools.len() {
            self.pools[id.at()].tick(now, &self.site, &mut self.rng, out);
            self.pool_changed(now, id, out);
            self.serve_queues(now, out);
        }
    }

    /// After upstreams of a pool became fit or unfit: failovers may be due, and new timers, and who waits may be served.
    pub(super) fn pool_changed(&mut self, now: Micros, id: PoolId, out: &mut Vec<Output>) {
        self.wake_pool(now, id);
        self.freed_pools.insert(id);
        for route in self.pools[id.at()].watchers.clone() {
            self.check_failover(now, route, out);
        }
    }

    pub(super) fn check_failover(&mut self, now: Micros, id: RouteId, out: &mut Vec<Output>) {
        let Gate { config, routes, pools, .. } = self;
        let route = &mut routes[id.at()];
        if let (Some(failover), Some(rule), Some(primary)) =
            (&mut route.failover, &config.routes[id.at()].it.failover, route.primary)
        {
            let usable = pools[primary.at()].usable(now);
            if failover.update(now, rule, usable) {
                out.push(Output::Note(Note::Failover { route: id, on_backup: failover.is_on_backup() }));
                self.moved_routes.insert(id);
            }
            self.wake_route(now, id);
        }
    }

    /// Tells a route's breaker how an attempt ended.
    pub(super) fn leave_route(
        &mut self,
        now: Micros,
        route: RouteId,
        pass: Pass,
        outcome: crate::resilience::Outcome,
        out: &mut Vec<Output>,
    ) {
        let Gate { config, routes, rng, stats, .. } = self;
        if let (Some(breaker), Some(rule)) =
            (&mut routes[route.at()].breaker, &config.routes[route.at()].it.breaker)
            && breaker.leave(now, rule, pass, outcome, rng)
        {
            let open = matches!(breaker.state(), BreakerState::Open { .. });
            stats.breakers_opened += u64::from(open);
            out.push(Output::Note(Note::RouteBreaker { route, open }));
        }
    }
}
