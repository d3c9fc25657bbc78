//! Runs SET once and GET ten times for each of 100,000 keys, for a profiler:
//!
//! ```sh
//! cargo build --release -p skep-keyspace --example get_set
//! valgrind --tool=callgrind target/release/examples/get_set
//! ```
//!
//! Instructions per command are the total by 1,100,000 commands. With 1,000,000 keys a slot holds 61, with 100,000 it holds 6
//! and has no index; the argument is the number of keys.

use std::collections::BTreeMap;
use std::hint::black_box;

use skep_base::args::OwnedArgs;
use skep_base::{Millis, Rng};
use skep_keyspace::{Handler, Keyspace, ReadCx, WriteCx, handlers};
use skep_resp::{Protocol, Reply};

const GETS_PER_KEY: usize = 10;

fn main() {
    let handlers: BTreeMap<&str, Handler> = handlers().collect();
    let (get, set) = (handlers["get"], handlers["set"]);
    let mut keyspace = Keyspace::default();
    let now = keyspace.advance(Millis(1_000_000));
    let mut rng = Rng::new(1);
    let mut out = Vec::new();
    #[allow(clippy::disallowed_methods)] // the example's own argument
    let count: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let keys: Vec<String> = (0..count).map(|n| format!("key:{n:012}")).collect();
    let calls: Vec<OwnedArgs> =
        keys.iter().map(|key| OwnedArgs::collect([&b"GET"[..], key.as_bytes()])).collect();
    for key in &keys {
        let args = OwnedArgs::collect([&b"SET"[..], key.as_bytes(), b"xxxxxxxx"]);
        let mut cx = WriteCx { keyspace: &mut keyspace, db: 0, now, rng: &mut rng };
        set.write(&mut cx, black_box(args.args()), &mut Reply::new(&mut out, Protocol::Resp2));
        out.clear();
    }
    for args in calls.iter().cycle().take(count * GETS_PER_KEY) {
        let mut cx = ReadCx { keyspace: &keyspace, db: 0, now, rng: &mut rng };
        get.read(&mut cx, black_box(args.args()), &mut Reply::new(&mut out, Protocol::Resp2));
        black_box(&out);
        out.clear();
    }
    println!("{} hits, {} misses", keyspace.access.hits(), keyspace.access.misses());
}
