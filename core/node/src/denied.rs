//! What scripts were denied, for `ACL LOG`: told by whoever answers the call, to the cell that has its client.
//!
//! Each replica runs a script, and one of them answers; so a denial is told once. Without a client to be told of it is
//! dropped.

use skep_acl::{Context, Reason};
use skep_base::{ConnId, Term};
use skep_command::CommandSpec;
use skep_keyspace::Keyspace;
use skep_keyspace::scripts::{Forbidden, ScriptDenial};
use skep_peer::Answer;

use crate::Node;
use crate::batch::{Call, Origin};
use crate::cells::Message;
use crate::scripting::may_run_script;
use crate::transaction::EXEC;

/// True for the commands whose scripts may be denied something.
#[inline]
pub(crate) fn may_be_denied(command: &CommandSpec) -> bool {
    may_run_script(command) || command.id() == EXEC
}

/// What the scripts of a command that has just run were denied.
#[inline]
pub(crate) fn denials_of(keyspace: &Keyspace, command: &CommandSpec) -> Vec<ScriptDenial> {
    match may_be_denied(command) {
        true => keyspace.take_script_denials(),
        false => Vec::new(),
    }
}

impl Node {
    /// Tells whoever has the client of a call what its scripts were denied.
    pub(crate) fn tell_denials(&mut self, at: usize, term: Term, call: &Call, denials: Vec<ScriptDenial>) {
        if denials.is_empty() {
            return;
        }
        match call.origin {
            Origin::Nobody => {}
            Origin::Client { cell, conn, .. } if usize::from(cell) == self.cells.me => {
                self.note_script_denials(conn, &denials);
            }
            Origin::Client { cell, conn, .. } => {
                self.cells.send(usize::from(cell), Message::Denied { conn, denials });
            }
            Origin::Peer { node, incarnation, number, index } => {
                let session = (self.shards[at].id, term);
                for ScriptDenial { forbidden, object, user } in &denials {
                    let answer = Answer::Denied { forbidden: *forbidden as u8, object, user };
                    self.answers.push((node, incarnation), session, (number, index), answer);
                }
            }
        }
    }

    /// Takes note of what scripts of a client of this cell were denied.
    #[cold]
    pub(crate) fn note_script_denials(&mut self, conn: ConnId, denials: &[ScriptDenial]) {
        let now = self.now.wall;
        let max = usize::try_from(self.settings.acllog_max_len()).unwrap_or(usize::MAX);
        for ScriptDenial { forbidden, object, user } in denials {
            let reason = match forbidden {
                Forbidden::Command => Reason::Command,
                Forbidden::Key => Reason::Key,
                Forbidden::Channel => Reason::Channel,
            };
            // What is left of a client that is gone is what it was denied.
            let shown = self.clients.get(conn).map(|client| self.line_of(client)).unwrap_or_default();
            self.acl.log.add(reason, Context::Script, object, user, shown, now, max);
        }
    }
}

/// What another node says that a script was denied.
pub(crate) fn denial_of(forbidden: u8, object: &[u8], user: &[u8]) -> ScriptDenial {
    let forbidden = match forbidden {
        0 => Forbidden::Command,
        1 => Forbidden::Key,
        _ => Forbidden::Channel,
    };
    ScriptDenial { forbidden, object: object.to_vec(), user: user.to_vec() }
}

#[cfg(test)]
mod tests;
