//! A second state machine beside the node's, fed from the entries that the node gave out to be logged, decoded by code of
//! its own. What the node recovers must be, byte for byte, a prefix of these entries that holds everything acknowledged, and its
//! state must have the digest that these entries lead to.

use std::collections::BTreeMap;

use skep_base::varint::{Malformed, Reader};
use skep_base::{Args, LogIndex, Millis, Rng, Span};
use skep_keyspace::{Handler, Keyspace, WriteCx, handlers};
use skep_log::{Entry, EntryKind, GroupLog};
use skep_resp::{Protocol, Reply};

/// As the node: what one entry removes because it is due.
const SWEEP_LIMIT: usize = 1_000;
const COMMAND: u8 = 0;
const EVICT: u8 = 1;

/// The entries of the data shard and the state they lead to.
pub struct Reference {
    handlers: BTreeMap<&'static str, Handler>,
    pub keyspace: Keyspace,
    /// The last entry in `keyspace`.
    pub at: LogIndex,
    /// Entries behind `at` that the node gave out.
    pending: BTreeMap<LogIndex, Entry>,
    /// For a planted bug: the state one entry earlier.
    pub behind: Option<Box<Behind>>,
    pub ops: u64,
}

/// A state that lacks the newest entry.
pub struct Behind {
    pub keyspace: Keyspace,
    newest: Option<Entry>,
}

impl Reference {
    pub fn new(keep_behind: bool) -> Reference {
        let behind = || Box::new(Behind { keyspace: Keyspace::default(), newest: None });
        Reference {
            handlers: handlers().collect(),
            keyspace: Keyspace::default(),
            at: LogIndex(0),
            pending: BTreeMap::new(),
            behind: keep_behind.then(behind),
            ops: 0,
        }
    }

    /// Takes note of entries given out to be logged.
    pub fn issue(&mut self, entries: &[Entry]) -> Result<(), String> {
        for entry in entries {
            let next = self.last().next();
            if entry.id.index != next {
                return Err(format!(
                    "INV-SIM-3: entry {:?} was given out where {next:?} comes next",
                    entry.id
                ));
            }
            self.pending.insert(next, entry.clone());
        }
        Ok(())
    }

    /// The last entry known.
    pub fn last(&self) -> LogIndex {
        self.pending.last_key_value().map_or(self.at, |(index, _)| *index)
    }

    /// Applies entries up to `index`.
    pub fn advance(&mut self, index: LogIndex) -> Result<(), String> {
        while self.at < index {
            let next = self.at.next();
            let Some(entry) = self.pending.remove(&next) else {
                return Err(format!(
                    "INV-SIM-3: the node applied {index:?}, but {next:?} was never given out"
                ));
            };
            self.at = next;
            self.ops += apply(&self.handlers, &mut self.keyspace, &entry)?;
            if let Some(behind) = &mut self.behind
                && let Some(previous) = behind.newest.replace(entry)
            {
                apply(&self.handlers, &mut behind.keyspace, &previous)?;
            }
        }
        Ok(())
    }

    /// Compares what a start found with what was given out, and forgets the entries that are lost. `durable` is the last
    /// entry that must be there.
    pub fn recover(&mut self, log: &GroupLog, durable: LogIndex) -> Result<(), String> {
        let last = log.entries.last().map_or(log.checkpoint.index, |e| e.id.index);
        if last < durable {
            return Err(format!(
                "INV-SIM-1: the log ends at {last:?} after a start, {durable:?} was durable"
            ));
        }
        if last > self.last() {
            return Err(format!(
                "INV-SIM-2: the log ends at {last:?}, but {:?} was given out last",
                self.last()
            ));
        }
        for entry in log.entries.iter().filter(|e| e.id.index > self.at) {
            if self.pending.get(&entry.id.index) != Some(entry) {
                return Err(format!("INV-SIM-2: entry {:?} is not the one that was given out", entry.id));
            }
        }
        self.pending.retain(|index, _| *index <= last);
        Ok(())
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
    if version != 1 {
        return Err(format!("INV-SIM-3: entry {:?} has version {version}", entry.id));
    }
    let stamp = Millis(input.u64().map_err(malformed)?);
    let mut rng = Rng::new(input.u64().map_err(malformed)?);
    let now = keyspace.advance(stamp);
    let mut spans = Vec::new();
    let mut reply = Vec::new();
    let mut ops = 0;
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
            EVICT => {
                for key in args.iter() {
                    keyspace.remove(db, key);
                }
            }
            COMMAND => {
                let command =
                    skep_command::resolve(args).map_err(|e| format!("INV-SIM-3: {e} is in the log"))?;
                let Some(handler) = handlers.get(command.name) else {
                    return Err(format!("INV-SIM-3: {} is in the log", command.name));
                };
                reply.clear();
                let mut cx = WriteCx { keyspace, db, now, rng: &mut rng };
                handler.write(&mut cx, args, &mut Reply::new(&mut reply, Protocol::Resp2));
            }
            _ => return Err(format!("INV-SIM-3: an operation of kind {kind} is in the log")),
        }
    }
    keyspace.sweep(SWEEP_LIMIT);
    drop(keyspace.take_garbage());
    Ok(ops)
}
