//! Any source: it ends within its limits, answers one whole reply, and the same in a new engine as in one that has run all
//! sources before it, to the step.
#![no_main]

#[path = "scripts/running.rs"]
mod running;
mod scripts;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use skep_script::{Engine, Limits};

const LIMITS: Limits = Limits { work: 200_000, memory: 8 << 20 };

thread_local! {
    static OLD: RefCell<Engine> = RefCell::new(Engine::new());
}

fuzz_target!(|data: &[u8]| {
    let source = scripts::source(data);
    let run = |engine: &mut Engine| running::run(engine, &source, &[b"argument"], LIMITS);
    let fresh = run(&mut Engine::new());
    let old = OLD.with_borrow_mut(run);
    assert!(fresh == old, "{old:?} then {fresh:?}");
    running::is_whole(&fresh.reply);
});
