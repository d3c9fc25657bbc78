//! Runs SET once and GET ten times for each of 10,000 keys, for a profiler:
//!
//! ```sh
//! cargo build --release -p skep-keyspace --example get_set
//! valgrind --tool=callgrind target/release/examples/get_set
//! ```
//!
//! Instructions per command are the total by 1,100,000 commands (start-up is about 1 %).

use std::collections::BTreeMap;
use std::hint::black_box;

use skep_base::args::OwnedArgs;
use skep_base::{Millis, Rng};
use skep_keyspace::{Handler, Keyspace, ReadCx, WriteCx, handlers};
use skep_resp::{Protocol, Reply};

const KEYS: usize = 10_000;
const ROUNDS: usize = 10;

fn main() {
    let handlers: BTreeMap<&str, Handler> = handlers().collect();
    let (get, set) = (handlers["get"], handlers["set"]);
    let mut keyspace = Keyspace::default();
    let now = keyspace.advance(Millis(1_000_000));
    let mut rng = Rng::new(1);
    let mut out = Vec::new();
    let keys: Vec<String> = (0..KEYS).map(|n| format!("key:{n:012}")).collect();
    let calls: Vec<OwnedArgs> =
        keys.iter().map(|key| OwnedArgs::collect([&b"GET"[..], key.as_bytes()])).collect();
    for _ in 0..ROUNDS {
        for key in &keys {
            let args = OwnedArgs::collect([&b"SET"[..], key.as_bytes(), b"xxxxxxxx"]);
            let mut cx = WriteCx { keyspace: &mut keyspace, db: 0, now, rng: &mut rng };
            set.write(&mut cx, black_box(args.args()), &mut Reply::new(&mut out, Protocol::Resp2));
            out.clear();
        }
        for args in calls.iter().cycle().take(KEYS * ROUNDS) {
            let mut cx = ReadCx { keyspace: &keyspace, db: 0, now, rng: &mut rng };
            get.read(&mut cx, black_box(args.args()), &mut Reply::new(&mut out, Protocol::Resp2));
            black_box(&out);
            out.clear();
        }
    }
    println!("{} hits, {} misses", keyspace.access.hits(), keyspace.access.misses());
}
