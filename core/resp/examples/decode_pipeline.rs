//! Decodes a pipeline of 16 small SETs again and again, for a profiler:
//!
//! ```sh
//! cargo build --release -p skep-resp --example decode_pipeline
//! valgrind --tool=callgrind target/release/examples/decode_pipeline
//! ```
//!
//! Instructions per command are the total by 160,000 commands (start-up is well below 1 %).

use std::hint::black_box;

use skep_resp::{Decoder, Limits, Step, write_command};

const ROUNDS: usize = 10_000;
const DEPTH: usize = 16;

fn main() {
    let mut input = Vec::new();
    for n in 0..DEPTH {
        let key = format!("key:{n:012}");
        write_command(&mut input, [&b"SET"[..], key.as_bytes(), b"xxxxxxxx"]);
    }
    let (mut decoder, limits, mut bytes) = (Decoder::new(), Limits::default(), 0);
    for _ in 0..ROUNDS {
        let mut rest = black_box(&input[..]);
        while let Ok(Step::Command { consumed }) = decoder.next(rest, &limits) {
            let args = black_box(decoder.args(rest));
            bytes += args[1].len() + args[2].len();
            rest = &rest[consumed..];
        }
    }
    println!("{} commands, {} bytes of keys and values", ROUNDS * DEPTH, bytes);
}
