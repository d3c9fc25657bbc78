//! Payloads of Redis, payloads of ours, and damaged ones.

use proptest::prelude::*;
use skep_base::Millis;
use skep_base::args::OwnedArgs;

use super::*;
use crate::commands::testing::Bench;
use crate::db::NEVER;
use crate::small::SmallBytes;
use crate::types::stream::{Delivery, Group};
use crate::types::{End, Hash, List, Member, Set, Str, Stream, StreamId, ZSet};
use crate::value::Typed;

fn from_hex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// A payload of this body.
fn sealed(body: &[u8]) -> Vec<u8> {
    let mut payload = body.to_vec();
    payload.extend_from_slice(&VERSION_MAX.to_le_bytes());
    payload.extend_from_slice(&crc64::checksum(&payload).to_le_bytes());
    payload
}

/// The checkpoint form: equal values have equal forms.
fn form(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode(&mut out);
    out
}

fn loaded(body: &str) -> Result<Value, Malformed> {
    load(&from_hex(&body.replace(' ', "")))
}

fn samples() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let text = include_str!("../../testdata/redis_dumps.txt");
    let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    let sample = |l: &[&'static str]| (l[0].strip_prefix("> ").unwrap(), from_hex(l[1]), l[2]);
    lines.chunks(3).map(sample).collect()
}

#[test]
fn payloads_of_redis_are_understood() {
    let mut bench = Bench::new();
    for (command, payload, expected) in samples() {
        let key = command.split(' ').nth(1).unwrap();
        let restore = [b"RESTORE", key.as_bytes(), b"0", &payload];
        assert_eq!(bench.run_args(&OwnedArgs::collect(restore)), b"+OK\r\n", "{command}");
        let body = verify(&payload).unwrap();
        let value = load(body).unwrap();
        let again = dump(&value, Millis(0));
        assert_eq!(form(&load(verify(&again).unwrap()).unwrap()), form(&value), "{command}");
        if !bench.knows(command) {
            continue;
        }
        let words: Vec<&str> = expected.split(' ').map(|w| if w == "\"\"" { "" } else { w }).collect();
        let bulks: Vec<String> = words.iter().map(|w| format!("${}|{w}", w.len())).collect();
        let count = if command.starts_with("get ") { String::new() } else { format!("*{}|", words.len()) };
        let expected = format!("{count}{}", bulks.join("|"));
        assert_eq!(bench.run(command), expected.trim_end_matches('|'), "{command}");
    }
}

#[test]
fn old_encodings_are_understood() {
    let list = |items: &[&str]| {
        let mut list = List::default();
        items.iter().for_each(|item| list.push(End::Right, item.as_bytes()));
        form(&list.into_value())
    };
    // A ziplist with each form of text and number.
    let ziplist = "0a 18 18000000 12000000 0400 00 02 6162 04 fe 85 03 f5 02 c0 2c01 ff";
    assert_eq!(form(&loaded(ziplist).unwrap()), list(&["ab", "-123", "4", "300"]));
    // A quicklist of an empty ziplist and one with an element.
    let quicklist = "0e 02 0b 0b000000 0a000000 0000 ff 0f 0f000000 0a000000 0100 00 02 6869 ff";
    assert_eq!(form(&loaded(quicklist).unwrap()), list(&["hi"]));
    // A large element by itself among listpacks.
    assert_eq!(
        form(&loaded("12 02 01 03 616263 02 0a 0a000000 0100 81 61 02 ff").unwrap()),
        list(&["abc", "a"])
    );
    assert_eq!(form(&loaded("01 01 81 0000000000000001 61").unwrap()), list(&["a"]));
    assert_eq!(form(&loaded("01 01 80 00000001 61").unwrap()), list(&["a"]));

    let mut hash = Hash::default();
    hash.set(b"a", SmallBytes::new(b"12"), NEVER);
    hash.set(b"bc", SmallBytes::new(b""), NEVER);
    let hash = form(&hash.into_value());
    assert_eq!(form(&loaded("09 0e 02 01 61 02 01 3132 78 02 6263 00 00 ff").unwrap()), hash);
    assert_eq!(form(&loaded("10 12 12000000 0400 81 61 02 0c 01 82 6263 03 80 01 ff").unwrap()), hash);

    let mut set = Set::default();
    set.add(b"a");
    set.add(b"-1");
    assert_eq!(form(&loaded("14 0d 0d000000 0200 81 61 02 df ff 02 ff").unwrap()), form(&set.into_value()));

    let text = loaded("03 03 01 61 03 312e35 01 62 fe 01 63 ff").unwrap();
    let binary = "05 03 01 61 000000000000f83f 01 62 000000000000f07f 01 63 000000000000f0ff";
    assert_eq!(form(&text), form(&loaded(binary).unwrap()));
}

#[test]
fn fields_keep_their_deadlines() {
    let mut hash = Hash::default();
    hash.set(b"stays", SmallBytes::new(b"1"), NEVER);
    hash.set(b"goes", SmallBytes::new(b"2"), Millis(5_000));
    hash.set(b"later", SmallBytes::new(b"3"), Millis(5_100));
    let whole = form(&hash.clone().into_value());
    let payload = dump(&hash.clone().into_value(), Millis(1_000));
    assert_eq!(payload[0], kind::HASH_DEADLINES);
    assert_eq!(payload[payload.len() - FOOTER_BYTES..][..2], [12, 0]);
    assert_eq!(form(&load(verify(&payload).unwrap()).unwrap()), whole);
    let late = dump(&hash.into_value(), Millis(5_101));
    assert_eq!(late[..late.len() - FOOTER_BYTES], *b"\x04\x01\x05stays\xc0\x01");

    let packed = "19 8813000000000000 17 17000000 0600 81 61 02 01 01 f1 8813 03 81 62 02 02 01 00 01 ff";
    let Value::Hash(hash) = loaded(packed).unwrap() else { panic!("not a hash") };
    assert_eq!(hash.deadline(b"a", Millis(0)), Some(Millis(5_000)));
    assert_eq!(hash.deadline(b"b", Millis(0)), Some(NEVER));
}

#[test]
fn bad_bodies_are_refused() {
    for body in [
        "",
        "01 00", // empty
        "04 00",
        "05 00",
        "0e 01 0b 0b000000 0a000000 0000 ff", // empty inside
        "0b 08 02000000 00000000",
        "02 02 01 61 01 61", // a member twice
        "04 02 01 61 01 31 01 61 01 32",
        "05 02 01 61 000000000000f83f 01 61 000000000000f83f",
        "0b 0c 02000000 02000000 0100 0100",
        "05 01 01 61 000000000000f87f", // NaN
        "03 01 01 61 fd",
        "10 0a 0a000000 0100 81 61 02 ff",       // a field without a value
        "14 0a 0a000000 0200 81 61 02 ff",       // count and elements differ
        "14 0a 0b000000 0100 81 61 02 ff",       // size and bytes differ
        "14 0b 0b000000 0100 81 61 02 ff 00",    // bytes behind the end
        "18 0000000000000100 01 02 01 61 01 31", // a deadline above 48 bits
        "01 81 ffffffffffffffff 01 61",          // more announced than there
        "00 81 ffffffffffffffff 61",
        "00 c3 02 81 ffffffffffffffff 00 61",
        "00 c3 03 05 20 00 00", // a copy of nothing
        "00 c3 02 02 00 61",    // less text than announced
        "00 c4",
        "06 01", // modules, what nobody knows
        "16 01",
        "ff",
    ] {
        assert!(loaded(body).is_err(), "{body}");
    }
}

/// The entries of a stream in redis-server 7.0.15: `1526919030474-55 name value n -5000`, `…-56 name
/// long-enough-text-to-be-a-string n 70000`, `1526919030480-0 other x` and a deleted one.
const STREAM_PACK: &str = "7f0000001f00030101010201846e616d6505816e0200010201000100018576616c756506f178ec030501020100010101 \
    9f6c6f6e672d656e6f7567682d746578742d746f2d62652d612d737472696e6720f270110104050100010601dfc90201 \
    01856f7468657206817802060103010701dfc90284676f6e650501010501ff";

#[test]
fn streams_of_redis_are_understood() {
    const ENTRIES: &str = "*3|*2|$16|1526919030474-55|*4|$4|name|$5|value|$1|n|$5|-5000|*2|$16|1526919030474-56|*4|$4|name|$31|\
        long-enough-text-to-be-a-string|$1|n|$5|70000|*2|$15|1526919030480-0|*2|$5|other|$1|x";
    let mut bench = Bench::new();
    let mut restore = |key: &str, payload: &[u8]| {
        let words = [b"RESTORE", key.as_bytes(), b"0", payload];
        assert_eq!(bench.run_args(&OwnedArgs::collect(words)), b"+OK\r\n", "{key}");
    };
    // As 7.0.15 dumped it, with two groups.
    let payload = "13011000000163837766ca0000000000000037407f".to_owned()
        + STREAM_PACK
        + "038100000163837766d1008100000163837766ca378100000163837766d100040201678100000163837766ca3881ffff \
        ffffffffffff0200000163837766ca00000000000000377a049fffa10100000100000163837766ca0000000000000038 \
        7b049fffa10100000103c0117b049fffa10100000005616c6963657a049fffa10100000100000163837766ca00000000 \
        0000003703626f627b049fffa10100000100000163837766ca0000000000000038056c617465728100000163837766d0 \
        0081ffffffffffffffff00000a00dfe805c40432b4f1";
    restore("s", &from_hex(&payload.replace(' ', "")));
    // The form of Redis 5: no counts, one group, one entry that is not acknowledged.
    let id = "00000163837766ca0000000000000038";
    let old = format!(
        "0f 01 10 00000163837766ca0000000000000037 407f {STREAM_PACK} 03 81 00000163837766d1 00 01 \
        01 67 81 00000163837766ca 38 01 {id} 7a049fffa1010000 05 01 01 63 7a049fffa1010000 01 {id}"
    );
    restore("old", &sealed(&from_hex(&old.replace(' ', ""))));
    for (question, expected) in [
        ("XRANGE s - +", ENTRIES),
        ("XRANGE old - +", ENTRIES),
        (
            "XPENDING s g",
            "*4|:2|$16|1526919030474-55|$16|1526919030474-56|*2|*2|$5|alice|$1|1|*2|$3|bob|$1|1",
        ),
        ("XPENDING old g", "*4|:1|$16|1526919030474-56|$16|1526919030474-56|*1|*2|$1|c|$1|1"),
        (
            "XINFO GROUPS s",
            "*2|*12|$4|name|$1|g|$9|consumers|:3|$7|pending|:2|$17|last-delivered-id|$16|1526919030474-56|$12|entries-read|$-1\
             |$3|lag|$-1|*12|$4|name|$5|later|$9|consumers|:0|$7|pending|:0|$17|last-delivered-id|$15|1526919030480-0|$12|\
             entries-read|$-1|$3|lag|$-1",
        ),
        ("XADD s 1526919030481-* f v", "$15|1526919030481-1"),
        (
            "XADD old 1526919030481-0 f v",
            "-ERR The ID specified in XADD is equal or smaller than the target stream top item",
        ),
    ] {
        assert_eq!(bench.run(question), expected, "{question}");
    }
    assert!(
        bench
            .run("XINFO STREAM s")
            .contains("max-deleted-entry-id|$15|1526919030481-0|$13|entries-added|:5|")
    );
    assert!(bench.run("XINFO STREAM old").contains("max-deleted-entry-id|$3|0-0|$13|entries-added|:3|"));
}

#[test]
fn bad_streams_are_refused() {
    let key = "00000163837766ca0000000000000037";
    let node = format!("0f 01 10 {key} 407f {STREAM_PACK}");
    let id = "00000163837766ca0000000000000038";
    assert!(loaded(&format!("{node} 03 81 00000163837766d1 00 00")).is_ok());
    for body in [
        "0f 01".into(),
        format!("{node} 03 81 00000163837766d1 00"),    // no groups
        format!("{node} 04 81 00000163837766d1 00 00"), // another number of entries
        format!("{node} 03 81 00000163837766ca 00 00"), // a last id in front of the last entry
        format!("0f 02 10 {key} 407f {STREAM_PACK} 10 {key} 407f {STREAM_PACK} 06 81 00000163837766d1 00 00"),
        format!("{node} 03 81 00000163837766d1 00 02 01 67 00 00 00 00 01 67 00 00 00 00"), // a group twice
        format!("{node} 03 81 00000163837766d1 00 01 01 67 00 00 01 {id} 7a049fffa1010000 01 00"), // nobody's entry
        format!("{node} 03 81 00000163837766d1 00 01 01 67 00 00 00 01 01 63 7a049fffa1010000 01 {id}"),
        format!(
            "{node} 03 81 00000163837766d1 00 01 01 67 00 00 00 02 01 63 7a049fffa1010000 00 01 63 7a049fffa1010000 00"
        ),
        format!("0f 01 10 {key} 0a 0a0000000100 00 01 ff 00 00 00 00"), // a pack without its head
    ] {
        assert!(loaded(&body).is_err(), "{body}");
    }
}

#[test]
fn every_prefix_and_flipped_byte_fails_the_check() {
    for (command, mut payload, _) in samples() {
        for cut in 0..payload.len() {
            assert!(verify(&payload[..cut]).is_none(), "{command} cut at {cut}");
        }
        for at in 0..payload.len() {
            payload[at] ^= 1;
            assert!(verify(&payload).is_none(), "{command} changed at {at}");
            payload[at] ^= 1;
        }
    }
    assert!(verify(&sealed(b"\0\x01a")).is_some());
    assert!(verify(&sealed(b"")).is_some_and(|body| load(body).is_err()));
}

fn check_any_body(body: &[u8]) {
    let payload = sealed(body);
    let Ok(value) = load(verify(&payload).unwrap()) else { return };
    assert!(!value.is_empty());
    let again = load(verify(&dump(&value, Millis(0))).unwrap()).unwrap();
    assert_eq!(form(&again), form(&value));
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let number =
        any::<i64>().prop_flat_map(|n: i64| (0..64u32).prop_map(move |s| (n >> s).to_string().into_bytes()));
    prop_oneof![number, prop::collection::vec(any::<u8>(), 0..100)]
}

proptest! {
    #[test]
    fn any_bytes_are_a_value_or_refused(kind in 0..27u8, rest in prop::collection::vec(any::<u8>(), 0..100)) {
        check_any_body(&[&[kind], &rest[..]].concat());
    }

    #[test]
    fn damaged_payloads_are_a_value_or_refused(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let samples = samples();
        let mut body = verify(&samples[which.index(samples.len())].1).unwrap().to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        check_any_body(&body);
    }

    #[test]
    fn values_round_trip(texts in prop::collection::vec((text(), text(), any::<Option<u32>>()), 1..100)) {
        let (mut list, mut set, mut hash) = (List::default(), Set::default(), Hash::default());
        for (a, b, deadline) in &texts {
            list.push(End::Right, a);
            set.add(a);
            hash.set(a, SmallBytes::new(b), deadline.map_or(NEVER, |d| Millis(u64::from(d))));
        }
        let text = Str::new(&texts[0].0);
        let scored = |(name, _, score): &(Vec<u8>, Vec<u8>, Option<u32>)| {
            let score = score.map_or(f64::INFINITY, |s| f64::from(s) / -7.0);
            Member { name: SmallBytes::new(name), score }
        };
        let zset: ZSet = texts.iter().map(scored).collect();
        let mut stream = Stream::default();
        stream.add_group(b"g", Group::new(StreamId::new(1, 0), Some(1)));
        for (at, (a, b, seq)) in (1..).zip(&texts) {
            let id = StreamId::new(at / 3 + 1, 3 * at + u64::from(seq.unwrap_or(0) % 3));
            let fields = [(&b"f"[..], &b[..]), (if seq.is_some() { &a[..] } else { b"g" }, &a[..])];
            prop_assert!(stream.append(id, fields.into_iter()));
            let group = stream.group_mut(b"g").unwrap();
            group.see(&b[..b.len().min(1)], Millis(at));
            group.assign(id, &b[..b.len().min(1)], Delivery { time: Millis(at), count: at });
            if seq.is_some() {
                group.activate(&b[..b.len().min(1)], Millis(at));
            }
        }
        let values = [
            text.into_value(),
            list.into_value(),
            set.into_value(),
            hash.into_value(),
            zset.into_value(),
            stream.into_value(),
        ];
        for value in values {
            let back = load(verify(&dump(&value, Millis(0))).unwrap()).unwrap();
            prop_assert_eq!(form(&back), form(&value));
        }
    }
}
