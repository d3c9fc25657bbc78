//! `CONFIG`: the settings of this node, read and changed while it runs; and those of the whole cluster, which are changed by
//! asking for a change of the meta state.

use skep_acl::DEFAULT_USER;
use skep_base::{Args, Refusal};
use skep_placement::MetaCommand;
use skep_settings::{ConfigSet, names_shared};

use super::{Call, Group, Parts};
use crate::cells::{Caller, Part};
use crate::cluster::AskReply;
use crate::run::not_ready;
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

/// Where the cluster is asked, it answers when all nodes that are heard have the change. Settings of this node that are set by
/// the same command are set at once.
fn set(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    if node.has_parts() {
        node.parts(&mut call)?;
    } else if let Some(asked) = node.change_settings(call.args)? {
        let done = node.ask_meta_for(call.conn, asked.command(), AskReply::Ok, *call.heard);
        return done.map_err(|refusal| asked.refusal(refusal));
    }
    call.reply.ok();
    Ok(())
}

/// All cells have the same settings and take changes in the same order, so they agree on what is refused. The hub asks the
/// cluster.
fn set_part(node: &mut Node, caller: Caller, args: Args<'_>, _: &mut Vec<Output>) -> Result<Part, Refusal> {
    match node.change_settings(args)? {
        Some(asked) if node.cells.is_hub() => {
            let part = node.ask_meta_for_part(caller, asked.command(), AskReply::Ok);
            part.map_err(|refusal| asked.refusal(refusal))
        }
        _ => Ok(Part::Done),
    }
}

/// What a `CONFIG SET` asks of the cluster beside what it has done here.
struct Asked(ConfigSet);

impl Asked {
    fn command(&self) -> MetaCommand {
        MetaCommand::SetSettings { pairs: self.0.shared.clone() }
    }

    /// The cluster was not asked, for this reason, which says that nothing was done.
    fn refusal(&self, refusal: Refusal) -> Refusal {
        match self.0.changed.is_empty() {
            true => refusal,
            false => Refusal::format(format!(
                "TRYAGAIN too many changes of the cluster wait already; of this command only {} was carried out",
                self.0.changed.join(", ")
            )),
        }
    }
}

/// True if a `CONFIG SET` asks for a change of the cluster.
pub(crate) fn asks_cluster(args: Args<'_>) -> bool {
    names_shared(&args.from(2).iter().collect::<Vec<_>>())
}

impl Node {
    /// Carries out what a `CONFIG SET` asks of this node, and gives what it asks of the cluster.
    ///
    /// # Errors
    /// It is refused whole; nothing has changed.
    fn change_settings(&mut self, args: Args<'_>) -> Result<Option<Asked>, Refusal> {
        let pairs: Vec<&[u8]> = args.from(2).iter().collect();
        let names_password = pairs.iter().step_by(2).any(|name| name.eq_ignore_ascii_case(b"requirepass"));
        if names_password && self.meta.state.users.contains_key(DEFAULT_USER) {
            return Err(Refusal::text(
                "ERR the passwords of the default user were set by ACL SETUSER, and requirepass does not change them: use ACL \
                 SETUSER default resetpass >password",
            ));
        }
        if asks_cluster(args) && !self.ready {
            return Err(not_ready());
        }
        let asked = self.settings.config_set(&pairs)?;
        if !asked.changed.is_empty() {
            self.configure();
        }
        Ok((!asked.shared.is_empty()).then_some(Asked(asked)))
    }
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
