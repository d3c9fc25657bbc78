//! What the groups have agreed on, as the nodes show it: the entries that some node applied, and the state they lead to in a
//! second state machine beside the nodes', decoded by code of its own.
//!
//! All nodes must apply the same entries at the same positions, and have the same state there; one node leads a term.

use std::collections::BTreeMap;

use skep_base::varint::{Malformed, Reader};
use skep_base::{Args, GroupId, LogId, LogIndex, Millis, Rng, Span, Term};
use skep_keyspace::{Handler, Keyspace, SCRIPT_WRITE, WriteCx, calls_script, handlers};
use skep_log::{Entry, EntryKind};
use skep_resp::{Protocol, Reply};

use crate::in_line::InLine;

/// As the node: what one entry removes because it is due.
const SWEEP_LIMIT: usize = 1_000;
const COMMAND: u8 = 0;
const EVICT: u8 = 1;
/// Whose clients sent what follows; no change of the state.
const FROM: u8 = 2;
/// Replicas compare digests; no change of the state.
const DIGEST: u8 = 3;
const AGAIN: u8 = 4;
const SERVE: u8 = 5;
/// Scripts may do nothing that needs more memory.
const NO_MEMORY: u8 = 1;

/// All groups.
pub struct Agreed {
    handlers: BTreeMap<&'static str, Handler>,
    groups: BTreeMap<GroupId, Group>,
    /// The machine that leads a term of a group.
    leaders: BTreeMap<(GroupId, Term), usize>,
    pub ops: u64,
}

/// One group.
struct Group {
    /// All entries that were applied somewhere, from the first.
    entries: Vec<Entry>,
    /// The state after `at`.
    state: Keyspace,
    at: LogIndex,
}

impl Default for Group {
    fn default() -> Group {
        Group { entries: Vec::new(), state: empty(), at: LogIndex(0) }
    }
}

/// A state that runs scripts.
fn empty() -> Keyspace {
    let mut state = Keyspace::default();
    state.set_interpreter(Box::new(skep_script::Runner::default()));
    state
}

impl Default for Agreed {
    fn default() -> Agreed {
        Agreed { handlers: handlers().collect(), groups: BTreeMap::new(), leaders: BTreeMap::new(), ops: 0 }
    }
}

impl Agreed {
    /// The last entry of a group that was applied anywhere.
    pub fn last(&self, group: GroupId) -> LogIndex {
        self.groups.get(&group).map_or(LogIndex(0), |g| LogIndex(g.entries.len() as u64))
    }

    /// Machine `node` applied an entry.
    ///
    /// # Errors
    /// Another one applied something else there.
    pub fn on_applied(&mut self, group: GroupId, node: usize, entry: &Entry) -> Result<(), String> {
        let entries = &mut self.groups.entry(group).or_default().entries;
        let place = (entry.id.index.0 - 1) as usize;
        match entries.get(place) {
            Some(known) if known == entry => Ok(()),
            Some(known) => Err(format!(
                "INV-SIM-17: node {node} applied {:?} of {group:?} with {} bytes, another node {:?} with {} bytes",
                entry.id,
                entry.payload.len(),
                known.id,
                known.payload.len()
            )),
            None if place == entries.len() => {
                entries.push(entry.clone());
                Ok(())
            }
            None => Err(format!(
                "INV-SIM-3: node {node} applied {:?} of {group:?}, but nobody applied entry {}",
                entry.id,
                entries.len() + 1
            )),
        }
    }

    /// Machine `node` goes on from a checkpoint at `at`.
    ///
    /// # Errors
    /// It is none of what was agreed on.
    pub fn on_checkpoint(&self, group: GroupId, node: usize, at: LogId) -> Result<(), String> {
        let known = self.entry(group, at.index).map(|e| e.id);
        if known == Some(at) || at == LogId::default() {
            return Ok(());
        }
        Err(format!("INV-SIM-17: node {node} has a checkpoint of {group:?} at {at:?}, agreed is {known:?}"))
    }

    /// Machine `node` says that it leads.
    ///
    /// # Errors
    /// Another one led the same term.
    pub fn on_leader(&mut self, group: GroupId, term: Term, node: usize) -> Result<(), String> {
        let known = *self.leaders.entry((group, term)).or_insert(node);
        if known == node {
            return Ok(());
        }
        Err(format!("INV-SIM-16: nodes {known} and {node} both lead {group:?} in {term:?}"))
    }

    /// The digest of the state that the entries up to `index` lead to; `None` if the second state machine is past it, or (with
    /// memory durability) does not know them yet.
    ///
    /// # Errors
    /// An entry that does not parse, or holds what no entry may hold.
    pub fn digest(&mut self, group: GroupId, index: LogIndex) -> Result<Option<u64>, String> {
        let Some(known) = self.groups.get_mut(&group) else { return Ok(None) };
        if known.at > index || index.0 as usize > known.entries.len() {
            return Ok(None);
        }
        for entry in &known.entries[known.at.0 as usize..index.0 as usize] {
            self.ops += apply(&self.handlers, &mut known.state, entry)?;
        }
        known.at = index;
        Ok(Some(known.state.digest()))
    }

    /// The state up to `index` as the bytes of a checkpoint, made anew from the first entry; for planted bugs.
    pub fn checkpoint_bytes(&self, group: GroupId, index: LogIndex) -> Result<Vec<u8>, String> {
        let mut state = empty();
        let entries = self.groups.get(&group).map_or(&[][..], |g| &g.entries);
        for entry in &entries[..(index.0 as usize).min(entries.len())] {
            apply(&self.handlers, &mut state, entry)?;
        }
        let mut bytes = Vec::new();
        state.begin_cut();
        while !state.cut_step(&mut bytes, 1 << 20) {}
        Ok(bytes)
    }

    /// Entries behind `index` are lost, as memory durability admits.
    pub fn forget_behind(&mut self, group: GroupId, index: LogIndex) {
        let Some(known) = self.groups.get_mut(&group) else { return };
        known.entries.truncate(index.0 as usize);
        if known.at > index {
            (known.state, known.at) = (empty(), LogIndex(0));
        }
    }

    /// The machine that led a group last.
    pub fn leader(&self, group: GroupId) -> Option<usize> {
        let terms = (group, Term(0))..=(group, Term(u64::MAX));
        self.leaders.range(terms).next_back().map(|(_, node)| *node)
    }

    /// Leaders seen, one a term.
    pub fn terms(&self) -> u64 {
        self.leaders.len() as u64
    }

    fn entry(&self, group: GroupId, index: LogIndex) -> Option<&Entry> {
        self.groups.get(&group)?.entries.get(index.0.checked_sub(1)? as usize)
    }
}

/// Carries out one entry; gives the number of operations.
fn apply(
    handlers: &BTreeMap<&'static str, Handler>,
    keyspace: &mut Keyspace,
    entry: &Entry,
) -> Result<u64, String> {
    if entry.kind != EntryKind::Normal || entry.payload.is_empty() {
        return Ok(0);
    }
    let malformed = |cause: Malformed| format!("INV-SIM-3: entry {:?} does not parse: {cause}", entry.id);
    let payload = &entry.payload[..];
    let mut input = Reader::new(payload);
    let version = input.u8().map_err(malformed)?;
    if version != 3 {
        return Err(format!("INV-SIM-3: entry {:?} has version {version}", entry.id));
    }
    let stamp = Millis(input.u64().map_err(malformed)?);
    let mut rng = Rng::new(input.u64().map_err(malformed)?);
    keyspace.set_once_retention(1_000 * u64::from(input.u32().map_err(malformed)?));
    let flags = input.u8().map_err(malformed)?;
    if flags & !NO_MEMORY != 0 {
        return Err(format!("INV-SIM-3: entry {:?} has flags {flags:#x}", entry.id));
    }
    keyspace.set_no_memory(flags & NO_MEMORY != 0);
    let now = keyspace.advance(stamp);
    let mut spans = Vec::new();
    let mut reply = Vec::new();
    let mut ops = 0;
    let mut line = InLine::default();
    while input.left() > 0 {
        let kind = input.u8().map_err(malformed)?;
        let db = input.u8().map_err(malformed)?;
        spans.clear();
        for _ in 0..input.varint().map_err(malformed)? {
            let len = input.bytes().map_err(malformed)?.len();
            spans.push(Span { start: (input.offset() - len) as u32, len: len as u32 });
        }
        let args = Args::new(payload, &spans);
        ops += 1;
        match kind {
            FROM | DIGEST => ops -= 1,
            EVICT => {
                for key in args.iter() {
                    keyspace.remove(db, key);
                }
            }
            COMMAND | AGAIN => {
                // Transactions have arguments in the log that no client's EXEC has.
                let command = match args.get(0).and_then(skep_command::lookup) {
                    Some(exec) if exec.name == "exec" => exec,
                    _ => skep_command::resolve(args).map_err(|e| format!("INV-SIM-3: {e} is in the log"))?,
                };
                let handler = match handlers.get(command.name) {
                    Some(Handler::Read(_)) if calls_script(command) => SCRIPT_WRITE,
                    Some(handler @ Handler::Write(_)) => *handler,
                    _ => return Err(format!("INV-SIM-3: {} is in the log", command.name)),
                };
                reply.clear();
                let mut cx = WriteCx { keyspace, db, now, rng: &mut rng };
                // One that would wait changes nothing.
                let mut reply = Reply::new(&mut reply, Protocol::Resp2);
                if handler.attempt(&mut cx, args, &mut reply, kind == AGAIN).is_some() {
                    line.add(db, handler, args);
                }
            }
            SERVE => {
                ops -= 1;
                for key in args.iter() {
                    line.serve(keyspace, (db, key), &mut |keyspace, db, handler, args| {
                        reply.clear();
                        let mut cx = WriteCx { keyspace, db, now, rng: &mut rng };
                        let mut reply = Reply::new(&mut reply, Protocol::Resp2);
                        handler.attempt(&mut cx, args, &mut reply, true).is_none()
                    });
                }
            }
            _ => return Err(format!("INV-SIM-3: an operation of kind {kind} is in the log")),
        }
    }
    keyspace.sweep(SWEEP_LIMIT);
    drop(keyspace.take_garbage());
    Ok(ops)
}
