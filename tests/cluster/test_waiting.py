"""Clients that wait on any node while leaders die or stop: each element goes to one of them, and those who survive notice nothing."""

from __future__ import annotations

import threading
import time

import pytest

from harness.cluster import Cluster, Node
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
