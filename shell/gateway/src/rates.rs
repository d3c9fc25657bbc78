//! Rates that the whole cluster shares: the guard's questions on their way to the store, and its rulings on their way to the
//! requests that wait for them.
//!
//! Invariant: a request that waits gets one ruling, or is forgotten by the guard when its client goes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use skep_gate::protect::bucket;
use skep_gate::protect::guard::{Guard, Ruling, Word};
use skep_gate::protect::share::{Ask, Grant};
use skep_gate::router::Head;
use skep_gate::{Config, Generation, LimitId, RequestId, RouteId};
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use crate::core::{Core, Plan};
use crate::figures::count;
use crate::of_node::NodeLimits;

/// A ruling with the configuration whose numbers it has.
type Ruled = (Ruling, Rc<Plan>);

/// A core's guard, and who waits for it.
pub(crate) struct Rates {
    guard: RefCell<Guard>,
    waiting: RefCell<HashMap<RequestId, oneshot::Sender<Ruled>>>,
    last: Cell<u64>,
    /// A task gives the guard its ticks, as long as somebody waits.
    is_ticking: Cell<bool>,
    /// Questions to the store, and those that got no grant.
    pub(crate) asked: Cell<u64>,
    pub(crate) unanswered: Cell<u64>,
}

impl Rates {
    pub(crate) fn new(config: &Config, limits: NodeLimits) -> Rates {
        Rates {
            guard: RefCell::new(Guard::new(config, Box::new(limits))),
            waiting: RefCell::default(),
            last: Cell::new(0),
            is_ticking: Cell::new(false),
            asked: Cell::new(0),
            unanswered: Cell::new(0),
        }
    }
}

/// A request that waits. Dropped before it is ruled, its client is gone.
struct Waiting<'a> {
    rates: &'a Rates,
    id: RequestId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.rates.waiting.borrow_mut().remove(&self.id).is_some() {
            self.rates.guard.borrow_mut().on_gone(self.id);
        }
    }
}

impl Core {
    /// Whether a client at this address may use a route of `plan`, which must be in force.
    pub(crate) fn lets_in(&self, plan: &Plan, route: RouteId, source: std::net::IpAddr) -> bool {
        self.rates.guard.borrow().lets_in(plan.generation, route, source)
    }

    /// Whether a request may pass its route of `plan`: at once, or after an answer of the store.
    pub(crate) async fn judge(self: &Rc<Self>, plan: &Plan, route: RouteId, head: &Head<'_>) -> Ruled {
        let rates = &self.rates;
        let id = RequestId(rates.last.get() + 1);
        rates.last.set(id.0);
        let mut words = Vec::new();
        rates.guard.borrow_mut().judge(self.now(), id, (plan.generation, route), head, &mut words);
        let own = words.iter().find_map(|word| match word {
            Word::Ruled { request, ruling } if *request == id => Some(*ruling),
            _ => None,
        });
        if let Some(ruling) = own {
            self.obey_guard(words);
            return (ruling, self.plan());
        }
        let (sender, receiver) = oneshot::channel();
        rates.waiting.borrow_mut().insert(id, sender);
        let _waiting = Waiting { rates, id };
        self.obey_guard(words);
        if !rates.is_ticking.replace(true) {
            spawn_local(Rc::clone(self).tick_guard());
        }
        receiver.await.expect("whoever takes the sender sends")
    }

    /// Puts a configuration's limits in force, which is that of the plan from here on.
    pub(crate) fn configure_guard(self: &Rc<Self>, config: &Config, of: Generation) {
        let mut words = Vec::new();
        self.rates.guard.borrow_mut().configure(self.now(), config, of, &mut words);
        self.obey_guard(words);
    }

    fn obey_guard(self: &Rc<Self>, words: Vec<Word>) {
        for word in words {
            match word {
                Word::Ruled { request, ruling } => {
                    if let Some(sender) = self.rates.waiting.borrow_mut().remove(&request) {
                        // Its client may be gone in this very moment.
                        let _ = sender.send((ruling, self.plan()));
                    }
                }
                Word::Ask { limit, caller, ask } => self.ask_bucket(limit, caller, ask),
            }
        }
    }

    /// Asks the store's bucket of a limit and caller. Without an answer the guard asks again.
    fn ask_bucket(self: &Rc<Self>, limit: LimitId, caller: u64, ask: Ask) {
        count(&self.rates.asked);
        let plan = self.plan();
        let named = &plan.snapshot.config.limits[limit.at()];
        let key = bucket::key(&named.name, &caller.to_be_bytes());
        let words = bucket::words(&key, &named.it, ask);
        let (core, name) = (Rc::clone(self), named.name.clone());
        spawn_local(async move {
            let reply = core.call_store(words).await;
            match reply.ok().as_deref().and_then(bucket::grant) {
                Some(grant) => core.on_grant(&name, caller, grant),
                None => count(&core.rates.unanswered),
            }
        });
    }

    fn on_grant(self: &Rc<Self>, name: &str, caller: u64, grant: Grant) {
        // Limits may have other numbers by now, or be gone.
        let at = self.plan().snapshot.config.limits.iter().position(|limit| limit.name == name);
        let Some(limit) = at.map(|at| LimitId(at as u32)) else { return };
        let mut words = Vec::new();
        self.rates.guard.borrow_mut().on_grant(self.now(), limit, caller, grant, &mut words);
        self.obey_guard(words);
    }

    async fn tick_guard(self: Rc<Self>) {
        loop {
            let next = self.rates.guard.borrow().next_wakeup();
            let Some(next) = next else { break };
            tokio::time::sleep_until(self.instant(next)).await;
            let mut words = Vec::new();
            self.rates.guard.borrow_mut().tick(self.now(), &mut words);
            self.obey_guard(words);
        }
        self.rates.is_ticking.set(false);
    }
}
