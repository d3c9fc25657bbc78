//! Commands about scripts that no shard is asked for.

use skep_base::Refusal;

use super::{Call, Group};
use crate::Node;

pub const COMMANDS: Group = &[
    ("function|help", super::help),
    ("function|kill", kill),
    ("script|debug", debug),
    ("script|help", super::help),
    ("script|kill", kill),
];

/// A script ends within its limits before anything else is looked at: none is ever found running (decision 14).
fn kill(_: &mut Node, _: Call) -> Result<(), Refusal> {
    Err(Refusal::text("NOTBUSY No scripts in execution right now."))
}

/// `SCRIPT DEBUG YES | SYNC | NO`
fn debug(_: &mut Node, call: Call) -> Result<(), Refusal> {
    if call.args.is(2, "no") {
        call.reply.ok();
        return Ok(());
    }
    if call.args.is(2, "yes") || call.args.is(2, "sync") {
        return Err(Refusal::text(
            "ERR there is no debugger of scripts: a script that stands still would hold up its shard",
        ));
    }
    Err(Refusal::text("ERR Use SCRIPT DEBUG YES/SYNC/NO"))
}
