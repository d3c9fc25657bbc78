"""Transactions over three nodes: a leader dies between WATCH and EXEC, and transfers between accounts go on all the while."""

from __future__ import annotations

import random
import threading
import time

from harness.cluster import OK, Cluster, Node
from harness.resp import Connection, ConnectionLost, Reply, as_bytes, is_error, items

ACCOUNTS = ("{bank}a", "{bank}b", "{bank}c", "{bank}d")
SEED = 1
CLIENTS = 4
SECONDS = 12


def is_null(reply: Reply) -> bool:
    return not is_error(reply) and reply[1] is None


def test_a_watch_outlives_the_leader_that_it_asked() -> None:
    with Cluster() as cluster:
        leader = cluster.wait_leader()
        one, other = cluster.others(leader)
        assert one.call("SET", "x", "1") == OK
        with one.connect() as unchanged, one.connect() as changed, other.connect() as writer:
            for connection in (unchanged, changed):
                assert connection.call("WATCH", "x") == OK
                assert connection.call("MULTI") == OK
            assert unchanged.call("INCR", "x") == ("+", b"QUEUED")
            assert changed.call("INCR", "x") == ("+", b"QUEUED")
            leader.kill()
            assert unchanged.call("EXEC") == ("*", ((":", 2),))
            assert changed.call("EXEC") == ("*", None), "the other transaction changed it"
            assert writer.call("GET", "x") == ("$", b"2")
            assert writer.call("WATCH", "x") == OK
            assert writer.call("SET", "x", "3") == OK
            assert writer.call("MULTI") == OK
            assert writer.call("GET", "x") == ("+", b"QUEUED")
            assert writer.call("EXEC") == ("*", None), "its own write is a change as well"


def at_once(connection: Connection, *commands: tuple[str | int, ...]) -> Reply:
    """The last reply to commands that are sent together."""
    return connection.pipeline([[as_bytes(word) for word in command] for command in commands])[-1]


class Teller(threading.Thread):
    """Moves amounts by transactions with WATCH, by scripts and blindly, and reads all accounts at once."""

    def __init__(self, number: int, nodes: list[Node], until: float) -> None:
        super().__init__(daemon=True)
        self.rng = random.Random(f"{SEED}/{number}")
        self.nodes = nodes
        self.until = until
        self.counts = {"moved": 0, "stopped": 0, "read": 0, "failed": 0}
        self.wrong: list[str] = []

    def run(self) -> None:
        connection: Connection | None = None
        while time.monotonic() < self.until:
            try:
                connection = connection or self.rng.choice(self.nodes).connect(10)
                self.step(connection)
            except (ConnectionLost, OSError):
                self.counts["failed"] += 1
                connection = None

    def step(self, connection: Connection) -> None:
        source, target = self.rng.sample(ACCOUNTS, 2)
        amount = self.rng.randint(1, 9)
        match self.rng.randrange(4):
            case 0:
                self.watched(connection, source, target, amount)
            case 1:
                script = "redis.call('DECRBY', KEYS[1], ARGV[1]) return redis.call('INCRBY', KEYS[2], ARGV[1])"
                self.count(connection.call("EVAL", script, 2, source, target, amount))
            case 2:
                moves = ("DECRBY", source, amount), ("INCRBY", target, amount)
                self.count(at_once(connection, ("MULTI",), *moves, ("EXEC",)))
            case _:
                self.read(at_once(connection, ("MULTI",), *(("GET", account) for account in ACCOUNTS), ("EXEC",)))
                self.read(connection.call("EVAL_RO", "return redis.call('MGET', unpack(KEYS))", len(ACCOUNTS), *ACCOUNTS))

    def watched(self, connection: Connection, source: str, target: str, amount: int) -> None:
        if connection.call("WATCH", source, target) != OK:
            return
        before = [connection.call("GET", key) for key in (source, target)]
        if any(is_error(reply) for reply in before):
            connection.call("UNWATCH")
            return
        values = [int(reply[1] or b"0") for reply in before]
        sets = ("SET", source, values[0] - amount), ("SET", target, values[1] + amount)
        self.count(at_once(connection, ("MULTI",), *sets, ("EXEC",)))

    def count(self, reply: Reply) -> None:
        kind = "failed" if is_error(reply) else "stopped" if is_null(reply) else "moved"
        self.counts[kind] += 1

    def read(self, reply: Reply) -> None:
        if is_error(reply):
            self.counts["failed"] += 1
            return
        self.counts["read"] += 1
        total = sum(int(each[1] or b"0") for each in items(reply) or ())
        if total != 0:
            self.wrong.append(f"{reply}")


def test_accounts_sum_up_while_leaders_are_killed() -> None:
    with Cluster() as cluster:
        cluster.wait_whole()
        until = time.monotonic() + SECONDS
        tellers = [Teller(number, cluster.nodes, until) for number in range(CLIENTS)]
        for teller in tellers:
            teller.start()
        for _ in range(3):
            time.sleep(SECONDS / 5)
            leader = cluster.leader()
            if leader is not None:
                leader.kill()
                leader.spawn()
        for teller in tellers:
            teller.join(SECONDS + 60)
        cluster.wait_whole()
        wrong = [text for teller in tellers for text in teller.wrong]
        assert not wrong, wrong[:3]
        counts = {name: sum(teller.counts[name] for teller in tellers) for name in tellers[0].counts}
        assert counts["moved"] > 100 and counts["read"] > 100 and counts["stopped"] > 0, counts
        final = cluster.node(2).call("EVAL", "return redis.call('MGET', unpack(KEYS))", len(ACCOUNTS), *ACCOUNTS)
        assert sum(int(each[1] or b"0") for each in items(final) or ()) == 0
        cluster.wait_equal()
