//! What `ONCE` remembers: for each token the request it was used for and the reply that the first run gave.
//!
//! Part of the replicated state: in cuts, digests and restores, and removed by the sweep. A record belongs to the slot of its
//! request's first key, with which it moves; it belongs to no database, so that a flush does not make a repeat run again.

use std::collections::{BTreeMap, BTreeSet};

use skep_base::varint::{self, Malformed, Reader};
use skep_base::{Args, Millis, SLOT_COUNT, hash};

use crate::small::SmallBytes;

/// What a token was used for: 128 bits of hash over the database, the command's name in lower case, and every argument with
/// its length. Only a client that makes two requests collide under one token of its own could confuse them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Request(u64, u64);

impl Request {
    /// `args` begin with the command's name.
    pub fn of(db: u8, args: Args) -> Request {
        /// Fixed, for the hashes are part of the state.
        const SEEDS: [u64; 2] = [0x6f6e_6365, 0x746f_6b65_6e00];
        let name = args.get(0).unwrap_or_default().to_ascii_lowercase();
        let halves = SEEDS.map(|seed| {
            let start = hash::seeded(seed ^ u64::from(db), &name);
            // A hash of each argument covers its length, and the chain their order and number.
            args.from(1).iter().fold(start, hash::seeded)
        });
        Request(halves[0], halves[1])
    }
}

/// One use of a token.
pub(crate) struct OnceRecord {
    token: SmallBytes,
    request: Request,
    /// Of the request's first key.
    slot: u16,
    /// As [`skep_resp::Reply::stored`] takes it.
    reply: Box<[u8]>,
}

/// What is known of a token.
pub(crate) enum Known<'a> {
    New,
    /// It was used for this very request; the whole reply, stored.
    Repeat(&'a [u8]),
    OtherRequest,
}

/// A record's place in the order of removal: its deadline, and a number that tells equal ones apart.
pub(crate) type Place = (Millis, u64);

/// All records of a shard. Trees, so that no insertion stalls however many there are.
pub(crate) struct OnceTable {
    /// How long what is inserted is kept, in ms; the entry that is being applied says. No part of the state.
    pub retention_ms: u64,
    records: BTreeMap<Place, OnceRecord>,
    /// The places of the records by the hash of their tokens.
    by_token: BTreeSet<(u64, Place)>,
    next_number: u64,
}

/// How long a token is remembered if nobody says: longer than any client goes on repeating a request.
const RETENTION_MS: u64 = 24 * 60 * 60 * 1_000;

impl Default for OnceTable {
    fn default() -> OnceTable {
        let (records, by_token) = (BTreeMap::new(), BTreeSet::new());
        OnceTable { retention_ms: RETENTION_MS, records, by_token, next_number: 0 }
    }
}

impl OnceTable {
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// What is known of `token` at `now`. A record past its deadline is nothing.
    pub fn look_up(&self, token: &[u8], request: Request, now: Millis) -> Known<'_> {
        let hash = hash::of(token);
        let live = (hash, (now, 0))..=(hash, (Millis(u64::MAX), u64::MAX));
        let mut of_token = self.by_token.range(live).map(|(_, place)| &self.records[place]);
        match of_token.find(|record| record.token.as_slice() == token) {
            None => Known::New,
            Some(record) if record.request == request => Known::Repeat(&record.reply),
            Some(_) => Known::OtherRequest,
        }
    }

    /// Remembers the `reply` to a request under a `token` that is new, until `deadline`.
    pub fn insert(&mut self, token: &[u8], request: Request, slot: u16, reply: &[u8], deadline: Millis) {
        let record = OnceRecord { token: SmallBytes::new(token), request, slot, reply: reply.into() };
        self.put(record, deadline);
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.records.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// Takes out the record with the earliest deadline if that is before `now`.
    pub fn pop_due(&mut self, now: Millis) -> Option<(Place, OnceRecord)> {
        let first = self.records.first_entry().filter(|first| first.key().0 < now)?;
        let (place, record) = first.remove_entry();
        assert!(self.by_token.remove(&(hash::of(&record.token), place)), "record {place:?} was not indexed");
        Some((place, record))
    }

    /// The number that the next record gets; those that are there have smaller ones.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Records from `place` on, in order.
    pub fn from(&self, place: Place) -> impl Iterator<Item = (Place, &OnceRecord)> {
        self.records.range(place..).map(|(place, record)| (*place, record))
    }

    /// Reads the checkpoint form of a record and puts it behind those of its deadline.
    pub fn restore(&mut self, input: &mut Reader<'_>) -> Result<(), Malformed> {
        let deadline = Millis(input.varint()?);
        let slot = input.varint()?;
        let Some(slot) = u16::try_from(slot).ok().filter(|slot| *slot < SLOT_COUNT) else {
            return input.malformed("a slot below 16384");
        };
        let request = Request(input.u64()?, input.u64()?);
        let token = SmallBytes::new(input.bytes()?);
        let reply = input.bytes()?.into();
        self.put(OnceRecord { token, request, slot, reply }, deadline);
        Ok(())
    }

    pub fn assert_invariants(&self) {
        assert_eq!(self.by_token.len(), self.records.len(), "records of ONCE indexed");
        for (place, record) in &self.records {
            assert!(self.by_token.contains(&(hash::of(&record.token), *place)), "record {place:?} of ONCE");
            assert!(place.1 < self.next_number, "record {place:?} of ONCE is numbered from the future");
        }
    }

    fn put(&mut self, record: OnceRecord, deadline: Millis) {
        let place = (deadline, self.next_number);
        self.next_number += 1;
        self.by_token.insert((hash::of(&record.token), place));
        self.records.insert(place, record);
    }
}

impl OnceRecord {
    /// Appends the checkpoint form.
    pub fn encode(&self, deadline: Millis, out: &mut Vec<u8>) {
        varint::put(out, deadline.0);
        varint::put(out, u64::from(self.slot));
        out.extend_from_slice(&self.request.0.to_le_bytes());
        out.extend_from_slice(&self.request.1.to_le_bytes());
        varint::put_bytes(out, &self.token);
        varint::put_bytes(out, &self.reply);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::args::OwnedArgs;

    fn request(db: u8, words: &[&str]) -> Request {
        Request::of(db, OwnedArgs::collect(words.iter().map(|w| w.as_bytes())).args())
    }

    #[test]
    fn requests_differ_in_every_argument_and_in_nothing_else() {
        let first = request(0, &["SET", "k", "v"]);
        assert_eq!(request(0, &["set", "k", "v"]), first);
        let others = [
            request(1, &["set", "k", "v"]),
            request(0, &["set", "K", "v"]),
            request(0, &["set", "kv", ""]),
            request(0, &["set", "", "kv"]),
            request(0, &["setk", "v"]),
            request(0, &["set", "v", "k"]),
            request(0, &["set", "k", "v", ""]),
        ];
        for (at, other) in others.iter().enumerate() {
            assert!(*other != first && others[..at].iter().all(|o| o != other), "request {at}");
        }
    }

    #[test]
    fn a_record_is_known_until_its_deadline_and_removed_after_it() {
        let mut table = OnceTable::default();
        let set = request(0, &["set", "k", "v"]);
        table.insert(b"t", set, 7, b"+OK\r\n", Millis(100));
        table.insert(b"u", set, 7, b":1\r\n", Millis(90));
        table.assert_invariants();
        assert!(matches!(table.look_up(b"t", set, Millis(100)), Known::Repeat(b"+OK\r\n")));
        assert!(matches!(table.look_up(b"t", request(0, &["get"]), Millis(100)), Known::OtherRequest));
        assert!(matches!(table.look_up(b"t", set, Millis(101)), Known::New));
        assert!(matches!(table.look_up(b"w", set, Millis(0)), Known::New));
        // A token that is used again before the sweep came by has two records, of which one counts.
        table.insert(b"t", request(0, &["get"]), 7, b":2\r\n", Millis(200));
        assert!(matches!(table.look_up(b"t", set, Millis(101)), Known::OtherRequest));
        assert_eq!(table.next_deadline(), Some(Millis(90)));
        let popped: Vec<Place> = std::iter::from_fn(|| table.pop_due(Millis(101))).map(|(p, _)| p).collect();
        assert_eq!(popped, [(Millis(90), 1), (Millis(100), 0)]);
        assert_eq!(table.len(), 1);
        table.assert_invariants();
    }

    #[test]
    fn records_round_trip_and_no_prefix_or_flip_panics() {
        let mut table = OnceTable::default();
        table.insert(b"token", request(3, &["incr", "k"]), 16_383, b":1\r\n", Millis(1 << 40));
        let mut bytes = Vec::new();
        for ((deadline, _), record) in table.from((Millis(0), 0)) {
            record.encode(deadline, &mut bytes);
        }
        let mut copy = OnceTable::default();
        copy.restore(&mut Reader::new(&bytes)).unwrap();
        copy.assert_invariants();
        assert!(matches!(
            copy.look_up(b"token", request(3, &["incr", "k"]), Millis(0)),
            Known::Repeat(b":1\r\n")
        ));
        for cut in 0..bytes.len() {
            assert!(OnceTable::default().restore(&mut Reader::new(&bytes[..cut])).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0xff;
            let mut copy = OnceTable::default();
            let _ = copy.restore(&mut Reader::new(&flipped));
            copy.assert_invariants();
        }
    }
}
