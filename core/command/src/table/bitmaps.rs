//! Commands on the bits of strings.

use super::prelude::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    command("bitcount", -2, READONLY, BITMAP, "2.6.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key [start end [BYTE | BIT]]")
        .docs("O(N) in the bytes looked at", "Counts the bits that are set."),
    command("bitfield", -2, WRITE | DENYOOM, BITMAP, "3.2.0")
        .keys_at(
            &[key(1, RW | ACCESS | UPDATE | VARIABLE_FLAGS).note("read only, if all operations are GET")],
        )
        .special(Special::Bitfield)
        .syntax(
            "key [GET encoding offset | [OVERFLOW (WRAP | SAT | FAIL)] (SET encoding offset \
             value:integer | INCRBY encoding offset increment)]...",
        )
        .docs("O(N) in the operations", "Reads and changes integers of any width inside a string."),
    command("bitfield_ro", -2, READONLY | FAST, BITMAP, "6.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key [GET encoding offset]...")
        .docs("O(N) in the operations", "Reads integers of any width inside a string."),
    command("bitop", -4, WRITE | DENYOOM, BITMAP, "2.6.0")
        .keys_at(&[key(2, OW | UPDATE), keys(3, -1, RO | ACCESS)])
        .syntax("(AND | OR | XOR | NOT) destkey key...")
        .docs("O(N) in the longest string", "Combines strings bit by bit and stores the result."),
    command("bitpos", -3, READONLY, BITMAP, "2.8.7")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key bit [start [end [BYTE | BIT]]]")
        .docs("O(N) in the bytes looked at", "Finds the first bit that is set, or is not."),
    command("getbit", 3, READONLY | FAST, BITMAP, "2.2.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key offset")
        .docs("O(1)", "Reads one bit of a string."),
    command("setbit", 4, WRITE | DENYOOM, BITMAP, "2.2.0")
        .keys_at(&[key(1, RW | ACCESS | UPDATE)])
        .syntax("key offset value:integer")
        .docs(
            "O(1), or O(N) when the string grows",
            "Sets one bit of a string and returns what it was before.",
        ),
];
