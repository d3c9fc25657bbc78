//! `CONFIG`: the settings of this node, read and changed while it runs.

use skep_base::Refusal;

use super::{Call, Group};
use crate::Node;

pub const COMMANDS: Group = &[
    ("config|get", get),
    ("config|help", super::help),
    ("config|resetstat", resetstat),
    ("config|rewrite", rewrite),
    ("config|set", set),
];

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

fn set(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let pairs: Vec<&[u8]> = call.args.from(2).iter().collect();
    let changed = node.settings.config_set(&pairs)?;
    if !changed.is_empty() {
        node.configure();
    }
    call.reply.ok();
    Ok(())
}

fn resetstat(node: &mut Node, call: Call) -> Result<(), Refusal> {
    node.reset_stats();
    call.reply.ok();
    Ok(())
}

fn rewrite(_: &mut Node, _: Call) -> Result<(), Refusal> {
    Err(Refusal::text(
        "ERR skep does not write its configuration: put settings into the file given with --config, into SKEP_* \
         variables, or give them as flags",
    ))
}
