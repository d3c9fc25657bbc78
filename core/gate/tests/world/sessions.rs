//! Sessions in the world: clients that ask one request after another at any gate, with the cookie that they were given last.
//!
//! Seen from outside, at each gate:
//!
//! - while the upstream of a session is in (of the configuration, fit unless all are used, its breaker closed), the first attempt of each
//!   request goes there, no hedge goes elsewhere beside it, and no reply moves the session;
//! - while it is not, a reply moves the session to who gave it (INV-GATE-19).

use std::collections::{BTreeMap, BTreeSet};

use skep_base::{Micros, Rng};
use skep_gate::balance::Ties;
use skep_gate::balance::sticky::{Session, cookie, session, upstream_name};
use skep_gate::config::Named;
use skep_gate::config::pool::Pool;
use skep_gate::{Note, Output, RequestId};

use super::{Model, SECRET, World};

/// What is known of all sessions.
#[derive(Default)]
pub struct Sessions {
    all: Vec<One>,
    asked: BTreeMap<(usize, RequestId), Asked>,
    /// At a gate: whose breaker is not closed, and which pools use all that they have.
    tripped: BTreeSet<(usize, Model)>,
    panics: BTreeSet<(usize, usize)>,
    /// Times that a session moved to another upstream.
    pub moved: u64,
}

#[derive(Default)]
struct One {
    cookie: Option<String>,
    waits: bool,
    good: u64,
}

/// A request.
struct Asked {
    session: usize,
    /// The upstream that its cookie names.
    name: Option<u64>,
    /// Where its attempts went, in which of its lives, and which are under way.
    went: BTreeMap<u32, (Model, u64)>,
    runs: BTreeSet<u32>,
}

impl Sessions {
    pub fn new(count: usize) -> Sessions {
        Sessions { all: (0..count).map(|_| One::default()).collect(), ..Sessions::default() }
    }

    /// Good replies of each session, with the name of the upstream where it is.
    pub fn good(&self, now: Micros) -> Vec<(Option<u64>, u64)> {
        let name =
            |one: &One| Some(session(&SECRET, "main", one.cookie.as_ref()?.as_bytes(), secs(now))?.upstream);
        self.all.iter().map(|one| (name(one), one.good)).collect()
    }

    /// One that waits for no reply, if there is one.
    pub(super) fn next(&self, rng: &mut Rng) -> Option<usize> {
        let idle: Vec<usize> = (0..self.all.len()).filter(|at| !self.all[*at].waits).collect();
        (!idle.is_empty()).then(|| idle[rng.below(idle.len() as u64) as usize])
    }

    /// A session asks.
    pub(super) fn begin(
        &mut self,
        now: Micros,
        id: (usize, RequestId),
        at: usize,
        pool: &Named<Pool>,
        ties: &mut Ties,
    ) {
        let max_age = pool.it.sticky.as_ref().expect("it has sessions").max_age.0 / 1_000_000;
        let one = &mut self.all[at];
        one.waits = true;
        let cookie = one.cookie.as_ref();
        if let Some(found) =
            cookie.and_then(|cookie| session(&SECRET, &pool.name, cookie.as_bytes(), secs(now)))
        {
            ties.sticky = Some(found.upstream);
            ties.renew = (found.ends - secs(now)) * 2 < max_age;
        }
        self.asked.insert(
            id,
            Asked { session: at, name: ties.sticky, went: BTreeMap::new(), runs: BTreeSet::new() },
        );
    }
}

/// Which upstreams are in, and which may be tried.
#[derive(Default)]
pub(super) struct Standing {
    is_in: BTreeSet<Model>,
    may_be: BTreeSet<Model>,
    /// Also by checks and ejection; in panic others are in as well.
    is_fit: BTreeSet<Model>,
}

impl Standing {
    /// Nothing speaks against `home` alone.
    fn is_as_good(&self, home: Model, other: Model) -> bool {
        self.is_fit.contains(&home) || !self.is_fit.contains(&other)
    }

    fn is_out(&self, model: Model) -> bool {
        !self.is_in.contains(&model) && !self.may_be.contains(&model)
    }
}

/// The wall clock.
fn secs(now: Micros) -> u64 {
    now.0 / 1_000_000
}

impl World {
    /// Upstreams that are in, or may be tried, as a gate and its notes say.
    pub(super) fn standing(&self, gate: usize) -> Standing {
        let mut standing = Standing::default();
        let Some(sessions) = &self.sessions else { return standing };
        for ((pool, upstream), model) in self.places(gate) {
            let is_fit = self.gates[gate].upstream(pool, upstream).is_some_and(|(_, is_fit)| is_fit);
            if is_fit {
                standing.is_fit.insert(model);
            }
            let is_used = is_fit || sessions.panics.contains(&(gate, model.0));
            match sessions.tripped.contains(&(gate, model)) {
                false if is_used => _ = standing.is_in.insert(model),
                // Its breaker may try it.
                true if is_used => _ = standing.may_be.insert(model),
                _ => {}
            }
        }
        standing
    }

    /// Judges what a gate said; `before` were in when it was told something.
    pub(super) fn judge_sessions(&mut self, gate: usize, before: &Standing, out: &[Output]) {
        if self.sessions.is_none() {
            return;
        }
        self.take_notes(gate, out);
        let after = self.standing(gate);
        let names: BTreeMap<u64, Model> =
            self.models.iter().map(|(address, model)| (upstream_name(&SECRET, address), *model)).collect();
        for output in out {
            match output {
                Output::Try { request, attempt, pool, upstream, .. } => {
                    let model = self.model(gate, *pool, *upstream);
                    let life = self.life(gate, model);
                    let Some(asked) = self.asked(gate, *request) else { continue };
                    let home = asked.name.and_then(|name| names.get(&name).copied());
                    if let Some(home) =
                        home.filter(|home| before.is_in.contains(home) && after.is_in.contains(home))
                    {
                        assert!(*attempt > 1 || model == home, "{request:?} of {home:?} went to {model:?}");
                        let is_home = asked.runs.iter().any(|other| asked.went[other].0 == home);
                        assert!(!is_home, "{request:?} of {home:?} was hedged at {model:?}");
                    }
                    asked.went.insert(*attempt, (model, life));
                    asked.runs.insert(*attempt);
                }
                Output::Abandon { request, attempt } => self.attempt_ended(gate, *request, *attempt),
                Output::Forward { request, attempt, stick_to, .. } => {
                    let Some(asked) = self.asked(gate, *request) else { continue };
                    let ((model, life), came, session) = (asked.went[attempt], asked.name, asked.session);
                    let home = came.and_then(|name| names.get(&name).copied());
                    let is_in =
                        home.is_some_and(|home| before.is_in.contains(&home) && after.is_in.contains(&home));
                    let is_out = home.is_none_or(|home| before.is_out(home) && after.is_out(home));
                    let set = stick_to.map(|name| names[&name]);
                    assert!(set.is_none_or(|set| set == model), "{request:?} of {model:?} set {set:?}");
                    if is_in {
                        let stays = home.is_none_or(|home| after.is_as_good(home, model));
                        assert!(
                            !stays || set.is_none() || set == home,
                            "{request:?} of {home:?} moved to {set:?}"
                        );
                    } else if is_out && home != Some(model) && self.life(gate, model) == life {
                        // One that has left the configuration, and may be there again, gets no session by what it was asked before.
                        assert_eq!(set, Some(model), "{request:?} of {home:?}, which is out, stays");
                    }
                    self.set_cookie(gate, session, came, *stick_to);
                }
                _ => {}
            }
        }
    }

    fn take_notes(&mut self, gate: usize, out: &[Output]) {
        let here: BTreeSet<Model> = self.places(gate).into_iter().map(|(_, model)| model).collect();
        for output in out {
            let Output::Note(note) = output else { continue };
            let (Note::UpstreamBreaker { pool, .. } | Note::Panic { pool, .. }) = note else { continue };
            let first = skep_gate::UpstreamId(0);
            let model = match note {
                Note::UpstreamBreaker { upstream, .. } => self.model(gate, *pool, *upstream),
                _ => self.model(gate, *pool, first),
            };
            let sessions = self.sessions.as_mut().expect("the caller has seen it");
            match note {
                Note::UpstreamBreaker { open: true, .. } => _ = sessions.tripped.insert((gate, model)),
                Note::UpstreamBreaker { .. } => _ = sessions.tripped.remove(&(gate, model)),
                Note::Panic { on: true, .. } => _ = sessions.panics.insert((gate, model.0)),
                _ => _ = sessions.panics.remove(&(gate, model.0)),
            }
        }
        let sessions = self.sessions.as_mut().expect("the caller has seen it");
        // An upstream that comes back to the configuration is a new one.
        sessions.tripped.retain(|(of, model)| *of != gate || here.contains(model));
    }

    fn set_cookie(&mut self, gate: usize, session: usize, came: Option<u64>, set: Option<u64>) {
        let pool =
            self.gates[gate].config().pools.iter().find(|pool| pool.name == "main").expect("it is in all");
        let max_age = pool.it.sticky.as_ref().expect("it has sessions").max_age;
        let sessions = self.sessions.as_mut().expect("the caller has seen it");
        if let Some(upstream) = set {
            sessions.moved += u64::from(came.is_some_and(|came| came != upstream));
            let found = Session { upstream, ends: secs(self.now) + max_age.0 / 1_000_000 };
            sessions.all[session].cookie = Some(cookie(&SECRET, "main", found));
        }
    }

    fn asked(&mut self, gate: usize, request: RequestId) -> Option<&mut Asked> {
        self.sessions.as_mut()?.asked.get_mut(&(gate, request))
    }

    /// An attempt has its reply, or has failed.
    pub(super) fn attempt_ended(&mut self, gate: usize, request: RequestId, attempt: u32) {
        if let Some(asked) = self.asked(gate, request) {
            asked.runs.remove(&attempt);
        }
    }

    /// A request has ended, with this status if it had a reply.
    pub(super) fn end_of_session(&mut self, gate: usize, request: RequestId, status: Option<u16>) {
        let Some(sessions) = &mut self.sessions else { return };
        let asked = sessions.asked.remove(&(gate, request)).expect("it ends once");
        let one = &mut sessions.all[asked.session];
        one.waits = false;
        one.good += u64::from(status.is_some_and(|status| status < 500));
    }
}
