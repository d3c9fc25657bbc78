//! Commands on sorted sets.

use super::prelude::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    command("bzmpop", -5, WRITE | BLOCKING | MOVABLEKEYS, SORTEDSET, "7.0.0")
        .keys_at(&[counted_keys(2, RW | ACCESS | DELETE)])
        .syntax("timeout:double numkeys key... (MIN | MAX) [COUNT count]")
        .docs(
            "O(K+M*log(N)) in the keys and the members taken",
            "Takes members from the first sorted set that has any, or waits for some.",
        ),
    command("bzpopmax", -3, WRITE | NOSCRIPT | BLOCKING | FAST, SORTEDSET, "5.0.0")
        .keys_at(&[keys(1, -2, RW | ACCESS | DELETE)])
        .syntax("key... timeout:double")
        .docs(
            "O(log(N))",
            "Takes the member with the highest score from the first sorted set that has any, or waits for one.",
        ),
    command("bzpopmin", -3, WRITE | NOSCRIPT | BLOCKING | FAST, SORTEDSET, "5.0.0")
        .keys_at(&[keys(1, -2, RW | ACCESS | DELETE)])
        .syntax("key... timeout:double")
        .docs(
            "O(log(N))",
            "Takes the member with the lowest score from the first sorted set that has any, or waits for one.",
        ),
    command("zadd", -4, WRITE | DENYOOM | FAST, SORTEDSET, "1.2.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .syntax("key [NX | XX] [GT | LT] [CH] [INCR] (score member)...")
        .docs("O(log(N)) a member", "Adds members to a sorted set, or changes their scores."),
    command("zcard", 2, READONLY | FAST, SORTEDSET, "1.2.0")
        .keys_at(&[key(1, RO)])
        .syntax("key")
        .docs("O(1)", "Counts the members of a sorted set."),
    command("zcount", 4, READONLY | FAST, SORTEDSET, "2.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key min max")
        .docs("O(log(N))", "Counts the members with scores in a range."),
    command("zdiff", -3, READONLY | MOVABLEKEYS, SORTEDSET, "6.2.0")
        .keys_at(&[counted_keys(1, RO | ACCESS)])
        .syntax("numkeys key... [WITHSCORES]")
        .docs(
            "O(N) in the members of all sets",
            "Gives the members of the first sorted set that no other has.",
        ),
    command("zdiffstore", -4, WRITE | DENYOOM | MOVABLEKEYS, SORTEDSET, "6.2.0")
        .keys_at(&[key(1, OW | UPDATE), counted_keys(2, RO | ACCESS)])
        .syntax("destination numkeys key...")
        .docs(
            "O(N*log(N)) in the members of all sets",
            "Stores the members of the first sorted set that no other has.",
        ),
    command("zincrby", 4, WRITE | DENYOOM | FAST, SORTEDSET, "1.2.0")
        .keys_at(&[key(1, RW | ACCESS | UPDATE)])
        .syntax("key increment member")
        .docs("O(log(N))", "Adds to the score of a member."),
    command("zinter", -3, READONLY | MOVABLEKEYS, SORTEDSET, "6.2.0")
        .keys_at(&[counted_keys(1, RO | ACCESS)])
        .syntax("numkeys key... [WEIGHTS weight...] [AGGREGATE (SUM | MIN | MAX)] [WITHSCORES]")
        .docs(
            "O(N*K+M*log(M)) in the smallest set, the number of sets and the result",
            "Gives the members that all sorted sets have.",
        ),
    command("zintercard", -3, READONLY | MOVABLEKEYS, SORTEDSET, "7.0.0")
        .keys_at(&[counted_keys(1, RO | ACCESS)])
        .syntax("numkeys key... [LIMIT limit]")
        .docs(
            "O(N*K) in the smallest set and the number of sets",
            "Counts the members that all sorted sets have.",
        ),
    command("zinterstore", -4, WRITE | DENYOOM | MOVABLEKEYS, SORTEDSET, "2.0.0")
        .keys_at(&[key(1, OW | UPDATE), counted_keys(2, RO | ACCESS)])
        .syntax("destination numkeys key... [WEIGHTS weight...] [AGGREGATE (SUM | MIN | MAX)]")
        .docs(
            "O(N*K+M*log(M)) in the smallest set, the number of sets and the result",
            "Stores the members that all sorted sets have.",
        ),
    command("zlexcount", 4, READONLY | FAST, SORTEDSET, "2.8.9")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key min:string max:string")
        .docs("O(log(N))", "Counts the members in an alphabetical range."),
    command("zmpop", -4, WRITE | MOVABLEKEYS, SORTEDSET, "7.0.0")
        .keys_at(&[counted_keys(1, RW | ACCESS | DELETE)])
        .syntax("numkeys key... (MIN | MAX) [COUNT count]")
        .docs(
            "O(K+M*log(N)) in the keys and the members taken",
            "Takes members from the first sorted set that has any.",
        ),
    command("zmscore", -3, READONLY | FAST, SORTEDSET, "6.2.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key member...")
        .docs("O(N) in the members", "Reads the scores of several members."),
    command("zpopmax", -2, WRITE | FAST, SORTEDSET, "5.0.0")
        .keys_at(&[key(1, RW | ACCESS | DELETE)])
        .syntax("key [count]")
        .docs("O(M*log(N)) in the members taken", "Takes the members with the highest scores."),
    command("zpopmin", -2, WRITE | FAST, SORTEDSET, "5.0.0")
        .keys_at(&[key(1, RW | ACCESS | DELETE)])
        .syntax("key [count]")
        .docs("O(M*log(N)) in the members taken", "Takes the members with the lowest scores."),
    command("zrandmember", -2, READONLY, SORTEDSET, "6.2.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .tips(&["nondeterministic_output"])
        .syntax("key [count [WITHSCORES]]")
        .docs("O(N) in the members returned", "Picks members of a sorted set at random."),
    command("zrange", -4, READONLY, SORTEDSET, "1.2.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key start:string stop:string [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]")
        .docs("O(log(N)+M) in the members returned", "Reads members by rank, score or alphabet."),
    command("zrangebylex", -4, READONLY, SORTEDSET, "2.8.9")
        .keys_at(&[key(1, RO | ACCESS)])
        .deprecated("6.2.0", "ZRANGE with BYLEX")
        .syntax("key min:string max:string [LIMIT offset count]")
        .docs("O(log(N)+M) in the members returned", "Reads members in an alphabetical range."),
    command("zrangebyscore", -4, READONLY, SORTEDSET, "1.0.5")
        .keys_at(&[key(1, RO | ACCESS)])
        .deprecated("6.2.0", "ZRANGE with BYSCORE")
        .syntax("key min max [WITHSCORES] [LIMIT offset count]")
        .docs("O(log(N)+M) in the members returned", "Reads members with scores in a range."),
    command("zrangestore", -5, WRITE | DENYOOM, SORTEDSET, "6.2.0")
        .keys_at(&[key(1, OW | UPDATE), key(2, RO | ACCESS)])
        .syntax("dst src min:string max:string [BYSCORE | BYLEX] [REV] [LIMIT offset count]")
        .docs("O(log(N)+M) in the members stored", "Stores members picked by rank, score or alphabet."),
    command("zrank", -3, READONLY | FAST, SORTEDSET, "2.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key member [WITHSCORE]")
        .docs("O(log(N))", "Gives the rank of a member, lowest score first."),
    command("zrem", -3, WRITE | FAST, SORTEDSET, "1.2.0")
        .keys_at(&[key(1, RW | DELETE)])
        .syntax("key member...")
        .docs("O(M*log(N)) in the members removed", "Removes members from a sorted set."),
    command("zremrangebylex", 4, WRITE, SORTEDSET, "2.8.9")
        .keys_at(&[key(1, RW | DELETE)])
        .syntax("key min:string max:string")
        .docs("O(log(N)+M) in the members removed", "Removes members in an alphabetical range."),
    command("zremrangebyrank", 4, WRITE, SORTEDSET, "2.0.0")
        .keys_at(&[key(1, RW | DELETE)])
        .syntax("key start stop")
        .docs("O(log(N)+M) in the members removed", "Removes members in a range of ranks."),
    command("zremrangebyscore", 4, WRITE, SORTEDSET, "1.2.0")
        .keys_at(&[key(1, RW | DELETE)])
        .syntax("key min max")
        .docs("O(log(N)+M) in the members removed", "Removes members with scores in a range."),
    command("zrevrange", -4, READONLY, SORTEDSET, "1.2.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .deprecated("6.2.0", "ZRANGE with REV")
        .syntax("key start stop [WITHSCORES]")
        .docs("O(log(N)+M) in the members returned", "Reads members by rank, highest score first."),
    command("zrevrangebylex", -4, READONLY, SORTEDSET, "2.8.9")
        .keys_at(&[key(1, RO | ACCESS)])
        .deprecated("6.2.0", "ZRANGE with REV BYLEX")
        .syntax("key max:string min:string [LIMIT offset count]")
        .docs(
            "O(log(N)+M) in the members returned",
            "Reads members in an alphabetical range, last one first.",
        ),
    command("zrevrangebyscore", -4, READONLY, SORTEDSET, "2.2.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .deprecated("6.2.0", "ZRANGE with REV BYSCORE")
        .syntax("key max min [WITHSCORES] [LIMIT offset count]")
        .docs("O(log(N)+M) in the members returned", "Reads members with scores in a range, highest first."),
    command("zrevrank", -3, READONLY | FAST, SORTEDSET, "2.0.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key member [WITHSCORE]")
        .docs("O(log(N))", "Gives the rank of a member, highest score first."),
    command("zscan", -3, READONLY, SORTEDSET, "2.8.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .tips(&["nondeterministic_output"])
        .syntax("key cursor [MATCH pattern] [COUNT count]")
        .docs("O(1) a call, O(N) for a whole round", "Walks through the members of a sorted set in steps."),
    command("zscore", 3, READONLY | FAST, SORTEDSET, "1.2.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key member")
        .docs("O(1)", "Reads the score of a member."),
    command("zunion", -3, READONLY | MOVABLEKEYS, SORTEDSET, "6.2.0")
        .keys_at(&[counted_keys(1, RO | ACCESS)])
        .syntax("numkeys key... [WEIGHTS weight...] [AGGREGATE (SUM | MIN | MAX)] [WITHSCORES]")
        .docs(
            "O(N+M*log(M)) in the members of all sets and of the result",
            "Gives the members that any of the sorted sets has.",
        ),
    command("zunionstore", -4, WRITE | DENYOOM | MOVABLEKEYS, SORTEDSET, "2.0.0")
        .keys_at(&[key(1, OW | UPDATE), counted_keys(2, RO | ACCESS)])
        .syntax("destination numkeys key... [WEIGHTS weight...] [AGGREGATE (SUM | MIN | MAX)]")
        .docs(
            "O(N+M*log(M)) in the members of all sets and of the result",
            "Stores the members that any of the sorted sets has.",
        ),
];
