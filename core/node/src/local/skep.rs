//! `SKEP`: changes of the cluster, as `skep node drain` and its kin ask for them.

use skep_base::{Args, NodeId, Refusal, number};
use skep_placement::MetaCommand;

use super::{Call, Group, Parts};
use crate::cells::{Caller, Part};
use crate::cluster::AskReply;
use crate::run::not_ready;
use crate::{Node, Output};

pub const COMMANDS: Group = &[("skep|help", super::help), ("skep|node", node)];

pub const PARTS: Parts = &[("skep|node", node_part)];

/// Answers when the cluster has taken note. What a drain asks for takes its time after that; `skep status` shows it.
fn node(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    if node.has_parts() {
        node.parts(&mut call)?;
        call.reply.ok();
        return Ok(());
    }
    let command = node.change_of_node(call.args)?;
    let heard = *call.heard;
    node.ask_meta_for(call.conn, command, AskReply::Ok, heard)
}

/// The hub asks for it; the others have nothing to do.
fn node_part(node: &mut Node, caller: Caller, args: Args<'_>, _: &mut Vec<Output>) -> Result<Part, Refusal> {
    if !node.cells.is_hub() {
        return Ok(Part::Done);
    }
    let command = node.change_of_node(args)?;
    node.ask_meta_for_part(caller, command, AskReply::Ok)
}

impl Node {
    fn change_of_node(&self, args: Args<'_>) -> Result<MetaCommand, Refusal> {
        let named = self.named(&args[3])?;
        Ok(match () {
            () if args.is(2, "drain") => MetaCommand::Drain { node: named, on: true },
            () if args.is(2, "undrain") => MetaCommand::Drain { node: named, on: false },
            () if args.is(2, "remove") => MetaCommand::Remove { node: named },
            () => return Err(Refusal::Syntax),
        })
    }

    /// A member by its name or its id.
    fn named(&self, name: &[u8]) -> Result<NodeId, Refusal> {
        if !self.ready {
            return Err(not_ready());
        }
        let nodes = &self.meta.state.nodes;
        let id = number::parse_i64(name).and_then(|id| u64::try_from(id).ok()).map(NodeId);
        let by_name = nodes.iter().find(|(_, member)| member.record.name.as_bytes() == name);
        let found = by_name.map(|(id, _)| *id).or(id.filter(|id| nodes.contains_key(id)));
        found.ok_or_else(|| {
            let known: Vec<&str> = nodes.values().map(|member| member.record.name.as_str()).collect();
            let name = String::from_utf8_lossy(name);
            Refusal::format(format!("ERR no node is called {name}; there are {}", known.join(", ")))
        })
    }
}
