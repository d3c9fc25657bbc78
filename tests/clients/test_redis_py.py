"""redis-py 8 as it comes (RESP3 handshake): the same calls to redis-server and to skep give the same Python values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from harness.server import Redis, Server, Skep

FAR = 4102444800
Client = redis.Redis


def strings(r: Client) -> list:
    return [
        r.set("a", "1"), r.get("a"), r.set("a", "2", nx=True), r.set("a", "3", get=True), r.set("b", "x", ex=1000),
        0 < r.ttl("b") <= 1000, r.set("b", "y", keepttl=True), r.ttl("b") > 0, r.getex("b", persist=True), r.ttl("b"),
        r.getdel("b"), r.get("b"), r.mset({"m1": "1", "m2": b"\x00\xff"}), r.mget("m1", "none", "m2"), r.msetnx({"m1": 1, "m3": 2}),
        r.incr("a"), r.incrby("a", 10), r.decr("a", 4), r.incrbyfloat("a", 0.5), r.append("s", "hello"),
        r.strlen("s"), r.getrange("s", 1, 3), r.setrange("s", 2, "LL"), r.get("s"), r.setnx("n", 1), r.setex("e", 100, "v"),
        r.psetex("p", 100000, "v"), r.getset("n", 2), r.lcs("s", "s", len=True), r.setbit("bits", 7, 1), r.getbit("bits", 7),
        r.bitcount("bits"), r.bitpos("bits", 1), r.bitop("NOT", "bits2", "bits"), r.get("bits2"),
        r.bitfield("bf").set("u8", 0, 255).incrby("u8", 0, 10).get("u4", 4).execute(), r.bitfield_ro("bf", "u8", 0),
        r.pfadd("hll", "a", "b", "c"), r.pfcount("hll"), r.pfmerge("hll2", "hll"), r.pfcount("hll", "hll2"),
    ]  # fmt: skip


def keys(r: Client) -> list:
    r.mset({"k1": "1", "k2": "2", "k3": "3"})
    r.rpush("l", "x")
    dumped = r.dump("k1")
    return [
        r.exists("k1", "k2", "none"), r.delete("k3"), r.unlink("k2", "none"), r.type("l"), r.expire("k1", 1000, nx=True),
        r.expireat("k1", FAR), r.expiretime("k1"), r.pexpiretime("k1"), r.pexpireat("k1", FAR * 1000 + 5), r.pttl("k1") > 0,
        r.persist("k1"), r.ttl("k1"), r.ttl("none"), r.rename("k1", "k4"), r.renamenx("k4", "l"), r.copy("k4", "k5"),
        r.copy("k4", "k5"), r.copy("k4", "k5", replace=True), sorted(r.keys("k*")), sorted(r.scan_iter("*", count=1)),
        sorted(r.scan_iter(_type="LIST")), r.touch("k4", "none"), r.randomkey() is not None, r.dbsize(), r.move("k5", 3),
        r.restore("back", 0, dumped), r.get("back"), r.object("REFCOUNT", "l"), r.sort("l", alpha=True), r.swapdb(0, 3), sorted(r.keys()),
        r.swapdb(0, 3), r.flushdb(), r.dbsize(),
    ]  # fmt: skip


def hashes(r: Client) -> list:
    return [
        r.hset("h", "a", 1), r.hset("h", mapping={"b": "2", "c": b"\xff"}), r.hget("h", "a"), r.hmget("h", "a", "none", "b"),
        r.hgetall("h"), sorted(r.hkeys("h")), sorted(r.hvals("h")), r.hlen("h"), r.hexists("h", "a"), r.hdel("h", "c", "none"),
        r.hsetnx("h", "a", 5), r.hincrby("h", "a", 7), r.hincrbyfloat("h", "a", 1.5), r.hstrlen("h", "b"), r.hscan("h"),
        sorted(r.hscan_iter("h", match="a*")), r.hrandfield("none"), sorted(r.hrandfield("h", 10)), r.hgetall("none"),
    ]  # fmt: skip


def lists(r: Client) -> list:
    return [
        r.rpush("l", *"abcabc"), r.lpush("l", "z"), r.lrange("l", 0, -1), r.llen("l"), r.lpop("l"), r.rpop("l", 2), r.lindex("l", 0),
        r.lset("l", 0, "A"), r.linsert("l", "BEFORE", "b", "x"), r.lrem("l", 1, "c"), r.lpos("l", "b"), r.lpos("l", "b", count=0),
        r.ltrim("l", 0, 2), r.lmove("l", "l2", "LEFT", "RIGHT"), r.rpoplpush("l", "l2"), r.lmpop(2, "none", "l2", direction="LEFT", count=5),
        r.lpushx("none", "a"), r.rpushx("l", "y"), r.lrange("l", 0, -1), r.lpop("none"), r.rpop("none", 2), r.exists("l2"),
    ]  # fmt: skip


def sets(r: Client) -> list:
    return [
        r.sadd("s", *"abcd"), r.sadd("s", "a"), r.scard("s"), r.sismember("s", "a"), r.smismember("s", ["a", "x"]), r.smembers("s"),
        r.srem("s", "d", "x"), r.sadd("t", *"bcx"), r.sinter("s", "t"), r.sunion("s", "t"), r.sdiff("s", "t"),
        r.sinterstore("i", "s", "t"), r.sunionstore("u", "s", "t"), r.sdiffstore("d", "s", "t"), r.sintercard(2, ["s", "t"]),
        r.smove("s", "t", "a"), r.smembers("t"), sorted(r.sscan_iter("t")), sorted(r.spop("t", 10)), r.exists("t"),
        r.srandmember("none"), sorted(r.srandmember("s", 5)), r.spop("none"),
    ]  # fmt: skip


def zsets(r: Client) -> list:
    return [
        r.zadd("z", {"a": 1, "b": 2.5, "c": float("inf")}), r.zadd("z", {"a": 5}, nx=True), r.zadd("z", {"a": 3}, gt=True, ch=True),
        r.zadd("z", {"a": 1}, incr=True), r.zscore("z", "a"), r.zmscore("z", ["a", "none"]), r.zcard("z"), r.zrank("z", "b"),
        r.zrevrank("z", "none"), r.zincrby("z", 0.5, "b"), r.zrange("z", 0, -1, withscores=True), r.zrange("z", 0, 10, byscore=True),
        r.zrange("z", "-", "+", bylex=True, desc=False), r.zrevrange("z", 0, 0, withscores=True), r.zrangebyscore("z", 3, "+inf", 0, 1),
        r.zrevrangebyscore("z", "+inf", "-inf", withscores=True), r.zcount("z", 0, 5), r.zlexcount("z", "-", "+"),
        r.zrangestore("zs", "z", 0, 1), r.zadd("y", {"a": 1, "q": 2}), r.zunion(["z", "y"], withscores=True),
        r.zinter(["z", "y"], aggregate="MAX", withscores=True), r.zdiff(["z", "y"]), r.zunionstore("u", {"z": 2, "y": 3}),
        r.zinterstore("i", ["z", "y"]), r.zdiffstore("d", ["z", "y"]), r.zintercard(2, ["z", "y"]), r.zpopmin("z"), r.zpopmax("z", 5),
        r.exists("z"), r.zmpop(2, ["none", "y"], min=True), r.zrem("y", "q"), r.zscan("u"), r.zrandmember("none"),
        r.zremrangebyscore("u", 0, 5), r.zremrangebyrank("u", 0, 0), r.zremrangebylex("u", "-", "+"),
    ]  # fmt: skip


def geo(r: Client) -> list:
    r.geoadd("g", [13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"])
    return [
        r.geodist("g", "Palermo", "Catania", "km"), r.geohash("g", "Palermo", "none"), r.geopos("g", "Palermo", "none"),
        r.geosearch("g", longitude=15, latitude=37, radius=200, unit="km", sort="ASC", withdist=True, withcoord=True, withhash=True),
        r.geosearch("g", member="Palermo", width=400, height=400, unit="km", sort="DESC"),
        r.geosearchstore("near", "g", longitude=15, latitude=37, radius=100, unit="km", storedist=True), r.zrange("near", 0, -1),
    ]  # fmt: skip


def streams(r: Client) -> list:
    ids = [r.xadd("s", {"n": n, "text": f"entry {n}"}, id=f"{n}-1") for n in range(1, 8)]
    chosen = r.xadd("auto", {"f": "v"})
    return [
        ids, r.xlen("s"), r.xrange("s"), r.xrange("s", min="2", max="(5", count=2), r.xrevrange("s", count=1), r.xdel("s", "7-1", "9-9"),
        r.xread({"s": "4", "none": "0"}), r.xread({"s": "$"}), r.xgroup_create("s", "g", id="0"), r.xgroup_create("new", "g", mkstream=True),
        r.xgroup_createconsumer("s", "g", "idle"), r.xreadgroup("g", "one", {"s": ">"}, count=3), r.xreadgroup("g", "two", {"s": ">"}, noack=True, count=1),
        r.xreadgroup("g", "two", {"s": ">"}), r.xreadgroup("g", "two", {"s": ">"}), r.xreadgroup("g", "one", {"s": "0"}, count=1),
        r.xpending("s", "g"), [each["message_id"] for each in r.xpending_range("s", "g", "-", "+", 10, consumername="one")],
        r.xack("s", "g", "1-1", "1-1"), r.xclaim("s", "g", "two", 0, ["2-1"]), r.xclaim("s", "g", "two", 0, ["3-1"], justid=True),
        r.xautoclaim("s", "g", "one", 0, count=2), r.xtrim("s", maxlen=3), r.xautoclaim("s", "g", "one", 0, justid=True),
        r.xinfo_stream("s")["length"], [each["name"] for each in r.xinfo_groups("s")], sorted(each["pending"] for each in r.xinfo_consumers("s", "g")),
        len(r.xinfo_stream("s", full=True)["groups"]), r.xgroup_delconsumer("s", "g", "one"), r.xgroup_setid("s", "g", "0"), r.xgroup_destroy("s", "g"),
        r.xadd("s", {"a": 1}, id="9-*", maxlen=2, approximate=False), r.xadd("none", {"a": 1}, nomkstream=True), r.xlen("s"), r.type("s"),
        r.restore("back", 0, r.dump("s")) if not r.connection_pool.connection_kwargs.get("decode_responses") else b"OK", r.copy("s", "copied"), r.xlen("copied"),
        r.xrange("auto")[0][0] == chosen,
    ]  # fmt: skip


def pipelines(r: Client) -> list:
    pipe = r.pipeline(transaction=False)
    for number in range(1000):
        pipe.set(f"p:{number}", number)
        pipe.incr("count")
    pipe.lpush("count", "wrong type")
    replies = pipe.execute(raise_on_error=False)
    return [replies[:6], replies[-2], str(replies[-1]), r.dbsize()]


def errors(r: Client) -> list:
    found = []
    r.set("s", "x")
    for call in (
        lambda: r.incr("s"), lambda: r.lpush("s", 1), lambda: r.execute_command("NOSUCH", "a"), lambda: r.execute_command("GET"),
        lambda: r.set("s", "x", ex=0), lambda: r.rename("none", "x"), lambda: r.zadd("z", {"a": 1}, nx=True, xx=True),
        lambda: r.execute_command("SELECT", 99), lambda: r.lset("none", 0, "x"), lambda: r.execute_command("CLIENT", "NOSUCH"),
    ):  # fmt: skip
        try:
            found.append(call())
        except redis.RedisError as error:
            found.append((type(error).__name__, str(error)))
    return found


def connections(r: Client) -> list:
    one = r.client()
    info = one.info()
    listed = [each for each in one.client_list() if each["id"] == str(one.client_id())]
    return [
        one.ping(), one.echo("x"), one.client_setname("me"), one.client_getname(), one.client_info()["name"], [each["name"] for each in listed],
        len(one.time()), one.config_get("maxmemory-policy"), one.config_set("maxmemory-policy", "noeviction"), one.config_resetstat(),
        one.command_count() > 150, info["role"], info["redis_mode"], info["loading"], info["maxmemory_policy"], info["cluster_enabled"],
        one.command_getkeys("MSET", "a", "1", "b", "2"), type(one.memory_usage("none")), one.flushall(), one.dbsize(),
        one.select(5), one.set("in five", 1), one.dbsize(), one.client_no_evict("on"),
    ]  # fmt: skip


WORKLOADS: list[Callable[[Client], list]] = [strings, keys, hashes, lists, sets, zsets, geo, streams, pipelines, errors, connections]


def results(server: Server, workload: Callable[[Client], list], **options: object) -> list:
    with redis.Redis(port=server.port, **options) as client:  # type: ignore[arg-type]
        client.flushall()
        return workload(client)


@pytest.mark.parametrize("options", [{}, {"protocol": 2}, {"decode_responses": True, "db": 2, "client_name": "named"}], ids=["default", "resp2", "decoded"])
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda each: each.__name__)
def test_same_values_as_with_redis(redis_server: Redis, skep: Skep, workload: Callable[[Client], list], options: dict) -> None:
    if options.get("decode_responses") and workload in (strings, keys, hashes):
        options = {key: value for key, value in options.items() if key != "decode_responses"}  # Their values are not text.
    assert results(skep, workload, **options) == results(redis_server, workload, **options)


def test_handshake_is_resp3(skep: Skep) -> None:
    with redis.Redis(port=skep.port) as client:
        hello = client.execute_command("HELLO")
        hello = {key.decode(): value for key, value in hello.items()}
        assert hello["proto"] == 3
        assert hello["server"] == b"redis"
        info = client.info()
        assert info["redis_version"].startswith("7.4."), info["redis_version"]
        assert "skep_version" in info
        for name in ("dragonfly_version", "valkey_version"):
            assert name not in info


def test_client_side_of_info_is_complete(skep: Skep) -> None:
    """The fields that clients and dashboards read; see shared/notes/redis-clients.md, section 5."""
    needed = """redis_version redis_mode os arch_bits process_id run_id tcp_port uptime_in_seconds uptime_in_days
        connected_clients blocked_clients used_memory used_memory_human used_memory_peak_human maxmemory maxmemory_human
        maxmemory_policy loading role connected_slaves master_repl_offset total_connections_received
        total_commands_processed instantaneous_ops_per_sec keyspace_hits keyspace_misses expired_keys evicted_keys
        cluster_enabled skep_version node_id node_name cluster_id leading_shards shards cluster_state""".split()
    with redis.Redis(port=skep.port) as client:
        client.set("a", 1, ex=1000)
        info = client.info("everything")
        assert [name for name in needed if name not in info] == []
        assert info["db0"]["keys"] >= 1 and info["db0"]["expires"] >= 1
        assert "db0" in client.info("keyspace")
        assert "cmdstat_set" in client.info("commandstats")
