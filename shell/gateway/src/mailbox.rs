//! What the gate says to one request, on its way to the task that carries it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use skep_base::Micros;
use skep_gate::Why;

use crate::upstream::Upstream;

/// What to do.
pub(crate) enum Command {
    Try { attempt: u32, upstream: Rc<Upstream>, deadline: Micros, stall: Micros },
    Abandon { attempt: u32 },
    Forward { attempt: u32, ran: bool, stick_to: Option<u64>, idle: Micros },
    Answer { why: Why, ran: bool, retry_after: Option<Micros> },
}

/// Commands in their order.
#[derive(Default)]
pub(crate) struct Mailbox {
    commands: RefCell<VecDeque<Command>>,
    waker: RefCell<Option<Waker>>,
}

impl Mailbox {
    pub(crate) fn push(&self, command: Command) {
        self.commands.borrow_mut().push_back(command);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commands.borrow().is_empty()
    }

    /// The next command.
    pub(crate) fn take(&self) -> Option<Command> {
        self.commands.borrow_mut().pop_front()
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Command> {
        match self.take() {
            Some(command) => Poll::Ready(command),
            None => {
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
