//! Between `MULTI` and `EXEC`: commands are queued, those of the node beside those on keys.

use skep_base::args::OwnedArgs;
use skep_base::{Args, ConnId, GroupId, Refusal};
use skep_command::{CommandId, CommandSpec, Flags, id_of};
use skep_keyspace::scripts::Sha;
use skep_keyspace::{Handler, parse_database, put_queued};

use super::{NAME, Step, Transaction};
use crate::copies::{count_at_once, waits_for_copies};
use crate::local::{Local, Route, asks_cluster};
use crate::on_client::Flow;
use crate::place::Place;
use crate::run::not_ready;
use crate::script_sources::{SourceFor, script_called};
use crate::scripting::{may_run_script, runs_script};
use crate::{Node, Output};

/// Commands that have no reply, or several, where a transaction's has one for each.
const NOT_INSIDE: [&str; 8] = [
    "client|reply",
    "monitor",
    "psubscribe",
    "punsubscribe",
    "ssubscribe",
    "subscribe",
    "sunsubscribe",
    "unsubscribe",
];
const QUIT: CommandId = id_of("quit");
const RESET: CommandId = id_of("reset");
const SELECT: CommandId = id_of("select");

impl Node {
    /// A command of a client that is between `MULTI` and `EXEC`: queues it. `None` if it is to run at once all the same.
    pub(crate) fn queue(
        &mut self,
        conn: ConnId,
        command: &'static CommandSpec,
        route: Route,
        args: Args<'_>,
        out: &mut Vec<Output>,
    ) -> Option<Flow> {
        if matches!(route, Route::Steer(_)) || [QUIT, RESET].contains(&command.id()) {
            return None;
        }
        if !self.cells.one_shard && may_run_script(command) && self.seek_for_queue(conn, command, args, out) {
            return Some(Flow::Wait);
        }
        Some(match self.try_queue(conn, command, route, args) {
            Ok(()) => self.answer_in_order(conn, None, |reply| reply.simple("QUEUED")),
            Err(refusal) => self.refuse(conn, Some(command), &refusal),
        })
    }

    /// Keeps the source of a script that a command calls by its name, if its shard needs it. That a script is not known is told
    /// within the reply to EXEC, where nobody here would see it: so the shard is asked in each transaction again. True if shards are
    /// being asked.
    fn seek_for_queue(
        &mut self,
        conn: ConnId,
        command: &'static CommandSpec,
        args: Args<'_>,
        out: &mut Vec<Output>,
    ) -> bool {
        let transaction = self.client(conn).transaction.as_ref();
        let is_new = |sha: &Sha| transaction.is_some_and(|tx| !tx.failed && !tx.sought.contains_key(sha));
        let Some(sha) = script_called(command, args).filter(is_new) else { return false };
        let Ok(group) = self.group_for(command, args) else { return false };
        if !self.ready || self.stopping {
            return false;
        }
        let found = self.source_for(conn, group, command, args, false, out);
        let Some(tx) = &mut self.client(conn).transaction else { return false };
        match found {
            SourceFor::Sought => return true,
            SourceFor::None => {
                tx.sought.insert(sha, None);
            }
            SourceFor::Call(source) => {
                tx.sought_bytes += source.len();
                tx.sought.insert(sha, Some(source));
                tx.writes = true;
            }
        }
        false
    }

    fn try_queue(
        &mut self,
        conn: ConnId,
        command: &'static CommandSpec,
        route: Route,
        args: Args<'_>,
    ) -> Result<(), Refusal> {
        let bytes_max = self.settings.client_query_buffer_bytes_max() as usize;
        let has_no_place = !matches!(route, Route::Keyspace(_)) && NOT_INSIDE.contains(&command.name);
        if command.flags.has(Flags::NO_MULTI) || has_no_place {
            return Err(Refusal::text("ERR Command not allowed inside a transaction"));
        }
        let client = self.client(conn);
        let tx = client.transaction.as_deref_mut().expect("the caller has seen it");
        let bytes = tx.bytes() + args.bytes();
        if bytes > bytes_max {
            let text = format!("ERR commands of the transaction are {bytes} bytes, limit is {bytes_max}");
            return Err(Refusal::format(text));
        }
        match route {
            Route::Keyspace(_) if waits_for_copies(command) => {
                self.queue_own(conn, command, count_at_once, args);
                Ok(())
            }
            Route::Keyspace(handler) => self.queue_keyed(conn, command, handler, args),
            Route::Local(_) if self.asks_cells() && self.routes.part_of(command).is_some() => {
                let text = format!(
                    "ERR {} asks all cells of this node, which a transaction cannot wait for; send it before MULTI or \
                     after EXEC",
                    command.name
                );
                Err(Refusal::format(text))
            }
            Route::Local(_)
                if matches!(command.name, "acl|setuser" | "acl|deluser")
                    || command.name == "config|set" && asks_cluster(args) =>
            {
                let text = format!(
                    "ERR {} changes the cluster, which a transaction cannot wait for; send it before MULTI or after EXEC",
                    command.name
                );
                Err(Refusal::format(text))
            }
            Route::Local(run) => {
                self.queue_own(conn, command, run, args);
                Ok(())
            }
            Route::Steer(_) | Route::None => Err(command.wrong_arity()),
        }
    }

    fn queue_keyed(
        &mut self,
        conn: ConnId,
        command: &'static CommandSpec,
        handler: Handler,
        args: Args<'_>,
    ) -> Result<(), Refusal> {
        if !self.ready || self.stopping {
            return Err(not_ready());
        }
        self.check_schedule(command, args)?;
        let group = self.group_for(command, args)?;
        let writes = matches!(handler, Handler::Write(_));
        if writes
            && let Some(at) = self.shard_of_group(group)
            && self.shards[at].leads()
        {
            self.admit_write(at, command, args)?;
        }
        let tx = self.client(conn).transaction.as_deref_mut().expect("the caller has seen it");
        tx.check_shard(group, command)?;
        if tx.failed {
            return Ok(());
        }
        if tx.keyed.is_empty() {
            tx.keyed.extend_from_slice(NAME);
        }
        put_queued(&mut tx.keyed, tx.db, args);
        tx.keyed_count += 1;
        tx.commands.push(command);
        tx.writes |= writes;
        tx.grows |= command.flags.has(Flags::DENYOOM);
        tx.runs_scripts |= runs_script(command, args);
        if !tx.steps.is_empty() {
            tx.steps.push(Step::Keyed);
        }
        Ok(())
    }

    pub(super) fn queue_own(
        &mut self,
        conn: ConnId,
        command: &'static CommandSpec,
        run: Local,
        args: Args<'_>,
    ) {
        let tx = self.client(conn).transaction.as_deref_mut().expect("the caller has seen it");
        if tx.failed {
            return;
        }
        if command.id() == SELECT
            && let Ok(db) = parse_database(&args[1])
        {
            tx.db = db;
        }
        if tx.steps.is_empty() {
            tx.steps.extend((0..tx.keyed_count).map(|_| Step::Keyed));
        }
        tx.steps.push(Step::Own { command, run, args: OwnedArgs::copy(args) });
        tx.own_bytes += args.bytes() + size_of::<Step>();
    }

    /// The shard that a command's keys belong to.
    pub(super) fn group_for(
        &self,
        command: &'static CommandSpec,
        args: Args<'_>,
    ) -> Result<GroupId, Refusal> {
        Ok(match self.shard_for(command, args)? {
            Place::Here(at) => self.shards[at].id,
            Place::Elsewhere(group) => group,
            Place::All | Place::Written => {
                let text = format!(
                    "ERR {} concerns all shards of this cluster; transactions over several shards are not available",
                    command.name
                );
                return Err(Refusal::format(text));
            }
        })
    }
}

impl Transaction {
    /// Takes note of the shard of a key. All keys of a transaction are of one.
    pub(super) fn check_shard(
        &mut self,
        group: GroupId,
        command: &'static CommandSpec,
    ) -> Result<(), Refusal> {
        let known = *self.shard.get_or_insert(group);
        if known == group {
            return Ok(());
        }
        let text = format!(
            "ERR the keys of {} are in shard {group}, those of the transaction before in {known}; transactions over \
             several shards are not available: give keys that belong together a hash tag, as in {{tag}}key",
            command.name
        );
        Err(Refusal::format(text))
    }
}
