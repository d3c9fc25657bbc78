//! `SKEP`: changes of the cluster, as `skep node drain` and its kin ask for them.

use skep_base::{NodeId, Refusal, number};
use skep_placement::MetaCommand;

use super::{Call, Group};
use crate::Node;
use crate::on_client::not_ready;

pub const COMMANDS: Group = &[("skep|help", super::help), ("skep|node", node)];

/// Answers when the cluster has taken note. What a drain asks for takes its time after that; `skep status` shows it.
fn node(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let named = node.named(&call.args[3])?;
    let command = match () {
        () if call.args.is(2, "drain") => MetaCommand::Drain { node: named, on: true },
        () if call.args.is(2, "undrain") => MetaCommand::Drain { node: named, on: false },
        () if call.args.is(2, "remove") => MetaCommand::Remove { node: named },
        () => return Err(Refusal::Syntax),
    };
    let heard = *call.heard;
    node.ask_meta_for(call.conn, command, heard)
}

impl Node {
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
