//! What a message costs in memory: nothing on its way out, its payload on its way in.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "common/mod.rs"]
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{Faults, Net, me};
use skep_base::{GroupId, LogId, Millis, Term};
use skep_peer::{LinkInput, LinkLimits, LinkOutput, PeerMessage};

/// Counts the allocations of the thread that runs a test.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(run: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

#[test]
fn turns_of_messages_allocate_nothing_on_either_side() {
    let mut net = Net::new(1, Faults::default());
    net.add("a:1", me(1), LinkLimits::default());
    net.add("b:1", me(2), LinkLimits::default());
    net.set_addresses(0, &["b:1"]);
    net.run(20);
    let (link, accepted) = (net.hosts[0].up()[0], net.hosts[1].up()[0]);
    while net.hosts[0].links.next_with_output().is_some() {}
    let [a, b] = &mut net.hosts[..] else { panic!("two hosts") };
    let message = PeerMessage::StateDigest { group: GroupId(1), at: LogId::default(), digest: 7 };
    let mut out: Vec<LinkOutput> = Vec::with_capacity(100);
    let mut turn = || {
        for _ in 0..100 {
            assert!(a.links.send(link, &message));
        }
        a.links.flush();
        assert_eq!(a.links.next_with_output(), Some(link));
        let bytes = a.links.unsent(link);
        b.links.handle(Millis(2_000), LinkInput::Received { link: accepted, bytes }, &mut out);
        a.links.on_sent(link, bytes.len());
        assert_eq!(out.drain(..).filter(|o| matches!(o, LinkOutput::Message { .. })).count(), 100);
    };
    turn();
    assert_eq!(allocations(|| (0..50).for_each(|_| turn())), 0);
}

#[test]
fn a_received_payload_is_allocated_once() {
    let mut net = Net::new(2, Faults::default());
    net.add("a:1", me(1), LinkLimits::default());
    net.add("b:1", me(2), LinkLimits::default());
    net.set_addresses(0, &["b:1"]);
    net.run(20);
    let (link, accepted) = (net.hosts[0].up()[0], net.hosts[1].up()[0]);
    let [a, b] = &mut net.hosts[..] else { panic!("two hosts") };
    let mut forward = skep_peer::Forward::new(GroupId(1), Term(1), 1);
    let args = skep_base::args::OwnedArgs::collect([&b"SET"[..], b"key", &[7; 10_000]]);
    (0..5).for_each(|_| forward.push(0, 0, args.args()));
    a.links.send(link, &PeerMessage::Forward(forward));
    a.links.flush();
    let mut out: Vec<LinkOutput> = Vec::with_capacity(10);
    let bytes = a.links.unsent(link);
    let count = allocations(|| {
        b.links.handle(Millis(2_000), LinkInput::Received { link: accepted, bytes }, &mut out);
    });
    assert_eq!((count, out.len()), (1, 1));
}
