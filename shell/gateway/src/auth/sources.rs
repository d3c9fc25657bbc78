//! Sets of keys from URLs, fetched by the thread of control for all cores.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use skep_base::Micros;
use skep_base::rng::mix;
use skep_gate::auth::refresh::{Input, Output, Refresh};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::KeySet;
use super::fetch::Url;
use crate::names::Resolver;

/// Requests that wait for one fetch; further ones are judged by what there is.
const WAITING_MAX: usize = 10_000;

/// What tells one source from another.
type Id = (String, Micros, Micros);

/// A request's question for a new set.
pub(crate) type Ask = (Id, oneshot::Sender<()>);

/// A source as cores see it.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    id: Id,
    set: watch::Receiver<Option<Arc<KeySet>>>,
    asks: UnboundedSender<Ask>,
}

impl Source {
    /// The last good set, if there was one.
    pub(crate) fn current(&self) -> Option<Arc<KeySet>> {
        self.set.borrow().clone()
    }

    /// Asks for a newer one; `done` is told when it is there, or will not come.
    pub(crate) fn ask(&self, done: oneshot::Sender<()>) {
        // Control that is gone drops the question, which is an answer.
        let _ = self.asks.send((self.id.clone(), done));
    }
}

#[derive(Debug)]
struct One {
    url: Url,
    refresh: Refresh,
    set: watch::Sender<Option<Arc<KeySet>>>,
    waiting: Vec<oneshot::Sender<()>>,
}

/// All sources.
#[derive(Debug)]
pub(crate) struct Sources {
    started: Instant,
    seed: u64,
    resolver: Resolver,
    all: BTreeMap<Id, One>,
    asks: UnboundedSender<Ask>,
    fetches: JoinSet<(Id, Result<KeySet, String>)>,
}

impl Sources {
    pub(crate) fn new(seed: u64, resolver: Resolver) -> (Sources, UnboundedReceiver<Ask>) {
        let (asks, asked) = unbounded_channel();
        let (started, fetches) = (Instant::now(), JoinSet::new());
        (Sources { started, seed, resolver, all: BTreeMap::new(), asks, fetches }, asked)
    }

    fn now(&self) -> Micros {
        Micros(self.started.elapsed().as_micros() as u64)
    }

    /// The source of a URL, a new one if there is none yet.
    ///
    /// # Errors
    /// It is no URL.
    pub(super) fn follow(&mut self, url: &str, every: Micros, least: Micros) -> Result<Source, String> {
        let id = (url.to_owned(), every, least);
        if !self.all.contains_key(&id) {
            let now = self.now();
            self.seed = mix(self.seed);
            let refresh = Refresh::new(now, every, least, self.seed);
            // Other times for the same URL do not lose what is there.
            let known = self.all.iter().find(|((other, ..), _)| other == url);
            let set = known.and_then(|(_, one)| one.set.borrow().clone());
            let one =
                One { url: Url::parse(url)?, refresh, set: watch::Sender::new(set), waiting: Vec::new() };
            self.all.insert(id.clone(), one);
        }
        Ok(Source { set: self.all[&id].set.subscribe(), id, asks: self.asks.clone() })
    }

    /// Forgets those that are not among `needed`.
    pub(crate) fn retain<'s>(&mut self, needed: impl Iterator<Item = &'s Source>) {
        let needed: Vec<&Id> = needed.map(|source| &source.id).collect();
        self.all.retain(|id, _| needed.contains(&id));
    }

    /// Does what is due, and returns when something was; to be called again and again, from a task that may spawn local ones.
    pub(crate) async fn run(&mut self, asked: &mut UnboundedReceiver<Ask>) {
        self.tick();
        let next = self.all.values().filter_map(|one| one.refresh.next_wakeup()).min();
        let due = crate::control::sleep_until(self.started, next);
        tokio::select! {
            () = due => self.tick(),
            Some((id, done)) = asked.recv() => self.on_ask(&id, done),
            Some(fetched) = self.fetches.join_next(), if !self.fetches.is_empty() => {
                if let Ok((id, result)) = fetched {
                    self.on_fetched(&id, result);
                }
            }
        }
    }

    fn tick(&mut self) {
        let now = self.now();
        for (id, one) in &mut self.all {
            if one.refresh.handle(now, Input::Tick) == Output::Fetch {
                begin(&mut self.fetches, &self.resolver, id, one);
            }
        }
    }

    fn on_ask(&mut self, id: &Id, done: oneshot::Sender<()>) {
        let now = self.now();
        // A source that is gone drops the question.
        let Some(one) = self.all.get_mut(id) else { return };
        match one.refresh.handle(now, Input::Unknown) {
            Output::Nothing => return,
            Output::Fetch => begin(&mut self.fetches, &self.resolver, id, one),
            Output::Wait => {}
        }
        if one.waiting.len() < WAITING_MAX {
            one.waiting.push(done);
        }
    }

    fn on_fetched(&mut self, id: &Id, result: Result<KeySet, String>) {
        let now = self.now();
        let Some(one) = self.all.get_mut(id) else { return };
        one.refresh.handle(now, Input::Fetched { good: result.is_ok() });
        match result {
            Ok(set) => {
                let is_new = one.set.borrow().as_ref().is_none_or(|old| old.digest != set.digest);
                if is_new {
                    let left_out = set.left_out;
                    tracing::info!(url = id.0, left_out, "gateway: a set of keys was fetched");
                    one.set.send_replace(Some(Arc::new(set)));
                }
            }
            Err(why) => {
                let kept = one.set.borrow().is_some();
                tracing::warn!(url = id.0, kept, "gateway: a set of keys cannot be fetched: {why}");
            }
        }
        for done in one.waiting.drain(..) {
            // Who went meanwhile needs no word.
            let _ = done.send(());
        }
    }
}

fn begin(fetches: &mut JoinSet<(Id, Result<KeySet, String>)>, resolver: &Resolver, id: &Id, one: &One) {
    let (id, url, resolver) = (id.clone(), one.url.clone(), resolver.clone());
    fetches.spawn_local(async move {
        let result = url.get(&resolver).await.and_then(|text| KeySet::read(&text));
        (id, result)
    });
}
