//! What native functions collect outside of the interpreter counts too: a run takes no more than a few times its memory, and
//! leaves no room behind that only one large command or reply needed.

#[allow(dead_code)]
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::Table;
use skep_base::args::OwnedArgs;
use skep_resp::{Protocol, Reply};
use skep_script::{Engine, Invocation, Limits, Run, Sha};

/// The allocator of the system, counted for each thread, since tests run beside each other.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let live = LIVE.get() + bytes;
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

// SAFETY: all is handed to the allocator of the system as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // As if it moved.
        count(size as isize);
        count(-(layout.size() as isize));
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static MEMORY: Counting = Counting;

/// Runs a script without keys with so many bytes of memory; gives its reply and the most that the run took at once.
fn run(engine: &mut Engine, source: &str, memory: u32) -> (String, isize) {
    let args = OwnedArgs::collect([b"eval", source.as_bytes(), b"0"]);
    let call = Invocation::parse(args.args()).expect("its keys are given right");
    let (mut host, mut bytes) = (Table::default(), Vec::new());
    let run = Run { limits: Limits { memory, ..Limits::DEFAULT }, seed: 1 };
    let before = LIVE.get();
    PEAK.set(before);
    let sha = Sha::of(source.as_bytes());
    engine.eval(source.as_bytes(), sha, &call, run, &mut host, &mut Reply::new(&mut bytes, Protocol::Resp2));
    (String::from_utf8_lossy(&bytes).into_owned(), PEAK.get() - before)
}

#[test]
fn a_string_that_is_given_many_times_takes_no_more_than_the_memory_of_the_run() {
    let memory = 1 << 20;
    let many = "local long, many = string.rep('\\1', 1e5), {} for i = 1, 7000 do many[i] = long end ";
    for (source, expected) in [
        ("return cjson.encode(many)", "-ERR script ran out of memory"),
        ("return pcall(cjson.encode, many)", "-ERR script ran out of memory"),
        ("return cmsgpack.pack(many)", "-ERR script ran out of memory"),
        ("return cmsgpack.pack(unpack(many))", "-ERR script ran out of memory"),
        ("return struct.pack(string.rep('c0', 7000), unpack(many))", "-ERR script ran out of memory"),
        (
            "return redis.call('set', unpack(many))",
            "-ERR the command's arguments are longer than 1048576 bytes",
        ),
        (
            "return redis.acl_check_cmd('set', unpack(many))",
            "-ERR the command's arguments are longer than 1048576 bytes",
        ),
        (
            "redis.call('set', 'k', long) for i = 1, 7000 do many[i] = 'k' end return redis.call('mget', unpack(many))",
            "-ERR the reply is longer than 1048576 bytes",
        ),
        ("redis.log(redis.LOG_WARNING, unpack(many)) return 1", ":1\r\n"),
    ] {
        let mut engine = Engine::new();
        let (reply, peak) = run(&mut engine, &format!("{many}{source}"), memory);
        assert!(reply.starts_with(expected), "{source}: {reply}");
        assert!(peak < 6 * memory as isize, "{source}: {peak} bytes at once");
    }
}

#[test]
fn an_engine_keeps_no_room_of_a_large_command() {
    let mut engine = Engine::new();
    run(&mut engine, "return redis.call('echo', 'x')", 1 << 20);
    let before = LIVE.get();
    let (reply, _) =
        run(&mut engine, "return #redis.call('echo', string.rep(string.rep('x', 1e4), 1e3))", 256 << 20);
    assert_eq!(reply, ":10000000\r\n");
    let kept = LIVE.get() - before;
    assert!(kept < 4 << 20, "{kept} bytes are kept");
}

#[test]
fn an_engine_keeps_no_more_than_a_few_compiled_scripts_that_are_long() {
    let mut engine = Engine::new();
    let before = LIVE.get();
    let long = "x() ".repeat(200_000);
    for number in 0..60 {
        let (reply, _) = run(&mut engine, &format!("local function f() {long} end return {number}"), 1 << 20);
        assert_eq!(reply, format!(":{number}\r\n"));
    }
    let kept = LIVE.get() - before;
    assert!(kept < 150 << 20, "{kept} bytes are kept");
}
