"""Empty nodes that list each other become one cluster, never two, in whatever order they come and go meanwhile."""

from __future__ import annotations

import itertools
import random
import time

import pytest

from harness.cluster import OK, Cluster

SEED = 1
LOOKED_SECONDS = 1.5
"""How long something that must not happen is looked out for."""


def check_one(cluster: Cluster) -> None:
    """One cluster with ids of its own for each node, which all nodes tell alike and which works through each of them."""
    statuses = [node.status() for node in cluster.nodes]
    assert len({status["cluster_id"] for status in statuses}) == 1 and statuses[0]["cluster_id"]
    assert len({status["node_id"] for status in statuses}) == len(cluster.nodes)
    members = [sorted((each["id"], each["name"], each["client"], each["peer"], each["http"]) for each in status["nodes"]) for status in statuses]
    assert all(each == members[0] for each in members), members
    for node in cluster.nodes:
        assert node.call("SET", f"through-n{node.number}", node.number) == OK
    for node in cluster.nodes:
        for other in cluster.nodes:
            assert node.call("GET", f"through-n{other.number}") == ("$", b"%d" % other.number)


ORDERS = list(itertools.permutations((1, 2, 3)))


@pytest.mark.parametrize("at", range(len(ORDERS)), ids=["".join(map(str, order)) for order in ORDERS])
def test_three_nodes_form_one_cluster_in_any_order(at: int) -> None:
    """In half of the orders the lists name the node itself, in the other half they do not."""
    with Cluster(form=False) as cluster:
        cluster.form(ORDERS[at], own_address=at % 2 == 0)
        check_one(cluster)


def test_five_nodes_started_at_once_form_one_cluster_with_three_copies() -> None:
    with Cluster(5) as cluster:
        check_one(cluster)


def test_nodes_killed_while_they_form_still_form_one_cluster() -> None:
    rng = random.Random(SEED)
    for _ in range(3):
        with Cluster(form=False) as cluster:
            for node in cluster.nodes:
                node.join = [each.peer_address for each in cluster.nodes]
                node.spawn()
            for _ in range(4):
                time.sleep(rng.expovariate(1 / 0.15))  # The moment of the crash is what the test is about.
                victim = rng.choice(cluster.nodes)
                victim.kill()
                victim.spawn()
            cluster.wait_whole()
            check_one(cluster)


def test_nodes_that_cannot_all_meet_do_not_form_two_clusters() -> None:
    """With one node cut off the other two wait for it: alone it might be doing the same."""
    with Cluster(form=False) as cluster:
        cluster.network.isolate(3)
        for node in cluster.nodes:
            node.join = [each.peer_address for each in cluster.nodes]
            node.begin()
        end = time.monotonic() + LOOKED_SECONDS
        while time.monotonic() < end:
            assert not any(node.ready() for node in cluster.nodes), cluster.describe(cluster.nodes)
            time.sleep(0.05)
        cluster.network.heal()
        cluster.wait_whole()
        check_one(cluster)


def test_a_node_without_a_cluster_says_so_to_clients() -> None:
    with Cluster(flags=["--request-timeout", "1000"], form=False) as cluster:
        first = cluster.node(1)
        first.join = [each.peer_address for each in cluster.nodes]
        first.begin()
        code, reason = first.http("/readyz")
        assert code == 503 and reason.strip(), reason
        kind, text = first.call("SET", "a", "1")
        assert kind == "-" and text.startswith(b"TRYAGAIN"), text
        assert first.call("PING") == ("+", b"PONG")
        assert first.terminate() == 0


def test_a_cluster_that_was_stopped_forms_again_from_its_data() -> None:
    """The second time without a list: what a node knows of its peers is with its data."""
    with Cluster() as cluster:
        identity = cluster.node(1).status()["cluster_id"]
        cluster.node(1).call("SET", "kept", "1")
        for node in cluster.nodes:
            assert node.terminate() == 0
        for node in cluster.nodes:
            node.join = []
            node.spawn()
        cluster.wait_whole()
        assert cluster.node(2).status()["cluster_id"] == identity
        assert cluster.node(3).call("GET", "kept") == ("$", b"1")
        check_one(cluster)
