//! Scripts that one shard knows and another does not: who sent `EVAL` may call the script by its name everywhere, for clients know
//! of one store and not of its shards.
//!
//! Before this cell gives a shard the first call by a name, it asks the shard whether it knows that script; if not, it asks the
//! others for the source, which then comes with the call ([`Head::scripts`](skep_keyspace::Head)) and is remembered there. The
//! client waits for that, so its commands stay in order. `SCRIPT LOAD`, which all shards get, needs none of this.

use std::collections::BTreeSet;

use skep_base::args::OwnedArgs;
use skep_base::{Args, ConnId, GroupId, Millis};
use skep_command::{CommandId, CommandSpec, carried_out, id_of};
use skep_keyspace::handler_of;
use skep_keyspace::scripts::Sha;
use skep_resp::Value;

use crate::joined::Becomes;
use crate::run::{Asked, call_of};
use crate::{Node, Output};

const SHOW: CommandId = id_of("script|show");

/// Scripts of which it is noted that their shards know them. With more all is forgotten, and asked again.
const KNOWN_MAX: usize = 10_000;

/// How long the others are not asked after one of them did not answer: who calls scripts that nobody knows would wait for it
/// each time.
const UNASKED_MS: u64 = 10_000;

/// What this cell knows of which shards know which scripts.
#[derive(Default)]
pub(crate) struct ScriptSources {
    known: BTreeSet<(GroupId, Sha)>,
    /// Replies `NOSCRIPT` so far: after another one nothing is known any more, since shards forget (`SCRIPT FLUSH`).
    missed: u64,
    unasked_until: Millis,
}

/// A script that a client's call names, until the call has run.
pub(crate) struct SoughtScript {
    group: GroupId,
    sha: Sha,
    state: Search,
}

enum Search {
    /// Its shard was asked.
    AtShard,
    /// Its shard does not know it.
    Missing,
    /// The others were asked.
    Elsewhere,
    Found(Vec<u8>),
    /// Nobody knows it, or nobody can say. Its shard refuses the call in its own words.
    Nowhere,
}

/// What a call of a script needs.
pub(crate) enum SourceFor {
    None,
    /// This source is to come with it.
    Call(Vec<u8>),
    /// Shards are being asked; the call stays in the input until they have answered.
    Sought,
}

/// The script that a command calls by its name, also by ONCE.
pub(crate) fn script_called(command: &'static CommandSpec, args: Args<'_>) -> Option<Sha> {
    let (command, args) = carried_out(command, args);
    if matches!(command.name, "evalsha" | "evalsha_ro") { Sha::parse(&args[1]) } else { None }
}

impl Node {
    /// What a call needs that a client sends to a shard, of several; `relies`: what was noted before is enough. Cost: a lookup, and
    /// for the first call of a script in this cell a read of its shard.
    pub(crate) fn source_for(
        &mut self,
        conn: ConnId,
        group: GroupId,
        command: &'static CommandSpec,
        args: Args<'_>,
        relies: bool,
        out: &mut Vec<Output>,
    ) -> SourceFor {
        let sought = self.client(conn).seeks.take();
        let Some(sha) = script_called(command, args) else { return SourceFor::None };
        if self.has_script(group, sha) || relies && self.is_script_noted(group, sha) {
            return SourceFor::None;
        }
        let begun = sought.filter(|sought| (sought.group, sought.sha) == (group, sha));
        let (groups, state) = match begun.map(|sought| sought.state) {
            Some(Search::Found(source)) => return SourceFor::Call(source),
            Some(Search::Nowhere) => return SourceFor::None,
            Some(Search::Missing) if self.now.mono < self.script_sources.unasked_until => {
                return SourceFor::None;
            }
            Some(Search::Missing) => {
                let others = self.meta.state.shards.keys().copied().filter(|other| *other != group);
                (others.collect(), Search::Elsewhere)
            }
            None | Some(Search::AtShard | Search::Elsewhere) => (vec![group], Search::AtShard),
        };
        let client = self.client(conn);
        client.waiting = true;
        if client.pending() == 0 {
            client.seeks = Some(Box::new(SoughtScript { group, sha, state }));
            self.ask_for_source(conn, sha, &groups, out);
        }
        SourceFor::Sought
    }

    /// True if a copy of the shard is here that knows it.
    fn has_script(&self, group: GroupId, sha: Sha) -> bool {
        let replica = self.shard_of_group(group).and_then(|at| self.shards[at].replica.as_ref());
        replica.is_some_and(|replica| replica.keyspace.scripts().source(sha).is_some())
    }

    fn is_script_noted(&mut self, group: GroupId, sha: Sha) -> bool {
        self.forget_after_a_miss();
        self.script_sources.known.contains(&(group, sha))
    }

    /// Takes note that a shard knows a script, or is about to. True if that was known.
    pub(crate) fn note_script(&mut self, group: GroupId, sha: Sha) -> bool {
        self.forget_after_a_miss();
        let known = &mut self.script_sources.known;
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        !known.insert((group, sha))
    }

    fn forget_after_a_miss(&mut self) {
        let (sources, missed) = (&mut self.script_sources, self.stats.scripts_missed);
        if std::mem::replace(&mut sources.missed, missed) != missed {
            sources.known.clear();
        }
    }

    fn ask_for_source(&mut self, conn: ConnId, sha: Sha, groups: &[GroupId], out: &mut Vec<Output>) {
        let sha = sha.to_string();
        let args = OwnedArgs::collect([&b"script"[..], b"show", sha.as_bytes()]);
        let (me, command, args) = (self.cells.me, SHOW.spec(), args.args());
        let handler = handler_of(command).expect("SCRIPT SHOW is carried out by shards");
        let client = self.client(conn);
        client.join_replies(groups.len(), Becomes::ScriptSource, command, true);
        let call = call_of(client, me, Asked { conn, command, handler, args }, false);
        groups.iter().for_each(|group| self.give(*group, call, args, out));
    }

    /// Shards have said whether they know the script that a client's call names.
    pub(crate) fn take_source(&mut self, conn: ConnId, replies: &[Vec<u8>]) {
        let Some(sought) = self.clients.get_mut(conn).and_then(|client| client.seeks.as_mut()) else {
            return;
        };
        let (group, sha) = (sought.group, sought.sha);
        let source = replies.iter().find(|reply| reply.first() == Some(&b'$'));
        let all_told =
            replies.iter().all(|reply| reply.first() == Some(&b'$') || reply.starts_with(b"-NOSCRIPT "));
        let was_asked = std::mem::replace(&mut sought.state, Search::Nowhere);
        match (was_asked, source) {
            (Search::AtShard, Some(_)) => {
                self.note_script(group, sha);
            }
            (Search::AtShard, None) if all_told => sought.state = Search::Missing,
            (Search::AtShard, None) => {}
            (_, source) => {
                if !all_told {
                    self.script_sources.unasked_until = self.now.mono.plus(UNASKED_MS);
                }
                if let Some(source) = source
                    && let Ok(Some((value, _))) = Value::parse(source)
                    && let Some(source) = value.as_bytes()
                {
                    sought.state = Search::Found(source.to_vec());
                }
            }
        }
    }
}
