//! Any bytes as arguments of scripts that hand them to `cjson`, `cmsgpack`, `struct`, `bit` and the other libraries: each ends
//! within its limits of steps and memory, answers one whole reply, the same in a new engine as in one that has run all before, to
//! the step; and what was decoded and encoded again decodes equal, which the scripts themselves see to.
//!
//! The first three bytes, counted from `0`, choose the script, give its number `ARGV[1]`, and say how many of the others are
//! `ARGV[2]`; the rest is `ARGV[3]`.
#![no_main]

mod memory;
#[path = "scripts/running.rs"]
mod running;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use memory::Counting;
use skep_script::{Engine, Limits};

#[global_allocator]
static MEMORY: Counting = Counting;

macro_rules! script {
    ($name:literal) => {
        concat!(
            include_str!("scripts/codecs/prelude.lua"),
            include_str!(concat!("scripts/codecs/", $name, ".lua"))
        )
    };
}

const SCRIPTS: &[&str] = &[
    script!("json"),
    script!("json_settings"),
    script!("json_tables"),
    script!("msgpack"),
    script!("msgpack_pieces"),
    script!("struct"),
    script!("struct_pack"),
    script!("bit"),
    script!("calls"),
    script!("grown"),
];

/// Steps and bytes as those of every run are to each other, fewer so that an input ends soon.
const LIMITS: Limits = Limits { work: 400_000, memory: 2 << 20 };
/// The most that a run may take beside what it leaves: its memory, a command or an encoded text of that length whose buffer grows
/// by doubling, and the reply.
const PEAK_MAX: usize = 10 * LIMITS.memory as usize;
/// The most that an engine may keep: what it has compiled, garbage, and room.
const KEPT_MAX: usize = 16 << 20;

thread_local! {
    static OLD: RefCell<Engine> = RefCell::new(Engine::new());
}

/// True if a script says that what it is to see to holds, or has met a limit.
fn is_fine(reply: &[u8]) -> bool {
    let first = reply.iter().position(|c| *c == b'\n').map(|end| &reply[end + 1..]);
    if reply.starts_with(b"*") {
        return first.is_some_and(|first| first.starts_with(b"$4\r\nfine\r\n"));
    }
    let limits: [&[u8]; 3] = [b"-ERR script ran out of", b"-ERR script: ", b"-ERR reached lua stack limit"];
    limits.iter().any(|limit| reply.starts_with(limit))
}

fuzz_target!(|data: &[u8]| {
    let [script, number, split, rest @ ..] = data else { return };
    let [script, number, split] = [script, number, split].map(|byte| byte.wrapping_sub(b'0'));
    let source = SCRIPTS[script as usize % SCRIPTS.len()].as_bytes();
    let (head, body) = rest.split_at((split as usize).min(rest.len()));
    let number = number.to_string();
    let args: [&[u8]; 3] = [number.as_bytes(), head, body];

    let before = memory::begin();
    let old = OLD.with_borrow_mut(|engine| running::run(engine, source, &args, LIMITS));
    let peak = memory::peak() - before;
    assert!(peak <= PEAK_MAX, "{peak} bytes at once, the run's limit is {}", LIMITS.memory);
    let kept = memory::live() - old.reply.capacity();
    assert!(kept <= KEPT_MAX, "{kept} bytes are kept");
    let steps_max = u64::from(LIMITS.work) + u64::from(LIMITS.memory);
    assert!(old.usage.work <= steps_max, "{:?} of {LIMITS:?}", old.usage);

    let fresh = running::run(&mut Engine::new(), source, &args, LIMITS);
    assert!(fresh == old, "{old:?} then {fresh:?}");
    running::is_whole(&fresh.reply);
    assert!(is_fine(&fresh.reply), "{}", fresh.reply.escape_ascii());
});
