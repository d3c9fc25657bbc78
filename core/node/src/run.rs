//! A command of the keyspace that a client asks for: read at once under the lease, taken into the batch of its shard, or given to
//! the cell that is the shard's home.

use skep_base::args::OwnedArgs;
use skep_base::{Args, ConnId, GroupId, Millis, Refusal};
use skep_command::{CommandSpec, Flags};
use skep_keyspace::{Handler, ReadCx, Wait, calls_script};
use skep_resp::Reply;

use crate::batch::{Call, CallWait, Origin};
use crate::client::{Client, WaitsOn};
use crate::on_client::{BATCH_BYTES_MAX, Flow};
use crate::place::Place;
use crate::script_notes::{Ran, script_notes_of};
use crate::scripting::{is_scripting, may_run_script};
use crate::transaction::EXEC;
use crate::{Node, Output};

/// The arguments of one write together; what the consensus library takes as one entry, less the batch before it.
pub(crate) const COMMAND_BYTES_MAX: usize = (1 << 30) - 2 * BATCH_BYTES_MAX;

/// What a client asks for.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub conn: ConnId,
    pub command: &'static CommandSpec,
    pub handler: Handler,
    pub args: Args<'a>,
}

impl Node {
    /// Runs a command of the keyspace here, or takes it into the batch of its shard.
    #[inline]
    pub(crate) fn run_on_shard(&mut self, asked: Asked<'_>, out: &mut Vec<Output>) -> Flow {
        let Asked { conn, command, args, .. } = asked;
        if !self.ready || self.stopping {
            return self.refuse(conn, Some(command), &not_ready());
        }
        let found = self.check_schedule(command, args).and_then(|()| self.shard_for(command, args));
        match found {
            Ok(place) if may_run_script(command) => self.run_script(asked, place, out),
            Ok(place) => self.run_at(asked, place, out),
            Err(refusal) => self.refuse(conn, Some(command), &refusal),
        }
    }

    /// Runs a command of the keyspace in its place.
    #[inline]
    pub(crate) fn run_at(&mut self, asked: Asked<'_>, place: Place, out: &mut Vec<Output>) -> Flow {
        let Asked { command, handler, args, .. } = asked;
        let at = match place {
            Place::Here(at) => at,
            Place::Elsewhere(group) => return self.run_elsewhere(asked, group),
            Place::All => return self.run_on_all(asked, out),
            Place::Written => return self.run_on_written(asked, out),
        };
        match handler {
            Handler::Read(_) if command.flags.has(Flags::BLOCKING) && Wait::of(command, args).is_some() => {
                self.run_waiting_read(asked, at)
            }
            Handler::Read(_) => self.run_read(asked, at),
            Handler::Write(_) => self.run_write(asked, at, out),
        }
    }

    /// Gives an operation to the cell that is the home of its shard.
    fn run_elsewhere(&mut self, asked: Asked<'_>, group: GroupId) -> Flow {
        let Asked { conn, command, handler, args } = asked;
        let write = matches!(handler, Handler::Write(_));
        if write && args.bytes() > COMMAND_BYTES_MAX {
            return self.refuse(conn, Some(command), &too_large(args));
        }
        let Some(client) = self.clients.get_mut(conn) else { return Flow::Done };
        let silent = client.begin_command(command.name);
        let mut call = call_of(client, self.cells.me, asked, silent);
        if write {
            client.written.add(group);
        }
        call.let_wait(client, WaitsOn::One(group), args, self.now.mono);
        self.cells.give(self.cells.home(group), group, call, args);
        Flow::Done
    }

    #[inline]
    pub(crate) fn run_read(&mut self, asked: Asked<'_>, at: usize) -> Flow {
        let Asked { conn, command, handler, args } = asked;
        let now = self.now;
        let Some(client) = self.clients.get_mut(conn) else { return Flow::Done };
        let silent = client.begin_command(command.name);
        let shard = &mut self.shards[at];
        if client.pending() == 0
            && let Some(replica) = &mut shard.replica
            && replica.may_read(now.mono)
        {
            let time = replica.time(now);
            let keyspace = &replica.keyspace;
            keyspace.access.set_paused(client.no_touch);
            let mark = client.output.len();
            let mut cx = ReadCx { keyspace, db: client.db, now: time, rng: &mut self.rng };
            handler.read(&mut cx, args, &mut Reply::new(&mut client.output, client.protocol));
            let notes = script_notes_of(keyspace, command);
            // On a full disk no entry is to be had, and reads go on.
            if !keyspace.take_saw_due() || self.disk_full {
                self.stats.called(command);
                if self.slow.wants(command, args) {
                    self.slow.note(command, args, &client.address, &client.name);
                }
                if client.output.get(mark) == Some(&b'-') {
                    self.stats.failed_reply(command, &client.output[mark..]);
                }
                if silent {
                    client.output.truncate(mark);
                }
                if !notes.is_empty() {
                    self.on_script_notes(conn, notes, Ran::Here);
                }
                return Flow::Done;
            }
            // Its answer rests on a deadline that no entry of the log has passed yet: another leader, whose clock is
            // behind, must not bring back what this one says is gone.
            client.output.truncate(mark);
            shard.batch.want_entry();
        }
        let call = call_of(client, self.cells.me, asked, silent);
        shard.batch.push_read(call, args);
        Flow::Done
    }

    fn run_waiting_read(&mut self, asked: Asked<'_>, at: usize) -> Flow {
        let Asked { conn, command, args, .. } = asked;
        let (mono, group) = (self.now.mono, self.shards[at].id);
        let Some(client) = self.clients.get_mut(conn) else { return Flow::Done };
        let silent = client.begin_command(command.name);
        let mut call = call_of(client, self.cells.me, asked, silent);
        call.let_wait(client, WaitsOn::One(group), args, mono);
        self.push_read(at, call, args);
        Flow::Done
    }

    #[inline]
    fn run_write(&mut self, asked: Asked<'_>, at: usize, out: &mut Vec<Output>) -> Flow {
        let Asked { conn, command, args, .. } = asked;
        // A leader elsewhere admits or refuses by its own disk and memory.
        if self.shards[at].leads()
            && let Err(refusal) = self.admit_write(at, command, args)
        {
            return self.refuse(conn, Some(command), &refusal);
        }
        if args.bytes() > COMMAND_BYTES_MAX {
            return self.refuse(conn, Some(command), &too_large(args));
        }
        if self.shards[at].batch.bytes() + args.bytes() > BATCH_BYTES_MAX {
            self.drive_shard(at, out);
        }
        let Some(client) = self.clients.get_mut(conn) else { return Flow::Done };
        let silent = client.begin_command(command.name);
        let mut call = call_of(client, self.cells.me, asked, silent);
        if !self.cells.one_shard {
            client.written.add(self.shards[at].id);
        }
        if command.flags.has(Flags::BLOCKING) {
            call.let_wait(client, WaitsOn::One(self.shards[at].id), args, self.now.mono);
        }
        self.push_write(at, call, args);
        Flow::Done
    }

    /// Says no to what cannot be carried out now, before it reaches the log.
    pub(crate) fn admit_write(
        &mut self,
        at: usize,
        command: &'static CommandSpec,
        args: Args<'_>,
    ) -> Result<(), Refusal> {
        if self.disk_full {
            return Err(Refusal::text(
                "TRYAGAIN the disk is full; nothing was done; free space in the data directory",
            ));
        }
        if command.id() == EXEC || is_scripting(command) && args.is(0, "exec") {
            return self.admit_transaction(at, args);
        }
        let may_write = is_scripting(command) && calls_script(command) && !command.flags.has(Flags::READONLY);
        if may_write && !self.memory.admits_growth(args.bytes()) {
            return self.refuse_script(at, args);
        }
        if command.flags.has(Flags::DENYOOM) && !self.memory.admits_growth(args.bytes()) {
            return Err(Refusal::text("OOM command not allowed when used memory > 'maxmemory'."));
        }
        Ok(())
    }
}

/// Numbers the operation that a client begins.
#[inline]
pub(crate) fn call_of(client: &mut Client, cell: usize, asked: Asked<'_>, silent: bool) -> Call {
    let Asked { command, handler, .. } = asked;
    let free = !client.writes_pending();
    let seq = client.begin_op(matches!(handler, Handler::Write(_)));
    let origin = Origin::Client { cell: cell as u16, weight: 0, conn: client.id, seq };
    let (db, protocol, no_touch, caches) =
        (client.db, client.protocol, client.no_touch, client.caches_reads());
    Call { origin, command, handler, db, protocol, silent, no_touch, caches, free, wait: None }
}

impl Call {
    /// Takes note that the call may wait, if it may: the client runs nothing else until it is answered.
    pub(crate) fn let_wait(&mut self, client: &mut Client, on: WaitsOn, args: Args<'_>, now: Millis) {
        if self.command.flags.has(Flags::BLOCKING) && Wait::of(self.command, args).is_some() {
            self.wait = Some(CallWait { since: now, again: false, parked: false, end: None });
            (client.waiting, client.waits_on) = (true, on);
            client.waits_with = client.rights.is_some().then(|| Box::new(OwnedArgs::copy(args)));
        }
    }
}

pub(crate) fn too_large(args: Args<'_>) -> Refusal {
    Refusal::format(format!("ERR command is {} bytes, limit is {COMMAND_BYTES_MAX}", args.bytes()))
}

pub(crate) fn not_ready() -> Refusal {
    Refusal::text("TRYAGAIN the node is starting or stopping; nothing was done")
}
