//! The gateway in the binary: where its configuration comes from, and its figures among the node's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use skep_gate::balance::sticky::Secret;
use skep_gateway::{
    Applied, Board, Figures, InForce, NameCounts, Nodes, Running, Surroundings, TIME_BOUNDS, UpstreamCounts,
};
use skep_http::{Histogram, Labels, Metric, Samples};
use skep_node::{NodeState, NodeStatus};
use skep_server::Inside;
use skep_settings::Settings;
use tokio::sync::watch;

use crate::chance::random;
use crate::store::NodeStore;

/// How long requests that are under way may take when the node is told to stop. Orchestrators kill after 30 s.
const DRAIN_TIME: Duration = Duration::from_secs(20);

/// The gateway of this node. It has no thread and no port before the cluster has a configuration for it.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    cores: usize,
    zone: String,
    secret: Secret,
    inside: Inside,
    /// As the node said last; a gateway that begins is told at once.
    nodes: Mutex<Nodes>,
    state: Mutex<State>,
}

enum State {
    Waiting,
    Running(Running, watch::Sender<Option<Applied>>),
    /// The node is about to stop.
    Drained,
}

impl Gateway {
    /// One of `cores` threads, which reaches the store of its node by `inside`.
    pub fn new(settings: &Settings, cores: usize, inside: Inside) -> Gateway {
        let (zone, secret) = (settings.zone().to_owned(), secret(settings));
        let (nodes, state) = (Mutex::default(), Mutex::new(State::Waiting));
        Gateway(Arc::new(Inner { cores, zone, secret, inside, nodes, state }))
    }

    /// Puts a configuration in force, and returns when it is: its files are read, its listeners open, all cores told. The
    /// first one starts the gateway.
    ///
    /// # Errors
    /// Why it cannot be; what was in force before stays.
    pub async fn apply(&self, applied: Applied) -> Result<(), String> {
        let version = applied.version;
        let mut follows = {
            let mut state = self.state();
            match &*state {
                State::Waiting => {
                    let (sender, receiver) = watch::channel(Some(applied));
                    let running = skep_gateway::start(self.0.cores, receiver, self.surroundings());
                    let running = running.map_err(|fault| fault.to_string())?;
                    running.set_nodes(self.nodes().clone());
                    *state = State::Running(running, sender);
                    return Ok(());
                }
                State::Running(running, sender) => {
                    // What was said of the same version before is not the answer.
                    let mut follows = running.in_force();
                    follows.mark_unchanged();
                    sender.send_replace(Some(applied));
                    follows
                }
                State::Drained => return Err("the node is stopping".to_owned()),
            }
        };
        loop {
            if follows.changed().await.is_err() {
                return Err("the node is stopping".to_owned());
            }
            match &*follows.borrow_and_update() {
                InForce { problem: Some((of, why)), .. } if *of == version => return Err(why.clone()),
                told if told.version == version => return Ok(()),
                // Of a version before, whose files have changed.
                _ => {}
            }
        }
    }

    /// Which nodes carry traffic beside this one: limits of the cluster are divided among them, and zones weighed by them.
    pub fn set_nodes(&self, members: &[NodeStatus]) {
        let mut nodes = Nodes::new();
        for member in members.iter().filter(|member| member.state != NodeState::Down) {
            *nodes.entry(member.record.zone.clone()).or_default() += 1;
        }
        let state = self.state();
        let mut known = self.nodes();
        if *known != nodes {
            known.clone_from(&nodes);
            if let State::Running(running, _) = &*state {
                running.set_nodes(nodes);
            }
        }
    }

    /// What is counted; `None` before there is a gateway.
    pub fn board(&self) -> Option<Board> {
        match &*self.state() {
            State::Running(running, _) => Some(running.board()),
            State::Waiting | State::Drained => None,
        }
    }

    /// Takes no more connections and waits for the requests under way, but not for long.
    pub fn drain(&self) {
        let was = std::mem::replace(&mut *self.state(), State::Drained);
        if let State::Running(running, _) = was {
            running.drain(DRAIN_TIME);
        }
    }

    /// To be locked behind the state.
    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.0.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings {
            zone: self.0.zone.clone(),
            secret: self.0.secret.clone(),
            seed: random(),
            store: Some(Arc::new(NodeStore(self.0.inside.clone()))),
        }
    }
}

/// What signs sticky cookies as long as the cluster has no secret of its own, which is only so if its configuration was made
/// by a release that knew none: the same at all nodes that share a password, and after any restart.
fn secret(settings: &Settings) -> Secret {
    let mut hash = Sha256::new();
    hash.update(b"skep gateway cookies");
    hash.update(settings.requirepass().as_bytes());
    Secret(hash.finalize().into())
}

/// The gateway's figures for Prometheus.
pub fn metrics(figures: &Figures) -> Vec<Metric> {
    let counter = |name, help, value| Metric::counter(name, help, value);
    let mut all = vec![
        Metric::gauge(
            "skep_gateway_config_version",
            "Version of the gateway's configuration in force",
            figures.version as f64,
        ),
        counter("skep_gateway_malformed_requests", "Requests that were no good HTTP", figures.malformed),
        counter("skep_gateway_limited_requests", "Requests that a rate limit refused", figures.limited),
        counter(
            "skep_gateway_not_let_in",
            "Requests whose caller was not proved, or may not",
            figures.not_let_in,
        ),
        counter("skep_gateway_retries", "Attempts after a failed one", figures.retries),
        counter("skep_gateway_hedges", "Attempts beside a slow one", figures.hedges),
        counter("skep_gateway_over_budget", "Retries that the budget forbade", figures.over_budget),
        counter("skep_gateway_shed_requests", "Requests turned away for want of a place", figures.shed),
        counter("skep_gateway_ejections", "Upstreams ejected", figures.ejected),
        counter("skep_gateway_breakers_opened", "Breakers that opened", figures.breakers_opened),
        counter("skep_gateway_turned_away", "Connections above a listener's limit", figures.turned_away),
        counter(
            "skep_gateway_log_lines_lost",
            "Lines of the access log that nobody took",
            figures.log_lines_lost,
        ),
    ];
    all.extend(of_the_store(figures));
    all.extend(of_names(&figures.names));
    all.extend(of_routes(figures));
    all.extend(of_upstreams(figures));
    let listener = |(name, count): (&String, &u64)| (vec![("listener", name.clone())], *count as f64);
    all.push(Metric {
        name: "skep_gateway_connections",
        help: "Connections of clients",
        samples: Samples::Gauge(figures.connections.iter().map(listener).collect()),
    });
    all
}

/// What the gateway keeps in the store: rates of the cluster, and replies by idempotency key.
fn of_the_store(figures: &Figures) -> Vec<Metric> {
    let keyed = &figures.keyed;
    let answer = |(kind, count): (&&str, &u64)| (vec![("kind", (*kind).to_owned())], *count);
    vec![
        Metric::counter(
            "skep_gateway_rate_questions",
            "Questions about cluster-wide rates to the store",
            figures.rate_asks,
        ),
        Metric::counter(
            "skep_gateway_rate_questions_unanswered",
            "Of those, the ones that got no answer",
            figures.rate_asks_unanswered,
        ),
        Metric {
            name: "skep_gateway_keyed_answers",
            help: "Answers to requests with an idempotency key; first, replayed, or why there was none",
            samples: Samples::Counter(keyed.answers.iter().map(answer).collect()),
        },
        Metric::counter(
            "skep_gateway_keyed_unknown",
            "Requests with an idempotency key that were sent, and got no whole reply",
            keyed.unknown,
        ),
        Metric::gauge(
            "skep_gateway_keyed_in_flight",
            "Requests with an idempotency key under way",
            keyed.in_flight as f64,
        ),
    ]
}

fn of_names(names: &NameCounts) -> [Metric; 4] {
    [
        Metric::gauge("skep_gateway_names", "Names of upstreams that are looked up", names.names as f64),
        Metric::gauge(
            "skep_gateway_names_lost",
            "Of those, the ones whose last question brought no address",
            names.lost as f64,
        ),
        Metric::counter("skep_gateway_name_questions", "Questions for names of upstreams", names.asked),
        Metric::counter(
            "skep_gateway_name_questions_failed",
            "Of those, the ones that brought no address",
            names.failed,
        ),
    ]
}

fn of_routes(figures: &Figures) -> Vec<Metric> {
    let (mut requests, mut times, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for (name, counts) in &figures.routes {
        let route = ("route", name.clone());
        for (digit, count) in counts.statuses.iter().enumerate().filter(|(_, count)| **count > 0) {
            let status = if digit == 0 { "gone".to_owned() } else { format!("{digit}xx") };
            requests.push((vec![route.clone(), ("status", status)], *count));
        }
        let bounds = TIME_BOUNDS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
        let buckets = bounds.zip(counts.times).collect();
        times.push((vec![route.clone()], Histogram { sum: counts.micros as f64 / 1e6, buckets }));
        bytes.push((vec![route], counts.bytes_sent));
    }
    vec![
        Metric {
            name: "skep_gateway_requests",
            help: "Requests by route and status; gone: the client left first",
            samples: Samples::Counter(requests),
        },
        Metric {
            name: "skep_gateway_request_seconds",
            help: "From the head of a request to the end of its reply",
            samples: Samples::Histogram(times),
        },
        Metric {
            name: "skep_gateway_sent_bytes",
            help: "Bytes of replies to clients, without heads",
            samples: Samples::Counter(bytes),
        },
    ]
}

fn of_upstreams(figures: &Figures) -> Vec<Metric> {
    let labels = |(pool, upstream): &(String, String)| -> Labels {
        vec![("pool", pool.clone()), ("upstream", upstream.clone())]
    };
    let counters = |read: fn(&UpstreamCounts) -> u64| {
        Samples::Counter(
            figures.upstreams.iter().map(|(name, counts)| (labels(name), read(counts))).collect(),
        )
    };
    let gauges = |read: fn(&UpstreamCounts) -> u64| {
        let one = |(name, counts)| (labels(name), read(counts) as f64);
        Samples::Gauge(figures.upstreams.iter().map(one).collect())
    };
    let metric = |name, help, samples| Metric { name, help, samples };
    vec![
        metric("skep_gateway_upstream_attempts", "Attempts at an upstream", counters(|c| c.attempts)),
        metric("skep_gateway_upstream_failures", "Attempts without a reply", counters(|c| c.failures)),
        metric("skep_gateway_upstream_errors", "Replies of 500 and above", counters(|c| c.errors)),
        metric("skep_gateway_upstream_in_flight", "Attempts under way", gauges(|c| c.in_flight)),
        metric("skep_gateway_upstream_connections", "Open connections", gauges(|c| c.connections)),
        metric("skep_gateway_upstream_fit_cores", "Cores that may send it something", gauges(|c| c.fit)),
    ]
}
