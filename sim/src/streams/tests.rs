//! Histories that break a rule are found, each beside one that does not.

use super::*;

fn int(n: i64) -> Plain {
    Plain::Int(n)
}

fn word(word: &str) -> Plain {
    Plain::Text(text(word))
}

fn many(all: impl IntoIterator<Item = Plain>) -> Plain {
    Plain::List(all.into_iter().collect())
}

fn entry((id, value): &(&str, &str)) -> Plain {
    many([word(id), many([word("v"), word(value)])])
}

/// The reply to a read by the group, or that to XRANGE.
fn read(entries: &[(&str, &str)]) -> Plain {
    many([many([word("s0"), entries_only(entries)])])
}

fn entries_only(entries: &[(&str, &str)]) -> Plain {
    many(entries.iter().map(entry))
}

/// What `XINFO STREAM s0 FULL` says of entries that all consumers have or have not.
fn told(
    entries: &[(&str, &str)],
    last: &str,
    group: &[(&str, &str)],
    consumers: &[(&str, &[&str])],
) -> Plain {
    let pending = group.iter().map(|(id, consumer)| many([word(id), word(consumer), int(5), int(1)]));
    let consumer = |(name, ids): &(&str, &[&str])| {
        let pending = ids.iter().map(|id| many([word(id), int(5), int(1)]));
        many([word("name"), word(name), word("pending"), many(pending)])
    };
    let group = many([
        word("name"),
        word("g"),
        word("last-delivered-id"),
        word(last),
        word("pending"),
        many(pending),
        word("consumers"),
        many(consumers.iter().map(consumer)),
    ]);
    many([word("entries"), entries_only(entries), word("groups"), many([group])])
}

/// A play on `s0` in which each command is answered before the next one leaves.
struct Play {
    streams: Streams,
    now: u64,
}

const READ: &str = "XREADGROUP GROUP g c0 COUNT 3 STREAMS s0 >";
const OWN: &str = "XREADGROUP GROUP g c0 STREAMS s0 0";
const FULL: &str = "XINFO STREAM s0 FULL COUNT 0";
const A: (&str, &str) = ("5-0", "a");
const B: (&str, &str) = ("6-0", "b");

impl Play {
    /// Entries a and b are there.
    fn new() -> Play {
        let mut play = Play { streams: Streams::default(), now: 0 };
        play.good("XGROUP CREATE s0 g 0 MKSTREAM", word("OK"));
        play.good("XADD s0 * v a", word("5-0"));
        play.good("XADD s0 * v b", word("6-0"));
        play
    }

    fn ask(&mut self, command: &str, reply: Plain) -> Result<(), String> {
        let words: Words = command.split(' ').map(text).collect();
        self.now += 2;
        self.streams.on_sent(&words);
        self.streams.on_reply(&words, self.now, &reply, self.now + 1)
    }

    fn good(&mut self, command: &str, reply: Plain) {
        assert_eq!(self.ask(command, reply), Ok(()));
    }

    fn bad(&mut self, command: &str, reply: Plain, rule: &str) {
        let broken = self.ask(command, reply).expect_err("a rule is broken");
        assert!(broken.starts_with("INV-SIM-24: ") && broken.contains(rule), "{broken}");
    }

    fn lost(&mut self, command: &str) {
        self.streams.on_sent(&command.split(' ').map(text).collect());
    }
}

#[test]
fn entries_are_delivered_and_acknowledged_once() {
    let mut play = Play::new();
    play.good(READ, read(&[A]));
    play.good(FULL, told(&[A, B], "5-0", &[("5-0", "c0")], &[("c0", &["5-0"])]));
    play.good("XCLAIM s0 g c1 0 5-0", entries_only(&[A]));
    play.good("XACK s0 g 5-0", int(1));
    play.good("XACK s0 g 5-0", int(0));
    play.good(READ, many([word("s0"), entries_only(&[B])]));
    play.good(FULL, told(&[A, B], "6-0", &[("6-0", "c0")], &[("c0", &["6-0"]), ("c1", &[])]));
    play.bad("XACK s0 g 5-0", int(1), "acknowledged twice");
    play.bad(READ, read(&[B]), "delivered as new twice");
}

#[test]
fn an_entry_that_comes_back_after_its_acknowledgement_is_found() {
    let mut play = Play::new();
    play.good(READ, read(&[A, B]));
    play.good("XACK s0 g 5-0", int(1));
    play.bad(
        "XAUTOCLAIM s0 g c1 0 0 COUNT 2",
        many([word("0-0"), entries_only(&[A]), many([])]),
        "came back",
    );
    play.bad(OWN, read(&[A, B]), "came back");
    let both = [("5-0", "c0"), ("6-0", "c0")];
    play.bad(FULL, told(&[A, B], "6-0", &both, &[("c0", &["5-0", "6-0"])]), "is pending after");
}

#[test]
fn an_entry_that_is_pending_nowhere_or_twice_is_found() {
    let mut play = Play::new();
    play.good(READ, read(&[A, B]));
    let one = [("6-0", "c0")];
    play.bad(FULL, told(&[A, B], "6-0", &one, &[("c0", &["6-0"])]), "5, 0) was delivered, is not pending");
    play.bad(FULL, told(&[A, B], "6-0", &one, &[("c0", &["6-0"]), ("c1", &["6-0"])]), "is pending for");
    play.bad(FULL, told(&[A, B], "6-0", &one, &[("c1", &["6-0"])]), "differ in what is pending");
    play.bad("XACK s0 g 5-0", int(0), "in no pending list");
    // One that may have been carried out explains it.
    play.lost("XACK s0 g 5-0");
    play.good(FULL, told(&[A, B], "6-0", &one, &[("c0", &["6-0"])]));
    play.good("XACK s0 g 5-0", int(0));
}

#[test]
fn a_group_that_goes_back_or_vanishes_is_found() {
    let mut play = Play::new();
    play.good(READ, read(&[A, B]));
    play.bad(FULL, told(&[A, B], "5-0", &[("5-0", "c0")], &[("c0", &["5-0"])]), "the group is at");
    play.bad(FULL, many([word("entries"), entries_only(&[A, B]), word("groups"), many([])]), "is gone");
    play.bad("XREADGROUP GROUP g c0 STREAMS s0 >", Plain::Error(text("NOGROUP no")), "unexpected");
    let mut play = Play::new();
    play.good(READ, read(&[B]));
    play.bad(READ, read(&[A]), "was delivered before");
}

#[test]
fn entries_that_are_lost_doubled_made_up_or_out_of_order_are_found() {
    let mut play = Play::new();
    play.bad("XRANGE s0 - +", entries_only(&[A]), "is not there");
    play.bad("XRANGE s0 - +", entries_only(&[B, A]), "not in order");
    play.bad("XRANGE s0 - +", entries_only(&[A, B, ("7-0", "a")]), "once more");
    play.bad("XRANGE s0 - +", entries_only(&[A, B, ("7-0", "x")]), "nobody added");
    play.bad("XRANGE s0 - +", entries_only(&[("5-0", "b")]), "another value");
    play.bad("XADD s0 * v c", word("5-1"), "was there before");
    play.streams.on_sent(&"XADD s0 * v d".split(' ').map(text).collect());
    play.streams.on_refused(&"XADD s0 * v d".split(' ').map(text).collect());
    play.bad("XRANGE s0 - +", entries_only(&[A, B, ("8-0", "d")]), "nobody added");
}
