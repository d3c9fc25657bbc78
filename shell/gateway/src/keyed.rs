//! Requests with an idempotency key that are under way at a core, and what is counted of them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::core::Core;
use crate::figures::{KeyedCounts, count};

/// At once, of a core: each holds its body and a reply, and goes on when its client is gone.
const KEYED_MAX: u64 = 4_096;

/// What a core keeps of them.
#[derive(Default)]
pub(crate) struct Keyed {
    in_flight: Cell<u64>,
    answers: RefCell<BTreeMap<&'static str, u64>>,
    unknown: Cell<u64>,
}

impl Keyed {
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.get() == 0
    }

    pub(crate) fn answered(&self, kind: &'static str) {
        *self.answers.borrow_mut().entry(kind).or_default() += 1;
    }

    /// One ended, and whether it ran is not known.
    pub(crate) fn lost(&self) {
        count(&self.unknown);
    }

    pub(crate) fn counts(&self) -> KeyedCounts {
        KeyedCounts {
            answers: self.answers.borrow().clone(),
            unknown: self.unknown.get(),
            in_flight: self.in_flight.get(),
        }
    }
}

/// One place among those under way.
pub(crate) struct Place(Rc<Core>);

impl Place {
    /// None if there is no more room.
    pub(crate) fn take(core: &Rc<Core>) -> Option<Place> {
        let in_flight = &core.keyed.in_flight;
        (in_flight.get() < KEYED_MAX).then(|| {
            in_flight.set(in_flight.get() + 1);
            Place(Rc::clone(core))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let in_flight = &self.0.keyed.in_flight;
        in_flight.set(in_flight.get() - 1);
    }
}
