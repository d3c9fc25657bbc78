"""Processes that stand still for longer than an election and wake up believing what is no longer so."""

from __future__ import annotations

from harness.cluster import OK, Cluster
from harness.resp import Connection, is_error

from .load import Load

SEED = 1
READERS = 8


def test_leader_that_was_stopped_serves_no_stale_read_when_it_goes_on() -> None:
    """The reads reach it while it stands still, after another leader has acknowledged a newer value: then it wakes up and
    finds them, before it hears of its successor."""
    with Cluster() as cluster:
        for turn in range(4):
            assert cluster.node(1).call("SET", "k", f"old-{turn}") == OK
            leader = cluster.wait_leader()
            rest = cluster.others(leader)
            readers = [leader.connect() for _ in range(READERS)]
            for each in readers:
                assert each.call("GET", "k") == ("$", f"old-{turn}".encode())
            leader.stop()
            assert rest[0].call("SET", "k", f"new-{turn}") == OK
            for each in readers:
                each.send([[b"GET", b"k"]] * 20)
            leader.go_on()
            for each in readers:
                for _ in range(20):
                    reply = each.read()
                    assert is_error(reply) or reply == ("$", f"new-{turn}".encode()), f"a stale read: {reply}"
                each.close()
            cluster.wait_whole()


def test_writes_sent_to_a_stopped_leader_happen_once_or_not_at_all() -> None:
    with Cluster() as cluster:
        for turn in range(3):
            leader = cluster.wait_leader()
            other = cluster.others(leader)[0]
            key = f"n{turn}"
            assert other.call("INCR", key) == (":", 1)
            connections = [leader.connect() for _ in range(READERS)]
            leader.stop()
            assert other.call("INCR", key) == (":", 2)
            for each in connections:
                each.send([[b"INCR", key.encode()]])
            leader.go_on()
            replies = [each.read() for each in connections]
            counted = [reply[1] for reply in replies if reply[0] == ":"]
            unknown = sum(is_error(reply) and reply[1].startswith(b"UNCERTAIN") for reply in replies)
            assert all(not is_error(reply) or reply[1].split()[0] in (b"TRYAGAIN", b"UNCERTAIN") for reply in replies), replies
            assert len(set(counted)) == len(counted) and all(value > 2 for value in counted), replies
            total = int(other.call("GET", key)[1])
            assert 2 + len(counted) <= total <= 2 + len(counted) + unknown, (replies, total)
            for each in connections:
                each.close()
            cluster.wait_whole()


def test_nodes_stopped_in_turn_under_load_keep_the_history_linearizable() -> None:
    with Cluster() as cluster:
        load = Load(cluster, SEED).start_everywhere()
        for turn in range(4):
            leader = cluster.wait_leader()
            victim = leader if turn % 2 == 0 else cluster.others(leader)[turn % 2]
            with load.undisturbed(*cluster.others(victim)) as rest:
                victim.stop()
                load.progress(60, rest)
            victim.go_on()
            load.progress(20)
        cluster.wait_whole()
        load.finish()


def test_all_nodes_stopped_and_continued_go_on() -> None:
    """As a suspended laptop: everybody's leases are over, nobody has changed anything."""
    with Cluster() as cluster:
        load = Load(cluster, SEED).start_everywhere(1)
        for _ in range(2):
            load.progress(30)
            for node in cluster.nodes:
                node.stop()
            load.stop.wait(1.5)  # Longer than an election: what the test is about.
            for node in cluster.nodes:
                node.go_on()
            load.progress(30)
        cluster.wait_whole()
        load.finish()


def test_a_stopped_followers_clients_get_answers_when_it_goes_on() -> None:
    with Cluster() as cluster:
        leader = cluster.wait_leader()
        follower = cluster.others(leader)[0]
        with Connection(follower.port, host=follower.host) as connection:
            assert connection.call("SET", "k", "1") == OK
            follower.stop()
            assert leader.call("SET", "k", "2") == OK
            connection.send([[b"GET", b"k"], [b"INCR", b"k"]])
            follower.go_on()
            assert connection.read() == ("$", b"2")
            assert connection.read() == (":", 3)
