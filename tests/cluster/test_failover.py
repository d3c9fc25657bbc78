"""Nodes killed and ended under load: nothing acknowledged is lost, the rest goes on, and others' clients notice nothing."""

from __future__ import annotations

import random

import pytest

from crash.load import Load as Pipelines
from harness.cluster import OK, Cluster

from .load import Load

SEED = 1


def test_killed_leader_is_replaced_and_clients_of_the_others_see_no_error() -> None:
    with Cluster() as cluster:
        load = Load(cluster, SEED).start_everywhere()
        for _ in range(3):
            leader = cluster.wait_leader()
            load.progress(50)
            with load.undisturbed(*cluster.others(leader)) as rest:
                leader.kill()
                load.progress(100, rest)
            leader.begin()
            cluster.wait_whole()
            load.progress(20)
        load.finish()


def test_killed_follower_is_not_missed() -> None:
    with Cluster() as cluster:
        load = Load(cluster, SEED).start_everywhere()
        for _ in range(3):
            leader = cluster.wait_leader()
            victim = cluster.others(leader)[0]
            load.progress(50)
            with load.undisturbed(*cluster.others(victim)) as rest:
                victim.kill()
                load.progress(100, rest)
            victim.begin()
            cluster.wait_whole()
        load.finish()


def test_without_a_majority_nothing_is_acknowledged_and_errors_say_what_happened() -> None:
    with Cluster(flags=["--request-timeout", "1000"]) as cluster:
        leader = cluster.wait_leader()
        assert leader.call("SET", "k", "old") == OK
        one, other = cluster.others(leader)
        one.kill()
        other.kill()
        with leader.connect() as connection:
            for words in (["SET", "k", "new"], ["INCR", "n"], ["SET", "k", "newer"]):
                kind, text = connection.call(*words)
                assert kind == "-" and text.split()[0] in (b"TRYAGAIN", b"UNCERTAIN"), text
            kind, text = connection.call("GET", "k")
            assert kind == "-" and text.startswith(b"TRYAGAIN"), f"a read that no majority confirms: {kind}{text!r}"
            assert connection.call("PING") == ("+", b"PONG")
        code, reason = leader.http("/readyz")
        assert code == 503 and reason.strip()
        assert leader.http("/healthz")[0] == 200
        one.begin()
        cluster.wait_writes(one)
        other.begin()
        cluster.wait_whole()
        values = {node.call("GET", "k")[1] for node in cluster.nodes}
        assert len(values) == 1 and values <= {b"old", b"new", b"newer"}, values


def test_leader_that_is_asked_to_stop_hands_over_and_clients_of_the_others_see_no_error() -> None:
    with Cluster() as cluster:
        load = Load(cluster, SEED).start_everywhere()
        for _ in range(3):
            leader = cluster.wait_leader()
            load.progress(50)
            with load.undisturbed(*cluster.others(leader)) as rest:
                assert leader.terminate() == 0, leader.log()
                load.progress(100, rest)
            leader.begin()
            cluster.wait_whole()
        load.finish()


def test_nodes_restarted_one_by_one_lose_nothing() -> None:
    """A rolling upgrade, as an operator does it: stop, start, wait for /readyz, next. Clients go to another node when theirs
    ends. Each node is stopped twice."""
    with Cluster() as cluster:
        one, two, three = cluster.nodes
        load = Load(cluster, SEED).start([one, two, three], [two, three, one], [three, one, two], [one, three, two])
        for node in (one, two, three, one, two, three):
            assert node.terminate() == 0
            node.begin()
            cluster.wait_ready()
            load.progress(30)
        assert not [error for error in load.errors() if "UNCERTAIN" in error], load.errors()
        load.finish()


def test_all_nodes_killed_at_once_come_back_with_everything_acknowledged() -> None:
    """Deep pipelines beside the checked operations: many writes in flight at the crash."""
    with Cluster() as cluster:
        checked = Load(cluster, SEED).start_everywhere(1)
        pipelines = Pipelines(SEED, writers=3)
        for turn in range(3):
            pipelines.start(cluster.nodes[turn])
            checked.progress(60)
            for node in cluster.nodes:
                node.process.kill()
            for node in cluster.nodes:
                node.kill()
            pipelines.finish()
            for node in cluster.nodes:
                node.spawn()
            cluster.wait_whole()
            pipelines.check(cluster.nodes[(turn + 1) % 3])
        checked.progress(20)
        checked.finish()
        assert pipelines.acknowledged > 300


@pytest.mark.parametrize("through", ["leader", "follower"])
def test_pipelines_through_a_node_that_dies_are_a_prefix_of_what_was_sent(through: str) -> None:
    """Whatever was not answered may be there or not, but in order: never a later write without an earlier one. Looked at when
    the node is back: until then what it sent before it died may still be on its way."""
    rng = random.Random(f"{SEED}/{through}")
    with Cluster() as cluster:
        load = Pipelines(SEED)
        for _ in range(3):
            leader = cluster.wait_leader()
            victim = leader if through == "leader" else rng.choice(cluster.others(leader))
            load.start(victim)
            goal = load.acknowledged + 300
            while load.acknowledged < goal and any(thread.is_alive() for thread in load.threads):
                load.threads[0].join(0.002)
            victim.kill()
            load.finish()
            victim.begin()
            cluster.wait_whole()
            load.check(cluster.others(victim)[0])
        assert load.acknowledged > 900


def test_pipelines_through_a_survivor_go_on_in_order_when_the_leader_dies() -> None:
    with Cluster() as cluster:
        load = Pipelines(SEED)
        for _ in range(2):
            leader = cluster.wait_leader()
            load.start(cluster.others(leader)[0])
            for goal in (load.acknowledged + 300, load.acknowledged + 900):
                while load.acknowledged < goal:
                    assert all(thread.is_alive() for thread in load.threads), f"a connection to a survivor ended: {load.failures}"
                    load.threads[0].join(0.002)
                if leader.running():
                    leader.kill()
            load.stop.set()
            load.finish()
            load.check(cluster.others(leader)[1])
            leader.begin()
            cluster.wait_whole()
