use skep_base::args::OwnedArgs;
use skep_resp::Protocol;

use crate::commands::testing::Bench;

#[test]
fn replies_are_those_of_redis() {
    Bench::new().script(include_str!("../../../testdata/streams.txt"));
}

#[test]
fn resp3_gets_maps_of_streams_and_facts() {
    let mut bench = Bench::new();
    bench.protocol = Protocol::Resp3;
    bench.script(
        "> XADD s 1-1 f v
         $3|1-1
         > XREAD STREAMS s none 0 0
         %1|$1|s|*1|*2|$3|1-1|*2|$1|f|$1|v
         > XREAD STREAMS s $
         _
         > XGROUP CREATE s g 0
         +OK
         > XPENDING s g
         *4|:0|_|_|_
         > XREADGROUP GROUP g c STREAMS s >
         %1|$1|s|*1|*2|$3|1-1|*2|$1|f|$1|v
         > XDEL s 1-1
         :1
         > XREADGROUP GROUP g c STREAMS s 0
         %1|$1|s|*1|*2|$3|1-1|_
         > XINFO GROUPS s
         *1|%6|$4|name|$1|g|$9|consumers|:1|$7|pending|:1|$17|last-delivered-id|$3|1-1|$12|entries-read|:1|$3|lag|:0
         > XRANGE s - + COUNT 0
         _",
    );
}

#[test]
fn a_refused_command_changes_nothing() {
    let mut bench = Bench::new();
    bench.run("XADD s 5-5 f v");
    bench.run("XGROUP CREATE s g 0");
    bench.run("SET text 1");
    let digest = bench.keyspace.digest();
    for line in [
        "XADD s 5-5 f v",
        "XADD new 0-0 f v",
        "XADD new 1-1 f v g",
        "XADD text 1-1 f v",
        "XADD s MAXLEN 0 LIMIT 5 6-6 f v",
        "XADD s MAXLEN x 6-6 f v",
        "XDEL s 5-5 x",
        "XACK s g 5-5 x",
        "XSETID s 5-4",
        "XSETID s 9-9 MAXDELETEDID 9-10",
        "XGROUP CREATE new g bad MKSTREAM",
        "XGROUP CREATE s g 0",
        "XREADGROUP GROUP g c STREAMS s s > bad",
        "XREADGROUP GROUP g c STREAMS s none > >",
        "XREADGROUP GROUP g c STREAMS s text > >",
        "XCLAIM s g c 0 5-5 FORCE WHAT",
        "XAUTOCLAIM s g c 0 0 COUNT 0",
        "XTRIM s MAXLEN 0 LIMIT 1",
    ] {
        assert!(bench.run(line).starts_with('-'), "{line}");
        assert_eq!(bench.keyspace.digest(), digest, "{line}");
    }
    assert_eq!(bench.run("DBSIZE"), ":2");
}

#[test]
fn a_copy_goes_its_own_way() {
    let mut bench = Bench::new();
    bench.script(
        "> XADD {s}a 1-1 f v
         $3|1-1
         > XGROUP CREATE {s}a g 0
         +OK
         > XREADGROUP GROUP g c STREAMS {s}a >
         *1|*2|$4|{s}a|*1|*2|$3|1-1|*2|$1|f|$1|v
         > COPY {s}a {s}b
         :1
         > XACK {s}a g 1-1
         :1
         > XADD {s}a 2-2 f v
         $3|2-2
         > XPENDING {s}b g
         *4|:1|$3|1-1|$3|1-1|*1|*2|$1|c|$1|1
         > XLEN {s}b
         :1
         > XDEL {s}b 1-1
         :1
         > XRANGE {s}a - + COUNT 1
         *1|*2|$3|1-1|*2|$1|f|$1|v",
    );
}

#[test]
fn a_stream_survives_dump_and_restore_with_all_it_knows() {
    let mut bench = Bench::new();
    for line in [
        "XADD s 1-1 f v g w",
        "XADD s 1-2 f 123 g -5",
        "XADD s 2-0 other value",
        "XDEL s 1-2",
        "XGROUP CREATE s g 0",
        "XGROUP CREATE s empty $ ENTRIESREAD 2",
        "XREADGROUP GROUP g c COUNT 1 STREAMS s >",
        "XGROUP CREATECONSUMER s g idle",
    ] {
        assert!(!bench.run(line).starts_with('-'), "{line}");
    }
    let questions =
        ["XINFO STREAM {} FULL", "XINFO GROUPS {}", "XINFO CONSUMERS {} g", "XPENDING {} g - + 9"];
    let ask = |bench: &mut Bench, key: &str| questions.map(|q| bench.run(&q.replace("{}", key)));
    let before = ask(&mut bench, "s");
    let payload = bench.run_args(&OwnedArgs::collect([&b"DUMP"[..], b"s"]));
    let head = payload.iter().position(|b| *b == b'\n').unwrap() + 1;
    let restore = [&b"RESTORE"[..], b"t", b"0", &payload[head..payload.len() - 2]];
    assert_eq!(bench.run_args(&OwnedArgs::collect(restore)), b"+OK\r\n");
    assert_eq!(ask(&mut bench, "t"), before);
}

#[test]
fn a_read_group_reads_each_of_its_streams_and_a_stream_named_twice_once() {
    let mut bench = Bench::new();
    bench.script(
        "> XADD {s}a 1-1 f v
         $3|1-1
         > XGROUP CREATE {s}a g 0
         +OK
         > XGROUP CREATE {s}b g 0 MKSTREAM
         +OK
         > XREADGROUP GROUP g c STREAMS {s}a {s}b {s}a > > >
         *1|*2|$4|{s}a|*1|*2|$3|1-1|*2|$1|f|$1|v
         > XREADGROUP GROUP g c STREAMS {s}a {s}b 0 >
         *1|*2|$4|{s}a|*1|*2|$3|1-1|*2|$1|f|$1|v
         > XREADGROUP GROUP g c NOACK STREAMS {s}b >
         *-1
         > XADD {s}b 1-1 f v
         $3|1-1
         > XREADGROUP GROUP g c NOACK STREAMS {s}b >
         *1|*2|$4|{s}b|*1|*2|$3|1-1|*2|$1|f|$1|v
         > XPENDING {s}b g
         *4|:0|$-1|$-1|*-1",
    );
}
