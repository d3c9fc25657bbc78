//! `CONFIG`: the settings of this node, read and changed while it runs.

use skep_acl::DEFAULT_USER;
use skep_base::{Args, Refusal};

use super::{Call, Group, Parts};
use crate::cells::{Caller, Part};
use crate::{Node, Output};

pub const COMMANDS: Group = &[
    ("config|get", get),
    ("config|help", super::help),
    ("config|resetstat", resetstat),
    ("config|rewrite", rewrite),
    ("config|set", set),
];

pub const PARTS: Parts = &[("config|resetstat", resetstat_part), ("config|set", set_part)];

fn get(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let patterns: Vec<&[u8]> = call.args.from(2).iter().collect();
    let found = node.settings.config_get(&patterns);
    call.reply.map(found.len());
    for (name, value) in found {
        // A name that is no pattern is told as it was asked for.
        let asked = patterns.iter().find(|p| p.eq_ignore_ascii_case(name.as_bytes()));
        call.reply.bulk(asked.map_or(name.as_bytes(), |p| p));
        call.reply.bulk(value.as_bytes());
    }
    Ok(())
}

fn set(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    node.parts(&mut call)?;
    call.reply.ok();
    Ok(())
}

/// All cells have the same settings and take changes in the same order, so they agree on what is refused.
fn set_part(node: &mut Node, _: Caller, args: Args<'_>, _: &mut Vec<Output>) -> Result<Part, Refusal> {
    let pairs: Vec<&[u8]> = args.from(2).iter().collect();
    let names_password = pairs.iter().step_by(2).any(|name| name.eq_ignore_ascii_case(b"requirepass"));
    if names_password && node.meta.state.users.contains_key(DEFAULT_USER) {
        return Err(Refusal::text(
            "ERR the passwords of the default user were set by ACL SETUSER, and requirepass does not change them: use ACL \
             SETUSER default resetpass >password",
        ));
    }
    let changed = node.settings.config_set(&pairs)?;
    if !changed.is_empty() {
        node.configure();
    }
    Ok(Part::Done)
}

fn resetstat(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    node.parts(&mut call)?;
    call.reply.ok();
    Ok(())
}

fn resetstat_part(node: &mut Node, _: Caller, _: Args<'_>, _: &mut Vec<Output>) -> Result<Part, Refusal> {
    node.reset_stats();
    Ok(Part::Done)
}

fn rewrite(_: &mut Node, _: Call) -> Result<(), Refusal> {
    Err(Refusal::text(
        "ERR skep does not write its configuration: put settings into the file given with --config, into SKEP_* \
         variables, or give them as flags",
    ))
}
