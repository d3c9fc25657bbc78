//! The gateway in the binary: where its configuration comes from, and its figures among the node's.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use skep_gate::balance::sticky::Secret;
use skep_gateway::{Applied, Board, Figures, Running, StartFault, Surroundings, TIME_BOUNDS, UpstreamCounts};
use skep_http::{Histogram, Labels, Metric, Samples};
use skep_settings::Settings;
use tokio::sync::watch;

use crate::chance::random;
use crate::config::Config;

/// How long requests that are under way may take when the node is told to stop. Orchestrators kill after 30 s.
const DRAIN_TIME: Duration = Duration::from_secs(20);

/// A gateway that runs, and what keeps its configuration.
#[derive(Debug)]
pub struct Gateway {
    running: Running,
    _applied: watch::Sender<Option<Applied>>,
}

/// Starts the gateway, if the configuration has one, with `cores` threads.
///
/// # Errors
/// [`StartFault`]; nothing of it runs then.
pub fn start(config: &Config, cores: usize) -> Result<Option<Gateway>, StartFault> {
    let Some(gateway) = &config.gateway else { return Ok(None) };
    let first = Applied { version: 1, config: Arc::clone(gateway) };
    let (applied, follows) = watch::channel(Some(first));
    let settings = &config.settings;
    let surroundings = Surroundings {
        zone: settings.zone().to_owned(),
        secret: secret(settings),
        seed: random(),
        store: None,
    };
    let running = skep_gateway::start(cores, follows, surroundings)?;
    Ok(Some(Gateway { running, _applied: applied }))
}

impl Gateway {
    pub fn board(&self) -> Board {
        self.running.board()
    }

    /// Takes no more connections and waits for the requests under way, but not for long.
    pub fn drain(self) {
        self.running.drain(DRAIN_TIME);
    }
}

/// What signs sticky cookies: the same at all nodes that share a password, and after any restart. Without a password
/// anybody can choose the upstream of a session, and no more.
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
