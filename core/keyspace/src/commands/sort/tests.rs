//! Scripts, weights as texts, and random sorts against a plain one.

use skep_base::Rng;
use skep_base::args::OwnedArgs;

use super::weight;
use crate::commands::testing::Bench;

#[test]
fn replies_are_those_of_redis() {
    Bench::new().script(include_str!("../testdata/sort.txt"));
}

#[test]
fn weights_are_read_as_c_reads_numbers() {
    for (text, expected) in [
        (&b""[..], Some(0.0)),
        (b"\0x", Some(0.0)),
        (b"1\0x", Some(1.0)),
        (b" \t1", Some(1.0)),
        (b" ", None),
        (b"1 ", None),
        (b"-0", Some(0.0)),
        (b"0e9", Some(0.0)),
        (b"nan", None),
        (b"1e400", None),
        (b"1e-400", None),
        (b"inf", Some(f64::INFINITY)),
    ] {
        assert_eq!(weight(text), expected, "{:?}", text.escape_ascii());
    }
}

#[test]
fn patterns_end_at_a_zero_byte() {
    let mut bench = Bench::new();
    bench.run("RPUSH l b a");
    let sort =
        |bench: &mut Bench, by: &[u8]| bench.run_args(&OwnedArgs::collect([&b"SORT"[..], b"l", b"GET", by]));
    let null = b"*2\r\n$-1\r\n$-1\r\n";
    bench.run("SORT l BY nosort STORE l");
    bench.run_args(&OwnedArgs::collect([&b"RPUSH"[..], b"m", b"1"]));
    bench.run_args(&OwnedArgs::collect([&b"SET"[..], b"k1\0->f", b"v"]));
    let reply = bench.run_args(&OwnedArgs::collect([&b"SORT"[..], b"m", b"GET", b"k*\0->f"]));
    assert_eq!(reply, b"*1\r\n$1\r\nv\r\n");
    bench.run("DEL l");
    bench.run("RPUSH l 1 2");
    assert_eq!(sort(&mut bench, b"k\0*"), null);
    assert_eq!(sort(&mut bench, b"#\0*"), b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n");
}

#[test]
fn expired_keys_and_fields_have_no_weight() {
    Bench::new().script(
        "> RPUSH l 1 2
         :2
         > SET w1 5 PX 10
         +OK
         > HSET h1 f 5
         :1
         > HPEXPIRE h1 10 FIELDS 1 f
         *1|:1
         > SORT l BY w* GET h*->f
         *2|$-1|$1|5
         + 11
         > SORT l BY w* GET h*->f GET w*
         *4|$-1|$-1|$-1|$-1
         > PEXPIRE l 5
         :1
         + 6
         > SORT l
         *0",
    );
}

#[test]
fn limits_cut_what_a_plain_sort_gives() {
    let mut rng = Rng::new(1);
    for _ in 0..300 {
        let mut bench = Bench::new();
        let mut elements: Vec<i64> = (0..1 + rng.below(40)).map(|_| rng.below(30) as i64 - 15).collect();
        for element in &elements {
            bench.run(&format!("RPUSH l {element}"));
        }
        elements.sort_unstable();
        let descends = rng.one_in(2);
        if descends {
            elements.reverse();
        }
        let (offset, count) = (rng.below(45) as i64 - 3, rng.below(45) as i64 - 3);
        let take = if count < 0 { usize::MAX } else { count as usize };
        let expected: Vec<i64> = elements.into_iter().skip(offset.max(0) as usize).take(take).collect();
        let order = if descends { "DESC" } else { "ASC" };
        bench.run(&format!("SORT l LIMIT {offset} {count} {order} STORE d"));
        let mut reply = format!("*{}", expected.len());
        for element in expected {
            let text = element.to_string();
            reply += &format!("|${}|{text}", text.len());
        }
        assert_eq!(bench.run("LRANGE d 0 -1"), reply);
    }
}
