"""Which write commands stop a transaction that watches their keys: as in redis-server, command by command.

Each case is one command, or several, on the same small keyspace, each of whose keys is watched by a connection of its own, on both servers. What a
write that changes nothing does is the point of most cases: Redis lets the transaction go on but where its source says otherwise. What
comes and is gone again has changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from harness.resp import Reply, as_bytes, is_error
from harness.server import Redis, Skep

KEYSPACE = """
    SET str ten
    SET num 10
    SET vol 10 PX 10000000
    RPUSH list a b c
    RPUSH other x
    HSET hash f 1 g 2.5 vol 10
    SADD set 1 2 3
    SADD more 3 4
    SADD word a
    ZADD zset 1 a 2 b 3 c
    ZADD last 9 z
    GEOADD geo 13.361389 38.115556 p 15.087269 37.502669 c
    PFADD hll a b c
    PFADD hlm a b
    SETBIT bits 7 1
    XADD stream 1-1 f v
    XADD stream 2-1 f v
    XGROUP CREATE stream group 0
    XGROUP CREATE stream behind 0
    XREADGROUP GROUP group consumer COUNT 1 STREAMS stream >
"""

KEYS = ("str", "num", "vol", "list", "other", "hash", "set", "more", "word", "zset", "last", "geo", "hll", "hlm", "bits", "stream", "none", "new")

CASES = """
    SET str ten
    SET none x XX
    SET str x NX
    SET str x GET
    SET none x NX GET
    SET vol 10 KEEPTTL
    SET list x
    SETNX str x
    SETNX none x
    SETEX str 100 ten
    SETEX str 0 ten
    PSETEX str 100000 ten
    GETSET str ten
    GETSET none x
    GETDEL str
    GETDEL none
    GETDEL list
    GETEX str
    GETEX str PERSIST
    GETEX vol PERSIST
    GETEX vol EX 100
    GETEX vol EXAT 1
    GETEX none EX 100
    APPEND str x
    APPEND str ""
    APPEND none ""
    APPEND none x
    APPEND list x
    SETRANGE str 0 ten
    SETRANGE str 0 ""
    SETRANGE none 0 ""
    SETRANGE none 3 x
    MSET str ten none x
    MSETNX str ten none x
    MSETNX none x new y
    INCR num
    INCR str
    INCRBY num 0
    INCRBY none 0
    DECR num
    DECRBY num 0
    INCRBYFLOAT num 0
    INCRBYFLOAT str 1
    SETBIT bits 7 1
    SETBIT bits 7 0
    SETBIT bits 100 0
    SETBIT none 0 0
    BITOP AND new bits none
    BITOP AND bits none new
    BITOP OR bits bits
    BITOP NOT none new
    BITFIELD bits GET u8 0
    BITFIELD bits SET u8 0 1
    BITFIELD bits SET u8 0 2
    BITFIELD bits OVERFLOW FAIL INCRBY u8 0 500
    BITFIELD bits INCRBY u8 0 0
    BITFIELD bits SET u8 80 0
    BITFIELD none GET u8 0
    BITFIELD none SET u8 0 0
    PFADD hll a
    PFADD hll
    PFADD hll zzz
    PFADD none
    PFADD none a
    PFADD str a
    PFMERGE hll
    PFMERGE hll hlm
    PFMERGE none
    PFMERGE none str
    LPUSH list x
    LPUSH none x
    LPUSH str x
    RPUSH list x
    LPUSHX list x
    LPUSHX none x
    RPUSHX list x
    RPUSHX none x
    LPOP list
    LPOP list 0
    LPOP none
    LPOP none 2
    LPOP other
    RPOP list
    RPOP list 0
    RPOP list 99
    LSET list 0 a
    LSET list 99 a
    LSET none 0 a
    LINSERT list BEFORE b x
    LINSERT list BEFORE zzz x
    LINSERT none BEFORE b x
    LREM list 0 zzz
    LREM list 0 a
    LREM other 0 x
    LREM none 0 a
    LTRIM list 0 -1
    LTRIM list 1 1
    LTRIM list 5 9
    LTRIM none 0 -1
    LMOVE list other LEFT LEFT
    LMOVE list list LEFT RIGHT
    LMOVE other other LEFT LEFT
    LMOVE none list LEFT LEFT
    LMOVE list str LEFT LEFT
    LMOVE other none LEFT LEFT
    RPOPLPUSH list other
    RPOPLPUSH none list
    LMPOP 2 none list LEFT
    LMPOP 1 none LEFT
    BLPOP none list 1
    BLPOP none 0.01
    BRPOP other none 1
    BRPOP none 0.01
    BLMOVE list other LEFT LEFT 1
    BLMOVE none other LEFT LEFT 0.01
    BRPOPLPUSH list other 1
    BRPOPLPUSH none other 0.01
    BLMPOP 1 2 none list LEFT
    BLMPOP 0.01 1 none LEFT
    HSET hash f 1
    HSET hash f 2
    HSET hash new 2
    HSET none f 1
    HSET str f 1
    HMSET hash f 1
    HSETNX hash f 9
    HSETNX hash new 9
    HSETNX none f 9
    HDEL hash zzz
    HDEL hash f
    HDEL hash f g vol
    HDEL none f
    HINCRBY hash f 0
    HINCRBY hash g 1
    HINCRBY none f 0
    HINCRBYFLOAT hash g 0
    HINCRBYFLOAT hash g zzz
    SADD set 1
    SADD set 9
    SADD set a
    SADD none 1
    SADD str 1
    SREM set 9
    SREM set 1
    SREM set 1 2 3
    SREM none 1
    SPOP set
    SPOP set 0
    SPOP set 2
    SPOP set 99
    SPOP none
    SPOP none 2
    SMOVE set more 1
    SMOVE set more 3
    SMOVE set more 9
    SMOVE set set 1
    SMOVE none more 1
    SMOVE set str 1
    SMOVE set none 1
    SMOVE word set a
    SINTERSTORE set none
    SINTERSTORE none new
    SINTERSTORE new set more
    SINTERSTORE new set word
    SUNIONSTORE set set
    SUNIONSTORE new none
    SDIFFSTORE set set set
    SDIFFSTORE none set set
    ZADD zset 1 a
    ZADD zset 7 a
    ZADD zset 1 a 9 new
    ZADD zset NX 7 a
    ZADD zset XX 7 new
    ZADD zset GT 0 a
    ZADD zset LT 7 a
    ZADD zset XX CH 1 a
    ZADD zset INCR 0 a
    ZADD zset NX INCR 1 a
    ZADD none XX 1 a
    ZADD none 1 a
    ZADD zset zzz a
    ZADD str 1 a
    ZINCRBY zset 0 a
    ZINCRBY zset 1 a
    ZINCRBY zset 0 new
    ZREM zset zzz
    ZREM zset a
    ZREM last z
    ZREM none z
    ZREMRANGEBYRANK zset 5 9
    ZREMRANGEBYRANK zset 0 0
    ZREMRANGEBYRANK none 0 -1
    ZREMRANGEBYSCORE zset 50 90
    ZREMRANGEBYSCORE zset 1 1
    ZREMRANGEBYSCORE last 0 99
    ZREMRANGEBYLEX zset [x [y
    ZREMRANGEBYLEX zset - +
    ZPOPMIN zset
    ZPOPMIN zset 0
    ZPOPMIN none
    ZPOPMIN last
    ZPOPMAX zset 2
    ZPOPMAX zset 0
    ZMPOP 2 none zset MIN
    ZMPOP 1 none MIN
    BZPOPMIN none zset 1
    BZPOPMIN none 0.01
    BZPOPMAX zset 1
    BZPOPMAX none 0.01
    BZMPOP 1 2 none zset MAX
    BZMPOP 0.01 1 none MAX
    ZRANGESTORE new zset 0 -1
    ZRANGESTORE zset none 0 -1
    ZRANGESTORE none new 0 -1
    ZUNIONSTORE zset 1 zset
    ZUNIONSTORE none 1 new
    ZINTERSTORE zset 2 zset last
    ZINTERSTORE none 2 zset last
    ZDIFFSTORE zset 2 zset zset
    ZDIFFSTORE none 2 zset zset
    GEOADD geo 13.361389 38.115556 p
    GEOADD geo 14 38 p
    GEOADD geo NX 14 38 p
    GEOADD geo XX 14 38 new
    GEOADD none XX 14 38 new
    GEORADIUS geo 15 37 200 km STORE new
    GEORADIUS geo 0 0 1 m STORE zset
    GEORADIUS geo 0 0 1 m STORE none
    GEORADIUS geo 0 0 1 m
    GEORADIUSBYMEMBER geo p 1 m STORE new
    GEOSEARCHSTORE new geo FROMMEMBER p BYRADIUS 1 m ASC
    GEOSEARCHSTORE zset none FROMLONLAT 0 0 BYRADIUS 1 m ASC
    GEOSEARCHSTORE none geo FROMLONLAT 0 0 BYRADIUS 1 m ASC
    SORT set
    SORT set STORE new
    SORT none STORE list
    SORT none STORE new
    XADD stream * f v
    XADD stream 1-1 f v
    XADD none NOMKSTREAM * f v
    XADD none * f v
    XADD stream MAXLEN 1 * f v
    XDEL stream 9-9
    XDEL stream 1-1
    XDEL none 1-1
    XTRIM stream MAXLEN 99
    XTRIM stream MAXLEN 1
    XTRIM none MAXLEN 1
    XSETID stream 2-1
    XSETID stream 1-1
    XSETID none 1-1
    XGROUP CREATE stream third $
    XGROUP CREATE stream group $
    XGROUP CREATE none group $
    XGROUP CREATE none group $ MKSTREAM
    XGROUP SETID stream group 0
    XGROUP SETID stream zzz 0
    XGROUP DESTROY stream group
    XGROUP DESTROY stream zzz
    XGROUP CREATECONSUMER stream group new
    XGROUP CREATECONSUMER stream group consumer
    XGROUP DELCONSUMER stream group consumer
    XGROUP DELCONSUMER stream group zzz
    XACK stream group 1-1
    XACK stream group 9-9
    XACK none group 1-1
    XREADGROUP GROUP group consumer COUNT 1 STREAMS stream >
    XREADGROUP GROUP group consumer STREAMS stream 0
    XREADGROUP GROUP group new STREAMS stream 0
    XREADGROUP GROUP behind new STREAMS stream >
    XREADGROUP GROUP behind new NOACK STREAMS stream >
    XREADGROUP GROUP zzz new STREAMS stream >
    XCLAIM stream group other 0 1-1
    XCLAIM stream group other 9999999 1-1
    XCLAIM stream group other 0 9-9
    XCLAIM stream group consumer 0 1-1 JUSTID
    XAUTOCLAIM stream group other 0 0
    XAUTOCLAIM stream group consumer 9999999 0
    DEL str
    DEL none
    DEL str none list
    UNLINK str
    UNLINK none
    EXPIRE str 1000
    EXPIRE str -1
    EXPIRE none 1000
    EXPIRE str 1000 XX
    EXPIRE vol 1000 NX
    EXPIRE vol 1 GT
    EXPIRE vol 99999999 LT
    PEXPIRE str 100000
    PEXPIRE vol 100000 NX
    EXPIREAT str 9999999999
    EXPIREAT str 1
    PEXPIREAT str 9999999999999
    PEXPIREAT none 9999999999999
    PERSIST str
    PERSIST vol
    PERSIST none
    RENAME str new
    RENAME str list
    RENAME str str
    RENAME none new
    RENAMENX str list
    RENAMENX str new
    RENAMENX str str
    COPY str new
    COPY str list
    COPY str list REPLACE
    COPY none new
    MOVE str 1
    MOVE none 1
    MOVE str 0
    RESTORE str 0 {dump}
    RESTORE str 0 {dump} REPLACE
    RESTORE new 0 {dump}
    RESTORE new 1 {dump} ABSTTL
    RESTORE str 1 {dump} ABSTTL REPLACE
    RESTORE new 0 zzz
    SWAPDB 0 1
    SWAPDB 0 0
    SWAPDB 1 2
    FLUSHDB
    FLUSHALL
    TOUCH str
    OBJECT FREQ str
    PFCOUNT hlm none
    EVAL "redis.call('sadd', 'set', '1')" 1 set
    EVAL "redis.call('sadd', 'set', '99')" 1 set
    EVAL "redis.call('hset', 'hash', 'f', '1') redis.call('sadd', 'set', '1')" 2 hash set
"""

COME_AND_GONE = """
    SET none x; DEL none
    SET none x; GETDEL none
    SET none x; EXPIRE none -1
    SET none x; RENAME none str
    SET none x; RENAMENX none new
    SET none x; MOVE none 1
    SET none x; SWAPDB 0 1; FLUSHALL
    SET none x; FLUSHDB
    SET none x; SUNIONSTORE none new
    RENAME str none; RENAME none str
    COPY str none; UNLINK none
    RPUSH none a; LPOP none
    RPUSH none a; LMOVE none list LEFT LEFT
    RPUSH none a; LTRIM none 5 9
    HSET none f 1; HDEL none f
    SADD none 1; SPOP none
    SADD none 1; SMOVE none set 1
    ZADD none 1 a; ZPOPMIN none
    ZADD none 1 a; ZREMRANGEBYRANK none 0 -1
    XADD none 1-1 f v; DEL none
    PFADD none a; DEL none
    EVAL "redis.call('set', 'none', '1') redis.call('del', 'none')" 1 none
    MULTI; SET none x; DEL none; EXEC
    SWAPDB 0 1; SWAPDB 0 1
    SWAPDB 0 1; SET none x; DEL none; SWAPDB 0 1
    SWAPDB 1 2; SWAPDB 2 1
    LMOVE list new LEFT LEFT; LMOVE new list LEFT LEFT
    DEL str; SET str ten
"""

NOT_SWEPT = {
    "function|delete", "function|flush", "function|load", "function|restore",  # no keys
    "migrate", "pfdebug", "restore-asking",  # not there
}  # fmt: skip


def words_of(line: str, dump: bytes) -> list[bytes]:
    """Words at spaces; double quotes hold one together."""
    parts = line.split('"')
    words: list[bytes] = []
    for number, part in enumerate(parts):
        words += [part.encode()] if number % 2 else [as_bytes(word) for word in part.split()]
    return [dump if word == b"{dump}" else word for word in words]


def lines(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip())


class Watched:
    """A server whose keys are watched, each by a connection of its own."""

    def __init__(self, server: Redis | Skep, stack: ExitStack) -> None:
        self.writer = stack.enter_context(server.connect())
        self.watchers = {key: stack.enter_context(server.connect()) for key in KEYS}
        assert self.writer.call("SET", "dumped", "of another") == ("+", b"OK")
        self.dump: bytes = self.writer.call("DUMP", "dumped")[1]

    def stopped_by(self, line: str) -> tuple[Reply, list[str]]:
        """The reply to the last command, and the keys whose watchers it stopped."""
        setup = [words_of(each, b"") for each in ["FLUSHALL", *lines(KEYSPACE)]]
        for command, reply in zip(setup, self.writer.pipeline(setup), strict=True):
            assert not is_error(reply), f"{command}: {reply}"
        for key, watcher in self.watchers.items():
            watcher.send([[b"WATCH", key.encode()], [b"MULTI"], [b"PING"]])
        for watcher in self.watchers.values():
            assert [watcher.read() for _ in range(3)] == [("+", b"OK"), ("+", b"OK"), ("+", b"QUEUED")]
        for part in line.split("; "):
            reply = self.writer.call(*words_of(part, self.dump))
        for watcher in self.watchers.values():
            watcher.send([[b"EXEC"]])
        return reply, [key for key, watcher in self.watchers.items() if watcher.read()[1] is None]


@pytest.fixture(scope="module")
def both(redis_server: Redis, quick_skep: Skep) -> Iterator[tuple[Watched, Watched]]:
    with ExitStack() as stack:
        yield Watched(redis_server, stack), Watched(quick_skep, stack)


@pytest.mark.parametrize("line", [*lines(CASES), *lines(COME_AND_GONE)])
def test_a_write_stops_the_same_transactions_as_in_redis(both: tuple[Watched, Watched], line: str) -> None:
    redis, skep = both
    (left, by_redis), (right, by_skep) = redis.stopped_by(line), skep.stopped_by(line)
    assert is_error(left) == is_error(right), f"redis: {left}, skep: {right}"
    assert by_skep == by_redis, f"redis: {left}, skep: {right}"


def test_every_write_command_is_swept(redis_server: Redis) -> None:
    with redis_server.connect() as connection:
        names = {name.decode() for _, name in connection.call("COMMAND", "LIST", "FILTERBY", "ACLCAT", "write")[1]}
    swept = set()
    for line in lines(CASES):
        first, *rest = line.lower().split()
        swept |= {first, f"{first}|{rest[0]}" if rest else first}
    assert names - swept - NOT_SWEPT == set()
    assert NOT_SWEPT & swept == set()


