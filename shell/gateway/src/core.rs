//! One gateway core: a gate, a guard, and what carries their words to the tasks of one thread.
//!
//! Invariant: whatever a task learns goes through [`Core::tell`], and what the gate says is carried out in its order.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use skep_base::{Micros, Rng};
use skep_gate::auth::Memory;
use skep_gate::balance::sticky::Secret;
use skep_gate::{Gate, Generation, Input, Note, Output, PoolId, RequestId, RouteId, Site, UpstreamId};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, watch};

use crate::access_log::AccessLog;
use crate::auth::Hashing;
use crate::control::{Nodes, ToCore};
use crate::figures::{Figures, NAMES_MAX, NO_ROUTE, OTHERS, RouteFigures, UpstreamCounts};
use crate::keyed::Keyed;
use crate::mailbox::{Command, Mailbox};
use crate::of_node::NodeLimits;
use crate::rates::Rates;
use crate::snapshot::Snapshot;
use crate::upstream::{Key, Place, Upstream};
use crate::{Store, StoreError};

/// What is in force, with what a core keeps for each part of it. Who waited for anything takes the plan anew: numbers of routes
/// and pools are of one generation, and the gate and the guard take no others.
pub(crate) struct Plan {
    /// That of the gate and the guard while this is in force.
    pub(crate) generation: Generation,
    pub(crate) snapshot: Arc<Snapshot>,
    /// By route.
    routes: Vec<Rc<RouteFigures>>,
    no_route: Rc<RouteFigures>,
    /// By pool and upstream.
    upstreams: Vec<Vec<Rc<Upstream>>>,
}

impl Plan {
    pub(crate) fn figures(&self, route: Option<RouteId>) -> Rc<RouteFigures> {
        let own = route.and_then(|route| self.routes.get(route.at()));
        Rc::clone(own.unwrap_or(&self.no_route))
    }

    /// The upstream at a place that this configuration may not have.
    pub(crate) fn upstream_at(&self, pool: PoolId, upstream: UpstreamId) -> Option<&Rc<Upstream>> {
        self.upstreams.get(pool.at())?.get(upstream.at())
    }

    pub(crate) fn upstream(&self, pool: PoolId, upstream: UpstreamId) -> &Rc<Upstream> {
        &self.upstreams[pool.at()][upstream.at()]
    }
}

/// One core.
pub(crate) struct Core {
    pub(crate) index: usize,
    pub(crate) cores: usize,
    started: Instant,
    gate: RefCell<Gate>,
    pub(crate) rates: Rates,
    pub(crate) keyed: Keyed,
    zone: String,
    store: Option<Arc<dyn Store>>,
    pub(crate) rng: RefCell<Rng>,
    /// Signs while the cluster has no secret.
    own_secret: Secret,
    /// Proofs of callers that were right.
    pub(crate) memory: RefCell<Memory>,
    pub(crate) hashing: Hashing,
    pub(crate) log: AccessLog,
    plan: RefCell<Rc<Plan>>,
    route_figures: RefCell<HashMap<String, Rc<RouteFigures>>>,
    mailboxes: RefCell<HashMap<RequestId, Rc<Mailbox>>>,
    last_request: Cell<u64>,
    scratch: RefCell<Vec<Output>>,
    /// When the gate wants a tick, and for when the ticker has set itself.
    due: Cell<Option<Micros>>,
    armed: Cell<Option<Micros>>,
    earlier: Notify,
    /// The other cores of the node.
    others: Vec<UnboundedSender<ToCore>>,
    pub(crate) drain: watch::Receiver<bool>,
    /// Clients' connections by listener's name.
    pub(crate) connections: RefCell<BTreeMap<String, u64>>,
    pub(crate) turned_away: Cell<u64>,
    pub(crate) malformed: Cell<u64>,
    pub(crate) limited: Cell<u64>,
    pub(crate) not_let_in: Cell<u64>,
}

/// What a core begins with.
pub(crate) struct Beginning {
    pub(crate) index: usize,
    pub(crate) cores: usize,
    pub(crate) zone: String,
    pub(crate) secret: Secret,
    pub(crate) hashing: Hashing,
    pub(crate) limits: NodeLimits,
    /// What the time of all cores counts from.
    pub(crate) started: Instant,
    pub(crate) seed: u64,
    pub(crate) log: AccessLog,
    pub(crate) store: Option<Arc<dyn Store>>,
    pub(crate) others: Vec<UnboundedSender<ToCore>>,
    pub(crate) drain: watch::Receiver<bool>,
    pub(crate) snapshot: Arc<Snapshot>,
}

/// Where a core's gate is; a node that knows of no others is alone.
fn site(zone: &str, cores: usize, index: usize, nodes: &Nodes) -> Site {
    let cores = cores as u32;
    let zones: Vec<(String, u32)> =
        nodes.iter().map(|(zone, count)| (zone.clone(), count.saturating_mul(cores))).collect();
    let gateways = zones.iter().fold(0, |sum: u32, (_, count)| sum.saturating_add(*count));
    Site { zone: zone.to_owned(), cores, gateways: gateways.max(cores), zones, probes: index == 0 }
}

impl Core {
    pub(crate) fn new(beginning: Beginning) -> Rc<Core> {
        let Beginning {
            index,
            cores,
            zone,
            secret,
            hashing,
            limits,
            started,
            seed,
            log,
            store,
            others,
            drain,
            snapshot,
        } = beginning;
        let site = site(&zone, cores, index, &Nodes::new());
        let config = (*snapshot.config).clone();
        let signs = snapshot.secret.clone().unwrap_or_else(|| secret.clone());
        let core = Rc::new(Core {
            index,
            cores,
            started,
            gate: RefCell::new(Gate::new(Micros(0), config, site, signs, seed)),
            rates: Rates::new(&snapshot.config, limits),
            keyed: Keyed::default(),
            zone,
            store,
            rng: RefCell::new(Rng::new(seed ^ 1)),
            own_secret: secret,
            memory: RefCell::default(),
            hashing,
            log,
            plan: RefCell::new(Rc::new(Plan {
                generation: Generation::default(),
                snapshot: Arc::clone(&snapshot),
                routes: Vec::new(),
                no_route: Rc::default(),
                upstreams: Vec::new(),
            })),
            route_figures: RefCell::default(),
            mailboxes: RefCell::default(),
            last_request: Cell::new(0),
            scratch: RefCell::default(),
            due: Cell::new(None),
            armed: Cell::new(None),
            earlier: Notify::new(),
            others,
            drain,
            connections: RefCell::default(),
            turned_away: Cell::new(0),
            malformed: Cell::new(0),
            limited: Cell::new(0),
            not_let_in: Cell::new(0),
        });
        core.take_plan(snapshot, Generation::default());
        core.arm(core.gate.borrow().next_wakeup());
        core
    }

    /// What cookies are signed with, and digests of proofs made.
    pub(crate) fn secret(&self) -> Secret {
        self.plan.borrow().snapshot.secret.clone().unwrap_or_else(|| self.own_secret.clone())
    }

    /// Monotonic time since the gateway began, the same for all cores.
    pub(crate) fn now(&self) -> Micros {
        Micros(self.started.elapsed().as_micros() as u64)
    }

    /// A time of the core as the runtime's timers know it.
    pub(crate) fn instant(&self, at: Micros) -> tokio::time::Instant {
        (self.started + Duration::from_micros(at.0)).into()
    }

    /// Carries out a command at the store.
    ///
    /// # Errors
    /// [`StoreError`], which says whether it may have been carried out.
    pub(crate) async fn call_store(&self, words: Vec<Vec<u8>>) -> Result<Vec<u8>, StoreError> {
        let Some(store) = &self.store else {
            return Err(StoreError::Unavailable("this gateway has none".to_owned()));
        };
        store.call(words.into_iter().map(Bytes::from).collect()).await
    }

    pub(crate) fn plan(&self) -> Rc<Plan> {
        Rc::clone(&self.plan.borrow())
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.drain.borrow()
    }

    /// A request that no other has the number of, and where the gate's words for it come.
    pub(crate) fn open_request(&self) -> (RequestId, Rc<Mailbox>) {
        let id = RequestId(self.last_request.get() + 1);
        self.last_request.set(id.0);
        let mailbox = Rc::new(Mailbox::default());
        self.mailboxes.borrow_mut().insert(id, Rc::clone(&mailbox));
        (id, mailbox)
    }

    pub(crate) fn close_request(&self, id: RequestId) {
        self.mailboxes.borrow_mut().remove(&id);
    }

    /// Tells the gate what happened, and carries out what it says.
    pub(crate) fn tell(self: &Rc<Self>, input: Input) {
        self.with_gate(|gate, now, out| gate.handle(now, input, out));
    }

    fn with_gate(self: &Rc<Self>, act: impl FnOnce(&mut Gate, Micros, &mut Vec<Output>)) {
        let mut out = std::mem::take(&mut *self.scratch.borrow_mut());
        let now = self.now();
        let next = {
            let mut gate = self.gate.borrow_mut();
            act(&mut gate, now, &mut out);
            gate.next_wakeup()
        };
        out.drain(..).for_each(|output| self.carry_out(now, output));
        *self.scratch.borrow_mut() = out;
        self.arm(next);
    }

    fn arm(&self, next: Option<Micros>) {
        self.due.set(next);
        if let Some(next) = next
            && self.armed.get().is_none_or(|armed| next < armed)
        {
            self.earlier.notify_one();
        }
    }

    /// Does what the gate said at `now`.
    fn carry_out(self: &Rc<Self>, now: Micros, output: Output) {
        match output {
            Output::Try { request, attempt, pool, upstream, left, stall } => {
                let upstream = Rc::clone(self.plan.borrow().upstream(pool, upstream));
                self.send(request, Command::Try { attempt, upstream, deadline: now.plus(left), stall });
            }
            Output::Abandon { request, attempt } => self.send(request, Command::Abandon { attempt }),
            Output::Forward { request, attempt, ran, stick_to, idle } => {
                self.send(request, Command::Forward { attempt, ran, stick_to, idle });
            }
            Output::Answer { request, why, ran, retry_after } => {
                self.send(request, Command::Answer { why, ran, retry_after });
            }
            Output::Probe { pool, upstream, probe } => crate::probe::start(self, pool, upstream, probe),
            Output::Health { pool, upstream, up } => {
                let plan = self.plan.borrow();
                let key = &plan.upstream(pool, upstream).key;
                tracing::info!(
                    pool = key.pool,
                    upstream = key.address,
                    up,
                    "gateway: probes changed their mind"
                );
                for other in &self.others {
                    let (pool, address) = (key.pool.clone(), key.address.clone());
                    // One that is gone needs no word.
                    let _ = other.send(ToCore::Health { pool, address, up });
                }
            }
            Output::Note(note) => self.log_note(&note),
        }
    }

    fn send(&self, request: RequestId, command: Command) {
        if let Some(mailbox) = self.mailboxes.borrow().get(&request) {
            mailbox.push(command);
        }
    }

    fn log_note(&self, note: &Note) {
        let plan = self.plan.borrow();
        let place = |pool: &PoolId, upstream: &UpstreamId| {
            let key = &plan.upstream(*pool, *upstream).key;
            format!("{} of pool {}", key.address, key.pool)
        };
        let route = |route: &RouteId| plan.snapshot.config.routes[route.at()].name.clone();
        let pool = |pool: &PoolId| plan.snapshot.config.pools[pool.at()].name.clone();
        match note {
            Note::Ejected { pool, upstream, reason } => {
                tracing::warn!(upstream = place(pool, upstream), ?reason, "gateway: upstream ejected");
            }
            Note::Readmitted { pool, upstream } => {
                tracing::info!(upstream = place(pool, upstream), "gateway: upstream readmitted");
            }
            Note::UpstreamBreaker { pool, upstream, open } => {
                tracing::warn!(upstream = place(pool, upstream), open, "gateway: breaker of an upstream");
            }
            Note::RouteBreaker { route: of, open } => {
                tracing::warn!(route = route(of), open, "gateway: breaker of a route");
            }
            Note::Panic { pool: of, on } => {
                tracing::warn!(pool = pool(of), on, "gateway: so few upstreams are fit that all are used");
            }
            Note::Failover { route: of, on_backup } => {
                tracing::warn!(route = route(of), on_backup, "gateway: failover");
            }
        }
    }

    /// Puts a configuration in force; connections and requests go on.
    pub(crate) fn configure(self: &Rc<Self>, snapshot: Arc<Snapshot>) {
        let config = (*snapshot.config).clone();
        let of = self.plan().generation.next();
        self.take_plan(snapshot, of);
        self.configure_guard(&config, of);
        let secret = self.secret();
        self.with_gate(|gate, now, out| {
            gate.set_secret(secret);
            gate.configure(now, config, of, out);
        });
    }

    /// Takes in other upstreams of the same pools: names have other addresses. Routes and pools have the numbers that they had, and
    /// rates are not touched.
    pub(crate) fn readdress(self: &Rc<Self>, snapshot: Arc<Snapshot>) {
        let config = (*snapshot.config).clone();
        let of = self.plan().generation;
        self.take_plan(snapshot, of);
        self.with_gate(|gate, now, out| gate.configure(now, config, of, out));
    }

    fn take_plan(&self, snapshot: Arc<Snapshot>, generation: Generation) {
        let old = self.plan();
        let mut kept: HashMap<Key, Rc<Upstream>> =
            old.upstreams.iter().flatten().map(|u| (u.key.clone(), Rc::clone(u))).collect();
        let mut upstreams = Vec::new();
        for (at, pool) in snapshot.config.pools.iter().enumerate() {
            let own = pool.it.upstreams.iter().enumerate().map(|(of_pool, upstream)| {
                let key = Key::new(&pool.name, &pool.it, &upstream.address.0);
                // A certificate that changed makes new connections.
                let tls = snapshot.upstream_tls[at].clone();
                let place = Place::new(&upstream.address, snapshot.origin(at, of_pool), &snapshot.lookups);
                let upstream = match kept.remove(&key) {
                    Some(known) => {
                        known.set_place(place);
                        known
                    }
                    None => Upstream::new(key, place, tls),
                };
                upstream.configure(&pool.it, self.cores);
                upstream
            });
            upstreams.push(own.collect());
        }
        kept.into_values().for_each(|gone| gone.retire());
        let mut by_name = self.route_figures.borrow_mut();
        let mut routes = Vec::new();
        for route in &snapshot.config.routes {
            let name = if by_name.len() < NAMES_MAX { &*route.name } else { OTHERS };
            let known = by_name.get(&route.name).cloned();
            routes.push(known.unwrap_or_else(|| Rc::clone(by_name.entry(name.to_owned()).or_default())));
        }
        let no_route = Rc::clone(by_name.entry(NO_ROUTE.to_owned()).or_default());
        *self.plan.borrow_mut() = Rc::new(Plan { generation, snapshot, routes, no_route, upstreams });
    }

    /// Another core's word about an upstream.
    pub(crate) fn on_health(self: &Rc<Self>, pool: &str, address: &str, up: bool) {
        let plan = self.plan();
        let config = &plan.snapshot.config;
        let Some(at) = config.pools.iter().position(|p| p.name == pool) else { return };
        let Some(upstream) = config.pools[at].it.upstreams.iter().position(|u| u.address.0 == address) else {
            return;
        };
        let (pool, upstream) = (PoolId(at as u32), UpstreamId(upstream as u32));
        self.tell(Input::Health { pool, upstream, up });
    }

    /// Tells the gate among whom it is.
    pub(crate) fn set_nodes(self: &Rc<Self>, nodes: &Nodes) {
        self.tell(Input::Site(site(&self.zone, self.cores, self.index, nodes)));
    }

    /// Gives the gate its ticks, for ever.
    pub(crate) async fn tick(self: Rc<Self>) {
        loop {
            let due = self.due.get();
            self.armed.set(due);
            match due {
                None => self.earlier.notified().await,
                Some(due) => {
                    tokio::select! {
                        () = self.earlier.notified() => continue,
                        () = tokio::time::sleep_until(self.instant(due)) => {}
                    }
                    // What it was set for may have gone; then the next is later.
                    if self.due.get().is_some_and(|due| due <= self.now()) {
                        self.tell(Input::Tick);
                    }
                }
            }
        }
    }

    /// Closes connections that rest for too long, once a second.
    pub(crate) fn sweep(&self) {
        self.plan().upstreams.iter().flatten().for_each(|upstream| upstream.sweep());
    }

    /// What is counted here.
    pub(crate) fn figures(&self) -> Figures {
        let (plan, gate) = (self.plan(), self.gate.borrow());
        let mut upstreams = BTreeMap::new();
        for (pool, of_pool) in plan.upstreams.iter().enumerate() {
            for (at, upstream) in of_pool.iter().enumerate() {
                let key = match upstreams.len() < NAMES_MAX {
                    true => (upstream.key.pool.clone(), upstream.key.address.clone()),
                    false => (OTHERS.to_owned(), OTHERS.to_owned()),
                };
                let place = gate.upstream(PoolId(pool as u32), UpstreamId(at as u32));
                let counts: &mut UpstreamCounts = upstreams.entry(key).or_default();
                counts.attempts += upstream.figures.attempts.get();
                counts.failures += upstream.figures.failures.get();
                counts.errors += upstream.figures.errors.get();
                counts.in_flight += place.map_or(0, |(in_flight, _)| u64::from(in_flight));
                counts.connections += upstream.open() as u64;
                counts.fit += u64::from(place.is_some_and(|(_, fit)| fit));
            }
        }
        let stats = gate.stats();
        Figures {
            version: plan.snapshot.version,
            routes: self.route_figures.borrow().iter().map(|(n, f)| (n.clone(), f.counts())).collect(),
            upstreams,
            connections: self.connections.borrow().clone(),
            turned_away: self.turned_away.get(),
            malformed: self.malformed.get(),
            limited: self.limited.get(),
            not_let_in: self.not_let_in.get(),
            retries: stats.retries,
            hedges: stats.hedges,
            over_budget: stats.over_budget,
            shed: stats.shed,
            ejected: stats.ejected,
            breakers_opened: stats.breakers_opened,
            log_lines_lost: self.log.lost(),
            rate_asks: self.rates.asked.get(),
            rate_asks_unanswered: self.rates.unanswered.get(),
            keyed: self.keyed.counts(),
            ..Figures::default()
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.gate.borrow().is_idle() && self.keyed.is_idle()
    }
}
