"""Users belong to the cluster: made on one node, known on all, and still there after a restart."""

from __future__ import annotations

from harness.cluster import OK, Cluster, Node, until


def logs_in(node: Node, user: str, password: str) -> bool:
    with node.connect() as connection:
        return connection.call("AUTH", user, password) == OK


def test_a_user_of_one_node_is_a_user_of_all_and_survives_restarts() -> None:
    with Cluster() as cluster:
        cluster.wait_ready()
        first = cluster.nodes[0]
        for number, node in enumerate(cluster.nodes):
            name = f"u{number}"
            assert node.call("ACL", "SETUSER", name, "on", ">p", "~app:*", "+@all", "-flushall") == OK
            assert logs_in(node, name, "p"), "the node that was asked knows it at once"
        for node in cluster.nodes:
            for number in range(len(cluster.nodes)):
                until(lambda node=node, number=number: logs_in(node, f"u{number}", "p"), f"u{number} is known on node {node.number}")
            with node.connect() as connection:
                assert connection.call("AUTH", "u0", "p") == OK
                assert connection.call("SET", "app:1", "x") == OK
                assert connection.call("GET", "other") == ("-", b"NOPERM No permissions to access a key")
                assert connection.call("FLUSHALL") == ("-", b"NOPERM User u0 has no permissions to run the 'flushall' command")
        with cluster.nodes[1].connect() as theirs:
            assert theirs.call("AUTH", "u2", "p") == OK
            assert first.call("ACL", "DELUSER", "u2") == (":", 1)
            until(lambda: not logs_in(cluster.nodes[1], "u2", "p"), "u2 is forgotten everywhere")
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            node.begin()
        cluster.wait_ready()
        for node in cluster.nodes:
            until(lambda node=node: logs_in(node, "u1", "p") and not logs_in(node, "u2", "p"), f"node {node.number} has its users back")
