//! What stands in front of a route: lists of networks, and rates of this node and of the cluster.
//!
//! Owns the order in which they are asked (networks, then the route's limits as they are listed), who waits for an answer
//! of the store, and for how many values that clients choose buckets are made there. A request that one limit refuses has used up
//! what the limits before it gave, as a request that is answered 429 is one too.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashTable;
use skep_base::Micros;
use skep_base::rng::mix;

use super::nets::{Nets, may_enter};
use super::rate::{CALLERS_MAX, OfNode, Rate, Shared, Verdict};
use super::share::{Ask, Grant, Share, Take};
use crate::config::Config;
use crate::config::protect::{Limit, Scope};
use crate::config::scalar::KeyOf;
use crate::gate::RequestId;
use crate::names::{Generation, LimitId, RouteId};
use crate::router::Head;
use crate::timers::Timers;

/// Requests of one core that wait for the store at once; further ones are refused.
const WAITING_MAX: usize = 10_000;
/// How long one waits; the store answers in milliseconds, or is failing over.
const WAIT_MAX: Micros = Micros::from_secs(2);

/// Values that clients choose for which one core has buckets of one limit in the store at once; each takes some 200 bytes of each
/// copy.
const VALUES_MAX: usize = 10_000;
/// So often at most it is looked for values whose buckets are full again, and for callers who may be forgotten. It takes some 50
/// microseconds, and some 500.
const SWEEP_PAUSE: Micros = Micros::from_millis(100);
/// As long as a bucket that is full again stays in the store ([`super::bucket`]).
const FULL_STAYS: Micros = Micros::from_secs(1);

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ruling {
    /// It may go on. The verdict of the limit that has the least left, for the RateLimit headers.
    Passes(Option<(LimitId, Verdict)>),
    /// 403: its address is not let in.
    Forbidden,
    /// 429: this limit is used up.
    Limited(LimitId, Verdict),
    /// 503: the store did not say in time whether a limit of the cluster is used up, or too many wait for it. A limit may be
    /// what keeps passwords from being guessed, so it does not open because something else has failed.
    NotKnown,
    /// 503: its route's number is of a configuration that is not in force.
    Changed,
}

/// What a guard says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// The request is decided.
    Ruled { request: RequestId, ruling: Ruling },
    /// Ask the store's bucket of this limit and caller, and give the answer to [`Guard::on_grant`].
    Ask { limit: LimitId, caller: u64, ask: Ask },
}

/// One core's guard.
#[derive(Debug)]
pub struct Guard {
    generation: Generation,
    routes: Vec<(Nets, Nets, Vec<LimitId>)>,
    limits: Vec<(Limit, Callers)>,
    /// Of the limits.
    names: Vec<String>,
    of_node: Box<dyn OfNode>,
    waiting: Line,
    /// When the store is to be asked again about a caller for whom somebody waits.
    asks: Timers<(LimitId, u64)>,
}

/// Requests that wait for the store.
#[derive(Debug, Default)]
struct Line {
    /// By a number that grows, so in the order of coming.
    all: BTreeMap<u64, Waiting>,
    of_request: BTreeMap<RequestId, u64>,
    /// By limit and caller, each in the order of coming.
    of_caller: BTreeSet<(LimitId, u64, u64)>,
    last: u64,
}

/// The callers of a limit.
#[derive(Debug)]
enum Callers {
    Node(Rate, Box<dyn Shared>),
    Cluster(Shares),
}

/// Shares by caller.
#[derive(Debug, Default)]
struct Shares {
    table: HashTable<Entry>,
    /// Entries of values that clients choose.
    values: usize,
    /// When it was looked last for values that may go, and for callers.
    swept: Micros,
    swept_all: Micros,
}

#[derive(Debug)]
struct Entry {
    caller: u64,
    share: Share,
    is_value: bool,
}

/// A limit that is to be asked for a request.
#[derive(Clone, Copy, Debug)]
struct Asked {
    limit: LimitId,
    /// For whom the request counts.
    caller: u64,
    /// And for whom if that is a value that its client chose, and one too many.
    source: Option<u64>,
}

#[derive(Debug)]
struct Waiting {
    request: RequestId,
    since: Micros,
    limit: LimitId,
    caller: u64,
    /// The limits to be asked after this one.
    rest: Vec<Asked>,
    least: Option<(LimitId, Verdict)>,
}

impl Guard {
    /// The guard of a checked configuration, the first [`Generation`], which shares the node's limits with those of the other cores.
    pub fn new(config: &Config, of_node: Box<dyn OfNode>) -> Guard {
        let mut guard = Guard {
            generation: Generation::default(),
            routes: Vec::new(),
            limits: Vec::new(),
            names: Vec::new(),
            of_node,
            waiting: Line::default(),
            asks: Timers::default(),
        };
        guard.configure(Micros(0), config, Generation::default(), &mut Vec::new());
        guard
    }

    /// Puts a checked configuration in force. What callers have used up is kept for limits of the same name, so that a
    /// change gives nobody a new burst. `of` is unlike that of all configurations before.
    pub fn configure(&mut self, now: Micros, config: &Config, of: Generation, out: &mut Vec<Word>) {
        self.generation = of;
        let named =
            |name: &String| config.limits.iter().position(|l| l.name == *name).map(|at| LimitId(at as u32));
        let limit_of = |name: &String| named(name).expect("names of limits are checked when they are read");
        let moved: Vec<Option<LimitId>> = self.names.iter().map(named).collect();
        // Until all are made: what nobody holds is forgotten.
        let mut old: Vec<_> = std::mem::take(&mut self.limits).into_iter().map(Some).collect();
        for (at, named) in config.limits.iter().enumerate() {
            let limit = &named.it;
            let callers = match limit.scope {
                Scope::Node => {
                    let rate = Rate::new(f64::from(limit.requests), limit.per, limit.burst);
                    Callers::Node(rate, self.of_node.callers(&named.name))
                }
                Scope::Cluster => {
                    let from = moved.iter().position(|to| *to == Some(LimitId(at as u32)));
                    let is_kept = |old: &mut (Limit, Callers)| matches!(old.1, Callers::Cluster(_));
                    match from.and_then(|from| old[from].take_if(is_kept)) {
                        Some((_, kept)) => kept,
                        None => Callers::Cluster(Shares::default()),
                    }
                }
            };
            self.limits.push((limit.clone(), callers));
        }
        self.names = config.limits.iter().map(|l| l.name.clone()).collect();
        let route = |r: &crate::config::route::Route| {
            (Nets::new(&r.allow), Nets::new(&r.deny), r.limits.iter().map(limit_of).collect())
        };
        self.routes = config.routes.iter().map(|r| route(&r.it)).collect();
        self.asks = Timers::default();
        for mut waiting in std::mem::take(&mut self.waiting).all.into_values() {
            let now_at = |asked: Asked| Some(Asked { limit: moved[asked.limit.at()]?, ..asked });
            waiting.rest = waiting.rest.into_iter().filter_map(now_at).collect();
            waiting.least = waiting.least.and_then(|(limit, verdict)| Some((moved[limit.at()]?, verdict)));
            let limit = moved[waiting.limit.at()];
            match limit {
                Some(limit) if self.shares(limit).is_some() => {
                    let caller = waiting.caller;
                    self.waiting.push(Waiting { limit, ..waiting });
                    self.ask(now, limit, caller, out);
                }
                _ => {
                    // Its limit is gone, or one of the node by now.
                    let first = limit.map(|limit| Asked { limit, caller: waiting.caller, source: None });
                    let rest = first.into_iter().chain(waiting.rest).collect();
                    self.go_on(now, waiting.request, rest, waiting.least, out);
                }
            }
        }
    }

    /// Whether a client at this address may use a route of the configuration in force; false for a route of another.
    pub fn lets_in(&self, of: Generation, route: RouteId, source: std::net::IpAddr) -> bool {
        if of != self.generation {
            return false;
        }
        let (allow, deny, _) = &self.routes[route.at()];
        may_enter(allow, deny, source)
    }

    /// Judges a request of a route, whose number is of the configuration `of`. It is ruled in `out` at once, or after an answer
    /// of the store.
    pub fn judge(
        &mut self,
        now: Micros,
        request: RequestId,
        (of, route): (Generation, RouteId),
        head: &Head<'_>,
        out: &mut Vec<Word>,
    ) {
        if of != self.generation {
            return out.push(Word::Ruled { request, ruling: Ruling::Changed });
        }
        let (allow, deny, limits) = &self.routes[route.at()];
        if !may_enter(allow, deny, head.source) {
            return out.push(Word::Ruled { request, ruling: Ruling::Forbidden });
        }
        let asked = |limit: &LimitId| {
            let Limit { by, ipv6_prefix, .. } = &self.limits[limit.at()].0;
            let key_of = |by| head.limit_key(by, *ipv6_prefix);
            // Who leaves out the header is no less limited by that.
            let source = key_of(&KeyOf::Source).expect("a request has a source");
            match (by, key_of(by)) {
                (_, None) => Asked { limit: *limit, caller: source, source: None },
                (KeyOf::Source | KeyOf::Caller, Some(caller)) => {
                    Asked { limit: *limit, caller, source: None }
                }
                (_, Some(caller)) => Asked { limit: *limit, caller, source: Some(source) },
            }
        };
        let rest: Vec<Asked> = limits.iter().map(asked).collect();
        self.go_on(now, request, rest, None, out);
    }

    /// The store's answer about a caller. Cost: O(those of its requests that it decides).
    pub fn on_grant(&mut self, now: Micros, limit: LimitId, caller: u64, grant: Grant, out: &mut Vec<Word>) {
        let Some(share) = self.share(limit, caller) else { return };
        let (mut passes, refused) = share.on_answer(now, grant);
        let decided = (passes + refused) as usize;
        // Those who wait again, for the limit after this one, are not among them.
        let mine: Vec<u64> = self.waiting.of(limit, caller).take(decided).collect();
        for waiting in mine.into_iter().filter_map(|number| self.waiting.remove(number)).collect::<Vec<_>>() {
            let verdict = self.cluster_verdict(now, limit, caller, passes > 0);
            if passes > 0 {
                passes -= 1;
                let least = less(waiting.least, (limit, verdict));
                self.go_on(now, waiting.request, waiting.rest, least, out);
            } else {
                out.push(Word::Ruled { request: waiting.request, ruling: Ruling::Limited(limit, verdict) });
            }
        }
        self.ask(now, limit, caller, out);
    }

    /// The client of a waiting request is gone.
    pub fn on_gone(&mut self, request: RequestId) {
        let number = self.waiting.of_request.get(&request).copied();
        if let Some(Waiting { limit, caller, .. }) = number.and_then(|number| self.waiting.remove(number)) {
            let Some(share) = self.share(limit, caller) else { return };
            share.give_up();
            if share.next_wakeup().is_none() {
                self.asks.cancel((limit, caller));
            }
        }
    }

    /// Asks again where an answer did not come, and refuses who waited too long. Cost: O(log requests that wait) for each that is due.
    pub fn tick(&mut self, now: Micros, out: &mut Vec<Word>) {
        while let Some(late) = self.waiting.first().filter(|w| now.since(w.since) >= WAIT_MAX) {
            let request = late.request;
            self.on_gone(request);
            out.push(Word::Ruled { request, ruling: Ruling::NotKnown });
        }
        while let Some((limit, caller)) = self.asks.due(now) {
            self.ask(now, limit, caller, out);
        }
    }

    /// When [`Guard::tick`] has something to do.
    pub fn next_wakeup(&self) -> Option<Micros> {
        let late = self.waiting.first().map(|w| w.since.plus(WAIT_MAX));
        self.asks.next().into_iter().chain(late).min()
    }

    /// Requests that wait for the store.
    pub fn waiting(&self) -> usize {
        self.waiting.all.len()
    }

    fn go_on(
        &mut self,
        now: Micros,
        request: RequestId,
        mut rest: Vec<Asked>,
        mut least: Option<(LimitId, Verdict)>,
        out: &mut Vec<Word>,
    ) {
        while !rest.is_empty() {
            let Asked { limit, mut caller, source } = rest.remove(0);
            let (config, callers) = &mut self.limits[limit.at()];
            let verdict = match callers {
                Callers::Node(rate, callers) => callers.judge(*rate, caller, now),
                Callers::Cluster(shares) => {
                    if let Some(source) = source
                        && !shares.has_room_for(now, caller, config)
                    {
                        caller = source;
                    }
                    let is_value = source.is_some_and(|source| source != caller);
                    let take = match shares.find_or_make(now, caller, is_value) {
                        Some(share) => share.take(now),
                        None => Take::Refused { wait: WAIT_MAX },
                    };
                    if take == Take::Unknown && self.waiting.all.len() < WAITING_MAX {
                        self.waiting.push(Waiting { request, since: now, limit, caller, rest, least });
                        return self.ask(now, limit, caller, out);
                    }
                    if take == Take::Unknown {
                        if let Some(share) = self.share(limit, caller) {
                            share.give_up();
                        }
                        return out.push(Word::Ruled { request, ruling: Ruling::NotKnown });
                    }
                    let verdict = self.cluster_verdict(now, limit, caller, take == Take::Passes);
                    self.ask(now, limit, caller, out);
                    verdict
                }
            };
            if !verdict.passes {
                return out.push(Word::Ruled { request, ruling: Ruling::Limited(limit, verdict) });
            }
            least = less(least, (limit, verdict));
        }
        out.push(Word::Ruled { request, ruling: Ruling::Passes(least) });
    }

    /// Asks the store about a caller if that is due, and sees to it that it is asked again.
    fn ask(&mut self, now: Micros, limit: LimitId, caller: u64, out: &mut Vec<Word>) {
        let Some(share) = self.share(limit, caller) else { return };
        if let Some(ask) = share.ask(now) {
            out.push(Word::Ask { limit, caller, ask });
        }
        match self.share(limit, caller).and_then(|share| share.next_wakeup()) {
            Some(at) => self.asks.wake((limit, caller), at),
            None => self.asks.cancel((limit, caller)),
        }
    }

    fn shares(&self, limit: LimitId) -> Option<&Shares> {
        match &self.limits.get(limit.at())?.1 {
            Callers::Cluster(shares) => Some(shares),
            Callers::Node(..) => None,
        }
    }

    fn share(&mut self, limit: LimitId, caller: u64) -> Option<&mut Share> {
        match &mut self.limits.get_mut(limit.at())?.1 {
            Callers::Cluster(shares) => shares.find(caller),
            Callers::Node(..) => None,
        }
    }

    /// What is known here of a bucket that is elsewhere: what it had left at the last answer.
    fn cluster_verdict(&self, now: Micros, limit: LimitId, caller: u64, passes: bool) -> Verdict {
        let share = self.shares(limit).and_then(|shares| shares.get(caller));
        let (remaining, wait) = share.map_or((0, Micros(0)), |share| share.left(now));
        let config = &self.limits[limit.at()].0;
        let interval = config.per.0 / u64::from(config.requests);
        let wait = if passes { Micros(0) } else { wait.max(Micros(interval)) };
        Verdict { passes, remaining, wait, reset: full_in(config, remaining) }
    }
}

impl Line {
    fn push(&mut self, waiting: Waiting) {
        self.last += 1;
        self.of_request.insert(waiting.request, self.last);
        self.of_caller.insert((waiting.limit, waiting.caller, self.last));
        self.all.insert(self.last, waiting);
    }

    fn remove(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.all.remove(&number)?;
        self.of_request.remove(&waiting.request);
        self.of_caller.remove(&(waiting.limit, waiting.caller, number));
        Some(waiting)
    }

    /// Who has waited the longest.
    fn first(&self) -> Option<&Waiting> {
        self.all.first_key_value().map(|(_, waiting)| waiting)
    }

    /// The numbers of those who wait for a caller's bucket, in the order of coming.
    fn of(&self, limit: LimitId, caller: u64) -> impl Iterator<Item = u64> {
        self.of_caller.range((limit, caller, 0)..=(limit, caller, u64::MAX)).map(|(_, _, number)| *number)
    }
}

/// Until a bucket with so many tokens is full.
fn full_in(limit: &Limit, remaining: u32) -> Micros {
    let interval = limit.per.0 / u64::from(limit.requests);
    Micros(interval.saturating_mul(u64::from(limit.burst.saturating_sub(remaining))))
}

/// The one of two that has less left.
fn less(one: Option<(LimitId, Verdict)>, other: (LimitId, Verdict)) -> Option<(LimitId, Verdict)> {
    one.filter(|(_, verdict)| verdict.remaining <= other.1.remaining).or(Some(other))
}

impl Shares {
    fn get(&self, caller: u64) -> Option<&Share> {
        self.table.find(mix(caller), |entry| entry.caller == caller).map(|entry| &entry.share)
    }

    fn find(&mut self, caller: u64) -> Option<&mut Share> {
        self.table.find_mut(mix(caller), |entry| entry.caller == caller).map(|entry| &mut entry.share)
    }

    /// Whether a value that a client chose may have a bucket of its own: if it has one, or not too many others have.
    fn has_room_for(&mut self, now: Micros, caller: u64, limit: &Limit) -> bool {
        if self.get(caller).is_some() || self.values < VALUES_MAX {
            return true;
        }
        if now.since(self.swept) >= SWEEP_PAUSE {
            self.swept = now;
            self.retain(|entry| {
                // A bucket of which nothing was heard has given one token, if it is there at all.
                let (last, left) = entry.share.last();
                let stays = full_in(limit, left.unwrap_or(limit.burst - 1)).plus(FULL_STAYS);
                !entry.is_value || !entry.share.is_idle(now) || now.since(last) < stays
            });
        }
        self.values < VALUES_MAX
    }

    /// The share of a caller; none if there is no room for another.
    fn find_or_make(&mut self, now: Micros, caller: u64, is_value: bool) -> Option<&mut Share> {
        let is_new = self.get(caller).is_none();
        if is_new && self.table.len() >= CALLERS_MAX {
            if now.since(self.swept_all) >= SWEEP_PAUSE {
                self.swept_all = now;
                // Rare, and then many are idle: what is left of their lots is lost for as long as a lot lives.
                self.retain(|entry| !entry.share.is_idle(now));
            }
            if self.table.len() >= CALLERS_MAX {
                return None;
            }
        }
        self.values += usize::from(is_new && is_value);
        let entry = self.table.entry(mix(caller), |entry| entry.caller == caller, |entry| mix(entry.caller));
        let made = || Entry { caller, share: Share::new(now), is_value };
        Some(&mut entry.or_insert_with(made).into_mut().share)
    }

    fn retain(&mut self, stays: impl Fn(&Entry) -> bool) {
        self.table.retain(|entry| stays(entry));
        self.values = self.table.iter().filter(|entry| entry.is_value).count();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use super::super::rate;
    use super::super::share::Bucket;
    use super::*;
    use crate::config::scalar::HeaderName;
    use crate::names::ListenerId;
    use crate::router::Headers;

    const TEXT: &str = "
[gateway.limit.node]
requests = 2
per = '1s'
burst = 2
by = 'header:x-key'
scope = 'node'
[gateway.limit.cluster]
requests = 10
per = '1s'
burst = 3
[gateway.route.r]
answer.status = 204
limits = ['node', 'cluster']
deny = '192.0.2.0/24'
";

    struct Lines(Vec<(&'static str, &'static str)>);

    impl Headers for Lines {
        fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
            self.0.iter().any(|(n, value)| *n == name && test(value.as_bytes()))
        }
    }

    fn head<'a>(source: &str, headers: &'a Lines) -> Head<'a> {
        Head {
            listener: Some(ListenerId(0)),
            secure: false,
            method: "GET",
            host: "h",
            path: "/",
            query: None,
            headers,
            source: source.parse().unwrap(),
            caller: None,
        }
    }

    /// What the cores of a node share, on one thread.
    #[derive(Clone, Debug, Default)]
    struct Node(Rc<RefCell<BTreeMap<String, One>>>);

    #[derive(Clone, Debug, Default)]
    struct One(Rc<RefCell<rate::Callers>>);

    impl OfNode for Node {
        fn callers(&self, limit: &str) -> Box<dyn Shared> {
            Box::new(self.0.borrow_mut().entry(limit.to_owned()).or_default().clone())
        }
    }

    impl Shared for One {
        fn judge(&self, rate: Rate, caller: u64, now: Micros) -> Verdict {
            self.0.borrow_mut().judge(rate, caller, now)
        }
    }

    fn guard(text: &str) -> Guard {
        Guard::new(&Config::parse(text).unwrap(), Box::<Node>::default())
    }

    struct Stage {
        guard: Guard,
        now: Micros,
        id: u64,
    }

    impl Stage {
        fn new() -> Stage {
            Stage { guard: guard(TEXT), now: Micros::from_secs(10), id: 0 }
        }

        fn judge(&mut self, source: &str, key: &'static str) -> Vec<Word> {
            self.id += 1;
            let lines = Lines(if key.is_empty() { vec![] } else { vec![("x-key", key)] });
            let mut out = Vec::new();
            let route = (self.guard.generation, RouteId(0));
            self.guard.judge(self.now, RequestId(self.id), route, &head(source, &lines), &mut out);
            out
        }

        fn configure(&mut self, text: &str, out: &mut Vec<Word>) {
            let of = self.guard.generation.next();
            self.guard.configure(self.now, &Config::parse(text).unwrap(), of, out);
        }

        fn grant(&mut self, caller: u64, granted: u32, left: u32) -> Vec<Word> {
            let mut out = Vec::new();
            let grant = Grant { granted, left, next: Micros::from_millis(100) };
            self.guard.on_grant(self.now, LimitId(1), caller, grant, &mut out);
            out
        }
    }

    fn ruling(word: &Word) -> (u64, &'static str) {
        match word {
            Word::Ruled { request, ruling: Ruling::Passes(_) } => (request.0, "passes"),
            Word::Ruled { request, ruling: Ruling::Forbidden } => (request.0, "forbidden"),
            Word::Ruled { request, ruling: Ruling::NotKnown } => (request.0, "not known"),
            Word::Ruled { request, ruling: Ruling::Changed } => (request.0, "changed"),
            Word::Ruled { request, ruling: Ruling::Limited(LimitId(0), _) } => (request.0, "node"),
            Word::Ruled { request, ruling: Ruling::Limited(..) } => (request.0, "cluster"),
            Word::Ask { .. } => (0, "ask"),
        }
    }

    fn rulings(words: &[Word]) -> Vec<(u64, &'static str)> {
        words.iter().map(ruling).collect()
    }

    #[test]
    fn networks_then_the_node_then_the_cluster_are_asked() {
        let mut stage = Stage::new();
        assert_eq!(rulings(&stage.judge("192.0.2.9", "a")), [(1, "forbidden")]);
        let said = stage.judge("10.0.0.1", "a");
        assert_eq!(rulings(&said), [(0, "ask")], "it waits for the store");
        let Word::Ask { caller, ask, .. } = said[0] else { panic!("{said:?}") };
        assert_eq!(ask.want, 1);
        let said = stage.grant(caller, 1, 2);
        let Word::Ruled { ruling: Ruling::Passes(Some((limit, verdict))), .. } = said[0] else {
            panic!("{said:?}")
        };
        assert_eq!(
            (limit, verdict.remaining),
            (LimitId(0), 1),
            "the header is of the limit with the least left"
        );
        assert_eq!(rulings(&stage.judge("10.0.0.1", "a")), [(0, "ask")]);
        assert_eq!(rulings(&stage.judge("10.0.0.2", "a")), [(4, "node")], "two a second for one key");
        assert_eq!(rulings(&stage.judge("10.0.0.2", "")), [(0, "ask")], "without a key the address counts");
        assert_eq!(rulings(&stage.judge("10.0.0.2", "b")), [], "its caller was asked about already");
        assert_eq!(stage.guard.waiting(), 3);
        let said = stage.grant(caller, 0, 0);
        assert_eq!(rulings(&said), [(3, "cluster")]);
        assert_eq!(stage.guard.waiting(), 2, "of other callers");
        assert_eq!(rulings(&stage.judge("10.0.0.1", "c")), [(7, "cluster")], "refused without a question");
        assert_eq!(stage.guard.waiting(), 2);
        stage.guard.on_gone(RequestId(5));
        assert_eq!(stage.guard.waiting(), 1);
    }

    #[test]
    fn the_addresses_of_one_customer_are_one_source() {
        for (prefix, shared) in [("", true), ("ipv6-prefix = 64\n", true), ("ipv6-prefix = 128\n", false)] {
            let text = format!(
                "[gateway.limit.l]\nburst = 1\nrequests = 1\nscope = 'node'\n{prefix}[gateway.route.r]\nanswer.status = 204\n\
                 limits = 'l'\n"
            );
            let mut stage = Stage { guard: guard(&text), ..Stage::new() };
            let mut passes = |source: &str| rulings(&stage.judge(source, ""))[0].1 == "passes";
            assert!(passes("2001:db8:0:1::1"), "{prefix}");
            assert_eq!(passes("2001:db8:0:1:ffff:ffff:ffff:ffff"), !shared, "{prefix}");
            assert!(passes("2001:db8:0:2::1") && passes("2001:db8::1"), "{prefix}: other networks");
            assert!(
                passes("192.0.2.8") && passes("192.0.2.9") && !passes("192.0.2.9"),
                "{prefix}: each address"
            );
        }
    }

    #[test]
    fn nobody_can_make_a_key_that_counts_as_anothers() {
        // Two keys of which the fast hash says the same: in words of 16 bytes whose second half is its constant, the first half
        // is multiplied by zero.
        let (one, other) =
            (b"victim-0\x15\x7c\x4a\x7f\xb9\x79\x37\x9e", b"anything\x15\x7c\x4a\x7f\xb9\x79\x37\x9e");
        let key = |value: &'static [u8], strong: bool| {
            let lines: &[(&str, &[u8])] = &[("x-key", value)];
            struct Raw<'a>(&'a [(&'a str, &'a [u8])]);
            impl Headers for Raw<'_> {
                fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
                    self.0.any(name, test)
                }
            }
            let (raw, none) = (Raw(lines), Lines(vec![]));
            let head = Head { headers: &raw, ..head("192.0.2.1", &none) };
            let by = KeyOf::Header(HeaderName("x-key".to_owned()));
            if strong { head.limit_key(&by, 64) } else { head.key(&by) }
        };
        assert_eq!(key(one, false), key(other, false), "else this test is about nothing");
        assert_ne!(key(one, true), key(other, true));
    }

    #[test]
    fn who_waits_too_long_is_refused_and_the_store_asked_again() {
        let mut stage = Stage::new();
        stage.judge("10.0.0.1", "a");
        let mut out = Vec::new();
        let start = stage.now;
        while stage.guard.waiting() > 0 {
            stage.now = stage.guard.next_wakeup().expect("somebody waits").max(stage.now);
            stage.guard.tick(stage.now, &mut out);
        }
        assert_eq!(rulings(&out), [(0, "ask"), (0, "ask"), (0, "ask"), (1, "not known")]);
        assert_eq!(stage.now, start.plus(WAIT_MAX));
        assert_eq!(stage.guard.next_wakeup(), None);
    }

    /// An address for each number.
    fn source(n: usize) -> String {
        format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255)
    }

    const CLUSTER: &str = "[gateway.limit.l]\n[gateway.route.r]\nanswer.status = 204\nlimits = 'l'\n";

    // With a look at all who wait at each wake this takes a core a quarter of a minute.
    #[test]
    fn while_the_store_is_away_only_those_are_looked_at_who_are_due() {
        let mut stage = Stage { guard: guard(CLUSTER), ..Stage::new() };
        let mut asks = 0;
        for n in 0..WAITING_MAX {
            asks += stage.judge(&source(n), "").len();
            stage.now = stage.now.plus(Micros(7));
        }
        assert_eq!((asks, stage.guard.waiting()), (WAITING_MAX, WAITING_MAX));
        assert_eq!(rulings(&stage.judge("192.0.2.1", "")), [(WAITING_MAX as u64 + 1, "not known")]);
        // Every fifth client leaves.
        (1..=WAITING_MAX as u64).step_by(5).for_each(|id| stage.guard.on_gone(RequestId(id)));
        let (mut refused, mut out) = (Vec::new(), Vec::new());
        while let Some(next) = stage.guard.next_wakeup() {
            stage.now = next.max(stage.now);
            stage.guard.tick(stage.now, &mut out);
            for (id, ruling) in rulings(&std::mem::take(&mut out)) {
                match ruling {
                    "ask" => asks += 1,
                    "not known" => refused.push(id),
                    other => panic!("{other}"),
                }
            }
        }
        let left: Vec<u64> = (1..=WAITING_MAX as u64).filter(|id| id % 5 != 1).collect();
        assert_eq!(asks, WAITING_MAX + 3 * left.len(), "each half second, for two");
        assert!(refused == left, "in the order of coming");
    }

    #[test]
    fn where_no_caller_can_be_forgotten_it_is_looked_for_one_now_and_then() {
        let mut stage = Stage { guard: guard(CLUSTER), ..Stage::new() };
        let start = stage.now;
        for n in 0..CALLERS_MAX {
            let said = stage.judge(&source(n), "");
            let [Word::Ask { limit, caller, .. }] = said[..] else { panic!("{said:?}") };
            let (mut out, grant) = (Vec::new(), Grant { granted: 1, left: 2, next: Micros(0) });
            stage.guard.on_grant(start, limit, caller, grant, &mut out);
        }
        // They may be forgotten after 200 ms.
        for (ms, has_room) in [(0, false), (190, false), (210, false), (289, false), (290, true), (291, true)]
        {
            stage.now = start.plus(Micros::from_millis(ms));
            let said = stage.judge(&source(CALLERS_MAX + ms as usize), "");
            assert_eq!(matches!(said[..], [Word::Ask { .. }]), has_room, "{ms}: {said:?}");
        }
    }

    #[test]
    fn another_configuration_gives_no_new_burst_and_forgets_nobody_who_waits() {
        let mut stage = Stage::new();
        let said = stage.judge("10.0.0.1", "a");
        let Word::Ask { caller, .. } = said[0] else { panic!("{said:?}") };
        stage.judge("10.0.0.1", "a");
        let text = format!("[gateway.limit.first]\n{TEXT}");
        let mut out = Vec::new();
        stage.configure(&text, &mut out);
        assert_eq!(rulings(&out), []);
        assert_eq!(stage.guard.waiting(), 2);
        let said = stage.judge("10.0.0.2", "a");
        let Word::Ruled { ruling: Ruling::Limited(limit, _), .. } = said[0] else { panic!("{said:?}") };
        assert_eq!(limit, LimitId(1), "what was used up stays so, under the new number");
        let grant = Grant { granted: 1, left: 0, next: Micros::from_millis(100) };
        stage.guard.on_grant(stage.now, LimitId(2), caller, grant, &mut out);
        assert_eq!(rulings(&out), [(1, "passes"), (2, "cluster")]);
        stage.judge("10.0.0.3", "x");
        let open = "[gateway.route.r]\nanswer.status = 204\n";
        out.clear();
        stage.configure(open, &mut out);
        assert_eq!(rulings(&out), [(4, "passes")], "its limit is gone");
    }

    #[test]
    fn who_waits_for_a_limit_that_becomes_one_of_the_node_is_judged_by_that() {
        let mut stage = Stage::new();
        stage.judge("10.0.0.1", "a");
        let mut out = Vec::new();
        let text = TEXT.replace("burst = 3", "burst = 3\nscope = 'node'");
        stage.configure(&text, &mut out);
        assert_eq!(rulings(&out), [(1, "passes")]);
        assert_eq!(rulings(&stage.judge("10.0.0.1", "b")), [(2, "passes")]);
    }

    #[test]
    fn cores_share_a_limit_of_the_node() {
        let text = "[gateway.limit.l]\nrequests = 1\nper = '1h'\nburst = 8\nscope = 'node'\n[gateway.route.r]\n\
                    answer.status = 204\nlimits = 'l'\n";
        for cores in [1, 3] {
            let node = Node::default();
            let config = Config::parse(text).unwrap();
            let new = |_| Guard::new(&config, Box::new(node.clone()));
            let mut stages: Vec<Stage> =
                (0..cores).map(new).map(|guard| Stage { guard, ..Stage::new() }).collect();
            let mut passes =
                |at: usize, source: &str| rulings(&stages[at].judge(source, ""))[0].1 == "passes";
            let all_at_one = (0..20).filter(|_| passes(0, "10.0.0.1")).count();
            let spread = (0..20).filter(|n| passes(n % cores, "10.0.0.2")).count();
            assert_eq!((all_at_one, spread), (8, 8), "INV-GATE-10: {cores} cores");
        }
    }

    #[test]
    fn values_that_clients_choose_have_so_many_buckets_and_no_more() {
        let text = "[gateway.limit.l]\nrequests = 10\nburst = 10\nby = 'header:x-key'\n[gateway.route.r]\n\
                    answer.status = 204\nlimits = 'l'\n";
        struct Key(String);
        impl Headers for Key {
            fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
                name == "x-key" && test(self.0.as_bytes())
            }
        }
        let mut guard = guard(text);
        let mut buckets: BTreeMap<u64, Bucket> = BTreeMap::new();
        // Whether the store is asked for a request with this value of the header, whether it passes, and how many buckets there are.
        let mut ask = |now: Micros, source: &str, value: String| {
            let (key, none) = (Key(value), Lines(vec![]));
            let head = Head { headers: &key, ..head(source, &none) };
            let (mut out, mut asks, mut passes) = (Vec::new(), false, None);
            guard.judge(now, RequestId(1), (Generation::default(), RouteId(0)), &head, &mut out);
            while let Some(word) = out.pop() {
                match word {
                    Word::Ask { limit, caller, ask } => {
                        asks = true;
                        let bucket = buckets.entry(caller).or_insert(Bucket::new(now, 10));
                        guard.on_grant(now, limit, caller, bucket.grant(now, 10.0, 10, ask), &mut out);
                    }
                    Word::Ruled { ruling, .. } => passes = Some(matches!(ruling, Ruling::Passes(_))),
                }
            }
            (asks, passes.expect("it is ruled"), buckets.len())
        };
        let now = Micros::from_secs(10);
        for n in 1..=VALUES_MAX {
            let (_, passes, count) = ask(now, "10.0.0.1", format!("v{n}"));
            assert_eq!((passes, count), (true, n), "each has one of its own");
        }
        let passed = (0..100).filter(|n| ask(now, "10.0.0.1", format!("w{n}")).1).count();
        assert_eq!(passed, 10, "what more come from one address have the rate of one");
        assert_eq!(
            ask(now, "10.0.0.2", "w1".to_owned()),
            (true, true, VALUES_MAX + 2),
            "nobody else pays for that"
        );
        assert_eq!(
            ask(now, "10.0.0.1", "v7".to_owned()),
            (true, true, VALUES_MAX + 2),
            "who had one keeps it"
        );
        // One of ten tokens is back after 100 ms, and the buckets are gone a second later; but that of v7 was asked once more.
        let early = now.plus(Micros::from_millis(1_099));
        assert_eq!(ask(early, "10.0.0.3", "x".to_owned()).2, VALUES_MAX + 3, "by its source");
        assert_eq!(ask(early, "10.0.0.3", "y".to_owned()).2, VALUES_MAX + 3);
        let late = now.plus(Micros::from_millis(1_199));
        for (n, value) in ["x", "y", "z"].into_iter().enumerate() {
            assert_eq!(ask(late, "10.0.0.3", value.to_owned()).2, VALUES_MAX + 4 + n, "there is room again");
        }
    }

    #[test]
    fn a_number_of_another_configuration_is_refused() {
        let mut stage = Stage::new();
        let old = stage.guard.generation;
        let mut out = Vec::new();
        stage.configure("[gateway]", &mut out);
        let lines = Lines(vec![]);
        let head = head("10.0.0.1", &lines);
        stage.guard.judge(stage.now, RequestId(1), (old, RouteId(0)), &head, &mut out);
        assert_eq!(rulings(&out), [(1, "changed")]);
        assert!(!stage.guard.lets_in(old, RouteId(0), head.source));
    }

    #[test]
    fn a_cluster_limit_holds_over_several_guards() {
        let text = "[gateway.limit.l]\nrequests = 100\nburst = 10\n[gateway.route.r]\nanswer.status = 204\n\
                    limits = 'l'\n";
        let mut guards: Vec<Guard> = (0..4).map(|_| guard(text)).collect();
        let mut bucket = Bucket::new(Micros(0), 10);
        let mut passed = 0;
        let lines = Lines(vec![]);
        let head = head("10.0.0.1", &lines);
        for n in 0..10_000u64 {
            let now = Micros(n * 1_000);
            let guard = &mut guards[(n % 4) as usize];
            let mut out = Vec::new();
            guard.judge(now, RequestId(n), (Generation::default(), RouteId(0)), &head, &mut out);
            while let Some(word) = out.pop() {
                match word {
                    Word::Ask { limit, caller, ask } => {
                        let grant = bucket.grant(now, 100.0, 10, ask);
                        guard.on_grant(now, limit, caller, grant, &mut out);
                    }
                    Word::Ruled { ruling: Ruling::Passes(_), .. } => passed += 1,
                    Word::Ruled { .. } => {}
                }
            }
        }
        assert!((950..=1_050).contains(&passed), "{passed} in ten seconds at 100 a second");
    }
}
