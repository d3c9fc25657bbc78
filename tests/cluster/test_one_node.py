"""A cluster of one, which the others' harness must be right about first."""

from __future__ import annotations

from harness.cluster import Cluster

from .load import Load


def test_what_clients_of_one_node_see_is_linearizable_through_kill_nine() -> None:
    with Cluster(1) as cluster:
        (node,) = cluster.nodes
        load = Load(cluster).start_everywhere(6)
        for _ in range(5):
            load.progress(60)
            node.kill()
            node.begin()
        load.progress(60)
        load.finish()
        assert len(load.errors()) >= 5
