//! `ACL`: users are read from what this cell knows of the meta state, and changed by asking for a change of it.

use skep_acl::{
    DEFAULT_USER, Denial, Denied, GENERATED_BITS_MAX, Rule, Selector, User, is_valid_name, join_selectors,
};
use skep_base::{Args, Refusal, number};
use skep_command::{COMMANDS as TABLE, Categories, resolve};
use skep_placement::MetaCommand;
use skep_resp::Reply;

use super::{Call, Group, Parts, too_many};
use crate::acl::first_default;
use crate::cells::{Caller, Part};
use crate::cluster::AskReply;
use crate::run::not_ready;
use crate::{Node, Output};

pub const COMMANDS: Group = &[
    ("acl|cat", cat),
    ("acl|deluser", deluser),
    ("acl|dryrun", dryrun),
    ("acl|genpass", genpass),
    ("acl|getuser", getuser),
    ("acl|help", super::help),
    ("acl|list", list),
    ("acl|load", load),
    ("acl|log", log),
    ("acl|save", save),
    ("acl|setuser", setuser),
    ("acl|users", users),
    ("acl|whoami", whoami),
];

pub const PARTS: Parts =
    &[("acl|deluser", deluser_part), ("acl|log", log_part), ("acl|setuser", setuser_part)];

/// Entries of `ACL LOG` without a number.
const LOG_COUNT: usize = 10;

fn whoami(node: &mut Node, call: Call) -> Result<(), Refusal> {
    call.reply.bulk(&node.client(call.conn).user);
    Ok(())
}

fn users(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let users = node.acl.users();
    call.reply.array(users.len());
    users.for_each(|(name, _)| call.reply.bulk(name));
    Ok(())
}

fn list(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let users = node.acl.users();
    call.reply.array(users.len());
    users.for_each(|(name, user)| call.reply.bulk(&[b"user ", name, b" ", &user.line()].concat()));
    Ok(())
}

fn getuser(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let reply = call.reply;
    let Some(user) = node.acl.user(&call.args[2]) else {
        reply.null();
        return Ok(());
    };
    reply.map(6);
    reply.bulk(b"flags");
    let flags = user.flags();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"passwords");
    reply.array(user.passwords.len());
    user.passwords.iter().for_each(|hash| reply.bulk(hash.to_string().as_bytes()));
    describe(&user.root, reply);
    reply.bulk(b"selectors");
    reply.array(user.selectors.len());
    for selector in &user.selectors {
        reply.map(3);
        describe(selector, reply);
    }
    Ok(())
}

fn describe(selector: &Selector, reply: &mut Reply<'_>) {
    for (name, line) in [
        ("commands", selector.commands_line()),
        ("keys", selector.keys_line()),
        ("channels", selector.channels_line()),
    ] {
        reply.bulk(name.as_bytes());
        reply.bulk(&line);
    }
}

fn cat(_: &mut Node, call: Call) -> Result<(), Refusal> {
    let names: Vec<&str> = match call.args.get(2) {
        _ if call.args.len() > 3 => return Err(too_many(call.args)),
        None => Categories::NAMES.to_vec(),
        Some(name) => {
            let category = Categories::named(name).ok_or_else(|| {
                Refusal::format(format!("ERR Unknown category '{}'", String::from_utf8_lossy(name)))
            })?;
            TABLE
                .iter()
                .filter(|command| command.categories.has(category))
                .map(|command| command.name)
                .collect()
        }
    };
    call.reply.array(names.len());
    names.iter().for_each(|name| call.reply.bulk(name.as_bytes()));
    Ok(())
}

fn genpass(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let bits = match call.args.get(2) {
        _ if call.args.len() > 3 => return Err(too_many(call.args)),
        None => 256,
        Some(bits) => number::parse_i64(bits).ok_or(Refusal::NotInteger)?,
    };
    let bits = u64::try_from(bits).ok().filter(|bits| (1..=GENERATED_BITS_MAX).contains(bits)).ok_or_else(|| {
        Refusal::format(format!(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to \
             {GENERATED_BITS_MAX}"
        ))
    })?;
    call.reply.bulk(node.acl.generator.hex(bits).as_bytes());
    Ok(())
}

fn dryrun(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let (name, tried) = (&call.args[2], call.args.from(3));
    let Some(rights) = node.acl.rights_of(name) else {
        return Err(Refusal::format(format!("ERR User '{}' not found", String::from_utf8_lossy(name))));
    };
    let command = match resolve(tried) {
        Ok(command) => command,
        Err(Refusal::WrongArity(name)) => return Err(Refusal::WrongArity(name)),
        Err(_) => {
            let name = String::from_utf8_lossy(&tried[0]).into_owned();
            return Err(Refusal::format(format!("ERR Command '{name}' not found")));
        }
    };
    match rights.check(command, tried) {
        Ok(()) => call.reply.ok(),
        Err(denied) => {
            let object = match denied {
                Denied::Command | Denied::Pattern(_) => &[],
                Denied::Key(at) | Denied::Channel(at) => &tried[at],
            };
            call.reply.bulk(denied.at_length(name, command, object).as_bytes());
        }
    }
    Ok(())
}

/// Each change of a user is on the disks of a majority before it is answered, so there is nothing left to save.
fn save(_: &mut Node, call: Call) -> Result<(), Refusal> {
    call.reply.ok();
    Ok(())
}

fn load(_: &mut Node, _: Call) -> Result<(), Refusal> {
    Err(Refusal::text(
        "ERR there is no ACL file to load: the cluster keeps its users, on all nodes; change them with ACL SETUSER and ACL \
         DELUSER",
    ))
}

// ---- changes -------------------------------------------------------------------------------------------------------------

fn setuser(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    if node.has_parts() {
        node.parts(&mut call)?;
        call.reply.ok();
        return Ok(());
    }
    let command = node.change_of_user(call.args)?;
    node.ask_meta_for(call.conn, command, AskReply::Ok, *call.heard)
}

/// The hub asks for it; the others have nothing to do.
fn setuser_part(
    node: &mut Node,
    caller: Caller,
    args: Args<'_>,
    _: &mut Vec<Output>,
) -> Result<Part, Refusal> {
    if !node.cells.is_hub() {
        return Ok(Part::Done);
    }
    let command = node.change_of_user(args)?;
    node.ask_meta_for_part(caller, command, AskReply::Ok)
}

fn deluser(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    if node.has_parts() {
        let of = |part: Part| if let Part::Count(deleted) = part { deleted } else { 0 };
        let deleted: usize = node.parts(&mut call)?.into_iter().map(of).sum();
        call.reply.len(deleted);
        return Ok(());
    }
    let (command, reply) = node.end_of_users(call.args)?;
    node.ask_meta_for(call.conn, command, reply, *call.heard)
}

fn deluser_part(
    node: &mut Node,
    caller: Caller,
    args: Args<'_>,
    _: &mut Vec<Output>,
) -> Result<Part, Refusal> {
    if !node.cells.is_hub() {
        return Ok(Part::Done);
    }
    let (command, reply) = node.end_of_users(args)?;
    node.ask_meta_for_part(caller, command, reply)
}

impl Node {
    /// The change that an `ACL SETUSER` asks for, tried on the user as this node knows it. Passwords are left behind here.
    fn change_of_user(&self, args: Args<'_>) -> Result<MetaCommand, Refusal> {
        if !self.ready {
            return Err(not_ready());
        }
        let name = &args[2];
        if !is_valid_name(name) {
            return Err(Refusal::text("ERR Usernames can't contain spaces or null characters"));
        }
        let texts = join_selectors(args.from(3).iter()).map_err(|first| {
            let first = String::from_utf8_lossy(first);
            Refusal::format(format!("ERR Unmatched parenthesis in acl selector starting at '{first}'."))
        })?;
        // The first change of the default user keeps the password that it has by the settings, as in Redis.
        let first = match name == DEFAULT_USER {
            true => first_default(self.settings.requirepass()).rules(),
            false => Vec::new(),
        };
        let mut user = self.acl.user(name).cloned().unwrap_or_else(User::default);
        let mut rules = Vec::new();
        for text in &texts {
            let refuse = |cause| {
                let text = String::from_utf8_lossy(text);
                Refusal::format(format!("ERR Error in ACL SETUSER modifier '{text}': {cause}"))
            };
            let Some(rule) = Rule::parse(text).map_err(refuse)? else { continue };
            rule.check_commands().map_err(refuse)?;
            user.apply(&rule).map_err(refuse)?;
            rules.push(rule.text());
        }
        Ok(MetaCommand::SetUser { name: name.to_vec(), first, rules })
    }

    /// The change that an `ACL DELUSER` asks for, and how many users there are to delete, as far as this node knows.
    fn end_of_users(&self, args: Args<'_>) -> Result<(MetaCommand, AskReply), Refusal> {
        if !self.ready {
            return Err(not_ready());
        }
        let mut names: Vec<Vec<u8>> = args.from(2).iter().map(<[u8]>::to_vec).collect();
        names.sort_unstable();
        names.dedup();
        if names.iter().any(|name| name == DEFAULT_USER) {
            return Err(Refusal::text("ERR The 'default' user cannot be removed"));
        }
        let known = names.iter().filter(|name| self.acl.user(name).is_some()).count();
        Ok((MetaCommand::DelUsers { names }, AskReply::Count(known)))
    }
}

// ---- the log -------------------------------------------------------------------------------------------------------------

fn log(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let mut denials: Vec<Denial> = Vec::new();
    for part in node.parts(&mut call)? {
        if let Part::Denials(of) = part {
            denials.extend(of);
        }
    }
    if call.args.is(2, "reset") {
        call.reply.ok();
        return Ok(());
    }
    let count = match call.args.get(2) {
        None => LOG_COUNT,
        Some(count) => usize::try_from(number::parse_i64(count).ok_or(Refusal::NotInteger)?).unwrap_or(0),
    };
    denials.sort_by_key(|denial| std::cmp::Reverse(denial.updated));
    denials.truncate(count);
    call.reply.array(denials.len());
    denials.iter().for_each(|denial| write_denial(denial, node.now.wall.since(denial.updated), call.reply));
    Ok(())
}

fn log_part(node: &mut Node, _: Caller, args: Args<'_>, _: &mut Vec<Output>) -> Result<Part, Refusal> {
    match args.get(2) {
        _ if args.len() > 3 => return Err(too_many(args)),
        Some(_) if args.is(2, "reset") => node.acl.log.clear(),
        Some(count) if number::parse_i64(count).is_none() => return Err(Refusal::NotInteger),
        _ => {}
    }
    // Each cell counts from 0.
    let (cells, me) = (node.cells.count as u64, node.cells.me as u64);
    let of_node = |denial: &Denial| Denial { id: denial.id * cells + me, ..denial.clone() };
    Ok(Part::Denials(node.acl.log.iter().map(of_node).collect()))
}

fn write_denial(denial: &Denial, age_ms: u64, reply: &mut Reply<'_>) {
    let text = |reply: &mut Reply<'_>, name: &str, value: &[u8]| {
        reply.bulk(name.as_bytes());
        reply.bulk(value);
    };
    reply.map(10);
    reply.bulk(b"count");
    reply.int(denial.count as i64);
    text(reply, "reason", denial.reason.name().as_bytes());
    text(reply, "context", denial.context.name().as_bytes());
    text(reply, "object", &denial.object);
    text(reply, "username", &denial.user);
    reply.bulk(b"age-seconds");
    reply.double(age_ms as f64 / 1e3);
    text(reply, "client-info", denial.client.as_bytes());
    for (name, value) in [
        ("entry-id", denial.id),
        ("timestamp-created", denial.created.0),
        ("timestamp-last-updated", denial.updated.0),
    ] {
        reply.bulk(name.as_bytes());
        reply.int(value as i64);
    }
}
