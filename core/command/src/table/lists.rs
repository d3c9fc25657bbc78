//! Commands on lists.

use super::prelude::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    command("blmove", 6, WRITE | DENYOOM | NOSCRIPT | BLOCKING, LIST, "6.2.0")
        .keys_at(&[key(1, RW | ACCESS | DELETE), key(2, RW | INSERT)])
        .syntax("source destination (LEFT | RIGHT) (LEFT | RIGHT) timeout:double")
        .docs("O(1)", "Takes an element from one list and adds it to another, or waits for one."),
    command("blmpop", -5, WRITE | BLOCKING | MOVABLEKEYS, LIST, "7.0.0")
        .keys_at(&[counted_keys(2, RW | ACCESS | DELETE)])
        .syntax("timeout:double numkeys key... (LEFT | RIGHT) [COUNT count]")
        .docs(
            "O(N+M) in the keys and the elements taken",
            "Takes elements from the first list that has any, or waits for some.",
        ),
    command("blpop", -3, WRITE | NOSCRIPT | BLOCKING, LIST, "2.0.0")
        .keys_at(&[keys(1, -2, RW | ACCESS | DELETE)])
        .syntax("key... timeout:double")
        .docs(
            "O(N) in the keys",
            "Takes the head of the first list that has any elements, or waits for one.",
        ),
    command("brpop", -3, WRITE | NOSCRIPT | BLOCKING, LIST, "2.0.0")
        .keys_at(&[keys(1, -2, RW | ACCESS | DELETE)])
        .syntax("key... timeout:double")
        .docs(
            "O(N) in the keys",
            "Takes the tail of the first list that has any elements, or waits for one.",
        ),
    command("brpoplpush", 4, WRITE | DENYOOM | NOSCRIPT | BLOCKING, LIST, "2.2.0")
        .keys_at(&[key(1, RW | ACCESS | DELETE), key(2, RW | INSERT)])
        .deprecated("6.2.0", "BLMOVE with RIGHT LEFT")
        .syntax("source destination timeout:double")
        .docs(
            "O(1)",
            "Takes the last element of a list and adds it to the head of another, or waits for one.",
        ),
    command("lindex", 3, READONLY, LIST, "1.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key index")
        .docs("O(N) in the elements passed; O(1) at both ends", "Reads an element of a list by its index."),
    command("linsert", 5, WRITE | DENYOOM, LIST, "2.2.0")
        .keys_at(&[key(1, RW | INSERT)])
        .syntax("key (BEFORE | AFTER) pivot element")
        .docs("O(N) in the elements passed", "Inserts an element before or behind another one."),
    command("llen", 2, READONLY | FAST, LIST, "1.0.0")
        .keys_at(&[key(1, RO)])
        .syntax("key")
        .docs("O(1)", "Counts the elements of a list."),
    command("lmove", 5, WRITE | DENYOOM, LIST, "6.2.0")
        .keys_at(&[key(1, RW | ACCESS | DELETE), key(2, RW | INSERT)])
        .syntax("source destination (LEFT | RIGHT) (LEFT | RIGHT)")
        .docs("O(1)", "Takes an element from one list and adds it to another."),
    command("lmpop", -4, WRITE | MOVABLEKEYS, LIST, "7.0.0")
        .keys_at(&[counted_keys(1, RW | ACCESS | DELETE)])
        .syntax("numkeys key... (LEFT | RIGHT) [COUNT count]")
        .docs(
            "O(N+M) in the keys and the elements taken",
            "Takes elements from the first list that has any.",
        ),
    command("lpop", -2, WRITE | FAST, LIST, "1.0.0")
        .keys_at(&[key(1, RW | ACCESS | DELETE)])
        .syntax("key [count]")
        .docs("O(N) in the elements taken", "Takes elements from the head of a list."),
    command("lpos", -3, READONLY, LIST, "6.0.6")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key element [RANK rank] [COUNT num-matches] [MAXLEN len]")
        .docs("O(N) in the length of the list", "Finds the indexes of elements equal to a value."),
    command("lpush", -3, WRITE | DENYOOM | FAST, LIST, "1.0.0")
        .keys_at(&[key(1, RW | INSERT)])
        .syntax("key element...")
        .docs("O(N) in the elements", "Adds elements at the head of a list."),
    command("lpushx", -3, WRITE | DENYOOM | FAST, LIST, "2.2.0")
        .keys_at(&[key(1, RW | INSERT)])
        .syntax("key element...")
        .docs("O(N) in the elements", "Adds elements at the head of a list that exists."),
    command("lrange", 4, READONLY, LIST, "1.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key start stop")
        .docs("O(S+N) in the offset and the elements returned", "Reads a range of a list."),
    command("lrem", 4, WRITE, LIST, "1.0.0")
        .keys_at(&[key(1, RW | DELETE)])
        .syntax("key count element")
        .docs(
            "O(N+M) in the length of the list and the elements removed",
            "Removes elements equal to a value.",
        ),
    command("lset", 4, WRITE | DENYOOM, LIST, "1.0.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .syntax("key index element")
        .docs(
            "O(N) in the elements passed; O(1) at both ends",
            "Replaces an element of a list by its index.",
        ),
    command("ltrim", 4, WRITE, LIST, "1.0.0")
        .keys_at(&[key(1, RW | DELETE)])
        .syntax("key start stop")
        .docs("O(N) in the elements removed", "Keeps only a range of a list."),
    command("rpop", -2, WRITE | FAST, LIST, "1.0.0")
        .keys_at(&[key(1, RW | ACCESS | DELETE)])
        .syntax("key [count]")
        .docs("O(N) in the elements taken", "Takes elements from the tail of a list."),
    command("rpoplpush", 3, WRITE | DENYOOM, LIST, "1.2.0")
        .keys_at(&[key(1, RW | ACCESS | DELETE), key(2, RW | INSERT)])
        .deprecated("6.2.0", "LMOVE with RIGHT LEFT")
        .syntax("source destination")
        .docs("O(1)", "Takes the last element of a list and adds it to the head of another."),
    command("rpush", -3, WRITE | DENYOOM | FAST, LIST, "1.0.0")
        .keys_at(&[key(1, RW | INSERT)])
        .syntax("key element...")
        .docs("O(N) in the elements", "Adds elements at the tail of a list."),
    command("rpushx", -3, WRITE | DENYOOM | FAST, LIST, "2.2.0")
        .keys_at(&[key(1, RW | INSERT)])
        .syntax("key element...")
        .docs("O(N) in the elements", "Adds elements at the tail of a list that exists."),
];
