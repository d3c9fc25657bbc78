//! What scripts did that their clients' nodes are to know: what they were denied, for `ACL LOG`, and which keys they have read
//! that their calls do not name, for client-side caching. Told by whoever answers the call, to the cell that has its client.
//!
//! Each replica runs a script, and one of them answers; so it is told once. Without a client a denial is dropped.

use skep_acl::{Context, Reason};
use skep_base::{ConnId, Term};
use skep_command::CommandSpec;
use skep_keyspace::Keyspace;
use skep_keyspace::scripts::{Forbidden, ScriptDenial, ScriptNote};
use skep_peer::Answer;

use crate::Node;
use crate::batch::{Call, Origin};
use crate::cells::Message;
use crate::scripting::may_run_script;
use crate::transaction::EXEC;

/// Where a script ran.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ran {
    /// In the cell of its client, which hears of what happens to keys behind that.
    Here,
    /// Elsewhere: what has happened to the keys since then may have been heard here before the reply.
    Elsewhere,
}

/// True for the commands that may run scripts.
#[inline]
pub(crate) fn may_have_notes(command: &CommandSpec) -> bool {
    may_run_script(command) || command.id() == EXEC
}

/// What the scripts of a command that has just run did.
#[inline]
pub(crate) fn script_notes_of(keyspace: &Keyspace, command: &CommandSpec) -> Vec<ScriptNote> {
    match may_have_notes(command) {
        true => keyspace.take_script_notes(),
        false => Vec::new(),
    }
}

impl Node {
    /// Tells whoever has the client of a call what its scripts did here.
    pub(crate) fn tell_script_notes(&mut self, at: usize, term: Term, call: &Call, notes: Vec<ScriptNote>) {
        self.pass_script_notes(at, term, (call, Ran::Here), notes);
    }

    pub(crate) fn pass_script_notes(
        &mut self,
        at: usize,
        term: Term,
        (call, ran): (&Call, Ran),
        mut notes: Vec<ScriptNote>,
    ) {
        if !call.caches {
            notes.retain(|note| matches!(note, ScriptNote::Denied(_)));
        }
        if notes.is_empty() {
            return;
        }
        match call.origin {
            Origin::Nobody => {}
            Origin::Client { cell, conn, .. } if usize::from(cell) == self.cells.me => {
                self.on_script_notes(conn, notes, ran);
            }
            Origin::Client { cell, conn, .. } => {
                self.cells.send(usize::from(cell), Message::OfScript { conn, notes });
            }
            Origin::Peer { node, incarnation, number, index } => {
                let session = (self.shards[at].id, term);
                for note in &notes {
                    let answer = match note {
                        ScriptNote::Denied(ScriptDenial { forbidden, object, user }) => {
                            Answer::Denied { forbidden: *forbidden as u8, object, user }
                        }
                        ScriptNote::Read(key) => Answer::ScriptRead(key),
                        ScriptNote::ReadMany => Answer::ScriptReadMany,
                    };
                    self.answers.push((node, incarnation), session, (number, index), answer);
                }
            }
        }
    }

    /// Takes note of what scripts of a client of this cell did.
    #[cold]
    pub(crate) fn on_script_notes(&mut self, conn: ConnId, notes: Vec<ScriptNote>, ran: Ran) {
        for note in notes {
            match note {
                ScriptNote::Denied(denial) => self.log_denial(conn, &denial),
                ScriptNote::Read(key) => self.on_script_read(conn, Some(key), ran),
                ScriptNote::ReadMany => self.on_script_read(conn, None, ran),
            }
        }
    }

    fn log_denial(&mut self, conn: ConnId, denial: &ScriptDenial) {
        let ScriptDenial { forbidden, object, user } = denial;
        let now = self.now.wall;
        let max = usize::try_from(self.settings.acllog_max_len()).unwrap_or(usize::MAX);
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

/// What another node says that a script did; `None` if it is the answer itself.
pub(crate) fn script_note_of(answer: &Answer<'_>) -> Option<ScriptNote> {
    match *answer {
        Answer::Denied { forbidden, object, user } => {
            let forbidden = match forbidden {
                0 => Forbidden::Command,
                1 => Forbidden::Key,
                _ => Forbidden::Channel,
            };
            let (object, user) = (object.to_vec(), user.to_vec());
            Some(ScriptNote::Denied(ScriptDenial { forbidden, object, user }))
        }
        Answer::ScriptRead(key) => Some(ScriptNote::Read(key.into())),
        Answer::ScriptReadMany => Some(ScriptNote::ReadMany),
        Answer::Reply(_) | Answer::NotDone | Answer::Parked => None,
    }
}

#[cfg(test)]
mod tests;
