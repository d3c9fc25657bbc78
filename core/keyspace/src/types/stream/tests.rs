//! Streams against a model, in every form they take.

use std::collections::{BTreeMap, BTreeSet};

use skep_base::varint::Reader;
use skep_base::{Millis, Rng};

use super::*;
use crate::value::Typed;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn pairs(rng: &mut Rng) -> Pairs {
    let text = |rng: &mut Rng, most| vec![b'a' + rng.below(3) as u8; rng.below(most) as usize];
    match rng.below(10) {
        0 => (0..1 + rng.below(4)).map(|_| (text(rng, 6), text(rng, 300))).collect(),
        1 => vec![(b"one".to_vec(), text(rng, 9_000))],
        _ => vec![
            (b"one".to_vec(), text(rng, 12)),
            (b"two".to_vec(), rng.below(100_000).to_string().into_bytes()),
        ],
    }
}

fn append(stream: &mut Stream, id: StreamId, pairs: &Pairs) -> bool {
    stream.append(id, pairs.iter().map(|(name, value)| (&name[..], &value[..])))
}

fn content(record: Record) -> (StreamId, Pairs) {
    (record.id, record.fields().map(|(name, value)| (name.to_vec(), value.to_vec())).collect())
}

fn form(stream: &Stream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.encode(&mut bytes);
    bytes
}

#[test]
fn entries_agree_with_a_model() {
    for seed in 0..25 {
        let mut rng = Rng::new(seed);
        let (mut stream, mut model) = (Stream::default(), BTreeMap::new());
        let mut id = StreamId::new(rng.below(2) * u64::from(u32::MAX), 0);
        let mut copies: Vec<(Stream, Vec<u8>)> = Vec::new();
        for step in 0..1_500 {
            let any = StreamId::new(id.ms.saturating_sub(rng.below(900)), rng.below(4));
            match rng.below(if step % 600 < 400 { 12 } else { 20 }) {
                0..8 => {
                    id = if rng.one_in(3) {
                        StreamId::new(id.ms, id.seq + 1)
                    } else {
                        StreamId::new(id.ms + 1 + rng.below(3), 0)
                    };
                    let pairs = pairs(&mut rng);
                    assert!(append(&mut stream, id, &pairs));
                    assert!(!append(&mut stream, id, &pairs), "an id twice");
                    model.insert(id, pairs);
                }
                8 => {
                    let (low, high) = (any, StreamId::new(any.ms + rng.below(500), any.seq + rng.below(5)));
                    let expected: Vec<_> = model.range(low..=high).map(|(id, p)| (*id, p.clone())).collect();
                    assert!(stream.range(low, high).map(content).eq(expected.iter().cloned()));
                    assert!(stream.range_back(low, high).map(content).eq(expected.into_iter().rev()));
                }
                9 => assert_eq!(
                    stream.get(any).map(content),
                    model.get_key_value(&any).map(|(i, p)| (*i, p.clone()))
                ),
                10 => {
                    assert_eq!(stream.last_entry_id(), model.keys().last().copied());
                    assert_eq!(stream.first_entry_id(), model.keys().next().copied().unwrap_or_default());
                    if rng.one_in(5) {
                        copies.push((stream.clone(), form(&stream)));
                    }
                }
                11..18 => {
                    let there = model.range(any..).next().map_or(any, |(id, _)| *id);
                    assert_eq!(stream.delete(there), model.remove(&there).is_some());
                    assert!(!stream.delete(there));
                }
                18 => {
                    let keep = model.len().saturating_sub(rng.below(150) as usize);
                    let gone = model.len() - keep;
                    assert_eq!(stream.trim(Trim::Len(keep as u64), false, None), gone);
                    for _ in 0..gone {
                        model.pop_first();
                    }
                }
                _ => {
                    let kept = model.split_off(&any);
                    let gone = std::mem::replace(&mut model, kept);
                    assert_eq!(stream.trim(Trim::Id(any), false, None), gone.len());
                }
            }
            if step % 20 == 0 {
                stream.assert_invariants();
            }
            assert_eq!(stream.len(), model.len());
        }
        let all = (StreamId::ZERO, StreamId::MAX);
        assert!(stream.range(all.0, all.1).map(content).eq(model.iter().map(|(id, p)| (*id, p.clone()))));
        for (copy, before) in &copies {
            copy.assert_invariants();
            assert_eq!(form(copy), *before, "a copy changed with the original");
        }
        let bytes = form(&stream);
        let again = Stream::decode(&mut Reader::new(&bytes)).unwrap();
        again.assert_invariants();
        assert_eq!(form(&again), bytes);
    }
}

#[test]
fn blocks_end_where_those_of_redis_do() {
    // Counted in redis-server 7.0.15: XINFO STREAM's radix-tree-keys after each of these.
    let mut stream = Stream::default();
    let add = |stream: &mut Stream, value: &[u8]| {
        let id = stream.last_id().next().unwrap();
        assert!(stream.append(id, [(&b"field"[..], value)].into_iter()));
        stream.block_count()
    };
    let counts: Vec<usize> = (0..201).map(|_| add(&mut stream, b"v")).collect();
    assert_eq!([counts[99], counts[100], counts[199], counts[200]], [1, 2, 2, 3]);
    // Deleted ones count.
    let mut stream = Stream::default();
    for n in 1..=101 {
        add(&mut stream, b"v");
        if (2..50).contains(&n) {
            stream.delete(StreamId::new(0, n));
        }
    }
    assert_eq!((stream.block_count(), stream.len()), (2, 53));
    // And bytes.
    let mut stream = Stream::default();
    assert_eq!([add(&mut stream, &[b'x'; 5_000]), add(&mut stream, b"v"), add(&mut stream, b"v")], [1, 2, 2]);
    let mut stream = Stream::default();
    let counts: Vec<usize> = (0..50).map(|_| add(&mut stream, &[b'x'; 100])).collect();
    assert_eq!(counts.iter().filter(|c| **c == 1).count(), 36);
}

#[test]
fn approximate_trims_take_whole_blocks_up_to_their_limit() {
    let mut stream = Stream::default();
    for n in 1..=1_000u64 {
        append(&mut stream, StreamId::new(n, 0), &vec![(b"f".to_vec(), b"v".to_vec())]);
    }
    assert_eq!(stream.trim(Trim::Len(951), true, Some(10_000)), 0);
    assert_eq!(stream.trim(Trim::Len(800), true, Some(99)), 0);
    assert_eq!(stream.trim(Trim::Len(800), true, Some(199)), 100);
    assert_eq!(stream.trim(Trim::Len(550), true, None), 300);
    assert_eq!(stream.trim(Trim::Id(StreamId::new(650, 0)), true, Some(10_000)), 200);
    assert_eq!(stream.trim(Trim::Id(StreamId::new(650, 0)), false, None), 49);
    assert_eq!((stream.first_entry_id(), stream.len()), (StreamId::new(650, 0), 351));
    stream.assert_invariants();
}

#[test]
fn a_small_entry_takes_few_bytes() {
    let mut stream = Stream::default();
    for n in 0..100_000u64 {
        let value = format!("{n:08}");
        let id = StreamId::new(1_700_000_000_000 + n, 0);
        assert!(stream.append(id, [(&b"a-long-field-name"[..], value.as_bytes())].into_iter()));
    }
    let each = stream.heap_bytes() as f64 / stream.len() as f64;
    assert!(each < 18.0, "{each} bytes for an entry of 8");
}

#[test]
fn groups_agree_with_a_model() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let mut group = Group::new(StreamId::ZERO, None);
        let mut model: BTreeMap<u64, (u64, Delivery)> = BTreeMap::new();
        let mut consumers: BTreeSet<u64> = BTreeSet::new();
        let name = |n: u64| format!("consumer {n}").into_bytes();
        for step in 0..4_000u64 {
            let (id, who) = (rng.below(3_000), rng.below(6));
            let at = StreamId::new(id, 7);
            match rng.below(12) {
                0..7 => {
                    group.see(&name(who), Millis(step));
                    consumers.insert(who);
                    let delivery = Delivery { time: Millis(step), count: rng.below(9) };
                    group.assign(at, &name(who), delivery);
                    model.insert(id, (who, delivery));
                }
                7..11 => assert_eq!(group.acknowledge(at), model.remove(&id).is_some()),
                _ if rng.one_in(20) => {
                    let held = model.values().filter(|(owner, _)| *owner == who).count();
                    let known = consumers.remove(&who);
                    assert_eq!(group.remove_consumer(&name(who)), known.then_some(held));
                    model.retain(|_, (owner, _)| *owner != who);
                }
                _ => assert_eq!(group.add_consumer(&name(who), Millis(step)), consumers.insert(who)),
            }
            if step % 100 == 0 {
                group.assert_invariants();
            }
        }
        let found =
            group.pending_from(StreamId::ZERO).map(|(id, name, delivery)| (id.ms, name.to_vec(), delivery));
        assert!(found.eq(model.iter().map(|(id, (who, delivery))| (*id, name(*who), *delivery))));
        for who in &consumers {
            let held = group.consumer(&name(*who)).unwrap().pending_from(StreamId::new(500, 0));
            let expected = model.range(500..).filter(|(_, (owner, _))| owner == who);
            assert!(held.map(|(id, d)| (id.ms, d)).eq(expected.map(|(id, (_, d))| (*id, *d))));
        }
        let mut stream = Stream::default();
        stream.add_group(b"g", group);
        stream.add_group(b"a", Group::new(StreamId::new(1, 2), Some(3)));
        let bytes = form(&stream);
        let again = Stream::decode(&mut Reader::new(&bytes)).unwrap();
        again.assert_invariants();
        assert_eq!(form(&again), bytes);
        assert!(again.is_large() == (again.elements().count() > 4096));
    }
}

#[test]
fn damaged_checkpoints_of_streams_are_refused_or_read_without_a_panic() {
    let mut rng = Rng::new(3);
    let mut stream = Stream::default();
    for n in 1..=250u64 {
        append(&mut stream, StreamId::new(n, n % 3), &pairs(&mut rng));
    }
    stream.add_group(b"g", Group::new(StreamId::new(9, 0), Some(4)));
    let group = stream.group_mut(b"g").unwrap();
    for n in 1..20 {
        group.see(&[b'c', n as u8 % 3], Millis(5));
        group.assign(StreamId::new(n, n % 3), &[b'c', n as u8 % 3], Delivery { time: Millis(n), count: 1 });
    }
    let bytes = form(&stream);
    for cut in (0..bytes.len()).step_by(137) {
        assert!(Stream::decode(&mut Reader::new(&bytes[..cut])).is_err(), "cut off at {cut}");
    }
    let mut read = 0;
    for _ in 0..600 {
        let at = rng.below(bytes.len() as u64) as usize;
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << rng.below(8);
        if let Ok(stream) = Stream::decode(&mut Reader::new(&flipped)) {
            stream.assert_invariants();
            read += 1;
        }
    }
    assert!(read > 300, "values are not checked, so most flips are read: {read} of 600");
}
