"""What comes to the peer port and does not belong there."""

from __future__ import annotations

import errno
import random
import socket

import pytest

from harness.cluster import OK, PEER_PORT, Cluster, Node, until
from harness.resp import encode

from .load import Load

SEED = 1
SILENT_CONNECTIONS = 300

GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "a length of four gigabytes": b"\xff\xff\xff\xff" + bytes(60),
    "a length of zero": bytes(4) + b"\x01" * 60,
    "a Redis command": encode([b"SET", b"a", b"b"]),
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "the begin of TLS": bytes.fromhex("1603010200010001fc0303") + bytes(200),
    "random bytes": random.Random(SEED).randbytes(100_000),
}


def send(node: Node, data: bytes) -> bytes:
    """Sends to the peer port and returns what comes back until the node closes, which it must."""
    with socket.create_connection((node.host, PEER_PORT), timeout=30) as stream:
        answer = b""
        try:
            stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)
            while more := stream.recv(4096):
                answer += more
        except ConnectionError:
            pass
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # it was reset before the end
                raise
        return answer


def test_garbage_on_the_peer_port_closes_that_connection_and_disturbs_nobody() -> None:
    with Cluster() as cluster:
        load = Load(cluster, SEED).start_everywhere(1)
        with load.undisturbed(*cluster.nodes):
            terms = {node.status()["shards"][0]["term"] for node in cluster.nodes}
            for name, data in GARBAGE.items():
                for node in cluster.nodes:
                    assert len(send(node, data)) < 4096, f"{name} got a long answer"
            silent = [socket.create_connection((cluster.nodes[at % 3].host, PEER_PORT), timeout=30) for at in range(SILENT_CONNECTIONS)]
            load.progress(100)
            for each in silent:
                each.close()
            assert {node.status()["shards"][0]["term"] for node in cluster.nodes} == terms, "garbage led to an election"
        cluster.wait_whole()
        load.finish()


def test_peers_find_each_other_though_strangers_hold_connections() -> None:
    with Cluster() as cluster:
        silent = [socket.create_connection((cluster.nodes[at % 3].host, PEER_PORT), timeout=30) for at in range(SILENT_CONNECTIONS)]
        follower = cluster.others(cluster.wait_leader())[0]
        follower.kill()
        follower.begin()
        cluster.wait_whole()
        for each in silent:
            each.close()


def recorded_frames(node: Node) -> bytes:
    """What a node sends to somebody who listens where it expects a peer."""
    with socket.create_server(("", PEER_PORT)) as listener:
        listener.settimeout(30)
        node.begin()
        stream, _ = listener.accept()
        with stream:
            stream.settimeout(30)
            return stream.recv(65536)


def test_a_hello_of_another_node_changed_in_any_byte_harms_nobody() -> None:
    """A real greeting, recorded, sent again with every byte changed in turn, and cut at every length."""
    with Cluster(3, spare=1) as cluster:
        (spare,) = cluster.spares
        spare.join = ["10.0.0.100:7379"]
        greeting = recorded_frames(spare)
        assert len(greeting) > 16
        node = cluster.node(1)
        load = Load(cluster, SEED).start_everywhere(1)
        with load.undisturbed(*cluster.nodes):
            for at in range(len(greeting)):
                send(node, greeting[:at])
                send(node, greeting[:at] + bytes([greeting[at] ^ 0x41]) + greeting[at + 1 :])
            load.progress(50)
        load.finish()
        assert len(node.status()["nodes"]) == 3


@pytest.mark.parametrize("password", ["wrong", ""])
def test_a_node_with_another_password_is_refused_and_both_sides_say_why(password: str) -> None:
    with Cluster(1, spare=1, env={"SKEP_REQUIREPASS": "right"}) as cluster:
        (spare,) = cluster.spares
        spare.env["SKEP_REQUIREPASS"] = password
        spare.join = [cluster.node(1).peer_address]
        spare.begin()
        for node in (spare, cluster.node(1)):
            until(lambda node=node: "password" in node.log(), lambda node=node: f"n{node.number} says why: {node.log()}")
            assert "right" not in node.log().split(), "a log must not show the password"
        assert not spare.ready()
        assert len(cluster.node(1).status()["nodes"]) == 1


def test_nodes_with_the_same_password_form_and_serve_who_knows_it() -> None:
    with Cluster(env={"SKEP_REQUIREPASS": "right"}) as cluster:
        for node in cluster.nodes:
            with node.connect() as connection:
                assert connection.call("SET", "a", "1")[1].startswith(b"NOAUTH")
                assert connection.call("AUTH", "right") == OK
                assert connection.call("SET", "a", "1") == OK


def test_a_member_of_another_cluster_is_refused_with_both_ids_and_keeps_its_own_data() -> None:
    with Cluster(1, spare=1) as cluster:
        (first,), (stranger,) = cluster.nodes, cluster.spares
        stranger.begin()
        assert stranger.call("SET", "whose", "stranger's") == OK
        assert first.call("SET", "whose", "first's") == OK
        ids = {node.status()["cluster_id"] for node in (first, stranger)}
        assert len(ids) == 2
        stranger.kill()
        stranger.join = [first.peer_address]
        stranger.begin()
        until(lambda: all(each in stranger.log() for each in ids), lambda: f"it names both clusters: {stranger.log()}")
        assert stranger.call("GET", "whose") == ("$", b"stranger's")
        assert first.call("GET", "whose") == ("$", b"first's")
        assert len(first.status()["nodes"]) == 1 and len(stranger.status()["nodes"]) == 1
