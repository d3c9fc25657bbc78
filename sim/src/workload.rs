//! Commands that clients send. Values are unique, so that a lost, doubled or invented write is seen.

use skep_base::Rng;
use skep_keyspace::handlers;

use crate::model::Words;

/// The database of keys that one client has to itself.
pub const PRIVATE_DB: u8 = 5;
/// Databases of commands of any kind, from 0.
pub const WILD_DBS: u8 = 3;

/// On a client's own keys: `s` a string, `n` a counter, `l` a list, `h` a hash, `t` a set, `z` a sorted set (each followed by its
/// number), `v` a fresh value, `f` a field or member of a few, `c` a small number.
const PRIVATE: &[&str] = &[
    "SET s0 v",
    "SET s1 v",
    "GET s0",
    "GET s1",
    "APPEND s0 v",
    "APPEND s1 v",
    "STRLEN s0",
    "SETRANGE s1 c v",
    "GETSET s0 v",
    "GETDEL s1",
    "MSET s0 v s1 v",
    "INCR n0",
    "INCR n0",
    "INCRBY n0 c",
    "DEL s0 l1",
    "DEL h0 s1",
    "EXISTS s0 l0 h0",
    "RPUSH l0 v",
    "RPUSH l0 v v v",
    "LPUSH l0 v",
    "LPUSH l1 v v",
    "LPOP l0",
    "RPOP l0",
    "RPOP l1",
    "LLEN l0",
    "LRANGE l0 0 -1",
    "LTRIM l0 0 c",
    "LMOVE l0 l1 LEFT RIGHT",
    "LMOVE l1 l0 LEFT RIGHT",
    "RENAME s0 s1",
    "RENAME l1 l0",
    "HSET h0 f v",
    "HSET h0 f v",
    "HDEL h0 f",
    "HGETALL h0",
    "HINCRBY g0 f c",
    "SADD t0 f",
    "SADD t0 f f v",
    "SREM t0 f",
    "SPOP t0",
    "SMEMBERS t0",
    "SCARD t0",
    "ZADD z0 c f",
    "ZREM z0 f",
    "ZRANGE z0 0 -1",
    "ZINCRBY z0 c f",
    "ZMSCORE z0 f f",
];

/// Reads that show everything of a client's own keys.
const SHOW: &[&str] = &[
    "GET s0",
    "GET s1",
    "GET n0",
    "LRANGE l0 0 -1",
    "LRANGE l1 0 -1",
    "HGETALL h0",
    "HGETALL g0",
    "SMEMBERS t0",
    // Scores of all members there can be: the order alone does not tell which increments were carried out.
    "ZMSCORE z0 f0 f1 f2 f3 f4",
];

/// On shared keys: `k` a key, `f` a field or member, `n` a number, `v` a fresh value, `t` milliseconds ahead, `a` an instant, `c` a
/// small count, `i` an index, `d` a database.
const WILD: &[&str] = &[
    "SET k v",
    "SET k v PX t",
    "SET k v EX 1",
    "SET k v NX PXAT a",
    "SET k n",
    "SET k v KEEPTTL XX GET",
    "GET k",
    "GETEX k PXAT a",
    "GETEX k PERSIST",
    "APPEND k v",
    "INCRBY k n",
    "INCRBYFLOAT k n",
    "SETRANGE k c v",
    "GETRANGE k i i",
    "MSET k v k v",
    "MSETNX k v k v",
    "MGET k k k",
    "GETDEL k",
    "SETNX k v",
    "RPUSH k v v",
    "LPUSH k v",
    "LPOP k c",
    "RPOP k",
    "LREM k i v",
    "LSET k i v",
    "LTRIM k i i",
    "LINSERT k BEFORE v v",
    "LMOVE k k LEFT RIGHT",
    "RPOPLPUSH k k",
    "LMPOP 2 k k LEFT COUNT c",
    "BLPOP k k 0.05",
    "BLMOVE k k LEFT RIGHT 0.05",
    "BLMPOP 0.05 2 k k LEFT COUNT 2",
    "BZPOPMIN k k 0.05",
    "LRANGE k 0 -1",
    "HSET k f v f n",
    "HSETNX k f v",
    "HDEL k f f",
    "HINCRBY k f n",
    "HINCRBYFLOAT k f n",
    "HGETALL k",
    "HPEXPIRE k t FIELDS 2 f f",
    "HPERSIST k FIELDS 1 f",
    "HPTTL k FIELDS 1 f",
    "HRANDFIELD k c",
    "SADD k f f n",
    "SREM k f",
    "SPOP k",
    "SPOP k c",
    "SMOVE k k f",
    "SMEMBERS k",
    "SRANDMEMBER k c",
    "SUNIONSTORE k k k",
    "SINTERSTORE k k k",
    "SDIFFSTORE k k k",
    "ZADD k n f n f",
    "ZADD k GT CH n f",
    "ZINCRBY k n f",
    "ZREM k f",
    "ZRANGE k 0 -1 WITHSCORES",
    "ZPOPMIN k c",
    "ZPOPMAX k",
    "ZUNIONSTORE k 2 k k",
    "ZINTERSTORE k 2 k k",
    "ZRANGESTORE k k 0 c",
    "ZREMRANGEBYRANK k i i",
    "GEOADD k 13.361389 38.115556 f",
    "GEOSEARCHSTORE k k FROMMEMBER f BYRADIUS n km",
    "SETBIT k c 1",
    "BITOP XOR k k k",
    "BITOP NOT k k",
    "BITFIELD k INCRBY u8 c n",
    "PFADD k f f v",
    "PFMERGE k k k",
    "PFCOUNT k k",
    "XADD k * f v",
    "XADD k NOMKSTREAM MAXLEN c * f v f n",
    "XGROUP CREATE k g 0 MKSTREAM",
    "XREADGROUP GROUP g me COUNT 3 STREAMS k >",
    "XREADGROUP GROUP g you NOACK BLOCK 50 STREAMS k >",
    "XREAD BLOCK 50 STREAMS k $",
    "XAUTOCLAIM k g you 0 0",
    "XPENDING k g",
    "XTRIM k MAXLEN c",
    "QADD k v TTL t TRIES 1",
    "QADD k v DEDUP f t DELAY t",
    "QTAKE 2 k k COUNT 2 LEASE t",
    "QTAKE 1 k BLOCK 50 LEASE t",
    "QSET k LIMIT c RATE c PER t DEADKEEP t",
    "QREDO k ALL",
    "QREDO k ALL TO k",
    "QDROP k ALL READY",
    "QCRON k SET f @hourly v",
    "QCRON k DEL f",
    "SORT k ALPHA STORE k",
    "SORT k LIMIT 0 c ALPHA DESC STORE k",
    "DEL k",
    "UNLINK k k",
    "EXPIRE k 1",
    "PEXPIRE k t NX",
    "PEXPIREAT k a",
    "EXPIREAT k 1",
    "PERSIST k",
    "PTTL k",
    "RENAME k k",
    "RENAMENX k k",
    "COPY k k REPLACE",
    "COPY k k DB d REPLACE",
    "MOVE k d",
    "TOUCH k k",
    "TYPE k",
    "EXISTS k k",
    "RANDOMKEY",
    "DBSIZE",
    "SCAN 0",
    "OBJECT ENCODING k",
    "DUMP k",
    "NOSUCH k",
    "SET k",
    "HSET k f",
];

/// Rare, since they take everything away.
const RARE: &[&str] = &["FLUSHDB", "SWAPDB d d"];

const LEDGER: &[&str] = &[
    "RPUSH q v",
    "RPUSH q v",
    "RPUSH q v v",
    "RPUSHX q v",
    "LPOP q",
    "LPOP q",
    "BLPOP q 0.4",
    "BLPOP q 0.1",
    // From the other end of one, so that the other keeps its order.
    "BRPOP q1 1.5",
    "INCR m",
    "SET r v",
    "GET r",
    "GET r",
];

/// Makes the commands of one client.
pub struct Workload {
    client: usize,
    /// Of the client's own keys.
    prefix: String,
    fresh: u64,
    value_bytes_max: u64,
    private: Vec<&'static str>,
    show: Vec<&'static str>,
    wild: Vec<&'static str>,
}

impl Workload {
    pub fn new(client: usize, value_bytes_max: u64) -> Workload {
        let known: Vec<&str> = handlers().map(|(name, _)| name).collect();
        let is_known = |t: &&&'static str| {
            let name = t.split(' ').next().unwrap_or_default().to_lowercase();
            known.iter().any(|k| k.split('|').next() == Some(&name))
        };
        let bad = |t: &&&'static str| matches!(**t, "NOSUCH k" | "SET k" | "HSET k f");
        Workload {
            client,
            prefix: prefix(client, 0),
            fresh: 0,
            value_bytes_max,
            private: PRIVATE.iter().filter(is_known).copied().collect(),
            show: SHOW.iter().filter(is_known).copied().collect(),
            wild: WILD.iter().filter(|t| is_known(t) || bad(t)).copied().collect(),
        }
    }

    /// Goes on with other own keys.
    pub fn begin_epoch(&mut self, epoch: u64) {
        self.prefix = prefix(self.client, epoch);
    }

    /// A command on the client's own keys.
    pub fn private(&mut self, rng: &mut Rng) -> Words {
        let template = self.private[rng.below(self.private.len() as u64) as usize];
        self.fill_private(template, rng)
    }

    /// Commands that show the client's own keys.
    pub fn show(&mut self) -> Vec<Words> {
        // Nothing in them is drawn.
        let mut rng = Rng::new(0);
        self.show.clone().into_iter().map(|t| self.fill_private(t, &mut rng)).collect()
    }

    /// A write that changes nothing but comes behind all earlier ones, and that is admitted when memory is short.
    pub fn barrier(&self) -> Words {
        vec![b"DEL".to_vec(), format!("{}barrier", self.prefix).into_bytes()]
    }

    /// Sets or reads one of the client's keys with a deadline.
    pub fn expiring(&mut self, rng: &mut Rng, wall: u64) -> Words {
        let key = format!("{}e{}", self.prefix, rng.below(3)).into_bytes();
        if rng.one_in(3) {
            let deadline = (wall + rng.below(2_000)).saturating_sub(20);
            return vec![b"SET".to_vec(), key, self.value(rng), b"PXAT".to_vec(), number(deadline as i64)];
        }
        vec![b"GET".to_vec(), key]
    }

    /// A command on the keys of the ledger.
    pub fn ledger(&mut self, rng: &mut Rng) -> Words {
        let template = LEDGER[rng.below(LEDGER.len() as u64) as usize];
        self.fill(template, |workload, word| match word {
            "q" | "m" | "r" => Some(format!("{word}{}", rng.below(2)).into_bytes()),
            "v" => Some(workload.value(rng)),
            _ => None,
        })
    }

    /// Any command on shared keys.
    pub fn wild(&mut self, rng: &mut Rng, wall: u64) -> Words {
        let template = match rng.below(150) {
            0 => RARE[rng.below(RARE.len() as u64) as usize],
            _ => self.wild[rng.below(self.wild.len() as u64) as usize],
        };
        self.fill(template, |workload, word| {
            Some(match word {
                // Keys of one type most of the time, or nothing but refusals would be tested.
                "k" => format!("k{}", rng.below(14)).into_bytes(),
                "f" => format!("f{}", rng.below(6)).into_bytes(),
                "n" => number(rng.below(300) as i64 - 100),
                "v" => workload.value(rng),
                "t" => number(1 + rng.below(1_500) as i64),
                "a" => number((wall + rng.below(1_500)) as i64 - 100),
                "c" => number(rng.below(9) as i64),
                "i" => number(rng.below(12) as i64 - 6),
                "d" => number(rng.below(u64::from(WILD_DBS)) as i64),
                _ => return None,
            })
        })
    }

    fn fill_private(&mut self, template: &str, rng: &mut Rng) -> Words {
        self.fill(template, |workload, word| {
            Some(match word {
                "v" => workload.value(rng),
                "f" => format!("f{}", rng.below(5)).into_bytes(),
                "c" => number(1 + rng.below(5) as i64),
                member if member.starts_with('f') => return None,
                key if key.len() == 2 && key.as_bytes()[0].is_ascii_lowercase() => {
                    format!("{}{key}", workload.prefix).into_bytes()
                }
                _ => return None,
            })
        })
    }

    fn fill(&mut self, template: &str, mut one: impl FnMut(&mut Workload, &str) -> Option<Vec<u8>>) -> Words {
        template.split(' ').map(|word| one(self, word).unwrap_or_else(|| word.as_bytes().to_vec())).collect()
    }

    fn value(&mut self, rng: &mut Rng) -> Vec<u8> {
        self.fresh += 1;
        let mut value = format!("v{}:{}", self.client, self.fresh).into_bytes();
        if rng.one_in(4) {
            value.resize(value.len() + rng.below(self.value_bytes_max) as usize, b'.');
        }
        value
    }
}

/// In braces, so that all of them are in one slot and commands on several work whatever the number of shards.
fn prefix(client: usize, epoch: u64) -> String {
    format!("{{p{client}.{epoch}}}")
}

fn number(n: i64) -> Vec<u8> {
    n.to_string().into_bytes()
}
