//! One gateway core: every request from its arrival to its end, over pools of upstreams.
//!
//! Owns which upstream an attempt goes to, when another follows, who waits and who is turned away, and the timers of all of
//! it. Does not own routing ([`crate::router`]), rates ([`crate::protect`]) nor bytes. A gate belongs to one thread; the
//! gates of a node and of other nodes share nothing but the words that the shell carries between them
//! ([`Output::Health`] to [`Input::Health`]).
//!
//! INV-GATE-12: each request that arrived gets exactly one of `Forward` and `Answer`, unless its client is gone.
//! INV-GATE-13: what is counted as under way is what was tried and neither ended nor was abandoned, nor is held back.
//! INV-GATE-14: no request is tried twice at one upstream of a pool.

mod attempt;
mod configure;
mod learn;
mod pool;
mod request;
#[cfg(test)]
mod tests;
mod timers;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

use skep_base::{Micros, Rng};

use crate::balance::Ties;
use crate::balance::sticky::Secret;
use crate::config::Config;
use crate::config::resilience::{Priority, Retry};
use crate::health::Reason;
use crate::names::{Generation, PoolId, RouteId, UpstreamId};
use crate::resilience::retry::{Failure, Final, Traits};
use crate::resilience::{Breaker, Budget, Failover, Latencies, Queue};
use crate::timers::Timers;
use pool::Pool;
use request::Request;
use timers::Timer;

/// A request, named by the shell, unlike all others that have not ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RequestId(pub u64);

/// What a gate must know of where it runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Site {
    /// The zone of this node; empty for none.
    pub zone: String,
    /// Gates of this node, among which a node's limits are divided.
    pub cores: u32,
    /// Gates of the cluster, among which a cluster's limits are divided.
    pub gateways: u32,
    /// Gates by zone.
    pub zones: Vec<(String, u32)>,
    /// Whether this gate of the node probes upstreams; the others hear of it.
    pub probes: bool,
}

impl Default for Site {
    fn default() -> Site {
        Site { zone: String::new(), cores: 1, gateways: 1, zones: Vec::new(), probes: true }
    }
}

/// What of a request decides about its way.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The configuration whose numbers `route` and `pool` are.
    pub of: Generation,
    /// The route that took it. None for what no route is for: a connection of TCP, a session of UDP, a copy of a request.
    /// Such a one has the default times, is tried elsewhere only if it was not sent, and bears no budget.
    pub route: Option<RouteId>,
    /// The pool that the route's action chose.
    pub pool: PoolId,
    pub priority: Priority,
    pub traits: Traits,
    /// It has a body, of which each attempt tells when it is sent: [`Input::Sent`].
    pub sends_body: bool,
    /// Whether the route's `hedge.methods` has the method.
    pub hedgeable: bool,
    /// What binds it to an upstream of `pool`, and of the route's backup pool.
    pub ties: Ties,
    pub backup_ties: Ties,
    /// By when an answer is worth something to the client, if it said so.
    pub deadline: Option<Micros>,
    /// A gateway in front sends it for the second time or more.
    pub nested: bool,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The head of a request is here.
    Arrived { request: RequestId, arrival: Arrival },
    /// The body of a request can no longer be sent again from its beginning.
    BodyGone { request: RequestId },
    /// All connections that the pool's `connections` allows are in use: an attempt waits for one, and the time for connecting
    /// stands still. For the pool's `queue.time` at most, and nothing is learned of the upstream by it.
    Waits { request: RequestId, attempt: u32 },
    /// It waits no more: a connection is made.
    Connects { request: RequestId, attempt: u32 },
    /// An attempt has a connection; from here on it may run.
    Connected { request: RequestId, attempt: u32 },
    /// An attempt has sent all of a body: from here on it is the upstream's time that runs.
    Sent { request: RequestId, attempt: u32 },
    /// The head of an attempt's reply is here.
    Replied { request: RequestId, attempt: u32, status: u16, retry_after: Option<Micros> },
    /// An attempt failed; not [`Failure::Status`], which is `Replied`. A body of which the upstream took nothing for `stall`
    /// is [`Failure::Timeout`].
    Failed { request: RequestId, attempt: u32, failure: Failure },
    /// The reply that was forwarded has ended well.
    Done { request: RequestId },
    /// The client is gone.
    Gone { request: RequestId },
    /// The answer of a probe.
    Probed { pool: PoolId, upstream: UpstreamId, probe: u64, well: bool },
    /// A probe was left out for want of a descriptor: nothing is learned of its upstream.
    NotProbed { pool: PoolId, upstream: UpstreamId, probe: u64 },
    /// Another gate's word about an upstream.
    Health { pool: PoolId, upstream: UpstreamId, up: bool },
    /// The cluster or the node has changed.
    Site(Site),
    /// Time has come: see [`Gate::next_wakeup`].
    Tick,
}

/// Why the gateway answers by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// 503: it came with the numbers of a configuration that is not in force.
    Changed,
    /// 503: no upstream can take it.
    NoUpstream,
    /// 503: the route's breaker is open.
    BreakerOpen,
    /// 503: the queue is full of what is as important.
    QueueFull,
    /// 503: it waited too long for a place.
    QueueLate,
    /// 504: the deadline has come.
    Deadline,
    /// 408: it has come before all of the request's body.
    BodyLate,
    /// The upstream's own status, 504 for a time-out, 501 where no upstream takes such requests, else 502: the last attempt failed
    /// so, and why none follows.
    Failed(Failure, Final),
}

impl Why {
    /// The status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Why::Changed | Why::NoUpstream | Why::BreakerOpen | Why::QueueFull | Why::QueueLate => 503,
            Why::BodyLate => 408,
            Why::Deadline | Why::Failed(Failure::Timeout, _) => 504,
            Why::Failed(Failure::NotTaken, _) => 501,
            Why::Failed(Failure::Status { status, .. }, _) => status,
            Why::Failed(..) => 502,
        }
    }
}

/// What an operator may want to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Note {
    Ejected {
        pool: PoolId,
        upstream: UpstreamId,
        reason: Reason,
    },
    Readmitted {
        pool: PoolId,
        upstream: UpstreamId,
    },
    /// An upstream's breaker opened or closed.
    UpstreamBreaker {
        pool: PoolId,
        upstream: UpstreamId,
        open: bool,
    },
    RouteBreaker {
        route: RouteId,
        open: bool,
    },
    /// So few upstreams are fit that all are used; or it is over.
    Panic {
        pool: PoolId,
        on: bool,
    },
    /// A route's backup pool took over, or gave back.
    Failover {
        route: RouteId,
        on_backup: bool,
    },
}

/// What to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Send the request to an upstream.
    Try {
        request: RequestId,
        /// From 1, unlike all others of the request; to be told upstream, so that gateways behind do not repeat it again.
        attempt: u32,
        pool: PoolId,
        upstream: UpstreamId,
        /// What is left of the deadline, to be carried on.
        left: Micros,
        /// How long the upstream may read nothing of a body that is there.
        stall: Micros,
    },
    /// End an attempt without its reply.
    Abandon {
        request: RequestId,
        attempt: u32,
    },
    /// Give the client this attempt's reply; no other attempt is under way.
    Forward {
        request: RequestId,
        attempt: u32,
        /// It, or an attempt before it, may have run; false only if the upstream says that it did nothing (`retry.not-run`).
        ran: bool,
        /// Set the pool's sticky cookie to this upstream's name.
        stick_to: Option<u64>,
        /// The longest pause between two pieces.
        idle: Micros,
    },
    /// Answer by ourselves; `retry_after` is worth telling.
    Answer {
        request: RequestId,
        why: Why,
        /// An attempt may have run at an upstream.
        ran: bool,
        retry_after: Option<Micros>,
    },
    /// Ask an upstream how it is; without an answer in time it is not well.
    Probe {
        pool: PoolId,
        upstream: UpstreamId,
        probe: u64,
    },
    /// Tell the other gates what the probes found.
    Health {
        pool: PoolId,
        upstream: UpstreamId,
        up: bool,
    },
    Note(Note),
}

/// Counters since creation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    pub arrived: u64,
    pub attempts: u64,
    pub retries: u64,
    pub hedges: u64,
    /// Requests that got an upstream's reply.
    pub forwarded: u64,
    /// Requests that the gateway answered.
    pub answered: u64,
    /// Of those, for want of a place.
    pub shed: u64,
    /// Requests whose client went first.
    pub gone: u64,
    /// Retries that the budget forbade.
    pub over_budget: u64,
    pub ejected: u64,
    pub breakers_opened: u64,
}

/// What a gate keeps for one route.
#[derive(Debug)]
struct Route {
    budget: Option<Budget>,
    breaker: Option<Breaker>,
    failover: Option<Failover>,
    latencies: Option<Latencies>,
    /// Requests that hold a place of the bulkhead.
    in_flight: u32,
    queue: Queue<RequestId>,
    /// The pool that `failover` stands in for, and its own.
    primary: Option<PoolId>,
    backup: Option<PoolId>,
}

/// One gateway core.
#[derive(Debug)]
pub struct Gate {
    config: Config,
    generation: Generation,
    site: Site,
    secret: Secret,
    routes: Vec<Route>,
    pools: Vec<Pool>,
    // Boxed, since maps move what they hold.
    requests: BTreeMap<RequestId, Box<Request>>,
    timers: Timers<Timer>,
    /// Where places were given back in this event, and somebody may wait for one.
    freed_pools: BTreeSet<PoolId>,
    freed_routes: BTreeSet<RouteId>,
    /// Whose requests that wait for an upstream may have another pool first.
    moved_routes: BTreeSet<RouteId>,
    rng: Rng,
    /// The rule of arrivals without a route.
    routeless: Retry,
    stats: Stats,
}

impl Gate {
    /// Another secret of the cluster, by which the next [`Gate::configure`] names upstreams.
    pub fn set_secret(&mut self, secret: Secret) {
        self.secret = secret;
    }

    /// A gate that begins at `now`, with the first [`Generation`]. `seed` decides all its random choices; `secret` is the cluster's.
    pub fn new(now: Micros, config: Config, site: Site, secret: Secret, seed: u64) -> Gate {
        let mut gate = Gate {
            config: Config::default(),
            generation: Generation::default(),
            site,
            secret,
            routes: Vec::new(),
            pools: Vec::new(),
            requests: BTreeMap::new(),
            timers: Timers::default(),
            freed_pools: BTreeSet::new(),
            freed_routes: BTreeSet::new(),
            moved_routes: BTreeSet::new(),
            rng: Rng::new(seed),
            routeless: Retry::default(),
            stats: Stats::default(),
        };
        gate.configure(now, config, Generation::default(), &mut Vec::new());
        gate
    }

    /// Advances the gate by one event. Never blocks; `out` receives effects in the order they must happen. `now` is
    /// monotonic time; if it goes back nothing breaks, and what is due waits until it has come again.
    pub fn handle(&mut self, now: Micros, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Arrived { request, arrival } => self.on_arrived(now, request, arrival, out),
            Input::BodyGone { request } => self.on_body_gone(now, request, out),
            Input::Waits { request, attempt } => self.on_waits(now, request, attempt),
            Input::Connects { request, attempt } => self.on_connects(now, request, attempt),
            Input::Connected { request, attempt } => self.on_connected(now, request, attempt),
            Input::Sent { request, attempt } => self.on_sent(now, request, attempt),
            Input::Replied { request, attempt, status, retry_after } => {
                self.on_replied(now, request, attempt, status, retry_after, out);
            }
            Input::Failed { request, attempt, failure } => {
                self.on_failed(now, request, attempt, failure, out)
            }
            Input::Done { request } => self.on_done(now, request, out),
            Input::Gone { request } => self.on_gone(now, request, out),
            Input::Probed { pool, upstream, probe, well } => {
                self.on_probed(now, pool, upstream, probe, well, out)
            }
            Input::NotProbed { pool, upstream, probe } => self.on_not_probed(now, pool, upstream, probe),
            Input::Health { pool, upstream, up } => self.on_health(now, pool, upstream, up, out),
            Input::Site(site) => self.on_site(now, site),
            Input::Tick => {}
        }
        self.serve_queues(now, out);
        self.run_timers(now, out);
    }

    /// The next instant at which `handle` wants `Input::Tick`, if nothing else arrives.
    pub fn next_wakeup(&self) -> Option<Micros> {
        self.timers.next()
    }

    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whose numbers it takes.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Requests under way at an upstream, and whether it is fit.
    pub fn upstream(&self, pool: PoolId, upstream: UpstreamId) -> Option<(u32, bool)> {
        let pool = self.pools.get(pool.at())?;
        Some((pool.loads.get(upstream.at())?.in_flight, pool.is_fit(upstream.0)))
    }

    /// True if nothing is under way; a gate that is drained may be dropped.
    pub fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }

    /// Panics, naming the broken rule, if the state is impossible.
    pub fn assert_invariants(&self) {
        for (at, pool) in self.pools.iter().enumerate() {
            let attempts =
                self.requests.values().flat_map(|r| &r.attempts).filter(|a| a.held_until.is_none());
            let here: Vec<_> = attempts.filter(|a| a.place.is_some_and(|(p, _)| p.at() == at)).collect();
            assert_eq!(pool.in_flight as usize, here.len(), "INV-GATE-13: attempts of pool {at}");
            let retries = here.iter().filter(|a| a.is_retry).count();
            assert_eq!(pool.retries as usize, retries, "INV-GATE-13: retries of pool {at}");
            for (upstream, load) in pool.loads.iter().enumerate() {
                let own = here.iter().filter(|a| a.place.is_some_and(|(_, u)| u.at() == upstream)).count();
                assert_eq!(load.in_flight as usize, own, "INV-GATE-13: attempts at {upstream} of pool {at}");
                let passes = here.iter().filter(|a| a.place.is_some_and(|(_, u)| u.at() == upstream));
                let breaker = pool.upstreams[upstream].breaker.as_ref();
                breaker.inspect(|breaker| breaker.assert_invariants(passes.filter_map(|a| a.pass)));
            }
        }
        for (at, route) in self.routes.iter().enumerate() {
            let holders = self.requests.values().filter(|r| r.holds_bulkhead == Some(RouteId(at as u32)));
            assert_eq!(route.in_flight as usize, holders.count(), "INV-GATE-13: places of route {at}");
            let own = self.requests.values().filter(|r| r.route == Some(RouteId(at as u32)));
            let passes = own.flat_map(|r| &r.attempts).filter_map(|a| a.route_pass);
            route.breaker.as_ref().inspect(|breaker| breaker.assert_invariants(passes));
        }
        for (id, request) in &self.requests {
            request.assert_invariants(*id);
        }
        let waiting = self.routes.iter().map(|r| r.queue.len()).chain(self.pools.iter().map(|p| p.waiting()));
        let in_queue = self.requests.values().filter(|r| r.is_queued()).count();
        assert_eq!(waiting.sum::<usize>(), in_queue, "INV-GATE-8: who waits is in one queue");
    }

    fn run_timers(&mut self, now: Micros, out: &mut Vec<Output>) {
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::Request(request) => self.on_request_timer(now, request, out),
                Timer::Pool(pool) => self.on_pool_timer(now, pool, out),
                Timer::Route(route) => self.on_route_timer(now, route, out),
            }
        }
    }
}
