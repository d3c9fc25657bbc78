//! What all clients together know of a few shared streams and the one group that reads each: entries keep the order of their
//! ids, each is given to the group as new once, and from then on it is in the pending list of one consumer until it is
//! acknowledged, which happens once (INV-SIM-24).

mod snapshot;

use std::collections::{BTreeMap, BTreeSet};

use skep_base::Rng;

use crate::model::{Plain, Words, show};
use crate::planted::Planted;

/// The streams, in the ledger's database. Nothing is ever removed from them.
pub const STREAMS: [&str; 2] = ["s0", "s1"];

const GROUP: &str = "g";

/// Milliseconds and number.
type Id = (u64, u64);
/// With what the entry holds; nothing if it is gone.
type Entry = (Id, Option<Vec<u8>>);

/// Everything known of the streams.
#[derive(Default)]
pub struct Streams {
    by_key: BTreeMap<Vec<u8>, Stream>,
    next_value: u64,
    /// For a planted bug: clients set the group back.
    rewinds: bool,
}

/// What is known of one of them.
#[derive(Default)]
struct Stream {
    /// Values of entries that may have been added.
    sent: BTreeSet<Vec<u8>>,
    /// What entries were seen to hold, and the other way round.
    values: BTreeMap<Id, Vec<u8>>,
    ids: BTreeMap<Vec<u8>, Id>,
    /// When it was answered that they are there.
    added: BTreeMap<Id, u64>,
    /// When it was first answered that the group has them.
    delivered: BTreeMap<Id, u64>,
    /// Those that were given out as new.
    new: BTreeSet<Id>,
    acks: BTreeMap<Id, Acks>,
    /// When it was answered that the group exists.
    made: Option<u64>,
}

/// The acknowledgements of one entry.
#[derive(Default)]
struct Acks {
    /// Those that were carried out or may be.
    sent: u64,
    /// When one was answered as the one that took it off the list.
    done: Option<u64>,
}

fn text(word: &str) -> Vec<u8> {
    word.as_bytes().to_vec()
}

fn id_text((ms, number): Id) -> Vec<u8> {
    format!("{ms}-{number}").into_bytes()
}

fn parse_id(id: &[u8]) -> Option<Id> {
    let (ms, number) = std::str::from_utf8(id).ok()?.split_once('-')?;
    Some((ms.parse().ok()?, number.parse().ok()?))
}

/// The stream of a command.
pub fn key_of(words: &Words) -> &[u8] {
    match &words[0][..] {
        b"XREADGROUP" => &words[words.len() - 2],
        b"XGROUP" | b"XINFO" => &words[2],
        _ => &words[1],
    }
}

impl Streams {
    pub fn new(planted: Option<Planted>) -> Streams {
        Streams { rewinds: planted == Some(Planted::GroupRewound), ..Streams::default() }
    }

    /// Something that a client does next.
    pub fn next(&mut self, rng: &mut Rng) -> Words {
        let name = STREAMS[rng.below(STREAMS.len() as u64) as usize];
        let consumer = format!("c{}", rng.below(3));
        let known = self.by_key.entry(text(name)).or_default();
        let words = |words: &[&str]| words.iter().map(|word| text(word)).collect::<Words>();
        if known.made.is_none() && rng.one_in(2) {
            return words(&["XGROUP", "CREATE", name, GROUP, "0", "MKSTREAM"]);
        }
        if self.rewinds && rng.one_in(8) {
            return words(&["XGROUP", "SETID", name, GROUP, "0"]);
        }
        // The youngest first, in most cases one that nobody has acknowledged.
        let back = rng.below(8) as usize;
        let delivered = || known.delivered.keys().rev();
        let mut open = delivered().filter(|id| known.acks.get(id).is_none_or(|acks| acks.sent == 0));
        let one = if rng.one_in(4) { delivered().nth(back) } else { open.nth(back) };
        let one = one.map_or_else(|| text("1-1"), |id| id_text(*id));
        let with_id = |mut before: Words| {
            before.push(one);
            before
        };
        let count = (1 + rng.below(4)).to_string();
        let waits = (1 + rng.below(300)).to_string();
        match rng.below(20) {
            0..6 => {
                self.next_value += 1;
                words(&["XADD", name, "*", "v", &format!("e{}", self.next_value)])
            }
            6..9 => words(&["XREADGROUP", "GROUP", GROUP, &consumer, "COUNT", &count, "STREAMS", name, ">"]),
            9 => words(&["XREADGROUP", "GROUP", GROUP, &consumer, "BLOCK", &waits, "STREAMS", name, ">"]),
            10 => words(&["XREADGROUP", "GROUP", GROUP, &consumer, "STREAMS", name, "0"]),
            11..15 => with_id(words(&["XACK", name, GROUP])),
            15 => with_id(words(&["XCLAIM", name, GROUP, &consumer, "0"])),
            16 | 17 => words(&["XAUTOCLAIM", name, GROUP, &consumer, "0", "0", "COUNT", &count]),
            18 => words(&["XRANGE", name, "-", "+"]),
            _ => words(&["XINFO", "STREAM", name, "FULL", "COUNT", "0"]),
        }
    }

    /// Takes note that a command leaves a client.
    pub fn on_sent(&mut self, words: &Words) {
        let known = self.by_key.entry(key_of(words).to_vec()).or_default();
        match &words[0][..] {
            b"XADD" => drop(known.sent.insert(words[4].clone())),
            b"XACK" => known.acks_of(words).sent += 1,
            _ => {}
        }
    }

    /// A command was not carried out and never will be.
    pub fn on_refused(&mut self, words: &Words) {
        let known = self.by_key.entry(key_of(words).to_vec()).or_default();
        match &words[0][..] {
            b"XADD" => drop(known.sent.remove(&words[4])),
            b"XACK" => known.acks_of(words).sent -= 1,
            _ => {}
        }
    }

    /// Checks a reply, which came at `at` to a command that left at `since`.
    pub fn on_reply(&mut self, words: &Words, since: u64, reply: &Plain, at: u64) -> Result<(), String> {
        let known = self.by_key.entry(key_of(words).to_vec()).or_default();
        known
            .on_reply(words, since, reply, at)
            .map_err(|rule| format!("INV-SIM-24: {rule}: {} was answered {reply:?}", show(words)))
    }

    /// Compares what a stream says of itself at the end with what is known.
    pub fn audit(&mut self, stream: &str, told: &Plain) -> Result<(), String> {
        let words = ["XINFO", "STREAM", stream, "FULL", "COUNT", "0"].map(text).to_vec();
        self.on_reply(&words, u64::MAX, told, u64::MAX)
    }
}

impl Stream {
    fn acks_of(&mut self, words: &Words) -> &mut Acks {
        self.acks.entry(parse_id(&words[3]).unwrap_or_default()).or_default()
    }

    fn on_reply(&mut self, words: &Words, since: u64, reply: &Plain, at: u64) -> Result<(), String> {
        let was_made = self.made.is_some_and(|made| made < since);
        match (&words[0][..], reply) {
            (b"XGROUP", Plain::Text(done)) if done == b"OK" => drop(self.made.get_or_insert(at)),
            (b"XGROUP", Plain::Error(error)) if error.starts_with(b"BUSYGROUP") => {
                self.made.get_or_insert(at);
            }
            // The group comes with the stream or after it.
            (_, Plain::Error(error)) if error.starts_with(b"NOGROUP") && !was_made => {}
            (b"XINFO", Plain::Error(error))
                if error.starts_with(b"ERR no such key") && self.is_new(since) => {}
            (b"XGROUP", Plain::Error(error))
                if error.starts_with(b"ERR The XGROUP") && self.is_new(since) => {}
            (b"XADD", Plain::Text(id)) => return self.on_added(id, &words[4], since, at),
            (b"XREADGROUP", Plain::Nil) => {}
            (b"XREADGROUP", Plain::List(streams)) => {
                let entries = entries_of(streams).ok_or("not one stream")?;
                let is_new = words.last().is_some_and(|from| from == b">");
                for (id, value) in self.learn_all(entries)? {
                    if value.is_none() {
                        return Err(format!("entry {id:?} is gone"));
                    }
                    if is_new {
                        self.on_new(id, since)?;
                    }
                    self.on_pending(id, since, at)?;
                }
            }
            (b"XCLAIM", Plain::List(entries)) => self.on_claimed(entries, since, at)?,
            (b"XAUTOCLAIM", Plain::List(parts)) => match &parts[..] {
                [Plain::Text(_), Plain::List(entries), Plain::List(gone)] if gone.is_empty() => {
                    self.on_claimed(entries, since, at)?;
                }
                _ => return Err("entries are gone, or a strange answer".into()),
            },
            (b"XACK", Plain::Int(count @ (0 | 1))) => return self.on_acked(words, *count == 1, since, at),
            (b"XRANGE", Plain::List(entries)) => self.on_entries(entries, since)?,
            (b"XINFO", Plain::List(told)) => self.on_snapshot(told, since)?,
            _ => return Err("an unexpected reply".into()),
        }
        Ok(())
    }

    /// True if nobody knew before `since` that the stream is there.
    fn is_new(&self, since: u64) -> bool {
        self.made.is_none_or(|made| made >= since) && self.added.values().all(|added| *added >= since)
    }

    fn on_added(&mut self, id: &[u8], value: &[u8], since: u64, at: u64) -> Result<(), String> {
        let id = parse_id(id).ok_or("not an id")?;
        self.learn(id, value)?;
        if let Some((before, _)) = self.added.iter().rev().find(|(_, added)| **added < since)
            && *before >= id
        {
            return Err(format!("{before:?} was there before"));
        }
        self.added.insert(id, at);
        Ok(())
    }

    /// An entry was given to the group as new.
    fn on_new(&mut self, id: Id, since: u64) -> Result<(), String> {
        if !self.new.insert(id) {
            return Err(format!("entry {id:?} was delivered as new twice"));
        }
        match self.delivered.iter().rev().find(|(_, known)| **known < since) {
            Some((before, _)) if *before >= id => {
                Err(format!("entry {before:?} was delivered before {id:?}"))
            }
            _ => Ok(()),
        }
    }

    /// An entry was seen in a pending list.
    fn on_pending(&mut self, id: Id, since: u64, at: u64) -> Result<(), String> {
        self.delivered.entry(id).or_insert(at);
        match self.acks.get(&id).and_then(|acks| acks.done) {
            Some(done) if done < since => Err(format!("entry {id:?} came back after its acknowledgement")),
            _ => Ok(()),
        }
    }

    fn on_claimed(&mut self, entries: &[Plain], since: u64, at: u64) -> Result<(), String> {
        for (id, value) in self.learn_all(entries)? {
            if value.is_none() {
                return Err(format!("entry {id:?} is gone"));
            }
            self.on_pending(id, since, at)?;
        }
        Ok(())
    }

    fn on_acked(&mut self, words: &Words, done: bool, since: u64, at: u64) -> Result<(), String> {
        let id = parse_id(&words[3]).ok_or("not an id")?;
        let was_delivered = self.delivered.get(&id).is_some_and(|known| *known < since);
        let acks = self.acks_of(words);
        if done && acks.done.replace(at).is_some() {
            return Err(format!("entry {id:?} was acknowledged twice"));
        }
        if !done && was_delivered && acks.sent == 1 {
            return Err(format!("entry {id:?} was in no pending list, and nobody else acknowledged it"));
        }
        Ok(())
    }

    /// All entries there are.
    fn on_entries(&mut self, entries: &[Plain], since: u64) -> Result<(), String> {
        let there: BTreeSet<Id> = self.learn_all(entries)?.into_iter().map(|(id, _)| id).collect();
        match self.added.iter().find(|(id, added)| **added < since && !there.contains(id)) {
            Some((id, _)) => Err(format!("entry {id:?} was added and is not there")),
            None => Ok(()),
        }
    }

    /// Entries of a reply with their values, in the order of their ids.
    fn learn_all(&mut self, entries: &[Plain]) -> Result<Vec<Entry>, String> {
        let mut all: Vec<Entry> = Vec::new();
        for entry in entries {
            let (id, value) = entry_of(entry).ok_or("a strange entry")?;
            if all.last().is_some_and(|(before, _)| *before >= id) {
                return Err(format!("entry {id:?} is not in order"));
            }
            if let Some(value) = &value {
                self.learn(id, value)?;
            }
            all.push((id, value));
        }
        Ok(all)
    }

    /// An entry was seen to hold a value.
    fn learn(&mut self, id: Id, value: &[u8]) -> Result<(), String> {
        if !self.sent.contains(value) {
            return Err(format!("nobody added entry {id:?}"));
        }
        if *self.values.entry(id).or_insert_with(|| value.to_vec()) != value {
            return Err(format!("entry {id:?} held another value"));
        }
        match *self.ids.entry(value.to_vec()).or_insert(id) {
            known if known == id => Ok(()),
            known => Err(format!("entry {id:?} is entry {known:?} once more")),
        }
    }
}

/// The entries of the only stream of a reply to XREADGROUP, as a list of pairs or, with RESP3, as a map.
fn entries_of(streams: &[Plain]) -> Option<&[Plain]> {
    match streams {
        [Plain::List(pair)] => match &pair[..] {
            [Plain::Text(_), Plain::List(entries)] => Some(entries),
            _ => None,
        },
        [Plain::Text(_), Plain::List(entries)] => Some(entries),
        _ => None,
    }
}

fn entry_of(entry: &Plain) -> Option<Entry> {
    let Plain::List(parts) = entry else { return None };
    match &parts[..] {
        [Plain::Text(id), Plain::Nil] => Some((parse_id(id)?, None)),
        [Plain::Text(id), Plain::List(fields)] => match &fields[..] {
            [Plain::Text(_), Plain::Text(value)] => Some((parse_id(id)?, Some(value.clone()))),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests;
