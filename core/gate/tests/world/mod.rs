//! A world of gates and upstream models, driven from one seed: no clock, no thread, no socket.
//!
//! Clients come at random (Poisson) to gates; gates send attempts to upstreams over a network that takes time; an upstream
//! has workers and a queue in front of them, and works on what was abandoned too, as real ones do. After events the gates'
//! own invariants are checked, and from outside:
//!
//! - INV-GATE-12: each request ends in one `Forward` or one `Answer`;
//! - INV-GATE-7: a request that may not be repeated is begun by upstreams at most once;
//! - what [`sessions`] says of sessions.

pub mod sessions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use skep_base::{Micros, Rng};
use skep_gate::balance::Ties;
use skep_gate::balance::sticky::Secret;
use skep_gate::config::resilience::Priority;
use skep_gate::resilience::retry::{Failure, Traits};
use skep_gate::{Arrival, Config, Gate, Input, Output, PoolId, RequestId, RouteId, Site, UpstreamId};

use sessions::Sessions;

/// The secret of the cluster.
const SECRET: Secret = Secret([1; 32]);
/// One way over the network.
const WAY: Micros = Micros(150);

/// What an upstream does with attempts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Mode {
    /// Works, `slower` times as long as usual, and answers this share with 503.
    Works { slower: f64, errors: f64 },
    /// Answers 503 at once.
    FailsAtOnce,
    /// Takes no connection, and says so.
    Refuses,
    /// Takes no connection, and says nothing.
    Silent,
    /// Takes requests and never answers.
    Hangs,
    /// Begins to work, and breaks the connection.
    Resets,
}

pub const HEALTHY: Mode = Mode::Works { slower: 1.0, errors: 0.0 };

#[derive(Clone, Copy, Debug)]
struct Job {
    gate: usize,
    request: RequestId,
    attempt: u32,
}

pub struct Upstream {
    pub mode: Mode,
    pub workers: u32,
    pub service: Micros,
    busy: u32,
    queue: VecDeque<Job>,
    /// Attempts that reached it.
    pub attempts: u64,
}

/// What clients are like.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub per_second: f64,
    /// The share of requests that are POST.
    pub posts: f64,
    /// Clients give up after this.
    pub patience: Micros,
    /// The share of requests that are important.
    pub high: f64,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Arrive,
    Reach { job: Job, pool: usize, upstream: usize },
    Worked { job: Job, pool: usize, upstream: usize },
    Reply { job: Job, status: u16 },
    Break { job: Job, failure: Failure },
    Connected { job: Job },
    Done { gate: usize, request: RequestId },
    LosePatience { gate: usize, request: RequestId },
    Probed { gate: usize, at: Model, life: u64, probe: u64, well: bool },
    Tick { gate: usize },
    Mode { pool: usize, upstream: usize, mode: Mode },
    Configure { gate: usize, config: usize },
}

/// An upstream's pool and place in the configuration that the world began with.
type Model = (usize, usize);

/// What became of requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    pub arrived: u64,
    /// Replies below 500 that came in time.
    pub good: u64,
    /// Replies of 500 and above that were given on.
    pub bad: u64,
    /// Answers of the gates.
    pub answered: BTreeMap<String, u64>,
    pub gave_up: u64,
    pub arrived_posts: u64,
    pub good_posts: u64,
    pub good_high: u64,
    pub arrived_high: u64,
    pub latencies: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Client {
    came: Micros,
    is_post: bool,
    is_high: bool,
    begun: u32,
    connected: bool,
    forwarded: bool,
    status: u16,
}

pub struct World {
    pub now: Micros,
    pub gates: Vec<Gate>,
    pub pools: Vec<Vec<Upstream>>,
    pub load: Load,
    pub tally: Tally,
    pub notes: Vec<(Micros, String)>,
    /// What gates read from their clocks beside the world's time.
    pub clock_offset: Vec<i64>,
    rng: Rng,
    events: BTreeMap<(Micros, u64), Event>,
    number: u64,
    clients: BTreeMap<(usize, RequestId), Client>,
    /// By address.
    models: BTreeMap<String, Model>,
    /// Configurations that gates get one after another.
    configs: Vec<Config>,
    /// How often an upstream has left a gate's configuration: what was asked before is of another.
    lives: BTreeMap<(usize, Model), u64>,
    pub sessions: Option<Sessions>,
    abandoned: BTreeSet<(usize, RequestId, u32)>,
    ticks: Vec<Option<Micros>>,
    checked: u64,
    /// Every how many events all invariants are checked.
    pub check_every: u64,
}

impl World {
    /// `gates` gates with this configuration; each pool has the upstreams of the configuration, with `workers` workers that
    /// take `service` on average.
    pub fn new(text: &str, gates: usize, workers: u32, service: Micros, load: Load, seed: u64) -> World {
        let config = Config::parse(text).unwrap_or_else(|e| panic!("{e:#?}"));
        let site = |at: usize| Site { cores: 1, gateways: gates as u32, probes: at == 0, ..Site::default() };
        let now = Micros::from_secs(1_000);
        let upstream =
            || Upstream { mode: HEALTHY, workers, service, busy: 0, queue: VecDeque::new(), attempts: 0 };
        let mut models = BTreeMap::new();
        for (pool, named) in config.pools.iter().enumerate() {
            let addresses = named.it.upstreams.iter().enumerate();
            models.extend(addresses.map(|(at, upstream)| (upstream.address.0.clone(), (pool, at))));
        }
        let mut world = World {
            now,
            pools: config.pools.iter().map(|p| p.it.upstreams.iter().map(|_| upstream()).collect()).collect(),
            gates: (0..gates)
                .map(|at| Gate::new(now, config.clone(), site(at), SECRET, seed + at as u64))
                .collect(),
            load,
            tally: Tally::default(),
            notes: Vec::new(),
            clock_offset: vec![0; gates],
            rng: Rng::new(seed),
            events: BTreeMap::new(),
            number: 0,
            clients: BTreeMap::new(),
            models,
            configs: Vec::new(),
            lives: BTreeMap::new(),
            sessions: None,
            abandoned: BTreeSet::new(),
            ticks: vec![None; gates],
            checked: 0,
            check_every: 97,
        };
        world.at(now, Event::Arrive);
        (0..gates).for_each(|gate| world.schedule_tick(gate));
        world
    }

    fn at(&mut self, when: Micros, event: Event) {
        self.number += 1;
        self.events.insert((when, self.number), event);
    }

    fn after(&mut self, wait: Micros, event: Event) {
        self.at(self.now.plus(wait), event);
    }

    /// Changes what an upstream does, from `when` on.
    pub fn set_mode(&mut self, when: Micros, pool: usize, upstream: usize, mode: Mode) {
        self.at(when, Event::Mode { pool, upstream, mode });
    }

    /// Gives a gate another configuration, with upstreams of those that the world began with.
    pub fn configure(&mut self, when: Micros, gate: usize, text: &str) {
        self.configs.push(Config::parse(text).unwrap_or_else(|e| panic!("{e:#?}")));
        self.at(when, Event::Configure { gate, config: self.configs.len() - 1 });
    }

    /// Which upstream a gate means.
    fn model(&self, gate: usize, pool: PoolId, upstream: UpstreamId) -> Model {
        self.models[&self.gates[gate].config().pools[pool.at()].it.upstreams[upstream.at()].address.0]
    }

    /// What a gate calls an upstream, if its configuration has it.
    fn place(&self, gate: usize, model: Model) -> Option<(PoolId, UpstreamId)> {
        self.places(gate).into_iter().find_map(|(place, other)| (other == model).then_some(place))
    }

    /// All upstreams of a gate's configuration.
    fn places(&self, gate: usize) -> Vec<((PoolId, UpstreamId), Model)> {
        let mut places = Vec::new();
        for (pool, named) in self.gates[gate].config().pools.iter().enumerate() {
            for (at, upstream) in named.it.upstreams.iter().enumerate() {
                let place = (PoolId(pool as u32), UpstreamId(at as u32));
                places.push((place, self.models[&upstream.address.0]));
            }
        }
        places
    }

    fn life(&self, gate: usize, model: Model) -> u64 {
        self.lives.get(&(gate, model)).copied().unwrap_or_default()
    }

    fn take_config(&mut self, gate: usize, config: usize) {
        let (config, now) = (self.configs[config].clone(), self.gate_time(gate));
        let of = self.gates[gate].generation().next();
        let stays = |model: &Model| {
            let upstreams = config.pools.iter().flat_map(|pool| &pool.it.upstreams);
            upstreams.map(|upstream| self.models[&upstream.address.0]).any(|other| other == *model)
        };
        let models = self.places(gate).into_iter().map(|(_, model)| model);
        let gone: Vec<Model> = models.filter(|model| !stays(model)).collect();
        for gone in gone {
            *self.lives.entry((gate, gone)).or_default() += 1;
        }
        self.act(gate, |gate, out| gate.configure(now, config, of, out));
    }

    /// Attempts that reached upstreams so far.
    pub fn attempts(&self) -> u64 {
        self.pools.iter().flatten().map(|u| u.attempts).sum()
    }

    pub fn run_for(&mut self, time: Micros) {
        let end = self.now.plus(time);
        while let Some((&(when, number), _)) = self.events.first_key_value() {
            if when > end {
                break;
            }
            let event = self.events.remove(&(when, number)).expect("it was first");
            self.now = when;
            self.step(event);
            self.checked += 1;
            if self.checked.is_multiple_of(self.check_every) {
                self.gates.iter().for_each(Gate::assert_invariants);
            }
        }
        self.now = end;
    }

    /// No one comes any more; everything under way ends.
    pub fn finish(&mut self) {
        self.load.per_second = 0.0;
        self.run_for(Micros::from_secs(120));
        for gate in &self.gates {
            gate.assert_invariants();
            assert!(gate.is_idle(), "requests are left: {gate:#?}");
        }
        for gate in 0..self.gates.len() {
            for ((pool, upstream), model) in self.places(gate) {
                let place = self.gates[gate].upstream(pool, upstream);
                assert_eq!(
                    place.map(|(in_flight, _)| in_flight),
                    Some(0),
                    "INV-GATE-13: {model:?} of {gate}"
                );
            }
        }
        assert!(self.clients.is_empty(), "INV-GATE-12: without an end: {:?}", self.clients);
    }

    fn gate_time(&self, gate: usize) -> Micros {
        Micros(self.now.0.saturating_add_signed(self.clock_offset[gate]))
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Arrive => self.arrive(),
            Event::Reach { job, pool, upstream } => self.reach(job, pool, upstream),
            Event::Worked { job, pool, upstream } => self.worked(job, pool, upstream),
            Event::Connected { job } if self.is_wanted(job) => {
                let Job { gate, request, attempt } = job;
                self.clients.get_mut(&(gate, request)).expect("it is wanted").connected = true;
                self.tell(gate, Input::Connected { request, attempt });
            }
            Event::Reply { job, status } if self.is_wanted(job) => {
                let Job { gate, request, attempt } = job;
                if let Some(client) = self.clients.get_mut(&(gate, request)) {
                    client.status = status;
                }
                self.attempt_ended(gate, request, attempt);
                self.tell(gate, Input::Replied { request, attempt, status, retry_after: None });
            }
            Event::Break { job, failure } if self.is_wanted(job) => {
                let Job { gate, request, attempt } = job;
                self.attempt_ended(gate, request, attempt);
                self.tell(gate, Input::Failed { request, attempt, failure });
            }
            Event::Connected { .. } | Event::Reply { .. } | Event::Break { .. } => {}
            Event::Done { gate, request } => {
                if let Some(client) = self.clients.remove(&(gate, request)) {
                    self.count(client);
                    self.end_of_session(gate, request, Some(client.status));
                    self.tell(gate, Input::Done { request });
                }
            }
            Event::LosePatience { gate, request } => {
                if self.clients.get(&(gate, request)).is_some_and(|c| !c.forwarded) {
                    self.clients.remove(&(gate, request));
                    self.end_of_session(gate, request, None);
                    self.tally.gave_up += 1;
                    self.tell(gate, Input::Gone { request });
                }
            }
            Event::Probed { gate, at, life, probe, well } => {
                let same = self.life(gate, at) == life;
                if let Some((pool, upstream)) = self.place(gate, at).filter(|_| same) {
                    self.tell(gate, Input::Probed { pool, upstream, probe, well });
                }
            }
            Event::Tick { gate } => {
                if self.ticks[gate].is_some_and(|at| at <= self.now) {
                    self.ticks[gate] = None;
                    self.tell(gate, Input::Tick);
                }
            }
            Event::Mode { pool, upstream, mode } => self.pools[pool][upstream].mode = mode,
            Event::Configure { gate, config } => self.take_config(gate, config),
        }
    }

    fn is_wanted(&self, job: Job) -> bool {
        !self.abandoned.contains(&(job.gate, job.request, job.attempt))
    }

    fn arrive(&mut self) {
        if self.load.per_second <= 0.0 {
            return;
        }
        let gap = -(1.0 - self.rng.unit()).ln() / self.load.per_second * 1e6;
        self.after(Micros(gap as u64 + 1), Event::Arrive);
        let gate = self.rng.below(self.gates.len() as u64) as usize;
        let session = match &mut self.sessions {
            Some(sessions) => match sessions.next(&mut self.rng) {
                Some(session) => Some(session),
                None => return,
            },
            None => None,
        };
        let (is_post, is_high) = (self.rng.unit() < self.load.posts, self.rng.unit() < self.load.high);
        let request = RequestId(self.tally.arrived);
        self.tally.arrived += 1;
        self.tally.arrived_posts += u64::from(is_post);
        self.tally.arrived_high += u64::from(is_high);
        let client = Client {
            came: self.now,
            is_post,
            is_high,
            begun: 0,
            connected: false,
            forwarded: false,
            status: 0,
        };
        self.clients.insert((gate, request), client);
        self.after(self.load.patience, Event::LosePatience { gate, request });
        let traits = Traits { idempotent: !is_post, keyed: false, replayable: true };
        let config = self.gates[gate].config();
        let route = config.routes.iter().position(|route| &*route.name == "all").expect("it is in all");
        let pool = config.pools.iter().position(|pool| pool.name == "main").expect("it is in all");
        let mut ties = Ties { key: Some(self.rng.next_u64()), ..Ties::default() };
        if let (Some(sessions), Some(session)) = (&mut self.sessions, session) {
            sessions.begin(self.now, (gate, request), session, &config.pools[pool], &mut ties);
        }
        let arrival = Arrival {
            of: self.gates[gate].generation(),
            route: Some(RouteId(route as u32)),
            pool: PoolId(pool as u32),
            priority: if is_high { Priority::High } else { Priority::Normal },
            traits,
            sends_body: false,
            hedgeable: !is_post,
            ties,
            backup_ties: Ties::default(),
            deadline: None,
            nested: false,
        };
        self.tell(gate, Input::Arrived { request, arrival });
    }

    fn reach(&mut self, job: Job, pool: usize, at: usize) {
        let upstream = &mut self.pools[pool][at];
        upstream.attempts += 1;
        match upstream.mode {
            Mode::Silent => {}
            Mode::Refuses => self.after(WAY, Event::Break { job, failure: Failure::NotSent }),
            Mode::FailsAtOnce => {
                self.connect(job);
                self.after(WAY, Event::Reply { job, status: 503 });
            }
            Mode::Hangs => self.connect(job),
            Mode::Works { .. } | Mode::Resets => {
                upstream.queue.push_back(job);
                self.connect(job);
                self.work(pool, at);
            }
        }
    }

    fn connect(&mut self, job: Job) {
        self.after(WAY, Event::Connected { job });
    }

    fn work(&mut self, pool: usize, at: usize) {
        while self.pools[pool][at].busy < self.pools[pool][at].workers {
            let upstream = &mut self.pools[pool][at];
            let Some(job) = upstream.queue.pop_front() else { return };
            upstream.busy += 1;
            let slower = if let Mode::Works { slower, .. } = upstream.mode { slower } else { 1.0 };
            let time = -(1.0 - self.rng.unit()).ln() * upstream.service.0 as f64 * slower;
            if let Some(client) = self.clients.get_mut(&(job.gate, job.request)) {
                client.begun += 1;
                let twice = client.is_post && client.begun > 1;
                assert!(
                    !twice,
                    "INV-GATE-7: {:?} is a POST and was begun {} times",
                    job.request, client.begun
                );
            }
            self.after(Micros(time as u64 + 1), Event::Worked { job, pool, upstream: at });
        }
    }

    fn worked(&mut self, job: Job, pool: usize, at: usize) {
        self.pools[pool][at].busy -= 1;
        match self.pools[pool][at].mode {
            Mode::Works { errors, .. } => {
                let status = if self.rng.unit() < errors { 503 } else { 200 };
                self.after(WAY, Event::Reply { job, status });
            }
            Mode::Hangs | Mode::Silent => {}
            // What it has begun it ends.
            Mode::Refuses | Mode::FailsAtOnce => self.after(WAY, Event::Reply { job, status: 200 }),
            Mode::Resets => self.after(WAY, Event::Break { job, failure: Failure::Reset }),
        }
        self.work(pool, at);
    }

    /// Gives a gate an event, and does what it says.
    fn tell(&mut self, gate: usize, input: Input) {
        let now = self.gate_time(gate);
        self.act(gate, |gate, out| gate.handle(now, input, out));
    }

    fn act(&mut self, gate: usize, act: impl FnOnce(&mut Gate, &mut Vec<Output>)) {
        let mut out = Vec::new();
        let before = self.standing(gate);
        act(&mut self.gates[gate], &mut out);
        self.judge_sessions(gate, &before, &out);
        for output in out {
            self.carry_out(gate, output);
        }
        self.schedule_tick(gate);
    }

    fn schedule_tick(&mut self, gate: usize) {
        let Some(wake) = self.gates[gate].next_wakeup() else { return };
        let when =
            Micros(wake.0.saturating_add_signed(-self.clock_offset[gate])).max(self.now.plus(Micros(1)));
        if self.ticks[gate].is_none_or(|at| when < at) {
            self.ticks[gate] = Some(when);
            self.at(when, Event::Tick { gate });
        }
    }

    fn carry_out(&mut self, gate: usize, output: Output) {
        match output {
            Output::Try { request, attempt, pool, upstream, .. } => {
                let job = Job { gate, request, attempt };
                let (pool, upstream) = self.model(gate, pool, upstream);
                self.after(WAY, Event::Reach { job, pool, upstream });
            }
            Output::Abandon { request, attempt } => {
                self.abandoned.insert((gate, request, attempt));
            }
            Output::Forward { request, .. } => {
                let client =
                    self.clients.get_mut(&(gate, request)).expect("INV-GATE-12: forwarded after its end");
                assert!(!client.forwarded, "INV-GATE-12: {request:?} was forwarded twice");
                client.forwarded = true;
                self.after(Micros(50), Event::Done { gate, request });
            }
            Output::Answer { request, why, ran, .. } => {
                let client =
                    self.clients.remove(&(gate, request)).expect("INV-GATE-12: answered after its end");
                // A shell tells of a connection before it sends; here that takes as long as the sending.
                let may_have_run = client.connected && client.begun > 0;
                assert!(ran || !may_have_run, "{request:?} was begun, and ended {why:?} as not run");
                assert!(!client.forwarded, "INV-GATE-12: {request:?} was forwarded and answered");
                self.end_of_session(gate, request, None);
                let why = format!("{why:?}");
                *self.tally.answered.entry(why).or_insert(0) += 1;
            }
            Output::Probe { pool, upstream, probe } => {
                let at = self.model(gate, pool, upstream);
                let mode = self.pools[at.0][at.1].mode;
                let well = matches!(mode, Mode::Works { .. });
                let life = self.life(gate, at);
                if !matches!(mode, Mode::Silent | Mode::Hangs) {
                    self.after(Micros(500), Event::Probed { gate, at, life, probe, well });
                }
            }
            Output::Health { pool, upstream, up } => {
                let model = self.model(gate, pool, upstream);
                for other in (0..self.gates.len()).filter(|other| *other != gate) {
                    if let Some((pool, upstream)) = self.place(other, model) {
                        self.tell(other, Input::Health { pool, upstream, up });
                    }
                }
            }
            Output::Note(note) => self.notes.push((self.now, format!("{gate}: {note:?}"))),
        }
    }

    fn count(&mut self, client: Client) {
        let latency = self.now.since(client.came);
        if client.status >= 500 {
            self.tally.bad += 1;
        } else if latency <= self.load.patience {
            self.tally.good += 1;
            self.tally.good_posts += u64::from(client.is_post);
            self.tally.good_high += u64::from(client.is_high);
        }
        self.tally.latencies.push(latency.0);
    }
}
