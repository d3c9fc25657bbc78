//! Commands on sorted sets, a file per family, and what the families share: the shapes of their replies.

mod add;
mod blocking;
mod combine;
mod pop;
mod range;
mod read;
mod remove;
mod scan;

pub use pop::parse_mpop;

use skep_base::{Refusal, number};
use skep_resp::Reply;

use super::Group;
use crate::dispatch::Handler::{Read, Write};
use crate::types::Member;

pub const COMMANDS: Group = &[
    ("zadd", Write(add::zadd)),
    ("zincrby", Write(add::zincrby)),
    ("zrem", Write(remove::zrem)),
    ("zremrangebyrank", Write(remove::by_rank)),
    ("zremrangebyscore", Write(remove::by_score)),
    ("zremrangebylex", Write(remove::by_lex)),
    ("zpopmin", Write(pop::zpopmin)),
    ("zpopmax", Write(pop::zpopmax)),
    ("zmpop", Write(pop::zmpop)),
    ("bzpopmin", Write(blocking::bzpopmin)),
    ("bzpopmax", Write(blocking::bzpopmax)),
    ("bzmpop", Write(blocking::bzmpop)),
    ("zscore", Read(read::zscore)),
    ("zmscore", Read(read::zmscore)),
    ("zcard", Read(read::zcard)),
    ("zcount", Read(read::zcount)),
    ("zlexcount", Read(read::zlexcount)),
    ("zrank", Read(read::zrank)),
    ("zrevrank", Read(read::zrevrank)),
    ("zrandmember", Read(read::zrandmember)),
    ("zscan", Read(scan::zscan)),
    ("zrange", Read(range::zrange)),
    ("zrevrange", Read(range::zrevrange)),
    ("zrangebyscore", Read(range::zrangebyscore)),
    ("zrevrangebyscore", Read(range::zrevrangebyscore)),
    ("zrangebylex", Read(range::zrangebylex)),
    ("zrevrangebylex", Read(range::zrevrangebylex)),
    ("zrangestore", Write(range::zrangestore)),
    ("zunion", Read(combine::zunion)),
    ("zinter", Read(combine::zinter)),
    ("zdiff", Read(combine::zdiff)),
    ("zintercard", Read(combine::zintercard)),
    ("zunionstore", Write(combine::zunionstore)),
    ("zinterstore", Write(combine::zinterstore)),
    ("zdiffstore", Write(combine::zdiffstore)),
];

/// Writes `count` members: names, or names with scores (pairs in RESP3, alternating in RESP2).
fn write_members<'a>(
    reply: &mut Reply,
    count: usize,
    members: impl Iterator<Item = &'a Member>,
    with_scores: bool,
) {
    if with_scores {
        reply.pairs(count)
    } else {
        reply.array(count)
    }
    for member in members {
        if with_scores {
            reply.pair();
        }
        reply.bulk(&member.name);
        if with_scores {
            reply.double(member.score);
        }
    }
}

/// A score or an increment.
pub(crate) fn score(arg: &[u8]) -> Result<f64, Refusal> {
    number::parse_f64(arg).ok_or(Refusal::NotFloat)
}

fn integer(arg: &[u8]) -> Result<i64, Refusal> {
    number::parse_i64(arg).ok_or(Refusal::NotInteger)
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Bench;

    #[test]
    fn replies_are_those_of_redis() {
        Bench::new().script(include_str!("../../../testdata/zsets.txt"));
    }
}
