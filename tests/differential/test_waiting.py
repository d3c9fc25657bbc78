"""Clients that wait: several connections to skep and to Redis do the same, and get the same.

Each step is one command of one connection. Whether it is answered is Redis's to say: a connection whose client is flagged
as blocked waits, the others have their replies. skep must come to the same, however long its log takes; what it would
give beyond is seen at the end, when those who still wait are unblocked and each must have nothing but that.
"""

from __future__ import annotations

import random
import select
import time

import pytest

from harness.resp import Connection, ConnectionLost, Reply, is_error, show
from harness.server import Redis, Skep

PATIENCE_SECONDS = 20.0
NULL: Reply = ("*", None)


class Side:
    """One server and its connections by name."""

    def __init__(self, port: int, names: str, protocol: int) -> None:
        self.control = Connection(port)
        self.control.call("FLUSHALL")
        self.connections = {name: Connection(port, timeout=PATIENCE_SECONDS) for name in names}
        for connection in self.connections.values():
            connection.call("HELLO", protocol)
        self.ids = {name: each.call("CLIENT", "ID")[1] for name, each in self.connections.items()}

    def close(self) -> None:
        for each in [self.control, *self.connections.values()]:
            each.close()

    def blocked(self) -> set[str]:
        """The connections whose clients wait."""
        lines = self.control.call("CLIENT", "LIST")[1].decode().splitlines()
        fields = [dict(word.split("=", 1) for word in line.split(" ")) for line in lines]
        by_id = {int(each["id"]): each["flags"] for each in fields}
        return {name for name, number in self.ids.items() if "b" in by_id.get(number, "")}

    def answered(self, name: str) -> bool:
        connection = self.connections[name]
        return bool(connection.buffer[connection.at :]) or bool(select.select([connection.socket], [], [], 0)[0])

    def settled(self, name: str) -> bool:
        """Whether the command just sent has its reply (else it waits)."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if self.answered(name):
                return True
            if name in self.blocked():
                return self.answered(name)
        raise AssertionError(f"{name} neither waits nor has its reply")


class Play:
    """The same commands on both servers."""

    def __init__(self, redis: Redis, skep: Skep, names: str, protocol: int) -> None:
        self.redis, self.skep = Side(redis.port, names, protocol), Side(skep.port, names, protocol)
        self.waiting: set[str] = set()
        self.log: list[str] = []

    def __enter__(self) -> "Play":
        return self

    def __exit__(self, *_: object) -> None:
        # Who still waits would take part in the next play.
        self.redis.close()
        self.skep.close()

    def step(self, name: str, command: str) -> None:
        """Sends a command of a connection that does not wait, and compares all replies that Redis gives."""
        assert name not in self.waiting, f"{name} waits"
        self.log.append(f"{name}: {command}")
        words = [word.encode() for word in command.split()]
        self.redis.connections[name].send([words])
        redis_answered = self.redis.settled(name)
        # Those who were served have their replies before Redis answers anybody else.
        served = {other for other in self.waiting if other not in self.redis.blocked()}
        self.skep.connections[name].send([words])
        if not redis_answered:
            self.waiting.add(name)
            assert not self.skep.settled(name), f"skep answers {show(self.skep.connections[name].read())}\n{self}"
        for other in sorted(served | ({name} if redis_answered else set())):
            self.compare(other)
        self.waiting -= served

    def compare(self, name: str) -> None:
        left = self.redis.connections[name].read()
        self.log.append(f"    {name} <- {show(left)}")
        try:
            right = self.skep.connections[name].read()
        except ConnectionLost as lost:
            raise AssertionError(f"{name}: skep gives nothing: {lost}\n{self}") from lost
        if not (left == right or is_error(left) and is_error(right)):
            raise AssertionError(f"{name}: redis {show(left)}, skep {show(right)}\n{self}")

    def end(self) -> None:
        """Unblocks all who wait: they have nothing else."""
        for name in sorted(self.waiting):
            for side in [self.redis, self.skep]:
                assert side.control.call("CLIENT", "UNBLOCK", side.ids[name]) == (":", 1), f"{name} does not wait\n{self}"
                reply = side.connections[name].read()
                assert reply in (NULL, ("_",)), f"{name} got {show(reply)}\n{self}"
        for command in [*(f"LRANGE {key} 0 -1" for key in "abcde"), "ZRANGE z 0 -1", "ZRANGE y 0 -1", "XRANGE s - +"]:
            left, right = (side.control.call(*command.split()) for side in [self.redis, self.skep])
            assert left == right or is_error(left) and is_error(right), f"{command}: {show(left)}, {show(right)}\n{self}"

    def __str__(self) -> str:
        return "\n".join(self.log)


SCENES = {
    "first come first served": ["p: BLPOP a 0", "q: BLPOP a 0", "r: BRPOP a 0", "w: RPUSH a 1", "w: RPUSH a 2 3 4"],
    "several keys": ["p: BLPOP a b 0", "q: BRPOP b a 0", "w: RPUSH b 1 2 3", "p: BLPOP b a 0", "q: BLPOP a b 0"],
    "moves in a chain": [
        "p: BLMOVE a b LEFT RIGHT 0",
        "q: BRPOPLPUSH b c 0",
        "r: BLPOP c 0",
        "w: LPUSH a 1",
        "w: EXISTS a b c",
    ],
    "to itself": ["p: BLMOVE a a LEFT RIGHT 0", "q: BLPOP a 0", "w: RPUSH a 1 2", "w: LRANGE a 0 -1"],
    "many at once": ["p: BLMPOP 0 2 a b LEFT COUNT 2", "q: BLMPOP 0 1 b RIGHT COUNT 9", "w: RPUSH b 1 2 3 4", "w: RPUSH b 5"],
    "another type": ["p: BLPOP a 0", "q: BZPOPMIN a 0", "w: SET a 1", "w: DEL a", "w: ZADD a 1 m", "w: RPUSH a x"],
    "a target of another type": ["p: BLMOVE a b LEFT LEFT 0", "w: SET b 1", "w: RPUSH a 1", "w: LRANGE a 0 -1", "w: DEL a b"],
    "made otherwise": [
        "p: BLPOP a 0",
        "w: RPUSH c 1 2",
        "w: RENAME c a",
        "q: BLPOP b 0",
        "r: BLPOP b 0",
        "w: RPUSH c 2 1 3",
        "w: SORT c STORE b",
    ],
    "sorted sets": ["p: BZPOPMIN z 0", "q: BZPOPMAX z y 0", "r: BZMPOP 0 2 y z MIN COUNT 2", "w: ZADD z 3 c 1 a 2 b 4 d 5 e"],
    "stores of sorted sets": ["p: BZPOPMIN z 0", "q: BZPOPMIN z 0", "w: ZADD y 1 a 2 b", "w: ZUNIONSTORE z 1 y", "w: ZINCRBY z 1 m"],
    "streams": ["p: XREAD BLOCK 0 STREAMS s $", "q: XREAD COUNT 1 BLOCK 0 STREAMS t s 0 0", "w: XADD s 1-1 a b", "w: XADD s 2-1 a b"],
    "groups": [
        "w: XGROUP CREATE s g $ MKSTREAM",
        "w: XGROUP CREATE s h $",
        "p: XREADGROUP GROUP g p BLOCK 0 STREAMS s >",
        "q: XREADGROUP GROUP g q COUNT 1 BLOCK 0 STREAMS s >",
        "r: XREADGROUP GROUP h r NOACK BLOCK 0 STREAMS s >",
        "w: XADD s 1-1 a b",
        "w: XADD s 2-1 a b",
    ],
    "a group that goes": [
        "w: XGROUP CREATE s g $ MKSTREAM",
        "p: XREADGROUP GROUP g p BLOCK 0 STREAMS s >",
        "q: XREADGROUP GROUP g q BLOCK 0 STREAMS s >",
        "w: XGROUP DESTROY s g",
        "w: DEL s",
    ],
    "a transaction": [
        "p: BLPOP a 0",
        "q: BLMOVE a b LEFT LEFT 0",
        "r: BZPOPMIN z 0",
        "w: MULTI",
        "w: RPUSH a 1",
        "w: LPOP a",
        "w: RPUSH a 2 3",
        "w: ZADD z 1 m",
        "w: EXEC",
        "w: EXISTS a b z",
    ],
    "a transaction for who waits for several": [
        "p: BLPOP a b 0",
        "q: BLPOP a b 0",
        "r: BLPOP b 0",
        "w: MULTI",
        "w: RPUSH a 1",
        "w: RPUSH b 2 3",
        "w: EXEC",
        "w: EXISTS a b",
    ],
    "a script for who waits for several": [
        "p: BZPOPMIN y z 0",
        "q: BZPOPMIN z 0",
        "w: EVAL redis.call('zadd',KEYS[1],1,'m')redis.call('zadd',KEYS[2],2,'n') 2 y z",
        "w: EXISTS y z",
    ],
    "times": ["p: BLPOP a 0.01", "w: RPUSH a 1"],
    "bad times": [
        f"p: {command}"
        for time in ["x", "-1", "-0.1", "1e400", "9e18", "nan"]
        for command in [f"BLPOP a {time}", f"BLMOVE a b LEFT LEFT {time}", f"BLMPOP {time} 1 a LEFT", f"BZMPOP {time} 1 z MIN"]
    ],
}


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("scene", SCENES)
def test_waiting_clients_get_what_redis_gives(redis_server: Redis, skep: Skep, scene: str, protocol: int) -> None:
    with Play(redis_server, skep, "pqrw", protocol) as play:
        for step in SCENES[scene]:
            name, command = step.split(": ", 1)
            if command == "RPUSH a 1" and scene == "times":
                for side in [play.redis, play.skep]:
                    reply = side.connections["p"].read()
                    assert reply in (NULL, ("_",)), show(reply)
                play.waiting.clear()
            play.step(name, command)
        play.end()


def any_command(chance: random.Random, transactions: bool) -> str:
    """Who waits for several keys waits for none that others who wait move elements to: 7.0 serves him from the key whose turn it is,
    7.4 and skep from the first of his keys that has something. As a transaction brings something to several keys at once, there
    each waits for one key and nobody moves; who waits for several has a test of his own below."""
    most = 1 if transactions else 3
    lists = lambda: " ".join(chance.choices("abc", k=chance.randint(1, most)))  # noqa: E731
    one = lambda: chance.choice("abc")  # noqa: E731
    ends = lambda: f"{chance.choice(['LEFT', 'RIGHT'])} {chance.choice(['LEFT', 'RIGHT'])}"  # noqa: E731
    values = " ".join(str(chance.randint(1, 99)) for _ in range(chance.randint(1, 4)))
    keys = chance.randint(1, min(most, 2))
    several = " ".join(chance.choices("zy", k=keys))
    members = " ".join(f"{chance.randint(1, 9)} m{chance.randint(1, 9)}" for _ in range(chance.randint(1, 3)))
    some = ["MULTI", "EXEC", "EXEC"]
    if not transactions:
        some = [f"BLMOVE {one()} d {ends()} 0", f"BRPOPLPUSH {one()} d 0", f"BLMOVE d e {ends()} 0"]
    return chance.choice(
        [
            *some,
            f"BLPOP {lists()} 0",
            f"BRPOP {lists()} 0",
            f"BLPOP {chance.choice('de')} 0",
            f"BLMPOP 0 {keys} {' '.join(chance.choices('abc', k=keys))} {chance.choice(['LEFT', 'RIGHT'])} COUNT {chance.randint(1, 3)}",
            f"BZPOPMIN {several} 0",
            f"BZPOPMAX {several} 0",
            f"BZMPOP 0 {keys} {several} MAX COUNT {chance.randint(1, 3)}",
            f"XREAD BLOCK 0 STREAMS s {chance.choice(['$', '0'])}",
            f"RPUSH {one()} {values}",
            f"LPUSH {one()} {values}",
            f"LMOVE {one()} {one()} {ends()}",
            f"LPOP {one()}",
            f"RENAME {one()} {one()}",
            f"COPY {one()} {one()} REPLACE",
            f"DEL {one()}",
            f"ZADD {chance.choice('zy')} {members}",
            f"ZUNIONSTORE z 2 z y",
            f"XADD s {chance.randint(1, 9)}-* f v",
            f"XREADGROUP GROUP g {chance.choice('xy')} COUNT {chance.randint(1, 2)} BLOCK 0 STREAMS s >",
            f"EVAL return{{redis.call('rpush',KEYS[1],1,2),redis.call('lpop',KEYS[2])}} 2 {one()} {one()}",
            f"EVAL redis.pcall('xadd',KEYS[1],ARGV[1],'f','v')redis.call('zadd',KEYS[2],1,'m') 2 s {chance.choice('zy')} "
            f"{chance.randint(1, 9)}-*",
        ]
    )


@pytest.mark.parametrize("seed", range(16))
def test_waiting_clients_of_any_kind_get_what_redis_gives(redis_server: Redis, skep: Skep, seed: int) -> None:
    chance = random.Random(seed)
    transactions = seed % 4 > 1
    with Play(redis_server, skep, "pqrstuw", 2 + seed % 2) as play:
        play.step("w", "XGROUP CREATE s g $ MKSTREAM")
        for _ in range(200):
            idle = sorted(set("pqrstuw") - play.waiting)
            # One at least goes on.
            name = chance.choice(idle)
            command = any_command(chance, transactions)
            while len(idle) == 1 and (command.startswith("B") or "BLOCK" in command):
                command = any_command(chance, transactions)
            play.step(name, command)
        play.end()


@pytest.mark.parametrize("seed", range(8))
def test_who_waits_for_several_keys_gets_of_a_transaction_what_redis_gives(redis_server: Redis, skep: Skep, seed: int) -> None:
    """Keys are waited for and brought something in one order, so that the first of a client's keys that has something is the one
    whose turn it is."""
    chance = random.Random(seed)
    with Play(redis_server, skep, "pqrstw", 2 + seed % 2) as play:
        for _ in range(40):
            for name in sorted(set("pqrst") - play.waiting):
                keys = " ".join(sorted(chance.sample("abc", k=chance.randint(1, 3))))
                play.step(name, chance.choice([f"BLPOP {keys} 0", f"BRPOP {keys} 0", f"BLMPOP 0 {len(keys.split())} {keys} LEFT"]))
            play.step("w", "MULTI")
            for key in sorted(chance.sample("abc", k=chance.randint(1, 3))):
                play.step("w", f"RPUSH {key} {' '.join(str(chance.randint(1, 99)) for _ in range(chance.randint(1, 3)))}")
            play.step("w", "EXEC")
        play.end()


def test_wait_of_a_server_without_replicas_answers_as_redis_does(redis_server: Redis, skep: Skep) -> None:
    calls = "WAIT 0 0|SET k v|WAIT 0 0|WAIT -1 0|WAIT 1 30|WAIT|WAIT 1|WAIT 1 2 3|WAIT x 0|WAIT x y|WAIT 1 y|WAIT 1 -1|WAIT 1.5 0|WAIT 1 1.5"
    transaction = "|MULTI|SET k v|WAIT 1 0|WAIT x 0|EXEC"
    with redis_server.connect() as left, skep.connect() as right:
        for call in (calls + transaction).split("|"):
            begun = time.monotonic()
            one, two = (side.call(*call.split()) for side in (left, right))
            assert one == two, f"{call}: redis {show(one)}, skep {show(two)}"
            assert call != "WAIT 1 30" or time.monotonic() - begun >= 0.06


@pytest.mark.parametrize("how", ["TIMEOUT", "ERROR"])
def test_wait_is_unblocked_as_in_redis(redis_server: Redis, skep: Skep, how: str) -> None:
    answers = []
    for server in (redis_server, skep):
        side = Side(server.port, "p", 2)
        side.connections["p"].send([[b"WAIT", b"1", b"0"]])
        assert not side.settled("p")
        assert side.control.call("CLIENT", "UNBLOCK", side.ids["p"], how) == (":", 1)
        answers.append(side.connections["p"].read())
        side.close()
    assert answers[0] == answers[1]
