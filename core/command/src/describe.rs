//! The replies of the `COMMAND` family, written from the table in the shapes of Redis 7.

use skep_base::{Args, Refusal, glob};
use skep_resp::Reply;

use crate::flags::{Categories, KeyFlags};
use crate::spec::{Begin, CommandSpec, Find, KeySpec};
use crate::syntax;
use crate::{COMMANDS, commands, id_of, lookup_full, resolve};

/// Answers `COMMAND` and its subcommands. `args` is the whole call, and has passed [`resolve`].
///
/// # Errors
/// As Redis: bad filters of LIST, and for GETKEYS commands that are unknown, short of arguments or without keys.
pub fn answer(args: Args<'_>, reply: &mut Reply<'_>) -> Result<(), Refusal> {
    let sub = args.get(1).map(<[u8]>::to_ascii_lowercase);
    match sub.as_deref() {
        None => all(reply),
        Some(b"info") if args.len() == 2 => all(reply),
        Some(b"info") => each_info(args.from(2), reply),
        Some(b"count") => reply.len(commands().count()),
        Some(b"docs") => docs(args.from(2), reply),
        Some(b"list") => list(args.from(2), reply)?,
        Some(b"getkeys") => keys_of(args.from(2), false, reply)?,
        Some(b"getkeysandflags") => keys_of(args.from(2), true, reply)?,
        Some(b"help") => help(id_of("command").spec(), reply),
        Some(_) => return Err(Refusal::Syntax),
    }
    Ok(())
}

/// Writes the help of a container: its subcommands, each with what it does.
pub fn help(container: &CommandSpec, reply: &mut Reply<'_>) {
    let subcommands = container.subcommands();
    reply.array(1 + 2 * subcommands.len());
    reply.simple(&format!(
        "{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        container.name.to_ascii_uppercase()
    ));
    for sub in subcommands {
        let call = format!("{} {}", sub.short_name().to_ascii_uppercase(), syntax::shown(sub.syntax));
        reply.simple(call.trim_end());
        reply.simple(&format!("    {}", sub.summary));
    }
}

fn all(reply: &mut Reply<'_>) {
    reply.array(commands().count());
    commands().for_each(|command| info(command, reply));
}

fn each_info(names: Args<'_>, reply: &mut Reply<'_>) {
    reply.array(names.len());
    for name in names.iter() {
        match lookup_full(name) {
            Some(command) => info(command, reply),
            None => reply.null(),
        }
    }
}

/// The ten elements of one command in `COMMAND INFO`.
fn info(command: &CommandSpec, reply: &mut Reply<'_>) {
    let (first, last, step) = first_last_step(command.keys);
    reply.array(10);
    reply.bulk(command.name.as_bytes());
    reply.int(i64::from(command.arity));
    reply.set(command.flags.len());
    command.flags.names().for_each(|name| reply.simple(name));
    reply.int(first);
    reply.int(last);
    reply.int(step);
    reply.set(command.categories.len());
    command.categories.names().for_each(|name| reply.simple(&format!("@{name}")));
    reply.set(command.tips.len());
    command.tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    reply.set(command.keys.len());
    command.keys.iter().for_each(|spec| key_spec(spec, reply));
    match command.subcommands() {
        [] => reply.set(0),
        subcommands => {
            reply.array(subcommands.len());
            subcommands.iter().for_each(|sub| info(sub, reply));
        }
    }
}

/// The positions as Redis gave them before version 7: a first and a last key, and the step between.
fn first_last_step(specs: &[KeySpec]) -> (i64, i64, i64) {
    let mut joined: Option<(i64, i64, i64)> = None;
    for spec in specs {
        let (Begin::Index(at), Find::Range { last, step, .. }) = (spec.begin, spec.find) else { continue };
        let (first, step) = (i64::from(at), i64::from(step));
        let last = if last >= 0 { first + i64::from(last) } else { i64::from(last) };
        joined = match joined {
            None => Some((first, last, step)),
            // Only keys that follow each other make one range.
            Some((start, end, 1)) if step == 1 && end == first - 1 => Some((start, last, 1)),
            Some(range) => Some(range),
        };
    }
    joined.unwrap_or_default()
}

fn key_spec(spec: &KeySpec, reply: &mut Reply<'_>) {
    reply.map(if spec.note.is_empty() { 3 } else { 4 });
    if !spec.note.is_empty() {
        text(reply, "notes", spec.note);
    }
    reply.bulk(b"flags");
    key_flags(spec.flags, reply);
    reply.bulk(b"begin_search");
    match spec.begin {
        Begin::Index(at) => {
            typed(reply, "index", 1);
            number(reply, "index", i64::from(at));
        }
        Begin::Keyword { word, from } => {
            typed(reply, "keyword", 2);
            text(reply, "keyword", word);
            number(reply, "startfrom", i64::from(from));
        }
        Begin::Hidden => typed(reply, "unknown", 0),
    }
    reply.bulk(b"find_keys");
    match spec.find {
        Find::Range { last, step, limit } => {
            typed(reply, "range", 3);
            number(reply, "lastkey", i64::from(last));
            number(reply, "keystep", i64::from(step));
            number(reply, "limit", i64::from(limit));
        }
        Find::Counted => {
            typed(reply, "keynum", 3);
            number(reply, "keynumidx", 0);
            number(reply, "firstkey", 1);
            number(reply, "keystep", 1);
        }
        Find::Hidden => typed(reply, "unknown", 0),
    }
}

fn key_flags(flags: KeyFlags, reply: &mut Reply<'_>) {
    reply.set(flags.len());
    flags.names().for_each(|name| reply.simple(name));
}

/// Begins `{type: kind, spec: {…}}`; `facts` pairs follow.
fn typed(reply: &mut Reply<'_>, kind: &str, facts: usize) {
    reply.map(2);
    text(reply, "type", kind);
    reply.bulk(b"spec");
    reply.map(facts);
}

fn text(reply: &mut Reply<'_>, name: &str, value: &str) {
    reply.bulk(name.as_bytes());
    reply.bulk(value.as_bytes());
}

fn number(reply: &mut Reply<'_>, name: &str, value: i64) {
    reply.bulk(name.as_bytes());
    reply.int(value);
}

fn docs(names: Args<'_>, reply: &mut Reply<'_>) {
    if names.is_empty() {
        reply.map(commands().count());
        commands().for_each(|command| doc(command, reply));
        return;
    }
    let known = names.iter().filter_map(lookup_full);
    reply.map(known.clone().count());
    known.for_each(|command| doc(command, reply));
}

/// A command's name, and what is to be known about it as a map.
fn doc(command: &CommandSpec, reply: &mut Reply<'_>) {
    let subcommands = command.subcommands();
    reply.bulk(command.name.as_bytes());
    let extras = [
        if command.deprecated.is_some() { 3 } else { 0 },
        usize::from(!command.syntax.is_empty()),
        usize::from(!subcommands.is_empty()),
    ];
    reply.map(4 + extras.iter().sum::<usize>());
    text(reply, "summary", command.summary);
    text(reply, "since", command.since);
    text(reply, "group", command.group.name());
    text(reply, "complexity", command.complexity);
    if let Some(deprecated) = command.deprecated {
        reply.bulk(b"doc_flags");
        reply.set(1);
        reply.simple("deprecated");
        text(reply, "deprecated_since", deprecated.since);
        text(reply, "replaced_by", deprecated.instead);
    }
    if !command.syntax.is_empty() {
        let told = command.keys.iter().filter(|k| k.begin != Begin::Hidden).count();
        reply.bulk(b"arguments");
        syntax::write(&syntax::arguments(command.syntax), told, reply);
    }
    if !subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(subcommands.len());
        subcommands.iter().for_each(|sub| doc(sub, reply));
    }
}

/// `COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN glob]`: names, those of subcommands included.
fn list(filter: Args<'_>, reply: &mut Reply<'_>) -> Result<(), Refusal> {
    if filter.is_empty() {
        names(COMMANDS.iter(), reply);
        return Ok(());
    }
    if filter.len() != 3 || !filter.is(0, "filterby") {
        return Err(Refusal::Syntax);
    }
    let value = &filter[2];
    if filter.is(1, "module") {
        reply.array(0);
    } else if filter.is(1, "aclcat") {
        let category = Categories::named(value);
        names(COMMANDS.iter().filter(|c| category.is_some_and(|wanted| c.categories.has(wanted))), reply);
    } else if filter.is(1, "pattern") {
        names(COMMANDS.iter().filter(|c| glob::matches_with(value, c.name.as_bytes(), true)), reply);
    } else {
        return Err(Refusal::Syntax);
    }
    Ok(())
}

fn names(list: impl Iterator<Item = &'static CommandSpec> + Clone, reply: &mut Reply<'_>) {
    reply.array(list.clone().count());
    list.for_each(|command| reply.bulk(command.name.as_bytes()));
}

/// `COMMAND GETKEYS` and `GETKEYSANDFLAGS`; `call` is the command that is asked about.
fn keys_of(call: Args<'_>, with_flags: bool, reply: &mut Reply<'_>) -> Result<(), Refusal> {
    let command = match resolve(call) {
        Ok(command) => command,
        Err(Refusal::WrongArity(name)) => {
            let has_keys = lookup_full(name.as_bytes()).is_some_and(|c| !c.keys.is_empty());
            return Err(if has_keys { SHORT } else { NO_KEYS });
        }
        Err(_) => return Err(Refusal::text("ERR Invalid command specified")),
    };
    if command.keys.is_empty() {
        return Err(NO_KEYS);
    }
    let keys =
        command.keys(call).map_err(|_| Refusal::text("ERR Invalid arguments specified for command"))?;
    reply.array(keys.len());
    for key in keys.iter() {
        if with_flags {
            reply.array(2);
        }
        reply.bulk(&call[key.index]);
        if with_flags {
            key_flags(key.flags, reply);
        }
    }
    Ok(())
}

const NO_KEYS: Refusal = Refusal::text("ERR The command has no key arguments");
const SHORT: Refusal = Refusal::text("ERR Invalid number of arguments specified for command");
