//! Commands about the whole node: INFO, CLIENT LIST, CONFIG SET and their kin.
//!
//! The cell whose client asks tells the hub, which tells all cells, so that all take such commands in the same order; each
//! does its part and sends it to the cell that asked, which writes the reply when it has all parts. The connection waits
//! meanwhile, so that it is answered in order; and what a client did before it asked is in the parts, since it was answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_base::args::OwnedArgs;
use skep_base::{Args, ConnId, Refusal};
use skep_command::CommandSpec;
use skep_resp::Reply;

use super::{HUB, Message};
use crate::local::{Call, Figures, Local, ShardNews};
use crate::slow::{Samples, SlowEntry};
use crate::tracking::Target;
use crate::{Node, Output};

/// A command of a client, told to all cells.
#[derive(Clone)]
pub(crate) struct WideAsk {
    caller: Caller,
    user: Arc<[u8]>,
    command: &'static CommandSpec,
    args: OwnedArgs,
}

/// Whose command it is.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    pub cell: usize,
    pub conn: ConnId,
    /// The database that it has selected.
    pub db: u8,
    /// Counts such commands of the cell.
    pub number: u64,
    /// The cells whose parts are waited for: those from the hub on that have clients and shards. The others do theirs as
    /// well, since they may have some later, and say nothing.
    cells: usize,
}

/// One cell's part of the answer.
pub(crate) enum Part {
    /// There is nothing to say but that it is done.
    Done,
    /// It follows.
    Later,
    /// Whether it was begun here.
    Begun(bool),
    Count(usize),
    /// A client that was looked for, if it is here.
    Client(Option<Target>),
    /// Clients' lines by their numbers.
    Lines(Vec<(u64, String)>),
    Denials(Vec<skep_acl::Denial>),
    Slow(Vec<SlowEntry>),
    Samples(Vec<(&'static str, Samples)>),
    Figures(Box<Figures>),
    Shards(Vec<ShardNews>),
    Keys(Vec<Vec<u8>>),
    /// The whole reply.
    Reply(Vec<u8>),
}

/// The parts of all cells; of the only one, if there is one.
pub(crate) type Parts = Vec<Part>;

/// Does a cell's part. On an `Err` nothing was changed.
pub(crate) type DoPart = fn(&mut Node, Caller, Args<'_>, &mut Vec<Output>) -> Result<Part, Refusal>;

/// The commands that clients of this cell wait for.
#[derive(Default)]
pub(crate) struct Wide {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// Whose command this cell does its part of.
    asked_by: Arc<[u8]>,
    /// The parts for the command that is being run.
    gathered: Option<Parts>,
}

struct Waiting {
    conn: ConnId,
    command: &'static CommandSpec,
    args: OwnedArgs,
    run: Local,
    heard: bool,
    cells: usize,
    parts: Vec<Result<Part, Refusal>>,
}

impl Node {
    /// True if a command about the whole node is to be asked of other cells. Those that have neither clients nor shards need
    /// not be asked once it is clear that they will not.
    pub(crate) fn asks_cells(&self) -> bool {
        !self.cells.is_only() && (self.active_cells() > 1 || !self.ready)
    }

    /// True while the command that is being run has the parts of all cells.
    pub(crate) fn has_parts(&self) -> bool {
        self.cells.wide.gathered.is_some()
    }

    /// Asks all cells for their parts of a command; its client waits.
    pub(crate) fn ask_all(
        &mut self,
        conn: ConnId,
        command: &'static CommandSpec,
        run: Local,
        args: Args<'_>,
        heard: bool,
        out: &mut Vec<Output>,
    ) {
        let client = self.client(conn);
        client.begin_op(false);
        client.waiting = true;
        let (db, user) = (client.db, client.user.clone());
        let args = OwnedArgs::copy(args);
        let cells = self.active_cells();
        let wide = &mut self.cells.wide;
        let number = wide.next;
        wide.next += 1;
        let waiting = Waiting { conn, command, args: args.clone(), run, heard, cells, parts: Vec::new() };
        wide.waiting.insert(number, waiting);
        let caller = Caller { cell: self.cells.me, conn, db, number, cells };
        let ask = WideAsk { caller, user, command, args };
        match self.cells.is_hub() {
            true => self.pass_on(ask, out),
            false => self.cells.send(HUB, Message::Ask(ask)),
        }
    }

    /// The hub tells all cells, itself included.
    pub(crate) fn pass_on(&mut self, ask: WideAsk, out: &mut Vec<Output>) {
        // What they say of the cluster is what the hub knows of it.
        self.tell_view();
        for cell in self.cells.others() {
            self.cells.send(cell, Message::Asked(ask.clone()));
        }
        self.on_asked(ask, out);
    }

    pub(crate) fn on_asked(&mut self, ask: WideAsk, out: &mut Vec<Output>) {
        let WideAsk { caller, user, command, args } = ask;
        self.cells.wide.asked_by = user;
        let part = match self.routes.part_of(command) {
            Some(part) => part(self, caller, args.args(), out),
            None => Ok(Part::Done),
        };
        if !matches!(part, Ok(Part::Later)) {
            self.answer_part(caller, part, out);
        }
    }

    /// The user whose command this cell does its part of.
    pub(crate) fn asked_by(&self) -> &[u8] {
        &self.cells.wide.asked_by
    }

    /// Gives a part to the cell that asked.
    pub(crate) fn answer_part(&mut self, to: Caller, part: Result<Part, Refusal>, out: &mut Vec<Output>) {
        if self.cells.me >= to.cells {
            return;
        }
        match to.cell == self.cells.me {
            true => self.on_part(to.number, part, out),
            false => self.cells.send(to.cell, Message::Part { number: to.number, part: Box::new(part) }),
        }
    }

    pub(crate) fn on_part(&mut self, number: u64, part: Result<Part, Refusal>, out: &mut Vec<Output>) {
        let wide = &mut self.cells.wide;
        let Some(waiting) = wide.waiting.get_mut(&number) else { return };
        waiting.parts.push(part);
        if waiting.parts.len() == waiting.cells
            && let Some(waiting) = wide.waiting.remove(&number)
        {
            self.answer_wide(waiting, out);
        }
    }

    /// All parts are here: runs the command.
    fn answer_wide(&mut self, waiting: Waiting, out: &mut Vec<Output>) {
        let Waiting { conn, command, args, run, mut heard, parts, cells: _ } = waiting;
        let Some(client) = self.clients.get_mut(conn) else { return };
        let mut output = std::mem::take(&mut client.output);
        let mark = output.len();
        let mut reply = Reply::new(&mut output, client.protocol);
        let outcome = match parts.into_iter().collect::<Result<Parts, Refusal>>() {
            Ok(parts) => {
                self.cells.wide.gathered = Some(parts);
                run(self, Call { conn, args: args.args(), reply: &mut reply, out, heard: &mut heard })
            }
            Err(refusal) => Err(refusal),
        };
        self.cells.wide.gathered = None;
        if let Err(refusal) = outcome {
            reply.rewind(mark);
            reply.refusal(&refusal);
            self.stats.failed(command, &refusal);
        }
        drop(reply);
        let Some(client) = self.clients.get_mut(conn) else { return };
        if !heard {
            output.truncate(mark);
        }
        client.output = output;
        if client.answered() {
            self.to_resume.push(conn);
        }
        self.list_output(conn, out);
    }

    /// The parts of all cells for the command that is being run; where there is one cell only, it does its part here.
    pub(crate) fn parts(&mut self, call: &mut Call<'_, '_>) -> Result<Parts, Refusal> {
        if let Some(parts) = self.cells.wide.gathered.take() {
            return Ok(parts);
        }
        let command = skep_command::resolve(call.args)?;
        let client = self.client(call.conn);
        let (db, user) = (client.db, client.user.clone());
        self.cells.wide.asked_by = user;
        let caller = Caller { cell: self.cells.me, conn: call.conn, db, number: 0, cells: 1 };
        let part = self.routes.part_of(command).expect("who asks for parts has them in the table");
        Ok(vec![part(self, caller, call.args, call.out)?])
    }
}
