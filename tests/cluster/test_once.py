"""ONCE: a command that is sent again after a failure is not carried out again."""

from __future__ import annotations

import random
import threading
import time

from harness.cluster import OK, Cluster, Node
from harness.resp import Connection, ConnectionLost, is_error

SEED = 1
CLIENTS = 6
TOKENS = 40


def test_a_repeat_gets_the_first_reply_from_any_node_and_after_a_failover() -> None:
    with Cluster() as cluster:
        leader = cluster.wait_leader()
        first = leader.call("ONCE", "token-1", "INCRBY", "n", 5)
        assert first == (":", 5)
        assert leader.call("ONCE", "token-2", "RPUSH", "l", "a", "b") == (":", 2)
        error = leader.call("ONCE", "token-3", "LPUSH", "n", "x")
        assert is_error(error) and error[1].startswith(b"WRONGTYPE")
        leader.kill()
        for node in cluster.others(leader):
            assert node.call("ONCE", "token-1", "INCRBY", "n", 5) == first
            assert node.call("ONCE", "token-2", "RPUSH", "l", "a", "b") == (":", 2)
            assert node.call("DEL", "other")[0] == ":"
            assert node.call("ONCE", "token-3", "LPUSH", "n", "x") == error
            assert node.call("ONCE", "token-1", "INCRBY", "n", 6) == ("-", b"ERR token was used for another command")
            assert node.call("GET", "n") == ("$", b"5")
            assert node.call("LRANGE", "l", 0, -1) == ("*", (("$", b"a"), ("$", b"b")))


def test_tokens_survive_the_restart_of_all_nodes_and_checkpoints() -> None:
    with Cluster(flags=["--log-segment-bytes", "64kb", "--checkpoint-log-bytes", "128kb"]) as cluster:
        assert cluster.node(1).call("ONCE", "early", "INCR", "n") == (":", 1)
        with cluster.node(2).connect() as connection:
            for number in range(600):
                assert connection.call("SET", f"k{number % 50}", bytes(2000)) == OK
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            node.spawn()
        cluster.wait_whole()
        assert cluster.node(3).call("ONCE", "early", "INCR", "n") == (":", 1)
        assert cluster.node(3).call("GET", "n") == ("$", b"1")


class Retrying(threading.Thread):
    """Adds each of its tokens once to the counter, sending it again, to another node, until there is an answer."""

    def __init__(self, number: int, nodes: list[Node]) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.rng = random.Random(f"{SEED}/{number}")
        self.nodes = nodes
        self.sent = 0
        self.answers: list[int] = []

    def run(self) -> None:
        for token in range(TOKENS):
            while not self._try(f"{self.number}-{token}"):
                time.sleep(0.01)

    def _try(self, token: str) -> bool:
        node = self.rng.choice(self.nodes)
        try:
            with Connection(node.port, host=node.host, timeout=3) as connection:
                self.sent += 1
                reply = connection.call("ONCE", token, "INCR", "total")
                if self.rng.random() < 0.2:
                    # Forgets the answer, as a client that crashed, and asks again.
                    self.sent += 1
                    assert is_error(again := connection.call("ONCE", token, "INCR", "total")) or again == reply or is_error(reply)
        except (ConnectionLost, OSError):
            return False
        if is_error(reply):
            assert reply[1].split()[0] in (b"TRYAGAIN", b"UNCERTAIN"), reply
            return False
        self.answers.append(reply[1])
        return True


def test_retried_commands_are_carried_out_once_each_while_nodes_die() -> None:
    rng = random.Random(SEED)
    with Cluster() as cluster:
        clients = [Retrying(number, cluster.nodes) for number in range(CLIENTS)]
        for each in clients:
            each.start()
        while any(each.is_alive() for each in clients):
            victim = rng.choice(cluster.nodes)
            clients[0].join(rng.random() * 0.3)
            victim.kill()
            clients[0].join(0.05)
            victim.begin()
            cluster.wait_ready()
        answers = [answer for each in clients for answer in each.answers]
        assert sorted(answers) == list(range(1, CLIENTS * TOKENS + 1)), "each token has a number of its own"
        assert cluster.node(1).call("GET", "total") == ("$", b"%d" % (CLIENTS * TOKENS))
        print(f"{CLIENTS * TOKENS} tokens sent {sum(each.sent for each in clients)} times")
