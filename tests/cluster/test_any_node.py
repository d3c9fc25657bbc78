"""Every node answers every command as one server would."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from differential import campaign
from differential.groups import GROUPS
from differential.known_differences import excuse
from differential.running import Pair
from harness.cluster import CLIENT_PORT, OK, Cluster, Node
from harness.resp import Connection
from harness.server import Redis

SEEDS = range(101, 105)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def follower(cluster: Cluster) -> Node:
    return cluster.others(cluster.wait_leader())[0]


@pytest.fixture(scope="module")
def redis(cluster: Cluster) -> Iterator[Redis]:
    """redis-server on the clients' host: started while the clients are on it."""
    with Redis() as server:
        yield server  # type: ignore[misc]


@pytest.mark.parametrize("group", GROUPS)
def test_replies_through_a_follower_are_those_of_redis(redis: Redis, follower: Node, group: str) -> None:
    pair = Pair(redis.port, CLIENT_PORT, excuse, connect=lambda port: Connection(port, host=follower.host))
    try:
        failures = [str(failure) for failure in campaign.run(pair, [group], SEEDS, "skep")]
    finally:
        pair.close()
    assert not failures, "\n\n".join(failures)


def test_what_one_node_acknowledged_the_others_show(cluster: Cluster) -> None:
    connections = [node.connect() for node in cluster.nodes]
    for number in range(300):
        writer = connections[number % 3]
        assert writer.call("SET", "seen", number) == OK
        for reader in connections:
            assert reader.call("GET", "seen") == ("$", b"%d" % number)
    for each in connections:
        each.close()


def test_replies_keep_their_order_though_some_come_from_elsewhere(cluster: Cluster) -> None:
    """What the node answers by itself, what waits for the leader, and what is refused, in one pipeline."""
    for node in cluster.nodes:
        with node.connect() as connection:
            commands, expected = [[b"DEL", b"n"], [b"SET", b"s", b"x"]], [None, OK]
            for number in range(1, 801):
                commands += [[b"PING", b"%d" % number], [b"INCR", b"n"], [b"ECHO", b"%d" % number], [b"GET", b"n"], [b"LPUSH", b"s", b"x"], [b"NOSUCH"]]
                own, text = (":", number), ("$", b"%d" % number)
                expected += [text, own, text, text, "WRONGTYPE", "ERR unknown command"]
            connection.send(commands)
            for words, wanted in zip(commands, expected, strict=True):
                reply = connection.read()
                if isinstance(wanted, str):
                    assert reply[0] == "-" and reply[1].startswith(wanted.encode()), (words, reply)
                else:
                    assert wanted is None or reply == wanted, (words, reply)


def test_databases_and_protocols_are_the_connections_own(follower: Node, cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    with follower.connect() as left, leader.connect() as right:
        for connection, database in ((left, 3), (right, 4)):
            assert connection.call("SELECT", database) == OK
            assert connection.call("SET", "where", database) == OK
        assert left.call("GET", "where") == ("$", b"3") and right.call("GET", "where") == ("$", b"4")
        assert left.call("HSET", "h", "a", "1")[0] == ":"
        assert left.call("HELLO", 3)[0] == "%"
        assert left.call("HGETALL", "h") == ("%", ((("$", b"a"), ("$", b"1")),))
        assert right.call("SELECT", 3) == OK
        assert right.call("HGETALL", "h") == ("*", (("$", b"a"), ("$", b"1")))


def test_values_of_many_megabytes_pass_through_a_follower(follower: Node, cluster: Cluster) -> None:
    value = bytes(range(256)) * (40 << 12)  # 40 MiB
    assert follower.call("SET", "big", value) == OK
    for node in cluster.nodes:
        assert node.call("GET", "big") == ("$", value)
    assert follower.call("DEL", "big") == (":", 1)


def test_many_clients_of_all_nodes_count_to_the_same_number(cluster: Cluster) -> None:
    clients, rounds, depth = 24, 20, 25
    assert cluster.node(1).call("DEL", "total") [0] == ":"
    results: list[int] = []

    def count(node: Node) -> None:
        with node.connect() as connection:
            for _ in range(rounds):
                results.extend(reply[1] for reply in connection.pipeline([[b"INCR", b"total"]] * depth))

    threads = [threading.Thread(target=count, args=(cluster.nodes[number % 3],)) for number in range(clients)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(results) == list(range(1, clients * rounds * depth + 1)), "each increment has a number of its own"


def test_a_client_that_goes_away_amid_its_commands_harms_nobody(follower: Node) -> None:
    for number in range(20):
        connection = follower.connect()
        connection.send([[b"INCR", b"left"]] * 500)
        connection.close()
    with follower.connect() as connection:
        assert connection.call("SET", "after", "1") == OK
        value = int(connection.call("GET", "left")[1] or 0)
        assert 0 <= value <= 20 * 500


def test_a_key_that_expired_is_gone_on_every_node(cluster: Cluster) -> None:
    connections = [node.connect() for node in cluster.nodes]
    for number in range(40):
        assert connections[number % 3].call("SET", "brief", number, "PX", 20 + number) == OK
        gone = False
        for turn in range(100_000):
            reply = connections[turn % 3].call("GET", "brief")
            assert not gone or reply == ("$", None), "a key came back after it had expired"
            if gone and turn % 3 == 2:
                break
            gone = gone or reply == ("$", None)
    for each in connections:
        each.close()


def test_emptying_everything_through_one_node_empties_it_for_all(cluster: Cluster) -> None:
    left, right = cluster.others(cluster.wait_leader())
    assert left.call("SET", "a", "1") == OK
    assert right.call("FLUSHALL") == OK
    assert [node.call("DBSIZE") for node in cluster.nodes] == [(":", 0)] * 3
