//! Scripts as the node sees them: which shards a command about them is for, whether a call needs the log, and whether there is
//! memory for it. What runs them is in `core/script`, behind the keyspace.

use skep_base::{Args, GroupId, Refusal, Span};
use skep_command::{CommandId, CommandSpec, Group, id_of, lookup};
use skep_keyspace::scripts::Sha;
use skep_keyspace::{
    EXEC_READ, Handler, Head, NO_MEMORY_FOR_SCRIPT, SCRIPT_READ, SCRIPT_WRITE, Terms, calls_script,
    handler_of, put_queued,
};
use skep_resp::{Reply, Value};

use crate::joined::Becomes;
use crate::on_client::Flow;
use crate::place::Place;
use crate::run::{Asked, COMMAND_BYTES_MAX, too_large};
use crate::script_sources::SourceFor;
use crate::transaction::EXEC;
use crate::{Node, Note, Output};

/// True for the commands about scripts that are carried out by shards.
#[inline]
pub(crate) fn is_scripting(command: &CommandSpec) -> bool {
    command.group == Group::Scripting
}

const ONCE: CommandId = id_of("once");

/// True for the commands that may have something to do with scripts.
#[inline]
pub(crate) fn may_run_script(command: &CommandSpec) -> bool {
    is_scripting(command) || command.id() == ONCE
}

/// True for a call of a script, also by ONCE.
pub(crate) fn runs_script(command: &CommandSpec, args: Args<'_>) -> bool {
    let inner = || args.get(2).and_then(lookup).is_some_and(calls_script);
    is_scripting(command) && calls_script(command) || command.id() == ONCE && inner()
}

/// True for commands about what scripts are known: all shards are asked, and tell or change what each of them knows.
pub(crate) fn concerns_all_shards(command: &CommandSpec) -> bool {
    matches!(
        command.name,
        "script|load"
            | "script|flush"
            | "script|exists"
            | "script|show"
            | "function|load"
            | "function|delete"
            | "function|flush"
            | "function|restore"
    )
}

impl Node {
    /// Runs a command that may run a script: under terms, if there are any, which come with it as with a transaction.
    pub(crate) fn run_script(&mut self, asked: Asked<'_>, place: Place, out: &mut Vec<Output>) -> Flow {
        let Asked { conn, command, args, .. } = asked;
        let group = match place {
            Place::Here(at) => self.shards[at].id,
            Place::Elsewhere(group) => group,
            Place::All | Place::Written => return self.run_at(asked, place, out),
        };
        let handler = match is_scripting(command) {
            true => self.script_handler(group, command, asked.handler, args),
            false => asked.handler,
        };
        let terms = if runs_script(command, args) { self.terms_of(group) } else { Terms::default() };
        if terms.is_empty() {
            return self.run_at(Asked { handler, ..asked }, place, out);
        }
        let scripts = match self.source_for(conn, group, command, args, true, out) {
            SourceFor::None => Vec::new(),
            SourceFor::Call(source) => vec![source.to_vec()],
            SourceFor::Sought => return Flow::Wait,
        };
        let mut bytes = b"exec".to_vec();
        let name = bytes.len();
        put_queued(&mut bytes, self.client(conn).db, args);
        let commands = bytes.len();
        let remembers = !scripts.is_empty();
        Head { commands: 1, single: true, terms, scripts, ..Head::default() }.put(&mut bytes);
        let span = |start: usize, end: usize| Span { start: start as u32, len: (end - start) as u32 };
        let spans = [span(0, name), span(name, commands), span(commands, bytes.len())];
        let handler = match handler {
            Handler::Read(_) if !remembers => EXEC_READ,
            _ => handler_of(EXEC.spec()).expect("EXEC is carried out by shards"),
        };
        let flow = self.run_at(Asked { conn, command, handler, args: Args::new(&bytes, &spans) }, place, out);
        if remembers {
            self.look_whether_brought(conn);
        }
        flow
    }

    /// What scripts may do on a shard: use its keys.
    pub(crate) fn terms_of(&self, group: GroupId) -> Terms {
        let shards = &self.meta.state.shards;
        let slots = shards.get(&group).filter(|_| shards.len() > 1).map(|record| record.slots.clone());
        Terms { slots: slots.unwrap_or_default() }
    }

    /// How a call is to be run: as a read if its script only reads, and is known, so that nothing is to be remembered.
    pub(crate) fn script_handler(
        &mut self,
        group: GroupId,
        command: &CommandSpec,
        handler: Handler,
        args: Args<'_>,
    ) -> Handler {
        let is_source = matches!(command.name, "eval" | "eval_ro");
        let reads = matches!(handler, Handler::Read(_));
        // Without a first line that says so, a script may write, and its name need not be found out here.
        let may_write = !reads && is_source && !args[1].starts_with(b"#!");
        if !calls_script(command) || may_write {
            return handler;
        }
        let replica = self.shard_of_group(group).and_then(|at| self.shards[at].replica.as_ref());
        let Some(replica) = replica else {
            // Without a copy it is a guess: that the shard knows what has been sent there before.
            let is_new = reads && is_source && !self.note_script(group, Sha::of(&args[1]));
            return if is_new { SCRIPT_WRITE } else { handler };
        };
        match replica.keyspace.script_flags(args) {
            Some(flags) if reads || flags.is_some_and(|flags| flags.no_writes()) => SCRIPT_READ,
            None if reads && is_source => SCRIPT_WRITE,
            _ => handler,
        }
    }

    /// Refuses a script for which there is no memory, if it has flags and they do not say that it needs none. One without flags, or
    /// that is not known here, is judged where it runs, by what its entry says.
    #[cold]
    pub(crate) fn refuse_script(&mut self, at: usize, args: Args<'_>) -> Result<(), Refusal> {
        let replica = self.shards[at].replica.as_ref();
        let flags = replica.and_then(|replica| replica.keyspace.script_flags(args)).flatten();
        match flags {
            Some(flags) if !flags.allows_oom() => Err(NO_MEMORY_FOR_SCRIPT),
            Some(_) => Ok(()),
            None => {
                self.memory.note_overdrawn();
                Ok(())
            }
        }
    }

    /// Runs a command on all shards, and answers when all have.
    pub(crate) fn run_on_all(&mut self, asked: Asked<'_>, out: &mut Vec<Output>) -> Flow {
        let Asked { conn, command, handler, args } = asked;
        let client = self.client(conn);
        if client.pending() > 0 {
            client.waiting = true;
            return Flow::Wait;
        }
        if args.bytes() > COMMAND_BYTES_MAX {
            return self.refuse(conn, Some(command), &too_large(args));
        }
        let groups: Vec<GroupId> = self.meta.state.shards.keys().copied().collect();
        for group in &groups {
            if matches!(handler, Handler::Write(_))
                && let Some(at) = self.shard_of_group(*group)
                && self.shards[at].leads()
                && let Err(refusal) = self.admit_write(at, command, args)
            {
                return self.refuse(conn, Some(command), &refusal);
            }
        }
        self.join(asked, &groups, Becomes::OfAll, out);
        Flow::Done
    }

    /// Scripts known, bytes of all sources, libraries, functions: the most of any shard here.
    pub(crate) fn script_figures(&self) -> [usize; 4] {
        let mut most = [0; 4];
        for replica in self.shards.iter().filter_map(|shard| shard.replica.as_ref()) {
            let scripts = replica.keyspace.scripts();
            let (sources, bytes) = scripts.figures();
            let functions = scripts.libraries().map(|library| library.functions.len()).sum();
            let here = [sources, bytes, scripts.libraries().len(), functions];
            most = std::array::from_fn(|at| here[at].max(most[at]));
        }
        most
    }

    /// Passes on what scripts have logged here.
    pub(crate) fn take_script_logs(&mut self, out: &mut Vec<Output>) {
        for replica in self.shards.iter().filter_map(|shard| shard.replica.as_ref()) {
            for (level, text) in replica.keyspace.take_script_log() {
                let text = String::from_utf8_lossy(&text).into_owned();
                out.push(Output::Note(Note::Script { level, text }));
            }
        }
    }
}

/// The reply to a command that ran on all shards. Shards differ after one of them was not reached: then what some have and
/// others have not, a repeat brings to all. They also differ in the scripts that `EVAL` ran, which any of them may know.
pub(crate) fn reply_of_all(command: &CommandSpec, replies: &[Vec<u8>], reply: &mut Reply) {
    let is_error = |bytes: &Vec<u8>| bytes.first() == Some(&b'-');
    // A library that some shards have already was brought to the others.
    let repeated = |bytes: &Vec<u8>| command.name == "function|load" && bytes.starts_with(b"-ERR Library '");
    // One that some have removed already.
    let removed =
        |bytes: &Vec<u8>| command.name == "function|delete" && bytes.starts_with(b"-ERR Library not");
    let done = replies.iter().find(|bytes| !is_error(bytes));
    let refusals = || replies.iter().filter(|bytes| is_error(bytes) && !repeated(bytes) && !removed(bytes));
    // Who could not say may be the one that knows.
    let cannot_say = refusals().find(|bytes| !bytes.starts_with(b"-NOSCRIPT "));
    let refused = cannot_say.or_else(|| refusals().next());
    match (refused, done) {
        (Some(_), Some(done)) if command.name == "script|show" => reply.raw(done),
        (Some(refused), _) => reply.raw(refused),
        (None, Some(_)) if command.name == "script|exists" => any_of(replies, reply),
        (None, Some(done)) => reply.raw(done),
        (None, None) => replies.iter().take(1).for_each(|bytes| reply.raw(bytes)),
    }
}

/// 1 where some reply has 1.
fn any_of(replies: &[Vec<u8>], reply: &mut Reply) {
    let lists: Vec<Vec<i64>> = replies
        .iter()
        .filter_map(|bytes| Value::parse(bytes).ok().flatten())
        .map(|(value, _)| value.as_elements().unwrap_or_default().iter().filter_map(Value::as_int).collect())
        .collect();
    let len = lists.iter().map(Vec::len).min().unwrap_or_default();
    reply.array(len);
    (0..len).for_each(|at| reply.int(lists.iter().map(|list| list[at]).max().unwrap_or_default()));
}

#[cfg(test)]
mod of_the_gateway;
#[cfg(test)]
mod tests;
