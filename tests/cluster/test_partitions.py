"""Links cut in every way that three nodes allow, under load, and healed."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from harness.cluster import OK, Cluster, Node
from harness.resp import is_error

from .load import Load

SEED = 1
QUICK = ["--request-timeout", "1500"]
LOOKED_SECONDS = 1.5


def both_ways(cluster: Cluster, victim: Node) -> None:
    cluster.network.isolate(victim.number)


def mute(cluster: Cluster, victim: Node) -> None:
    """It hears everybody and nobody hears it."""
    for other in cluster.others(victim):
        cluster.network.cut(victim.number, other.number)


def deaf(cluster: Cluster, victim: Node) -> None:
    """Everybody hears it and it hears nobody."""
    for other in cluster.others(victim):
        cluster.network.cut(other.number, victim.number)


@pytest.mark.parametrize("role", ["leader", "follower"])
@pytest.mark.parametrize("cut", [both_ways, mute, deaf])
def test_one_node_cut_off_leaves_the_others_working(cut: Callable[[Cluster, Node], None], role: str) -> None:
    with Cluster(flags=QUICK) as cluster:
        load = Load(cluster, SEED).start_everywhere()
        leader = cluster.wait_leader()
        victim = leader if role == "leader" else cluster.others(leader)[0]
        load.progress(30)
        cut(cluster, victim)
        load.progress(150, load.of(*cluster.others(victim)))
        cluster.network.heal()
        load.progress(20)
        cluster.wait_whole()
        load.finish()


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_two_nodes_that_reach_each_other_through_the_third_only_do_not_stop_the_cluster(role: str) -> None:
    """A bridge. Whoever leads, those that reach the leader go on; the history holds through it and behind it."""
    with Cluster(flags=QUICK) as cluster:
        load = Load(cluster, SEED).start_everywhere()
        leader = cluster.wait_leader()
        one, other = cluster.others(leader)
        ends = (leader, one) if role == "leader" else (one, other)
        bridge = next(node for node in cluster.nodes if node not in ends)
        load.progress(30)
        cluster.network.part([ends[0].number], [ends[1].number])
        load.progress(150, load.of(bridge))
        cluster.network.heal()
        load.progress(30)
        cluster.wait_whole()
        load.finish()


def test_a_leader_cut_off_acknowledges_nothing_and_serves_no_stale_read() -> None:
    with Cluster(flags=QUICK) as cluster:
        for turn in range(2):
            leader = cluster.wait_leader()
            rest = cluster.others(leader)
            assert leader.call("SET", "k", f"old-{turn}") == OK
            with leader.connect() as inside:
                cluster.network.isolate(leader.number)
                cluster.wait_leader(rest)
                assert rest[0].call("SET", "k", f"new-{turn}") == OK
                reply = inside.call("GET", "k")
                assert is_error(reply) and reply[1].startswith(b"TRYAGAIN"), f"a read that no majority confirms: {reply}"
                reply = inside.call("SET", "k", f"lost-{turn}")
                assert is_error(reply) and reply[1].split()[0] in (b"TRYAGAIN", b"UNCERTAIN"), f"a write without a majority: {reply}"
                refused = reply[1].startswith(b"TRYAGAIN")
            cluster.network.heal()
            cluster.wait_whole()
            values = {node.call("GET", "k")[1] for node in cluster.nodes}
            assert len(values) == 1, values
            assert values == {f"new-{turn}".encode()} or not refused, f"TRYAGAIN promised that nothing was done: {values}"


def test_writes_that_the_cut_off_leader_had_taken_are_answered_and_never_half_done() -> None:
    """They wait in its log when it is cut off; its successor's log does not have them."""
    with Cluster(flags=QUICK) as cluster:
        leader = cluster.wait_leader()
        rest = cluster.others(leader)
        connections = [leader.connect() for _ in range(10)]
        cluster.network.isolate(leader.number)
        for number, each in enumerate(connections):
            each.send([[b"SADD", b"members", b"%d" % number]])
        cluster.wait_leader(rest)
        assert rest[0].call("SADD", "members", "there") == (":", 1)
        replies = [each.read() for each in connections]
        assert all(is_error(reply) and reply[1].split()[0] in (b"TRYAGAIN", b"UNCERTAIN") for reply in replies), replies
        cluster.network.heal()
        cluster.wait_whole()
        found = {each[1] for each in rest[1].call("SMEMBERS", "members")[1]}
        refused = {b"%d" % number for number, reply in enumerate(replies) if reply[1].startswith(b"TRYAGAIN")}
        assert b"there" in found and not found & refused, (found, replies)
        for each in connections:
            each.close()


def test_nobody_acknowledges_when_everybody_is_alone() -> None:
    with Cluster(flags=QUICK) as cluster:
        load = Load(cluster, SEED).start_everywhere()
        load.progress(30)
        for node in cluster.nodes:
            cluster.network.isolate(node.number)
        time.sleep(LOOKED_SECONDS)
        before = [each.acknowledged for each in load.clients]
        for node in cluster.nodes:
            reply = node.call("INCR", "alone")
            assert is_error(reply) and reply[1].split()[0] in (b"TRYAGAIN", b"UNCERTAIN"), reply
        assert [each.acknowledged for each in load.clients] == before
        cluster.network.heal()
        load.progress(30)
        cluster.wait_whole()
        load.finish()


def test_an_old_leader_that_returns_while_the_new_ones_are_down_does_not_undo_their_writes() -> None:
    with Cluster(flags=QUICK) as cluster:
        old = cluster.wait_leader()
        rest = cluster.others(old)
        assert old.call("SET", "k", "first") == OK
        cluster.network.isolate(old.number)
        cluster.wait_leader(rest)
        assert rest[0].call("SET", "k", "second") == OK
        for node in rest:
            node.kill()
        cluster.network.heal()
        with old.connect() as connection:
            reply = connection.call("GET", "k")
            assert is_error(reply), f"alone it cannot know: {reply}"
        rest[1].begin()
        cluster.wait_writes(rest[1])
        assert {node.call("GET", "k")[1] for node in (old, rest[1])} == {b"second"}
        rest[0].begin()
        cluster.wait_whole()


def test_healed_again_and_again_it_converges() -> None:
    """Links that come and go faster than elections end."""
    with Cluster(flags=QUICK) as cluster:
        load = Load(cluster, SEED).start_everywhere(1)
        for turn in range(12):
            cluster.network.isolate(turn % 3 + 1)
            time.sleep(0.1 + 0.05 * (turn % 5))  # The lengths of the cuts are what the test is about.
            cluster.network.heal()
        load.progress(30)
        cluster.wait_whole()
        load.finish()
