//! What the tests of this crate share. Not each of them uses all of it.

#![allow(dead_code)]

pub mod states;
pub mod world;

/// How many seeds to try: `SEEDS=n cargo test -p skep-placement` tries more of them.
pub fn seeds(usual: u64) -> std::ops::Range<u64> {
    0..option_env!("SEEDS").map_or(usual, |text| text.parse().expect("SEEDS is a number"))
}
