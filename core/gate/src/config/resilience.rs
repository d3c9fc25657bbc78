//! What a route does about upstreams that fail, hang or are slow, and the limits that keep waiting bounded. Times,
//! shares and their reasons: docs/gateway.md.

use skep_base::Micros;
use toml::de::DeValue;

use super::fields::{Fields, Scalar, Section};
use super::scalar::{Method, Share, Size, words};

/// A way in which an attempt fails.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Failing {
    /// No connection, so the request was not sent.
    Connect,
    /// The connection broke before a reply.
    Reset,
    /// No reply in time.
    Timeout,
    /// A reply with this status.
    Status(u16),
    /// A reply with a status of 500 to 599 other than 501.
    Any5xx,
}

impl Failing {
    /// True if a reply of `status` is this.
    pub fn is_status(self, status: u16) -> bool {
        match self {
            Failing::Status(own) => own == status,
            Failing::Any5xx => (500..=599).contains(&status) && status != 501,
            Failing::Connect | Failing::Reset | Failing::Timeout => false,
        }
    }
}

impl Scalar for Failing {
    fn form() -> String {
        "connect, reset, timeout, 5xx or a status of 400 to 599".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Failing> {
        match value.as_str() {
            Some("connect") => Some(Failing::Connect),
            Some("reset") => Some(Failing::Reset),
            Some("timeout") => Some(Failing::Timeout),
            Some("5xx") => Some(Failing::Any5xx),
            Some(text) => text.parse().ok().filter(|s| (400..=599).contains(s)).map(Failing::Status),
            None => u16::read(value).filter(|s| (400..=599).contains(s)).map(Failing::Status),
        }
    }

    fn show(&self) -> String {
        match self {
            Failing::Connect => "\"connect\"".to_owned(),
            Failing::Reset => "\"reset\"".to_owned(),
            Failing::Timeout => "\"timeout\"".to_owned(),
            Failing::Any5xx => "\"5xx\"".to_owned(),
            Failing::Status(status) => format!("\"{status}\""),
        }
    }
}

words! {
    /// Which requests may be sent again after one that may have been carried out.
    Repeat {
        /// GET, HEAD, OPTIONS, TRACE, PUT and DELETE, which mean the same twice (RFC 9110, section 9.2.2).
        #[default]
        Idempotent = "idempotent",
        /// Those, and requests with an `Idempotency-Key`: the upstream honours it.
        Key = "key",
        /// All: the upstream can bear it.
        Always = "always",
        /// None. One that provably did not run is sent again all the same.
        Never = "never",
    }
    /// Who is served first, and shed last, when there is not enough for all.
    Priority {
        Critical = "critical",
        High = "high",
        #[default]
        Normal = "normal",
        Low = "low",
    }
}

/// Limits of time. Each is ended early by the request's deadline.
#[derive(Clone, PartialEq, Debug)]
pub struct Timeout {
    /// For a connection to an upstream, with TLS.
    pub connect: Micros,
    /// From sending an attempt to the head of its reply.
    pub request: Micros,
    /// Between two pieces of a reply, or of an upgraded connection.
    pub idle: Micros,
    /// For all attempts and waiting, up to the head of the reply.
    pub total: Micros,
}

/// Sending a request again after an attempt that failed.
#[derive(Clone, PartialEq, Debug)]
pub struct Retry {
    /// Attempts in all, hedges among them.
    pub attempts: u32,
    pub on: Vec<Failing>,
    pub repeat: Repeat,
    /// Statuses with which the upstream says that it did not carry the request out.
    pub not_run: Vec<u16>,
    /// The n-th wait is random between 0 and the smaller of `back_off * 2^(n-1)` and `back_off_max`.
    pub back_off: Micros,
    pub back_off_max: Micros,
    /// Retries and hedges per request over all requests of the route.
    pub budget: Share,
    /// Retries and hedges a second that are free, of the whole cluster.
    pub budget_min: u32,
    /// A request with a longer body cannot be sent again once a part of it was sent.
    pub body_size: Size,
}

/// A second attempt beside one that takes long.
#[derive(Clone, PartialEq, Debug)]
pub struct Hedge {
    /// After this time, if there is no percentile yet or it is less.
    pub after: Micros,
    /// Or after this percentile of the route's latency in the last 20 s, if it is more; 0 for the fixed time.
    pub percentile: Share,
    /// Only for these methods.
    pub methods: Vec<Method>,
}

/// When to stop sending to what fails, and how to begin again.
#[derive(Clone, PartialEq, Debug)]
pub struct Breaker {
    pub on: Vec<Failing>,
    /// Opens at so many failures in a row; 0 for never.
    pub consecutive: u32,
    /// Opens at this share of failures within `window`; 0 for never.
    pub failures: Share,
    /// An attempt that takes longer counts as slow; 0 for none.
    pub slow: Micros,
    /// Opens at this share of slow attempts within `window`.
    pub slow_share: Share,
    pub window: Micros,
    /// Attempts within the window before either share means something.
    pub requests: u32,
    /// Open for this long, doubled each time that a trial fails, and varied by a tenth.
    pub cool_down: Micros,
    pub cool_down_max: Micros,
    /// Half-open lets so many through at once, and closes when so many in a row were well.
    pub trials: u32,
}

/// Requests that wait for a free place.
#[derive(Clone, PartialEq, Debug)]
pub struct Queue {
    /// How many at most, of this node; the least important leaves for a more important one.
    pub size: u32,
    /// How long at most.
    pub time: Micros,
    /// How long at most, and newest first, once the queue has not been empty for `standing`: who waited longer has
    /// mostly given up (controlled delay, ACM Queue 2012; adaptive LIFO, Facebook 2014).
    pub target: Micros,
    pub standing: Micros,
}

/// The limit of a route's requests under way.
#[derive(Clone, PartialEq, Debug)]
pub struct Bulkhead {
    /// Of this node.
    pub requests: u32,
    pub queue: Queue,
}

/// A limit that follows latency.
#[derive(Clone, PartialEq, Debug)]
pub struct Adaptive {
    pub min: u32,
    pub max: u32,
    /// The limit that a gateway begins with.
    pub start: u32,
    /// How much slower than unloaded replies may be before the limit is lowered.
    pub tolerance: Share,
}

/// From the pool of a route to its backup pool and back.
#[derive(Clone, PartialEq, Debug)]
pub struct Failover {
    /// The pool that takes over.
    pub pool: String,
    /// Takes over when less than this share of the primary's upstreams is usable.
    pub below: Share,
    /// For this long.
    pub after: Micros,
    /// Goes back when at least this share is usable.
    pub above: Share,
    /// For this long.
    pub back_after: Micros,
}

impl Default for Timeout {
    fn default() -> Timeout {
        Timeout {
            connect: Micros::from_secs(1),
            request: Micros::from_secs(15),
            idle: Micros::from_secs(60),
            total: Micros::from_secs(30),
        }
    }
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            attempts: 3,
            on: vec![
                Failing::Connect,
                Failing::Reset,
                Failing::Timeout,
                Failing::Status(502),
                Failing::Status(503),
                Failing::Status(504),
            ],
            repeat: Repeat::Idempotent,
            not_run: Vec::new(),
            back_off: Micros::from_millis(25),
            back_off_max: Micros::from_secs(1),
            budget: Share::percent(20),
            budget_min: 10,
            body_size: Size(64 << 10),
        }
    }
}

impl Default for Hedge {
    fn default() -> Hedge {
        Hedge {
            after: Micros::from_millis(50),
            percentile: Share::percent(95),
            methods: ["GET", "HEAD"].map(|m| Method(m.to_owned())).to_vec(),
        }
    }
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker {
            on: vec![
                Failing::Connect,
                Failing::Reset,
                Failing::Timeout,
                Failing::Status(502),
                Failing::Status(503),
                Failing::Status(504),
            ],
            consecutive: 10,
            failures: Share::percent(50),
            slow: Micros(0),
            slow_share: Share::percent(80),
            window: Micros::from_secs(10),
            requests: 20,
            cool_down: Micros::from_secs(1),
            cool_down_max: Micros::from_secs(30),
            trials: 3,
        }
    }
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            size: 1_024,
            time: Micros::from_secs(1),
            target: Micros::from_millis(50),
            standing: Micros::from_millis(500),
        }
    }
}

impl Default for Bulkhead {
    fn default() -> Bulkhead {
        Bulkhead { requests: 1_024, queue: Queue::default() }
    }
}

impl Default for Adaptive {
    fn default() -> Adaptive {
        Adaptive { min: 4, max: 10_000, start: 32, tolerance: Share::percent(50) }
    }
}

impl Default for Failover {
    fn default() -> Failover {
        Failover {
            pool: String::new(),
            below: Share::percent(25),
            after: Micros(0),
            above: Share::percent(50),
            back_after: Micros::from_secs(30),
        }
    }
}

const TIME_MAX: Micros = Micros::from_secs(86_400);

impl Section for Timeout {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.ranged("connect", &mut self.connect, Micros::from_millis(1)..=Micros::from_secs(300));
        f.ranged("request", &mut self.request, Micros::from_millis(1)..=TIME_MAX);
        f.ranged("idle", &mut self.idle, Micros::from_millis(1)..=TIME_MAX);
        f.ranged("total", &mut self.total, Micros::from_millis(1)..=TIME_MAX);
    }
}

impl Section for Retry {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.ranged("attempts", &mut self.attempts, 1..=10);
        f.list("on", &mut self.on, 50);
        f.one("repeat", &mut self.repeat);
        f.list("not-run", &mut self.not_run, 50);
        f.ranged("back-off", &mut self.back_off, Micros(0)..=Micros::from_secs(60));
        f.ranged("back-off-max", &mut self.back_off_max, Micros(0)..=Micros::from_secs(300));
        f.ranged("budget", &mut self.budget, Share(0)..=Share::ALL);
        f.ranged("budget-min", &mut self.budget_min, 0..=100_000);
        f.ranged("body-size", &mut self.body_size, Size(0)..=Size(16 << 20));
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        if self.back_off_max < self.back_off {
            wrong.push(("back-off-max", "is shorter than back-off".to_owned()));
        }
        if let Some(status) = self.not_run.iter().find(|s| !(400..=599).contains(*s)) {
            wrong.push(("not-run", format!("holds {status}; it must be statuses of 400 to 599")));
        }
    }
}

impl Section for Hedge {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.ranged("after", &mut self.after, Micros::from_millis(1)..=TIME_MAX);
        f.ranged("percentile", &mut self.percentile, Share(0)..=Share(999_900));
        f.list("methods", &mut self.methods, 20);
    }
}

impl Section for Breaker {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.list("on", &mut self.on, 50);
        f.ranged("consecutive", &mut self.consecutive, 0..=10_000);
        f.ranged("failures", &mut self.failures, Share(0)..=Share::ALL);
        f.ranged("slow", &mut self.slow, Micros(0)..=TIME_MAX);
        f.ranged("slow-share", &mut self.slow_share, Share::percent(1)..=Share::ALL);
        f.ranged("window", &mut self.window, Micros::from_millis(100)..=Micros::from_secs(600));
        f.ranged("requests", &mut self.requests, 1..=1_000_000);
        f.ranged("cool-down", &mut self.cool_down, Micros::from_millis(10)..=Micros::from_secs(3_600));
        f.ranged("cool-down-max", &mut self.cool_down_max, Micros::from_millis(10)..=TIME_MAX);
        f.ranged("trials", &mut self.trials, 1..=100);
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        if self.cool_down_max < self.cool_down {
            wrong.push(("cool-down-max", "is shorter than cool-down".to_owned()));
        }
    }
}

impl Section for Queue {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.ranged("size", &mut self.size, 0..=1_000_000);
        f.ranged("time", &mut self.time, Micros::from_millis(1)..=Micros::from_secs(300));
        f.ranged("target", &mut self.target, Micros::from_millis(1)..=Micros::from_secs(300));
        f.ranged("standing", &mut self.standing, Micros::from_millis(1)..=Micros::from_secs(300));
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        if self.target > self.time {
            wrong.push(("target", "is longer than time".to_owned()));
        }
    }
}

impl Section for Bulkhead {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.ranged("requests", &mut self.requests, 1..=1_000_000);
        f.section("queue", &mut self.queue);
    }
}

impl Section for Adaptive {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.ranged("min", &mut self.min, 1..=1_000_000);
        f.ranged("max", &mut self.max, 1..=1_000_000);
        f.ranged("start", &mut self.start, 1..=1_000_000);
        f.ranged("tolerance", &mut self.tolerance, Share::percent(10)..=Share::percent(1_000));
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        if !(self.min..=self.max).contains(&self.start) {
            wrong.push(("start", format!("is {}; it must be min to max", self.start)));
        }
    }
}

impl Section for Failover {
    const SHORTHAND: Option<&'static str> = Some("pool");

    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.one("pool", &mut self.pool);
        f.ranged("below", &mut self.below, Share(1)..=Share::ALL);
        f.ranged("after", &mut self.after, Micros(0)..=Micros::from_secs(3_600));
        f.ranged("above", &mut self.above, Share(1)..=Share::ALL);
        f.ranged("back-after", &mut self.back_after, Micros(0)..=Micros::from_secs(86_400));
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        if self.above < self.below {
            wrong.push(("above", "is less than below, so traffic would swing to and fro".to_owned()));
        }
    }
}
