//! Commands about the process: its commands, its time, its checkpoints, its end.

use skep_base::{Args, Millis, Refusal, glob, number};
use skep_command::describe;
use skep_keyspace::{Handler, WriteCx};
use skep_resp::{Protocol, Reply};

use super::connection::REDIS_VERSION;
use super::{Call, Group, Parts, Route, info};
use crate::cells::{Caller, Part};
use crate::place::Place;
use crate::run::not_ready;
use crate::{Node, Output};

pub const COMMANDS: Group = &[
    ("bgrewriteaof", bgrewriteaof),
    ("bgsave", bgsave),
    ("command", command),
    ("command|count", command),
    ("command|docs", command),
    ("command|getkeys", command),
    ("command|getkeysandflags", command),
    ("command|help", command),
    ("command|info", command),
    ("command|list", command),
    ("debug", debug),
    ("lastsave", lastsave),
    ("lolwut", lolwut),
    ("module|help", super::help),
    ("module|list", module_list),
    ("replicaof", replicaof),
    ("role", role),
    ("save", save),
    ("shutdown", shutdown),
    ("slaveof", replicaof),
    ("time", time),
];

pub const PARTS: Parts = &[
    ("bgrewriteaof", bgsave_part),
    ("bgsave", bgsave_part),
    ("debug", debug_part),
    ("lastsave", info::part),
    ("role", info::part),
    ("save", save_part),
];

fn command(_: &mut Node, call: Call) -> Result<(), Refusal> {
    describe::answer(call.args, call.reply)
}

/// The wall clock of the turn, which has milliseconds; the microseconds count the calls within one. So no two of up to a
/// thousand calls in a millisecond get the same answer, and programs that make names out of it, as sliding windows of rate
/// limiters do, work as they do with Redis.
fn time(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let micros = next_micros(node.stats.last_time_micros, node.now.wall);
    node.stats.last_time_micros = micros;
    call.reply.array(2);
    call.reply.bulk_int((micros / 1_000_000) as i64);
    call.reply.bulk_int((micros % 1_000_000) as i64);
    Ok(())
}

/// A time in microseconds within the millisecond `now`, and after `last` while there is one left.
fn next_micros(last: u64, now: Millis) -> u64 {
    let first = now.0 * 1_000;
    if (first..first + 1_000).contains(&last) { (last + 1).min(first + 999) } else { first }
}

fn lastsave(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let all = info::figures(node, &mut call)?;
    call.reply.int((all.checkpoint_saved / 1_000) as i64);
    Ok(())
}

/// Answered when the checkpoint is durable. This connection waits for it, the others go on.
fn save(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    if node.has_parts() {
        node.parts(&mut call)?;
        call.reply.ok();
        return Ok(());
    }
    node.begin_save("ERR Background save already in progress")?;
    node.await_checkpoint(call.conn, *call.heard);
    Ok(())
}

/// Cells write their checkpoints each at its own time, so one that is under way in some is no reason to refuse.
fn save_part(node: &mut Node, caller: Caller, _: Args<'_>, _: &mut Vec<Output>) -> Result<Part, Refusal> {
    if !node.ready || node.stopping {
        return Err(not_ready());
    }
    node.save_for(caller);
    Ok(Part::Later)
}

fn bgsave(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let is_begun = begun_anywhere(node, &mut call)?;
    match is_begun {
        true => call.reply.simple("Background saving started"),
        false if call.args.len() == 2 => call.reply.simple("Background saving scheduled"),
        false => return Err(Refusal::text("ERR Background save already in progress")),
    }
    Ok(())
}

/// Begins checkpoints where none is under way. With `SCHEDULE` that one counts.
fn bgsave_part(node: &mut Node, _: Caller, args: Args<'_>, _: &mut Vec<Output>) -> Result<Part, Refusal> {
    if args.len() > 2 || args.len() == 2 && !args.is(1, "schedule") {
        return Err(Refusal::Syntax);
    }
    if !node.ready || node.stopping {
        return Err(not_ready());
    }
    Ok(Part::Begun(node.request_checkpoint()))
}

/// True if some cell has begun what the others had under way.
fn begun_anywhere(node: &mut Node, call: &mut Call) -> Result<bool, Refusal> {
    Ok(node.parts(call)?.iter().any(|part| matches!(part, Part::Begun(true))))
}

fn bgrewriteaof(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    if !begun_anywhere(node, &mut call)? {
        return Err(Refusal::text("ERR Background append only file rewriting already in progress"));
    }
    call.reply.simple("Background append only file rewriting started");
    Ok(())
}

/// Every node takes writes, so each says that it is a master without replicas.
fn role(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let all = info::figures(node, &mut call)?;
    call.reply.array(3);
    call.reply.bulk(b"master");
    call.reply.int(all.applied as i64);
    call.reply.array(0);
    Ok(())
}

fn replicaof(_: &mut Node, call: Call) -> Result<(), Refusal> {
    if call.args.is(1, "no") && call.args.is(2, "one") {
        call.reply.ok();
        return Ok(());
    }
    Err(Refusal::text(
        "ERR a skep node does not follow a Redis server: nodes of a cluster replicate by themselves; start a node with \
         `skep serve --join` to add one",
    ))
}

/// The connection is closed without a reply, as in Redis; what is in flight is finished first. Nothing is lost with
/// `NOSAVE` either, since the log has it.
fn shutdown(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let (mut save, mut nosave, mut abort, mut others) = (false, false, false, false);
    for at in 1..call.args.len() {
        match () {
            () if call.args.is(at, "save") => save = true,
            () if call.args.is(at, "nosave") => nosave = true,
            () if call.args.is(at, "now") || call.args.is(at, "force") => others = true,
            () if call.args.is(at, "abort") => abort = true,
            () => return Err(Refusal::Syntax),
        }
    }
    if save && nosave || abort && (save || nosave || others) {
        return Err(Refusal::Syntax);
    }
    if abort {
        return Err(Refusal::text("ERR No shutdown in progress."));
    }
    node.begin_stop();
    node.client(call.conn).closing = true;
    Ok(())
}

fn lolwut(_: &mut Node, call: Call) -> Result<(), Refusal> {
    if call.args.is(1, "version") && call.args.len() > 2 {
        number::parse_i64(&call.args[2]).ok_or(Refusal::NotInteger)?;
    }
    call.reply.verbatim(&format!(
        "  _\\ /_\n (_>(_)<_)  bzz\nskep {}, as Redis ver. {REDIS_VERSION}\n",
        env!("CARGO_PKG_VERSION")
    ));
    Ok(())
}

fn module_list(_: &mut Node, call: Call) -> Result<(), Refusal> {
    call.reply.array(0);
    Ok(())
}

/// What test suites need and what harms nobody.
fn debug(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let args = call.args;
    if args.is(1, "help") && args.len() == 2 {
        const HELP: [&str; 5] = [
            "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "SET-ACTIVE-EXPIRE <0|1>",
            "    Turns the removal of expired keys that nobody touches off and on.",
            "STRINGMATCH-LEN <len> <pattern>",
            "    Matches a text of that many letters x with a pattern.",
        ];
        call.reply.array(HELP.len());
        HELP.iter().for_each(|line| call.reply.simple(line));
    } else if args.is(1, "set-active-expire") && args.len() == 3 {
        node.parts(&mut call)?;
        call.reply.ok();
    } else if args.is(1, "stringmatch-len") && args.len() == 4 {
        /// Enough for every test known, and little enough to be matched while others wait.
        const LENGTH_MAX: i64 = 1 << 20;
        let len = number::parse_i64(&args[2]).filter(|len| (0..=LENGTH_MAX).contains(len));
        let text = vec![b'x'; len.ok_or(Refusal::NotInteger)? as usize];
        call.reply.int(i64::from(glob::matches(&args[3], &text)));
    } else if node.may_damage && args.is(1, "unlogged") && args.len() > 2 {
        let own = |part| if let Part::Reply(bytes) = part { Some(bytes) } else { None };
        let reply = node.parts(&mut call)?.into_iter().find_map(own);
        call.reply.raw(&reply.ok_or(Refusal::text("ERR no copy of the key is here"))?);
    } else if node.may_damage && args.is(1, "compare") && args.len() == 2 {
        node.parts(&mut call)?;
        call.reply.ok();
    } else if args.is(1, "sleep") {
        return Err(Refusal::text("ERR DEBUG SLEEP is not available: it would stop the node for everybody"));
    } else {
        let name = String::from_utf8_lossy(&args[1]).into_owned();
        return Err(Refusal::format(format!(
            "ERR unknown subcommand or wrong number of arguments for '{}'. Try DEBUG HELP.",
            name.chars().take(128).collect::<String>()
        )));
    }
    Ok(())
}

fn debug_part(node: &mut Node, caller: Caller, args: Args<'_>, _: &mut Vec<Output>) -> Result<Part, Refusal> {
    if args.is(1, "set-active-expire") && args.len() == 3 {
        node.active_expire = match &args[2] {
            b"0" => false,
            b"1" => true,
            _ => return Err(Refusal::NotInteger),
        };
    } else if node.may_damage && args.is(1, "unlogged") && args.len() > 2 {
        return node.run_unlogged(caller.db, args.from(2));
    } else if node.may_damage && args.is(1, "compare") && args.len() == 2 {
        node.compare_copies();
    }
    Ok(Part::Done)
}

impl Node {
    /// Where tests may damage copies (see [`crate::Identity::may_damage`]): runs a write on the state of this cell's copy alone,
    /// as `DEBUG UNLOGGED` does. True if it was done.
    pub fn damage(&mut self, db: u8, command: Args<'_>) -> bool {
        self.may_damage
            && matches!(self.run_unlogged(db, command), Ok(Part::Reply(reply)) if reply[0] != b'-')
    }

    /// Has the copies of the shards that this cell leads compared with others at once, as `DEBUG COMPARE` does.
    pub fn compare_copies(&mut self) {
        self.shards.iter_mut().for_each(|shard| shard.digests.ask_soon());
    }

    /// Runs a write on the state of this node's copy alone, past the log: what a bug does, or memory that flips bits.
    fn run_unlogged(&mut self, db: u8, call: Args<'_>) -> Result<Part, Refusal> {
        let command = skep_command::resolve(call)?;
        let Route::Keyspace(handler @ Handler::Write(_)) = self.routes.of(command) else {
            return Err(Refusal::text("ERR only a write on keys changes a state"));
        };
        let Place::Here(at) = self.shard_for(command, call)? else { return Ok(Part::Done) };
        let Some(replica) = &mut self.shards[at].replica else { return Ok(Part::Done) };
        let now = replica.keyspace.stamp();
        let mut cx = WriteCx { keyspace: &mut replica.keyspace, db, now, rng: &mut self.rng };
        let mut bytes = Vec::new();
        handler.write(&mut cx, call, &mut Reply::new(&mut bytes, Protocol::Resp2));
        Ok(Part::Reply(bytes))
    }

    fn begin_save(&mut self, already: &'static str) -> Result<(), Refusal> {
        if !self.ready || self.stopping {
            return Err(not_ready());
        }
        if !self.request_checkpoint() {
            return Err(Refusal::text(already));
        }
        Ok(())
    }
}
