//! A request from its head to the last byte of its reply: what is counted, logged, and told to the gate when it ends.
//!
//! Invariant: whatever happens to the task that carries a request, its end is told to the gate once and counted once.

use std::rc::Rc;

use skep_base::Micros;
use skep_gate::resilience::retry::Failure;
use skep_gate::{Input, RequestId, RouteId};

use crate::access_log::Line;
use crate::both_ways::BothWays;
use crate::core::{Core, Plan};
use crate::figures::RouteFigures;
use crate::mailbox::Mailbox;

/// What is counted and logged of a request.
pub(crate) struct Record {
    /// None for one that stands where another was taken away: it counts nothing.
    counts: Option<(Rc<Core>, Rc<RouteFigures>)>,
    began: Micros,
    /// None without a log.
    line: Option<Box<Line>>,
    pub(crate) status: u16,
    pub(crate) bytes_sent: u64,
}

impl Record {
    /// `line` is asked for only if there is a log.
    pub(crate) fn begin(core: &Rc<Core>, line: impl FnOnce() -> Line) -> Record {
        let counts = Some((Rc::clone(core), core.plan().figures(None)));
        let line = core.log.is_on().then(|| Box::new(line()));
        Record { counts, began: core.now(), line, status: 0, bytes_sent: 0 }
    }

    /// One that counts nothing.
    pub(crate) fn silent() -> Record {
        Record { counts: None, began: Micros(0), line: None, status: 0, bytes_sent: 0 }
    }

    /// Writes something into the line of the log, if there is one.
    pub(crate) fn note(&mut self, write: impl FnOnce(&mut Line)) {
        if let Some(line) = &mut self.line {
            write(line);
        }
    }

    /// The route of `plan` that took it.
    pub(crate) fn set_route(&mut self, plan: &Plan, route: RouteId) {
        let Some((_, figures)) = &mut self.counts else { return };
        *figures = plan.figures(Some(route));
        if let Some(line) = &mut self.line {
            line.route = plan.snapshot.config.routes[route.at()].name.clone();
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Some((core, figures)) = self.counts.take() else { return };
        let micros = core.now().since(self.began).0;
        figures.add(self.status, micros, self.bytes_sent);
        if let Some(line) = &self.line {
            core.log.write(line, self.status, micros, self.bytes_sent);
        }
    }
}

/// A request that the gate knows.
pub(crate) struct InFlight {
    pub(crate) core: Rc<Core>,
    pub(crate) id: RequestId,
    pub(crate) mailbox: Rc<Mailbox>,
    pub(crate) record: Record,
    /// What the client's body tells, if there is one.
    pub(crate) both_ways: Option<Rc<BothWays>>,
    attempt: u32,
    ended: bool,
}

impl InFlight {
    pub(crate) fn new(core: &Rc<Core>, record: Record) -> InFlight {
        let (id, mailbox) = core.open_request();
        InFlight { core: Rc::clone(core), id, mailbox, record, both_ways: None, attempt: 0, ended: false }
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    pub(crate) fn set_attempt(&mut self, attempt: u32) {
        self.attempt = attempt;
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.record.bytes_sent += bytes as u64;
    }

    /// The gate has ended it by itself.
    pub(crate) fn has_ended(&mut self) {
        self.ended = true;
        self.core.close_request(self.id);
    }

    /// Tells the gate that the reply broke: by its upstream, unless it had not all of the request and that may be why.
    pub(crate) fn fail(&mut self, failure: Failure) {
        let attempt = self.attempt;
        match self.both_ways.as_ref().is_none_or(|ways| ways.blames_upstream(failure)) {
            true => self.end(|request| Input::Failed { request, attempt, failure }),
            false => self.end(|request| Input::Gone { request }),
        }
    }

    /// Tells the gate how it ended.
    pub(crate) fn end(&mut self, how: impl FnOnce(RequestId) -> Input) {
        if !self.ended {
            self.has_ended();
            self.core.tell(how(self.id));
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.end(|request| Input::Gone { request });
    }
}
