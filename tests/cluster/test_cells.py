"""Nodes whose shards run on two cores: every connection, on whichever core it is, sees one node."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from harness.cluster import OK, Cluster, Node, until
from harness.resp import Connection, Reply

from .load import Load

FLAGS = ["--shards", "8", "--cores", "2"]
CONNECTIONS = 4
"""To one node: they are dealt out to its cores in turn."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(flags=FLAGS) as cluster:
        yield cluster


@pytest.fixture
def connections(cluster: Cluster) -> Iterator[list[Connection]]:
    """To one node."""
    opened = [cluster.node(2).connect() for _ in range(CONNECTIONS)]
    yield opened
    for each in opened:
        each.close()


def text(reply: Reply) -> str:
    assert reply[0] in "$=", reply
    return reply[1].decode()


def field(info: Reply, name: str) -> int:
    return int(text(info).split(f"{name}:")[1].split()[0])


def test_pipelines_over_many_shards_are_answered_in_order_on_every_connection(cluster: Cluster, connections: list[Connection]) -> None:
    for turn, connection in enumerate(connections):
        commands: list[list[bytes]] = []
        expected: list[Reply] = []
        for number in range(500):
            key = b"order:%d:%d" % (turn, number)
            commands += [[b"SET", key, b"%d" % number], [b"INCR", key], [b"PING", b"%d" % number], [b"GET", key]]
            expected += [OK, (":", number + 1), ("$", b"%d" % number), ("$", b"%d" % (number + 1))]
        assert connection.pipeline(commands) == expected
    keys = [b"order:%d:%d" % (turn, number) for turn in range(CONNECTIONS) for number in range(500)]
    for node in cluster.nodes:
        with node.connect() as reader:
            assert reader.pipeline([[b"GET", key] for key in keys]) == [("$", b"%d" % (int(key.split(b":")[2]) + 1)) for key in keys]


def test_what_one_connection_was_told_the_others_see_at_once(connections: list[Connection]) -> None:
    for number in range(300):
        key = f"seen:{number % 16}"
        assert connections[number % CONNECTIONS].call("SET", key, number) == OK
        for reader in connections:
            assert reader.call("GET", key) == ("$", b"%d" % number)


def test_clients_of_all_cores_are_listed_counted_and_killed(connections: list[Connection]) -> None:
    numbers = [connection.call("CLIENT", "ID")[1] for connection in connections]
    assert len(set(numbers)) == CONNECTIONS
    for number, connection in zip(numbers, connections, strict=True):
        assert connection.call("CLIENT", "SETNAME", f"n{number}") == OK
    for connection in connections:
        lines = text(connection.call("CLIENT", "LIST")).splitlines()
        named = {line.split("name=")[1].split(" ")[0] for line in lines}
        assert {f"n{number}" for number in numbers} <= named
        listed = [int(line.split(" ")[0].removeprefix("id=")) for line in lines]
        assert listed == sorted(listed) and len(set(listed)) == len(listed)
        assert field(connection.call("INFO", "clients"), "connected_clients") == len(lines)
    for victim in (1, 2):
        assert connections[0].call("CLIENT", "KILL", "ID", numbers[victim]) == (":", 1)
    lines = text(connections[3].call("CLIENT", "LIST")).splitlines()
    left = {int(line.split(" ")[0].removeprefix("id=")) for line in lines}
    assert not left & {numbers[1], numbers[2]} and {numbers[0], numbers[3]} <= left


def test_settings_changed_on_one_connection_hold_on_all(connections: list[Connection]) -> None:
    for number, connection in enumerate(connections):
        assert connection.call("CONFIG", "SET", "maxmemory-samples", 3 + number) == OK
        for other in connections:
            assert other.call("CONFIG", "GET", "maxmemory-samples")[1][1] == ("$", b"%d" % (3 + number))
    assert connections[0].call("CONFIG", "SET", "maxmemory-samples", "none")[0] == "-"
    assert connections[1].call("CONFIG", "GET", "maxmemory-samples")[1][1] == ("$", b"%d" % (2 + CONNECTIONS))


def test_settings_changed_at_once_end_as_one(connections: list[Connection]) -> None:
    def change(connection: Connection, number: int) -> None:
        for turn in range(100):
            assert connection.call("CONFIG", "SET", "hash-max-listpack-entries", 100 + number * 100 + turn) == OK

    threads = [threading.Thread(target=change, args=(each, number)) for number, each in enumerate(connections)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len({repr(each.call("CONFIG", "GET", "hash-max-listpack-entries")) for each in connections}) == 1


def test_figures_are_of_the_moment_and_of_the_whole_node(cluster: Cluster, connections: list[Connection]) -> None:
    for connection in connections:
        assert connection.call("CONFIG", "RESETSTAT") == OK
        for number in range(64):
            assert connection.call("SET", f"figure:{number}", "x") == OK
        for asked in connections:
            info = asked.call("INFO", "commandstats")
            assert "cmdstat_set:calls=64," in text(info), text(info)
    with cluster.node(2).connect() as connection:
        before = field(connection.call("INFO", "skep"), "entries_applied")
        assert connection.call("SET", "one more", 1) == OK
        assert field(connection.call("INFO", "skep"), "entries_applied") > before
    leading = [field(node.call("INFO", "skep"), "leading_shards") for node in cluster.nodes]
    assert sum(leading) == 8, leading


def test_a_pause_holds_all_connections(connections: list[Connection]) -> None:
    assert connections[0].call("CLIENT", "PAUSE", 600_000) == OK
    waiting = connections[1:]
    for each in waiting:
        each.send([[b"GET", b"seen:1"]])
    lines = text(connections[0].call("CLIENT", "LIST")).splitlines()
    assert connections[0].call("CLIENT", "UNPAUSE") == OK
    for each in waiting:
        assert each.read()[0] == "$"
    assert sum("cmd=client|list" in line for line in lines) == 1


def test_a_checkpoint_is_of_all_shards(cluster: Cluster, connections: list[Connection]) -> None:
    node = cluster.node(2)
    for number in range(200):
        assert connections[0].call("SET", f"kept:{number}", number) == OK
    assert connections[1].call("SAVE") == OK
    groups = {int(name.name.split("-")[1], 16) for name in node.data.glob("checkpoint-*")}
    assert groups == set(range(9)), groups


def test_slots_and_their_leaders_are_told_by_every_connection(connections: list[Connection]) -> None:
    answers = {repr(each.call("CLUSTER", "SLOTS")) for each in connections}
    assert len(answers) == 1 and answers.pop().count("6379") >= 8 * 3
    slot = connections[0].call("CLUSTER", "KEYSLOT", "counted")[1]
    assert connections[0].call("SET", "counted", 1) == OK
    for each in connections:
        # It counts the copy of this node, which may be a moment behind the leader's.
        until(lambda each=each: each.call("CLUSTER", "COUNTKEYSINSLOT", slot) == (":", 1), "the key is in this node's copy")
        assert each.call("CLUSTER", "GETKEYSINSLOT", slot, 10) == ("*", (("$", b"counted"),))


def restart(node: Node, cores: int) -> None:
    node.kill()
    node.extra = ["--cores", str(cores)]
    node.begin()


def test_killed_nodes_are_not_missed_by_clients_of_the_others_and_may_come_back_with_other_cores() -> None:
    with Cluster(flags=["--shards", "8"]) as cluster:
        for node in cluster.nodes:
            restart(node, 2)
        cluster.wait_whole()
        load = Load(cluster, 1).start_everywhere(4)
        for cores in (1, 3, 2):
            victim = cluster.wait_leader()
            load.progress(50)
            with load.undisturbed(*cluster.others(victim)) as rest:
                victim.kill()
                load.progress(100, rest)
            victim.extra = ["--cores", str(cores)]
            victim.begin()
            cluster.wait_whole()
            load.progress(20)
        load.finish()


def test_a_node_alone_keeps_everything_when_it_is_killed_and_stops_cleanly() -> None:
    with Cluster(1, flags=FLAGS) as cluster:
        (node,) = cluster.nodes
        load = Load(cluster).start_everywhere(6)
        for _ in range(3):
            load.progress(60)
            node.kill()
            node.begin()
        load.progress(60)
        load.finish()
        assert node.call("SET", "last", 1) == OK
        assert node.terminate() == 0
        node.begin()
        cluster.wait_whole()
        assert node.call("GET", "last") == ("$", b"1")
