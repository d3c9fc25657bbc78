//! Scripts that one shard knows and another does not: who sent `EVAL` may call the script by its name everywhere, for clients know
//! of one store and not of its shards.
//!
//! Before this cell gives a shard the first call by a name, it asks the shard whether it knows that script; if not, it asks the
//! others whether they do, and one of those for the source, which then comes with the call
//! ([`Head::scripts`](skep_keyspace::Head)) and is remembered there. The client waits for that, so its commands stay in order, and so do
//! others of the cell that call the same of the same shard: what comes of a search is for all of them. `SCRIPT LOAD`, which all
//! shards get, needs none of this.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use skep_base::args::OwnedArgs;
use skep_base::{Args, ConnId, GroupId, Millis};
use skep_command::{CommandId, CommandSpec, carried_out, id_of};
use skep_keyspace::handler_of;
use skep_keyspace::scripts::Sha;
use skep_resp::Value;

use crate::batch::Origin;
use crate::client::Clients;
use crate::run::{Asked, call_of};
use crate::{Node, Output};

const EXISTS: CommandId = id_of("script|exists");
const SHOW: CommandId = id_of("script|show");

/// Scripts of which it is noted that their shards know them. With more all is forgotten, and asked again.
const KNOWN_MAX: usize = 10_000;

/// Shards that are asked for a source, one after the other: one that has said that it knows a script may forget it, or not answer.
const HOLDERS_MAX: usize = 4;

/// How often a call waits for what somebody else does about its script, and that comes to nothing, before it goes to its shard as it
/// is: on a full disk, or without a leader, none of those who wait would bring the source there, one after the other.
const VAIN_MAX: u8 = 3;

/// How long the others are not asked after one of them did not answer: who calls scripts that nobody knows would wait for it
/// each time.
const UNASKED_MS: u64 = 10_000;

/// A script, and the shard that it is called of.
type Named = (GroupId, Sha);

/// What this cell knows of which shards know which scripts, and what it is finding out.
#[derive(Default)]
pub(crate) struct ScriptSources {
    /// A shard may forget one: then a call is answered `NOSCRIPT`, and what was noted of it is forgotten, too.
    known: BTreeSet<Named>,
    searches: BTreeMap<Named, Searching>,
    unasked_until: Millis,
    /// Questions to shards so far.
    #[cfg(test)]
    pub asked: usize,
}

/// A step of a search that is under way, or a source on its way to its shard.
struct Searching {
    /// By the operations of this client.
    by: ConnId,
    /// Others that wait for what comes of it.
    waiting: Vec<ConnId>,
    /// What is on its way.
    source: Option<Bytes>,
}

/// A script that a client's call names, until the call has run.
pub(crate) struct SoughtScript {
    named: Named,
    state: Search,
    /// The others were asked once more, since they had been asked for somebody else before this call came.
    asked_again: bool,
    /// What was found, and did not come to its shard as far as is known.
    source: Option<Bytes>,
    /// What others did about it that came to nothing.
    vain: u8,
}

/// Calls by name of a client, until they are answered.
#[derive(Default)]
pub(crate) struct CallsByName {
    /// Those that rely on what was noted, by their numbers.
    relied: VecDeque<(u64, Named)>,
    /// One with which the source comes.
    brings: Option<(u64, Named)>,
}

/// What the reply to a call by name tells of its script.
pub(crate) enum Told {
    /// Its shard does not know it any more.
    Missed(Named),
    /// Its shard was brought it, if this is true.
    Brought(Named, bool),
}

#[derive(Clone)]
enum Search {
    /// Its shard is asked whether it knows it.
    AtShard,
    /// Its shard does not know it.
    Missing,
    /// These others are asked whether they know it.
    Elsewhere(Vec<GroupId>),
    /// These know it.
    Holders(Vec<GroupId>),
    /// One was asked for the source, and these are left.
    Asked(Vec<GroupId>),
    Found(Bytes),
    /// Nobody knows it but its shard, or nobody can say. If its shard does not know it, it refuses the call in its own words.
    Nowhere,
}

/// What a call of a script needs.
pub(crate) enum SourceFor {
    None,
    /// This source is to come with it.
    Call(Bytes),
    /// Shards are being asked; the call stays in the input until they have answered.
    Sought,
}

/// The script that a command calls by its name, also by ONCE.
pub(crate) fn script_called(command: &'static CommandSpec, args: Args<'_>) -> Option<Sha> {
    let (command, args) = carried_out(command, args);
    if matches!(command.name, "evalsha" | "evalsha_ro") { Sha::parse(&args[1]) } else { None }
}

impl SoughtScript {
    fn new(named: Named) -> SoughtScript {
        SoughtScript { named, state: Search::AtShard, asked_again: false, source: None, vain: 0 }
    }
}

impl CallsByName {
    /// A call by name was answered, or another of the client's operations.
    pub fn on_reply(&mut self, seq: u64, reply: &[u8]) -> Option<Told> {
        if let Some((_, named)) = self.brings.take_if(|(number, _)| *number == seq) {
            return Some(Told::Brought(named, reply.first() != Some(&b'-')));
        }
        if !reply.starts_with(b"-NOSCRIPT ") {
            return None;
        }
        let at = self.relied.binary_search_by_key(&seq, |(number, _)| *number).ok()?;
        Some(Told::Missed(self.relied[at].1))
    }

    pub fn memory_bytes(&self) -> usize {
        size_of::<CallsByName>() + self.relied.capacity() * size_of::<(u64, Named)>()
    }

    /// All operations before this number are answered.
    pub fn forget_before(&mut self, seq: u64) {
        while self.relied.pop_front_if(|(number, _)| *number < seq).is_some() {}
    }
}

impl ScriptSources {
    /// Takes note of what the reply to a call by name tells.
    #[cold]
    pub fn on_told(&mut self, told: &Told, clients: &mut Clients, to_resume: &mut Vec<ConnId>) {
        match told {
            Told::Missed(named) => drop(self.known.remove(named)),
            Told::Brought(named, is_known) => {
                if *is_known {
                    self.note(*named);
                    return self.end_search(*named, clients, to_resume, |_, _| Search::AtShard);
                }
                self.end_in_vain(*named, clients, to_resume);
            }
        }
    }

    /// A search was not gone on with, or what it found was not taken in: who is next asks the shard, which may know it all the same,
    /// and has what was found at hand.
    fn end_in_vain(&mut self, named: Named, clients: &mut Clients, to_resume: &mut Vec<ConnId>) {
        self.end_search(named, clients, to_resume, |sought, source| {
            // A client that only left has spoilt nothing.
            sought.vain += u8::from(source.is_some());
            sought.source = source.cloned().or(sought.source.take());
            if sought.vain < VAIN_MAX { Search::AtShard } else { Search::Nowhere }
        });
    }

    /// True if that is new.
    fn note(&mut self, named: Named) -> bool {
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(named)
    }

    /// Lets those go on who wait for what comes of a step: with the state that they have then, by what they seek and what was under
    /// way.
    fn end_search(
        &mut self,
        named: Named,
        clients: &mut Clients,
        to_resume: &mut Vec<ConnId>,
        state: impl Fn(&mut SoughtScript, Option<&Bytes>) -> Search,
    ) {
        let Some(Searching { waiting, source, .. }) = self.searches.remove(&named) else { return };
        for conn in waiting {
            let seeks = clients.get_mut(conn).and_then(|client| client.seeks.as_mut());
            if let Some(sought) = seeks.filter(|sought| sought.named == named) {
                sought.state = state(sought, source.as_ref());
                to_resume.push(conn);
            }
        }
    }
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
        if self.has_script(group, sha) {
            return SourceFor::None;
        }
        let named = (group, sha);
        if self.reads_scripts_of(group) {
            // Its own copy says that it has it no more, and will refuse a read in a way that nobody hears of.
            self.script_sources.known.remove(&named);
        }
        if relies && self.script_sources.known.contains(&named) {
            let client = self.client(conn);
            let number = client.begun();
            let relied = &mut client.by_name.get_or_insert_default().relied;
            // A call before it was refused and began nothing.
            relied.pop_back_if(|(before, _)| *before == number);
            relied.push_back((number, named));
            return SourceFor::None;
        }
        let sought = sought.filter(|sought| sought.named == named);
        let mut sought = sought.unwrap_or_else(|| Box::new(SoughtScript::new(named)));
        match &sought.state {
            Search::Nowhere => return SourceFor::None,
            Search::Missing if self.now.mono < self.script_sources.unasked_until => return SourceFor::None,
            Search::Found(source) if !relies => return SourceFor::Call(source.clone()),
            _ => {}
        }
        if let Some(searching) = self.script_sources.searches.get_mut(&named) {
            searching.waiting.push(conn);
            let client = self.client(conn);
            client.waiting = true;
            client.seeks = Some(sought);
            return SourceFor::Sought;
        }
        let (state, command, groups) = match sought.state {
            Search::Found(source) => {
                self.begin_search(conn, named, Some(source.clone()));
                let client = self.client(conn);
                let number = client.begun();
                client.by_name.get_or_insert_default().brings = Some((number, named));
                return SourceFor::Call(source);
            }
            Search::Holders(mut left) => {
                let first = left.remove(0);
                (Search::Asked(left), SHOW, vec![first])
            }
            Search::Missing => {
                let others = self.meta.state.shards.keys().copied().filter(|other| *other != group);
                let others: Vec<GroupId> = others.collect();
                (Search::Elsewhere(others.clone()), EXISTS, others)
            }
            _ => (Search::AtShard, EXISTS, vec![group]),
        };
        let client = self.client(conn);
        client.waiting = true;
        if client.pending() == 0 {
            sought.state = state;
            client.seeks = Some(sought);
            self.begin_search(conn, named, None);
            self.ask_shards(conn, command.spec(), sha, &groups, out);
        }
        SourceFor::Sought
    }

    fn begin_search(&mut self, by: ConnId, named: Named, source: Option<Bytes>) {
        let begun = Searching { by, waiting: Vec::new(), source };
        let other = self.script_sources.searches.insert(named, begun);
        assert!(other.is_none(), "a script is sought twice at a time");
    }

    /// Lets those go on who wait for what comes of a step of a client's, who does not go on with it.
    pub(crate) fn end_searches_of(&mut self, conn: ConnId) {
        let sources = &mut self.script_sources;
        let of = |(named, searching): (&Named, &Searching)| (searching.by == conn).then_some(*named);
        let ended: Vec<Named> = sources.searches.iter().filter_map(of).collect();
        for named in ended {
            sources.end_in_vain(named, &mut self.clients, &mut self.to_resume);
        }
    }

    /// A client's call was to bring a source: if it was not taken in, somebody else is to.
    pub(crate) fn look_whether_brought(&mut self, conn: ConnId) {
        let Some(client) = self.clients.get_mut(conn) else { return };
        let begun = client.begun();
        let brings = client.by_name.as_mut().map(|by_name| &mut by_name.brings);
        if brings.is_some_and(|brings| brings.take_if(|(number, _)| *number >= begun).is_some()) {
            self.end_searches_of(conn);
        }
    }

    /// True if a copy of the shard is here that knows it.
    fn has_script(&self, group: GroupId, sha: Sha) -> bool {
        let replica = self.shard_of_group(group).and_then(|at| self.shards[at].replica.as_ref());
        replica.is_some_and(|replica| replica.keyspace.scripts().source(sha).is_some())
    }

    /// True if a copy of the shard is here that answers reads.
    fn reads_scripts_of(&self, group: GroupId) -> bool {
        let replica = self.shard_of_group(group).and_then(|at| self.shards[at].replica.as_ref());
        replica.is_some_and(|replica| replica.may_read(self.now.mono))
    }

    /// Takes note that a shard knows a script, or is about to. True if that was known.
    pub(crate) fn note_script(&mut self, group: GroupId, sha: Sha) -> bool {
        !self.script_sources.note((group, sha))
    }

    /// All shards were told to forget what scripts they know.
    pub(crate) fn forget_scripts(&mut self) {
        self.script_sources.known.clear();
    }

    fn ask_shards(
        &mut self,
        conn: ConnId,
        command: &'static CommandSpec,
        sha: Sha,
        groups: &[GroupId],
        out: &mut Vec<Output>,
    ) {
        let sha = sha.to_string();
        let (family, name) = command.name.split_once('|').expect("commands about scripts have two names");
        let args = OwnedArgs::collect([family.as_bytes(), name.as_bytes(), sha.as_bytes()]);
        let (me, args) = (self.cells.me, args.args());
        let handler = handler_of(command).expect("commands about scripts are carried out by shards");
        let client = self.client(conn);
        client.join_replies(groups.len(), None, command, true);
        let mut call = call_of(client, me, Asked { conn, command, handler, args }, false);
        for (place, group) in groups.iter().enumerate() {
            if let Origin::Client { seq, .. } = &mut call.origin {
                *seq = place as u64;
            }
            self.give(*group, call, args, out);
        }
        #[cfg(test)]
        {
            self.script_sources.asked += groups.len();
        }
    }

    /// Shards have answered, each with its place among those asked: whether they know the script that a client's call names, or
    /// with its source.
    pub(crate) fn take_source(&mut self, conn: ConnId, replies: &[(u64, Vec<u8>)]) {
        let Some(sought) = self.clients.get_mut(conn).and_then(|client| client.seeks.as_mut()) else {
            return;
        };
        let named = sought.named;
        let before = std::mem::replace(&mut sought.state, Search::Nowhere);
        let asked_others = matches!(before, Search::Elsewhere(_) | Search::Asked(_));
        let state = match before {
            Search::AtShard => match knows(&replies[0].1) {
                Some(true) => {
                    self.script_sources.note(named);
                    Search::Nowhere
                }
                Some(false) => sought.source.take().map_or(Search::Missing, Search::Found),
                None => Search::Nowhere,
            },
            Search::Elsewhere(groups) => {
                if replies.iter().any(|(_, reply)| knows(reply).is_none()) {
                    self.script_sources.unasked_until = self.now.mono.plus(UNASKED_MS);
                }
                let know = replies.iter().filter(|(_, reply)| knows(reply) == Some(true));
                let holders: Vec<GroupId> =
                    know.map(|(place, _)| groups[*place as usize]).take(HOLDERS_MAX).collect();
                if holders.is_empty() { Search::Nowhere } else { Search::Holders(holders) }
            }
            Search::Asked(left) => match Value::parse(&replies[0].1) {
                Ok(Some((value, _))) if value.as_bytes().is_some() && replies[0].1[0] == b'$' => {
                    Search::Found(Bytes::copy_from_slice(value.as_bytes().unwrap_or_default()))
                }
                _ if left.is_empty() => Search::Nowhere,
                _ => Search::Holders(left),
            },
            other => other,
        };
        if let Some(sought) = self.clients.get_mut(conn).and_then(|client| client.seeks.as_mut()) {
            sought.state = state.clone();
        }
        let knows_nobody = asked_others && matches!(state, Search::Nowhere);
        self.script_sources.end_search(named, &mut self.clients, &mut self.to_resume, |sought, _| {
            // The others may have come to know it between the question and this client's call.
            let asks_again = knows_nobody && !std::mem::replace(&mut sought.asked_again, true);
            if asks_again { Search::Missing } else { state.clone() }
        });
    }
}

/// Whether a shard knows a script, by its reply to `SCRIPT EXISTS`; `None` if it could not say.
fn knows(reply: &[u8]) -> Option<bool> {
    match reply {
        b"*1\r\n:1\r\n" => Some(true),
        b"*1\r\n:0\r\n" => Some(false),
        _ => None,
    }
}
