"""The means of these tests do what they say: cuts cut, in one direction, and clients notice servers that disagree."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.cluster import Cluster
from harness.network import CLIENT_NUMBER, NAMESPACES, Network, address, enter_namespace

from .load import Load

PORT = 9000
SECONDS = 0.2


@contextmanager
def sockets(network: Network) -> Iterator[dict[int, socket.socket]]:
    """A UDP socket on each host."""
    found = {}
    for host in network.hosts():
        enter_namespace(NAMESPACES / network.namespace(host))
        found[host] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        found[host].bind((address(host), PORT))
        found[host].settimeout(SECONDS)
    try:
        yield found
    finally:
        for each in found.values():
            each.close()


def arrives(found: dict[int, socket.socket], source: int, target: int) -> bool:
    found[source].sendto(b"x", (address(target), PORT))
    try:
        return found[target].recv(10) == b"x"
    except TimeoutError:
        return False


def test_cuts_lose_packets_in_one_direction_until_they_are_healed() -> None:
    network = Network(3)
    network.enter()
    try:
        with sockets(network) as found:
            assert all(arrives(found, one, other) for one in found for other in found if one != other)
            network.cut(1, 2)
            assert not arrives(found, 1, 2) and arrives(found, 2, 1) and arrives(found, 1, 3)
            network.heal()
            assert arrives(found, 1, 2)
            network.isolate(3)
            assert not any(arrives(found, *link) for link in ((1, 3), (3, 1), (2, 3), (3, 2)))
            assert arrives(found, 1, 2) and arrives(found, CLIENT_NUMBER, 3) and arrives(found, 3, CLIENT_NUMBER)
    finally:
        network.close()


def test_servers_that_know_nothing_of_each_other_are_found_out() -> None:
    """Three clusters of one instead of a cluster of three."""
    with Cluster(form=False) as cluster:
        for node in cluster.nodes:
            node.begin()
        load = Load(cluster).start_everywhere(1)
        load.progress(100)
        with pytest.raises(AssertionError, match="not linearizable"):
            load.finish()


def test_a_server_that_loses_writes_is_found_out() -> None:
    """All keys vanish behind the clients' backs."""
    with Cluster(1) as cluster:
        (node,) = cluster.nodes
        load = Load(cluster).start_everywhere(3)
        load.progress(50)
        assert node.call("FLUSHALL") == ("+", b"OK")
        load.progress(5)
        with pytest.raises(AssertionError, match="not linearizable"):
            load.finish()
