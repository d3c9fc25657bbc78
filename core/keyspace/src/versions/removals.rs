//! How often keys were removed: what a watch of a key that is not there notes, since such a key has no entry with a version.
//!
//! Counted by bucket, not by key, so it takes the same room whatever was removed: a removal counts for all keys of its bucket.
//! State: in cuts, digests and restores.

use std::sync::Arc;

use skep_base::hash;
use skep_base::varint::{self, Malformed, Reader};

use crate::keyspace::DB_COUNT;

/// Buckets of a shard: 256 KiB once all are in use. A transaction that watches a key that is not there stops for nothing with odds
/// of one in 65,536 for each other key that is removed between its `WATCH` and its `EXEC`.
const BUCKET_COUNT: usize = CHUNK_COUNT * CHUNK_BUCKETS;
/// Buckets that are written into a cut, and copied when they change while one holds them, together.
const CHUNK_BUCKETS: usize = 256;
const CHUNK_COUNT: usize = 256;

/// Part of the state, so the same on every node. Clients that choose keys of one bucket stop their own transactions.
const SEED: u64 = 0x7265_6d6f_7665_6400;

const _: () = assert!(BUCKET_COUNT == 1 << 16, "bucket_of takes 16 bits of the hash");
const _: () = assert!(DB_COUNT as u64 <= 1 << 8, "the database has the seed's last byte");

/// Databases with more keys are emptied without a walk over them.
pub(crate) const WALKED_KEYS_MAX: usize = 4_096;

type Chunk = [u32; CHUNK_BUCKETS];

/// Counts of removals; all go round at 2^32.
#[derive(Clone, Default)]
pub(crate) struct Removals {
    /// Shared with a cut that has not written them. None until the first removal; then [`CHUNK_COUNT`].
    chunks: Vec<Option<Arc<Chunk>>>,
    /// Of each database, how often keys were removed without being looked at.
    unwalked: [u32; DB_COUNT as usize],
    /// How often each database was exchanged for another.
    swaps: [u32; DB_COUNT as usize],
}

/// The record of the counts of whole databases, behind those of the chunks. Part of the format.
const WHOLE: usize = CHUNK_COUNT;

impl Removals {
    /// Counts the removal of a key. Cost: O(1), and a copy of a kilobyte if a cut holds it.
    #[inline]
    pub fn add(&mut self, db: u8, key: &[u8]) {
        let (chunk, bucket) = bucket_of(db, key);
        if self.chunks.is_empty() {
            self.chunks.resize(CHUNK_COUNT, None);
        }
        let chunk = self.chunks[chunk].get_or_insert_with(|| Arc::new([0; CHUNK_BUCKETS]));
        let count = &mut Arc::make_mut(chunk)[bucket];
        *count = count.wrapping_add(1);
    }

    /// Counts the removal of all keys of `db`, whatever they are.
    pub fn add_unwalked(&mut self, db: u8) {
        let count = &mut self.unwalked[usize::from(db)];
        *count = count.wrapping_add(1);
    }

    pub fn add_swap(&mut self, db: u8) {
        let count = &mut self.swaps[usize::from(db)];
        *count = count.wrapping_add(1);
    }

    /// Removals that may have been of `key`.
    pub fn of(&self, db: u8, key: &[u8]) -> u32 {
        let (chunk, bucket) = bucket_of(db, key);
        let walked = self.chunks.get(chunk).and_then(Option::as_ref).map_or(0, |chunk| chunk[bucket]);
        walked.wrapping_add(self.unwalked[usize::from(db)])
    }

    pub fn swaps(&self, db: u8) -> u32 {
        self.swaps[usize::from(db)]
    }

    /// Appends the first record from `place` on, and gives the place behind it; `None` at the end.
    pub fn put_record(&self, place: usize, out: &mut Vec<u8>) -> Option<usize> {
        let chunks = self.chunks.iter().enumerate().skip(place);
        let mut chunks = chunks.filter_map(|(at, chunk)| Some((at, chunk.as_deref()?)));
        if let Some((at, chunk)) = chunks.find(|(_, chunk)| chunk.iter().any(|count| *count != 0)) {
            varint::put(out, at as u64);
            put_counts(out, chunk);
            return Some(at + 1);
        }
        if place > WHOLE || self.unwalked.iter().chain(&self.swaps).all(|count| *count == 0) {
            return None;
        }
        varint::put(out, WHOLE as u64);
        put_counts(out, &self.unwalked);
        put_counts(out, &self.swaps);
        Some(WHOLE + 1)
    }

    /// Takes what [`Removals::put_record`] wrote.
    pub fn restore(&mut self, input: &mut Reader<'_>) -> Result<(), Malformed> {
        match usize::try_from(input.varint()?) {
            Ok(WHOLE) => {
                read_counts(input, &mut self.unwalked)?;
                read_counts(input, &mut self.swaps)
            }
            Ok(at) if at < CHUNK_COUNT => {
                self.chunks.resize(CHUNK_COUNT, None);
                let mut chunk = [0; CHUNK_BUCKETS];
                read_counts(input, &mut chunk)?;
                self.chunks[at] = Some(Arc::new(chunk));
                Ok(())
            }
            _ => input.malformed("buckets of removed keys of 0 to 256"),
        }
    }
}

/// The chunk of a key, and the bucket in it.
#[inline]
fn bucket_of(db: u8, key: &[u8]) -> (usize, usize) {
    let bucket = (hash::seeded(SEED | u64::from(db), key) >> 48) as usize;
    (bucket / CHUNK_BUCKETS, bucket % CHUNK_BUCKETS)
}

/// Appends those counts that are not zero, each behind the number of zeros in front of it.
fn put_counts(out: &mut Vec<u8>, counts: &[u32]) {
    varint::put(out, counts.iter().filter(|count| **count != 0).count() as u64);
    let mut zeros = 0;
    for count in counts {
        if *count == 0 {
            zeros += 1;
            continue;
        }
        varint::put(out, zeros);
        varint::put(out, u64::from(*count));
        zeros = 0;
    }
}

fn read_counts(input: &mut Reader<'_>, counts: &mut [u32]) -> Result<(), Malformed> {
    let mut places = counts.iter_mut();
    for _ in 0..input.count(2)? {
        let zeros = usize::try_from(input.varint()?).unwrap_or(usize::MAX);
        match (places.nth(zeros), u32::try_from(input.varint()?)) {
            (Some(place), Ok(count)) => *place = count,
            _ => return input.malformed("a count below 2^32 of one of the buckets"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(removals: &Removals) -> Vec<Vec<u8>> {
        let (mut place, mut all) = (0, Vec::new());
        loop {
            let mut record = Vec::new();
            match removals.put_record(place, &mut record) {
                Some(next) => place = next,
                None => return all,
            }
            all.push(record);
        }
    }

    fn restored(records: &[Vec<u8>]) -> Removals {
        let mut removals = Removals::default();
        for record in records {
            let mut input = Reader::new(record);
            removals.restore(&mut input).unwrap();
            input.end().unwrap();
        }
        removals
    }

    #[test]
    fn the_bucket_of_a_key_is_part_of_the_state_and_never_changes() {
        let of = |db, key: &[u8]| bucket_of(db, key);
        assert_eq!([of(0, b""), of(0, b"key"), of(1, b"key")], [(206, 53), (40, 99), (244, 87)]);
    }

    #[test]
    fn keys_of_one_hash_tag_and_short_numbers_spread_over_the_buckets() {
        for prefix in ["{user}:", "", "a rather long name of a key that is {there}"] {
            let mut removals = Removals::default();
            (0..65_536).for_each(|i| removals.add(0, format!("{prefix}{i}").as_bytes()));
            let counts = removals.chunks.iter().flatten().flat_map(|chunk| chunk.iter());
            let (used, most) = (counts.clone().filter(|count| **count > 0).count(), counts.max());
            // By chance 63.2 % are used, and the fullest has 8 or so.
            assert!((40_000..43_000).contains(&used), "{used} buckets of {prefix}");
            assert!(most < Some(&13), "{most:?} of {prefix} in a bucket");
        }
    }

    #[test]
    fn counts_round_trip_and_no_prefix_or_flip_panics() {
        let mut removals = Removals::default();
        assert_eq!(records(&removals), Vec::<Vec<u8>>::new());
        (0..700u32).for_each(|i| (0..=i % 3).for_each(|_| removals.add((i % 16) as u8, &i.to_le_bytes())));
        (0..9).for_each(|_| removals.add_unwalked(15));
        removals.add_swap(3);
        let last = removals.chunks.iter_mut().flatten().last().unwrap();
        Arc::make_mut(last)[CHUNK_BUCKETS - 1] = u32::MAX;
        let all = records(&removals);
        let copy = restored(&all);
        assert_eq!(
            (&copy.chunks, copy.unwalked, copy.swaps),
            (&removals.chunks, removals.unwalked, removals.swaps)
        );
        for record in &all {
            for cut in 0..record.len() {
                assert!(
                    Removals::default().restore(&mut Reader::new(&record[..cut])).is_err(),
                    "cut at {cut}"
                );
            }
            for at in 0..record.len() {
                let mut flipped = record.clone();
                flipped[at] ^= 0xff;
                let _ = Removals::default().restore(&mut Reader::new(&flipped));
            }
        }
    }

    #[test]
    fn what_a_cut_holds_is_not_changed_by_later_removals() {
        let mut removals = Removals::default();
        removals.add(0, b"key");
        let (held, before) = (removals.clone(), records(&removals));
        removals.add(0, b"key");
        removals.add(1, b"another");
        assert_eq!(records(&held), before);
        assert_ne!(records(&removals), before);
    }

    #[test]
    fn counts_that_went_round_to_zero_are_written_as_if_they_had_never_been() {
        let mut removals = Removals::default();
        removals.add(0, b"key");
        let (chunk, bucket) = bucket_of(0, b"key");
        Arc::make_mut(removals.chunks[chunk].as_mut().unwrap())[bucket] = u32::MAX;
        removals.add(0, b"key");
        assert_eq!(removals.of(0, b"key"), 0);
        assert_eq!(records(&removals), Vec::<Vec<u8>>::new());
    }
}
