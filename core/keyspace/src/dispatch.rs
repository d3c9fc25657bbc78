//! From a command's name to the function that runs it.

use std::sync::OnceLock;

use skep_base::{Args, Refusal, Unserved};
use skep_command::{COMMAND_COUNT, CommandSpec, lookup_full};
use skep_resp::Reply;

use crate::commands;
use crate::context::{ReadCx, WriteCx};

/// The function of a command. It parses its arguments, changes the keyspace if it is a write, and writes its reply.
///
/// On an `Err` nothing was changed; what was written of the reply is taken back and the refusal answered instead.
/// The number of arguments has been checked against the command table.
#[derive(Clone, Copy)]
pub enum Handler {
    Read(fn(&mut ReadCx, Args, &mut Reply) -> Result<(), Refusal>),
    Write(fn(&mut WriteCx, Args, &mut Reply) -> Result<(), Refusal>),
}

/// Every command of the keyspace by its lower-case name (`object|encoding` for a subcommand).
pub fn handlers() -> impl Iterator<Item = (&'static str, Handler)> {
    commands::ALL.iter().flat_map(|group| group.iter().copied())
}

/// The function of a command of the keyspace. Cost: a look into an array.
pub fn handler_of(command: &CommandSpec) -> Option<Handler> {
    /// A constant, but for what the compiler can compute.
    static BY_ID: OnceLock<Vec<Option<Handler>>> = OnceLock::new();
    let by_id = BY_ID.get_or_init(|| {
        let mut by_id = vec![None; COMMAND_COUNT];
        for (name, handler) in handlers() {
            let Some(command) = lookup_full(name.as_bytes()) else {
                panic!("{name} is not in the command table")
            };
            by_id[command.id().index()] = Some(handler);
        }
        by_id
    });
    by_id[command.id().index()]
}

impl Handler {
    /// Runs a read. [`crate::Keyspace::take_saw_due`] tells afterwards whether it met something due.
    ///
    /// Panics if this is a write: the command table and the handlers would disagree.
    #[inline]
    pub fn read(self, cx: &mut ReadCx, args: Args, reply: &mut Reply) {
        cx.keyspace.access.take_saw_due(); // what writes left there
        cx.keyspace.events.begin_read();
        self.read_on(cx, args, reply);
    }

    /// Runs a read as one of several, and keeps what those before it met that was due.
    ///
    /// Panics as [`Handler::read`] does.
    #[inline]
    pub fn read_on(self, cx: &mut ReadCx, args: Args, reply: &mut Reply) {
        let Handler::Read(run) = self else { panic!("a write was run as a read") };
        let mark = reply.mark();
        if let Err(refusal) = run(cx, args, reply) {
            reply.refuse(&refusal, mark);
        }
    }

    /// As [`Handler::read`] for a command that may wait; `again` if it has waited. `Some`, without a reply, if it would.
    pub fn attempt_read(
        self,
        cx: &mut ReadCx,
        args: Args,
        reply: &mut Reply,
        again: bool,
    ) -> Option<Unserved> {
        let Handler::Read(run) = self else { panic!("a write was run as a read") };
        cx.keyspace.access.take_saw_due();
        cx.keyspace.events.begin_read();
        let tries_again = &cx.keyspace.tries_again;
        tries_again.set(again);
        let mark = reply.mark();
        let result = run(cx, args, reply);
        tries_again.set(false);
        unserved(result, mark, reply)
    }

    /// As [`Handler::write`] for a command that may wait; `again` if it has waited. `Some`, without a reply, if it would.
    pub fn attempt(self, cx: &mut WriteCx, args: Args, reply: &mut Reply, again: bool) -> Option<Unserved> {
        cx.keyspace.tries_again.set(again);
        let mark = reply.mark();
        let result = match self {
            Handler::Write(run) => run(cx, args, reply),
            Handler::Read(run) => run(&mut cx.as_read(), args, reply),
        };
        cx.keyspace.tries_again.set(false);
        unserved(result, mark, reply)
    }

    /// Runs a write, or a read in its place among writes.
    #[inline]
    pub fn write(self, cx: &mut WriteCx, args: Args, reply: &mut Reply) {
        let mark = reply.mark();
        let result = match self {
            Handler::Write(run) => run(cx, args, reply),
            Handler::Read(run) => run(&mut cx.as_read(), args, reply),
        };
        if let Err(refusal) = result {
            reply.refuse(&refusal, mark);
        }
    }
}

fn unserved(result: Result<(), Refusal>, mark: usize, reply: &mut Reply) -> Option<Unserved> {
    let refusal = result.err()?;
    reply.rewind(mark);
    match refusal {
        Refusal::WouldWait(unserved) => Some(unserved),
        refusal => {
            reply.refusal(&refusal);
            None
        }
    }
}
