//! `[gateway.pool.NAME]`: upstreams that can stand in for one another, how one is chosen, and when one is left out.

use skep_base::Micros;

use super::fields::{Fields, Section};
use super::resilience::{Adaptive, Breaker, Queue};
use super::scalar::{Address, KeyOf, Parameter, PathText, Share, words};

/// The most upstreams of a pool: a maglev table of 65,537 entries gives each of 1,024 at least 1.5 % of evenness.
pub const UPSTREAMS_MAX: usize = 1_024;

words! {
    /// How an upstream is chosen.
    Balance {
        /// The better of two random ones, by peak EWMA of latency times requests under way; failures count as slow.
        #[default]
        Ewma = "ewma",
        /// The one of two random ones with fewer requests under way.
        TwoChoices = "two-choices",
        /// The one of all with the fewest requests under way.
        LeastRequests = "least-requests",
        /// In turn; with different weights as `smooth-round-robin`.
        RoundRobin = "round-robin",
        /// Weighted, and even within each round (nginx's smooth algorithm).
        SmoothRoundRobin = "smooth-round-robin",
        Random = "random",
        /// Consistent hash over a ring of points.
        Ring = "ring",
        /// Consistent hash over a table (Maglev, NSDI 2016).
        Maglev = "maglev",
    }
    /// What upstreams speak.
    UpstreamProtocol {
        #[default]
        Http1 = "http1",
        Http2 = "http2",
    }
    /// Whether TCP upstreams are told for whom a connection is opened (HAProxy's proxy-protocol.txt).
    SendProxy {
        #[default]
        Off = "off",
        V1 = "v1",
        V2 = "v2",
    }
    /// What a probe asks.
    ProbeKind {
        /// A GET of `path` is answered with a status in `expect`.
        #[default]
        Http = "http",
        /// `grpc.health.v1.Health/Check` says SERVING.
        Grpc = "grpc",
        /// A connection can be made.
        Tcp = "tcp",
    }
}

/// One upstream.
#[derive(Clone, PartialEq, Debug)]
pub struct Upstream {
    pub address: Address,
    /// Its part of the traffic beside the others.
    pub weight: u32,
    /// Where it is; those in a gateway's own zone are preferred.
    pub zone: Option<String>,
    /// Takes no new sessions; those that are sticky to it go on.
    pub drain: bool,
}

/// Active checks.
#[derive(Clone, PartialEq, Debug)]
pub struct Health {
    pub kind: ProbeKind,
    pub path: PathText,
    /// Whom probes name as `Host`; the upstream by its name, if it has one, without this.
    pub host: Option<String>,
    /// Statuses that mean well; 200 to 299 if empty.
    pub expect: Vec<u16>,
    pub interval: Micros,
    /// How far each interval is varied at random, to both sides, so that gateways do not probe in step.
    pub jitter: Share,
    pub timeout: Micros,
    /// Good probes in a row after which an upstream that is down is up.
    pub rise: u32,
    /// Bad probes in a row after which one that is up is down.
    pub fall: u32,
}

/// Passive ejection: what traffic says about upstreams.
#[derive(Clone, PartialEq, Debug)]
pub struct Eject {
    /// Failures in a row that eject; 0 for never.
    pub consecutive: u32,
    /// Whether an upstream that fails significantly more often than the rest of its pool is ejected.
    pub failure_rate: bool,
    /// Ejects one whose mean latency is this many times that of the rest; 0 for never.
    pub latency_factor: u32,
    /// What the two comparisons need of an upstream within 10 s.
    pub requests: u32,
    /// How long, times the ejections in a row.
    pub time: Micros,
    pub time_max: Micros,
    /// The largest part of a pool that is out by this rule. One may always be out if another is in.
    pub share_max: Share,
}

/// Sessions that stay at their upstream by a signed cookie.
#[derive(Clone, PartialEq, Debug)]
pub struct Sticky {
    pub cookie: Parameter,
    /// How long a session lasts; renewed at half of it.
    pub max_age: Micros,
}

/// One pool.
#[derive(Clone, PartialEq, Debug)]
pub struct Pool {
    pub upstreams: Vec<Upstream>,
    pub protocol: UpstreamProtocol,
    /// TLS to upstreams, with this name.
    pub tls_name: Option<String>,
    /// For pools of tcp listeners.
    pub send_proxy: SendProxy,
    pub balance: Balance,
    /// What consistent hashing hashes.
    pub hash_by: KeyOf,
    /// Consistent hashing passes over an upstream with more than this share of the average under way.
    pub hash_load_max: Share,
    /// In which a new or recovered upstream comes from a tenth of its traffic to all of it.
    pub slow_start: Micros,
    pub zone_aware: bool,
    pub sticky: Option<Sticky>,
    pub health: Option<Health>,
    pub eject: Option<Eject>,
    /// Below this share of usable upstreams all are used, since those left would be overrun.
    pub panic: Share,
    /// For each upstream.
    pub breaker: Option<Breaker>,
    /// Requests under way at one upstream, from one node.
    pub requests: u32,
    /// Requests that wait for an upstream.
    pub queue: Queue,
    /// A limit of requests under way that follows latency.
    pub adaptive: Option<Adaptive>,
    pub connections: u32,
    /// An unused connection is closed after this.
    pub idle: Micros,
    /// An upstream of HTTP/2 that has said nothing for so long while requests are under way is asked whether it is there (PING).
    pub keep_alive: Micros,
    /// How many of the requests under way may be retries and hedges.
    pub retries_max: Share,
}

impl Default for Upstream {
    fn default() -> Upstream {
        Upstream { address: Address::default(), weight: 1, zone: None, drain: false }
    }
}

impl Default for Health {
    fn default() -> Health {
        Health {
            kind: ProbeKind::Http,
            path: PathText("/".to_owned()),
            host: None,
            expect: Vec::new(),
            interval: Micros::from_secs(5),
            jitter: Share::percent(10),
            timeout: Micros::from_secs(2),
            rise: 2,
            fall: 3,
        }
    }
}

impl Default for Eject {
    fn default() -> Eject {
        Eject {
            consecutive: 5,
            failure_rate: true,
            latency_factor: 0,
            requests: 20,
            time: Micros::from_secs(10),
            time_max: Micros::from_secs(300),
            share_max: Share::percent(34),
        }
    }
}

impl Default for Sticky {
    fn default() -> Sticky {
        Sticky { cookie: Parameter("skep-sticky".to_owned()), max_age: Micros::from_secs(86_400) }
    }
}

impl Default for Pool {
    fn default() -> Pool {
        Pool {
            upstreams: Vec::new(),
            protocol: UpstreamProtocol::Http1,
            tls_name: None,
            send_proxy: SendProxy::Off,
            balance: Balance::Ewma,
            hash_by: KeyOf::Source,
            hash_load_max: Share::percent(150),
            slow_start: Micros::from_secs(10),
            zone_aware: false,
            sticky: None,
            health: None,
            eject: Some(Eject::default()),
            panic: Share::percent(20),
            breaker: Some(Breaker::default()),
            requests: 1_024,
            queue: Queue::default(),
            adaptive: None,
            connections: 256,
            idle: Micros::from_secs(60),
            // Servers of gRPC end connections with more (grpc/doc/keepalive.md: one each 5 minutes without data).
            keep_alive: Micros::from_secs(300),
            retries_max: Share::percent(20),
        }
    }
}

impl Section for Upstream {
    const SHORTHAND: Option<&'static str> = Some("address");

    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.one("address", &mut self.address);
        f.ranged("weight", &mut self.weight, 1..=256);
        f.maybe("zone", &mut self.zone);
        f.one("drain", &mut self.drain);
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        if self.address.0.is_empty() {
            wrong.push(("address", "is missing; it must be an address such as 10.0.0.1:8080".to_owned()));
        }
    }
}

impl Section for Health {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.one("kind", &mut self.kind);
        f.one("path", &mut self.path);
        f.maybe("host", &mut self.host);
        f.list("expect", &mut self.expect, 100);
        f.ranged("interval", &mut self.interval, Micros::from_millis(100)..=Micros::from_secs(3_600));
        f.ranged("jitter", &mut self.jitter, Share(0)..=Share::percent(50));
        f.ranged("timeout", &mut self.timeout, Micros::from_millis(10)..=Micros::from_secs(300));
        f.ranged("rise", &mut self.rise, 1..=100);
        f.ranged("fall", &mut self.fall, 1..=100);
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        if self.timeout > self.interval {
            wrong.push(("timeout", "is longer than interval; probes would overtake each other".to_owned()));
        }
        if let Some(host) = &self.host
            && (host.contains('@') || host.parse::<http::uri::Authority>().is_err())
        {
            wrong.push(("host", format!("is `{host}`; it must be a host, or one with a port")));
        }
        if let Some(status) = self.expect.iter().find(|s| !(100..=599).contains(*s)) {
            wrong.push(("expect", format!("holds {status}; statuses are 100 to 599")));
        }
    }
}

impl Section for Eject {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.ranged("consecutive", &mut self.consecutive, 0..=10_000);
        f.one("failure-rate", &mut self.failure_rate);
        f.ranged("latency-factor", &mut self.latency_factor, 0..=1_000);
        f.ranged("requests", &mut self.requests, 5..=1_000_000);
        f.ranged("time", &mut self.time, Micros::from_millis(100)..=Micros::from_secs(3_600));
        f.ranged("time-max", &mut self.time_max, Micros::from_millis(100)..=Micros::from_secs(86_400));
        f.ranged("share-max", &mut self.share_max, Share(0)..=Share::ALL);
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        if self.time_max < self.time {
            wrong.push(("time-max", "is shorter than time".to_owned()));
        }
        if self.latency_factor == 1 {
            wrong
                .push(("latency-factor", "is 1, which ejects whoever is above average; 0 is off".to_owned()));
        }
    }
}

impl Section for Sticky {
    const SHORTHAND: Option<&'static str> = Some("cookie");

    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.one("cookie", &mut self.cookie);
        f.ranged("max-age", &mut self.max_age, Micros::from_secs(1)..=Micros::from_secs(366 * 86_400));
    }
}

impl Section for Pool {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.sections("upstreams", &mut self.upstreams, UPSTREAMS_MAX);
        f.one("protocol", &mut self.protocol);
        f.maybe("tls-name", &mut self.tls_name);
        f.one("send-proxy", &mut self.send_proxy);
        f.one("balance", &mut self.balance);
        f.one("hash-by", &mut self.hash_by);
        f.ranged("hash-load-max", &mut self.hash_load_max, Share::percent(110)..=Share::percent(10_000));
        f.ranged("slow-start", &mut self.slow_start, Micros(0)..=Micros::from_secs(3_600));
        f.one("zone-aware", &mut self.zone_aware);
        f.maybe_section("sticky", &mut self.sticky);
        f.maybe_section("health", &mut self.health);
        f.maybe_section("eject", &mut self.eject);
        f.ranged("panic", &mut self.panic, Share(0)..=Share::ALL);
        f.maybe_section("breaker", &mut self.breaker);
        f.ranged("requests", &mut self.requests, 1..=1_000_000);
        f.section("queue", &mut self.queue);
        f.maybe_section("adaptive", &mut self.adaptive);
        f.ranged("connections", &mut self.connections, 1..=100_000);
        f.ranged("idle", &mut self.idle, Micros::from_millis(100)..=Micros::from_secs(3_600));
        f.ranged("keep-alive", &mut self.keep_alive, Micros::from_secs(1)..=Micros::from_secs(86_400));
        f.ranged("retries-max", &mut self.retries_max, Share(0)..=Share::ALL);
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        if self.protocol == UpstreamProtocol::Http1
            && self.health.as_ref().is_some_and(|health| health.kind == ProbeKind::Grpc)
        {
            let what =
                "is grpc, and protocol is http1; gRPC needs protocol = \"http2\", else every probe fails";
            wrong.push(("health.kind", what.to_owned()));
        }
        if self.upstreams.is_empty() {
            wrong.push(("upstreams", "is empty; a pool needs at least one address".to_owned()));
        }
        for (at, upstream) in self.upstreams.iter().enumerate() {
            if self.upstreams[..at].iter().any(|other| other.address == upstream.address) {
                wrong.push(("upstreams", format!("holds {} twice", upstream.address.0)));
            }
        }
    }
}
