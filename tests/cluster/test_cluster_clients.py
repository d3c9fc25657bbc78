"""Clients that ask for the map of slots and go to the leaders directly: redis-py, node-redis and redis-cli, as they come."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
import redis

from harness.cluster import CLIENT_PORT, OK, Cluster, Node, until
from harness.resp import Reply, items, text
from harness.server import ROOT

FLAGS = ["--shards", "4"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


def slot_map(node: Node) -> list[tuple[int, int, list[tuple[str, int]]]]:
    """CLUSTER SLOTS: first and last slot, and the addresses, the leader's first."""
    found = []
    for row in items(node.call("CLUSTER", "SLOTS")) or ():
        first, last, *nodes = items(row) or ()
        found.append((first[1], last[1], [(text(items(each)[0]).decode(), items(each)[1][1]) for each in nodes]))
    return found


def test_every_node_gives_the_same_map_of_all_slots_with_the_leader_first(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    for node in cluster.nodes:
        rows = slot_map(node)
        slots = sorted(slot for first, last, _ in rows for slot in range(first, last + 1))
        assert slots == list(range(16384))
        for _, _, addresses in rows:
            assert addresses[0] == (leader.host, CLIENT_PORT), "the leader comes first, as a master does"
            assert sorted(addresses) == sorted((each.host, CLIENT_PORT) for each in cluster.nodes)


def test_cluster_nodes_and_shards_agree_with_the_map(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    for node in cluster.nodes:
        lines = [line.split() for line in text(node.call("CLUSTER", "NODES")).decode().splitlines()]
        assert len(lines) == 3
        flags = {line[1].split("@")[0]: line[2].split(",") for line in lines}
        assert flags.keys() == {f"{each.host}:{CLIENT_PORT}" for each in cluster.nodes}
        assert "myself" in flags[f"{node.host}:{CLIENT_PORT}"] and sum("myself" in each for each in flags.values()) == 1
        assert "master" in flags[f"{leader.host}:{CLIENT_PORT}"]
        ids = {line[0] for line in lines}
        assert text(node.call("CLUSTER", "MYID")).decode() in ids
        shards = items(node.call("CLUSTER", "SHARDS")) or ()
        listed = {text(field(each, b"id")).decode() for shard in shards for each in items(field(shard, b"nodes")) or ()}
        assert listed == ids
        roles = [text(field(each, b"role")) for shard in shards for each in items(field(shard, b"nodes")) or ()]
        assert roles.count(b"master") == len(shards)


def field(reply: Reply, name: bytes) -> Reply:
    """A value of a flat array of names and values."""
    flat = items(reply) or ()
    return next(value for key, value in zip(flat[0::2], flat[1::2], strict=True) if key[1] == name)


def redis_cluster(node: Node) -> redis.RedisCluster:
    return redis.RedisCluster(host=node.host, port=CLIENT_PORT)


def answers(client: redis.RedisCluster) -> bool:
    try:
        return client.get("py:1") == b"1"
    except redis.exceptions.RedisError:
        return False


def test_redis_py_in_cluster_mode_works_through_a_failover(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    with redis_cluster(cluster.others(leader)[0]) as client:
        for number in range(200):
            assert client.set(f"py:{number}", number)
        assert client.mget_nonatomic([f"py:{number}" for number in range(200)]) == [b"%d" % number for number in range(200)]
        leader.kill()
        try:
            # Until there is another leader the map names the dead one, and this client's patience is a number of tries.
            until(lambda: answers(client), "an answer after the leader died")
            for number in range(200):
                assert client.get(f"py:{number}") == b"%d" % number
            pipeline = client.pipeline()
            for number in range(100):
                pipeline.incr(f"count:{number % 7}")
            assert len(pipeline.execute()) == 100
        finally:
            leader.begin()
            cluster.wait_whole()


def test_node_redis_in_cluster_mode_prints_what_it_should(cluster: Cluster) -> None:
    node = ROOT / ".venv" / "bin" / "node"
    addresses = [f"{each.host}:{CLIENT_PORT}" for each in cluster.nodes]
    done = subprocess.run([str(node), "node_redis_cluster.mjs", *addresses], cwd=ROOT / "tests" / "node", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.splitlines() == ["masters 1", "set 300", "get 300", "incr 101", "pipeline [1,2,3]", "gone 300"]


def test_redis_cli_in_cluster_mode(cluster: Cluster) -> None:
    for node in cluster.nodes:
        line = ["redis-cli", "-c", "-h", node.host, "-p", str(CLIENT_PORT), "SET", "cli", str(node.number)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=30)
        assert done.stdout == "OK\n", done


def test_plain_clients_are_not_taken_for_cluster_clients(cluster: Cluster) -> None:
    for node in cluster.nodes:
        info = text(node.call("INFO")).decode()
        assert "cluster_enabled:0" in info and "role:master" in info and "cluster_state:ok" in info
        with redis.Redis(host=node.host, port=CLIENT_PORT) as client:
            assert client.set("plain", "1") and client.get("plain") == b"1"
    leading = [int(text(node.call("INFO", "skep")).decode().split("leading_shards:")[1].split()[0]) for node in cluster.nodes]
    assert sorted(leading) == [0, 0, 1]


def test_keys_spread_over_several_shards_answer_through_every_node() -> None:
    with Cluster(flags=FLAGS) as cluster:
        assert len(cluster.node(1).status()["shards"]) == 4
        for number in range(200):
            assert cluster.nodes[number % 3].call("SET", f"spread:{number}", number) == OK
        for node in cluster.nodes:
            with node.connect() as connection:
                replies = connection.pipeline([[b"GET", b"spread:%d" % number] for number in range(200)])
                assert replies == [("$", b"%d" % number) for number in range(200)]
        with redis_cluster(cluster.node(2)) as client:
            assert [client.get(f"spread:{number}") for number in range(200)] == [b"%d" % number for number in range(200)]
        reply = cluster.node(1).call("MGET", *(f"spread:{number}" for number in range(20)))
        assert reply[0] == "*" or reply[1].startswith(b"ERR"), reply
