"""Clients that wait on any node while leaders die or stop: each element goes to one of them, and those who survive notice nothing."""

from __future__ import annotations

import threading
import time

import pytest

from harness.cluster import Cluster, Node, until
from harness.resp import Connection, ConnectionLost

ELEMENTS = 400
WAITERS_PER_NODE = 3


class Waiter(threading.Thread):
    """Takes elements until it gets the last word, and notes what it got and every error."""

    def __init__(self, node: Node) -> None:
        super().__init__(daemon=True)
        self.node = node
        self.got: list[bytes] = []
        self.errors: list[bytes] = []
        self.start()

    def run(self) -> None:
        connection = self.node.connect()
        while True:
            try:
                kind, reply = connection.call("BLPOP", "jobs", 0)
            except ConnectionLost:
                return
            if kind == "-":
                self.errors.append(reply)
                continue
            self.got.append(reply[1][1])
            if reply[1][1] == b"end":
                return


def push(connection: Connection, number: int) -> None:
    """Pushes an element until the answer says that it is there."""
    while True:
        kind, reply = connection.call("ONCE", f"push-{number}", "RPUSH", "jobs", number)
        if kind == ":":
            return
        assert reply.startswith((b"TRYAGAIN", b"UNCERTAIN")), reply


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_waiting_clients_of_the_others_notice_nothing_of_a_leader_that_goes(how: str) -> None:
    with Cluster() as cluster:
        leader = cluster.wait_leader()
        others = cluster.others(leader)
        waiters = [Waiter(node) for node in others for _ in range(WAITERS_PER_NODE)]
        lost = [Waiter(leader) for _ in range(WAITERS_PER_NODE)]
        with others[0].connect() as connection:
            for number in range(ELEMENTS):
                if number == ELEMENTS // 2:
                    if how == "kill":
                        leader.kill()
                    else:
                        leader.terminate()
                push(connection, number)
            for _ in waiters:
                assert connection.call("RPUSH", "jobs", "end")[0] == ":"
            deadline = time.monotonic() + 30
            for waiter in waiters:
                waiter.join(max(0.0, deadline - time.monotonic()))
            assert not any(waiter.is_alive() for waiter in waiters), "somebody waits for what is there"
            assert [waiter.errors for waiter in waiters] == [[]] * len(waiters)
            got = [element for waiter in [*waiters, *lost] for element in waiter.got if element != b"end"]
            assert len(got) == len(set(got)), "an element has two takers"
            missing = {b"%d" % number for number in range(ELEMENTS)} - set(got)
            # What was handed to a client of the node that died may not have arrived.
            allowed = WAITERS_PER_NODE if how == "kill" else 0
            assert len(missing) <= allowed, missing
            assert connection.call("LLEN", "jobs") == (":", 0)


class Echo(threading.Thread):
    """Asks for writes whose replies nobody else's has, one after the other, and notes every reply that is another's."""

    def __init__(self, node: Node, name: str, waits: bool) -> None:
        super().__init__(daemon=True)
        self.node = node
        self.name = name
        self.waits = waits
        self.over = threading.Event()
        self.asked = 0
        self.wrong: list[str] = []
        self.start()

    def run(self) -> None:
        with self.node.connect() as connection:
            while not self.over.is_set():
                self.asked += 1
                if self.waits:
                    reply = connection.call("BLPOP", f"nothing-for-{self.name}", "0.05")
                    is_own = reply == ("*", None)
                else:
                    reply = connection.call("GETSET", self.name, f"{self.name}-{self.asked}")
                    is_own = reply[1] is None or reply[1].startswith(f"{self.name}-".encode())
                if not is_own and reply[0] != "-":
                    self.wrong.append(f"{self.name}, {self.asked}: {reply}")


def test_no_client_gets_the_reply_to_another_when_a_leader_dies() -> None:
    with Cluster() as cluster:
        steady = cluster.others(cluster.wait_leader())[0]
        clients = [Echo(steady, f"client-{number}", waits=number % 3 == 0) for number in range(24)]
        for _ in range(3):
            before = [client.asked for client in clients]
            until(lambda before=before: all(c.asked > b + 20 for c, b in zip(clients, before, strict=True)), "all go on")
            leader = cluster.leader()
            if leader is None or leader is steady:
                leader = cluster.others(steady)[0]
            leader.kill()
            cluster.wait_writes(steady)
            leader.begin()
            cluster.wait_whole()
        for client in clients:
            client.over.set()
        for client in clients:
            client.join()
        assert [wrong for client in clients for wrong in client.wrong] == []


def test_wait_counts_the_copies_that_live() -> None:
    with Cluster() as cluster:
        leader = cluster.wait_leader()
        one, two = cluster.others(leader)
        for node in (leader, one):
            with node.connect() as connection:
                assert connection.call("SET", "k", "v") == ("+", b"OK")
                assert connection.call("WAIT", 2, 0) == (":", 2)
        two.kill()
        with leader.connect() as first, one.connect() as second:
            for connection in (first, second):
                assert connection.call("SET", "k", "w") == ("+", b"OK")
                assert connection.call("WAIT", 1, 0) == (":", 1), "a majority has it"
                begun = time.monotonic()
                assert connection.call("WAITAOF", 1, 2, 300) == ("*", ((":", 1), (":", 1)))
                assert time.monotonic() - begun >= 0.299, "nodes count in whole milliseconds"
                connection.send([[b"WAIT", b"2", b"0"]])
            two.begin()
            for connection in (first, second):
                assert connection.read() == (":", 2)
            # Who waits when the leader dies goes on at the next one.
            two.kill()
            assert second.call("SET", "k", "x") == ("+", b"OK")
            second.send([[b"WAIT", b"2", b"0"]])
            leader.kill()
            two.begin()
            leader.begin()
            assert second.read() == (":", 2)
