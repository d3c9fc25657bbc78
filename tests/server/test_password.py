"""Passwords: the same replies as redis-server's, and no open door by mistake."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.resp import Connection, Reply
from harness.server import Redis, Server, Skep, StartFailed

from differential.test_wire import exchange

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def locked() -> Iterator[tuple[Server, Server]]:
    """redis-server and skep with the same password."""
    with Redis(extra=["--requirepass", PASSWORD]) as redis, Skep(env={"SKEP_REQUIREPASS": PASSWORD}) as skep:
        yield redis, skep


CONVERSATIONS: dict[str, list[list[str]]] = {
    "nothing works without it": [["PING"], ["GET", "a"], ["SET", "a", "1"], ["SELECT", "1"], ["NOSUCH"], ["GET"], ["COMMAND", "COUNT"], ["CLIENT", "ID"], ["RESET"]],
    "a wrong one changes nothing": [["AUTH", "wrong"], ["GET", "a"], ["AUTH", ""], ["AUTH", "default", "wrong"], ["AUTH", "nobody", PASSWORD], ["GET", "a"]],
    "the right one opens": [["AUTH", PASSWORD], ["SET", "a", "1"], ["GET", "a"], ["PING"]],
    "with the user's name": [["AUTH", "default", PASSWORD], ["GET", "none"]],
    "mistakes": [["AUTH"], ["AUTH", "a", "b", "c"], ["AUTH", "default"], ["HELLO"], ["HELLO", "3"], ["HELLO", "9"]],
    "HELLO with a wrong one": [["HELLO", "3", "AUTH", "default", "wrong"], ["PING"]],
    "HELLO with half of it": [["HELLO", "3", "AUTH", "default"], ["PING"]],
    "a wrong one afterwards keeps the door open": [["AUTH", PASSWORD], ["AUTH", "wrong"], ["GET", "none"]],
    "RESET closes it again": [["AUTH", PASSWORD], ["RESET"], ["GET", "none"]],
}  # fmt: skip


def as_in_74(reply: Reply) -> Reply:
    """7.4 says better than 7.0 what to send."""
    return (reply[0], reply[1].replace(b"the HELLO AUTH", b"the HELLO <proto> AUTH")) if reply[0] == "-" else reply


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversation_is_the_same(locked: tuple[Server, Server], name: str) -> None:
    redis, skep = locked
    with redis.connect() as left, skep.connect() as right:
        for words in CONVERSATIONS[name]:
            assert right.call(*words) == as_in_74(left.call(*words)), words


def test_hello_with_the_password_opens(locked: tuple[Server, Server]) -> None:
    for server in locked:
        with server.connect() as connection:
            reply = connection.call("HELLO", "3", "AUTH", "default", PASSWORD, "SETNAME", "me")
            assert reply[0] == "%", reply
            assert connection.call("CLIENT", "GETNAME") == ("$", b"me")


def test_strangers_may_not_send_much(locked: tuple[Server, Server]) -> None:
    """Before the password only short requests are read: nobody fills the memory from outside."""
    redis, skep = locked
    for data in (b"*11\r\n", b"*2\r\n$4\r\nAUTH\r\n$16385\r\n"):
        assert exchange(skep.port, data) == exchange(redis.port, data)


def test_strangers_may_not_keep_connections_but_others_may(locked: tuple[Server, Server]) -> None:
    _, skep = locked
    with skep.connect() as connection:
        assert connection.call("AUTH", PASSWORD) == ("+", b"OK")
        for number in range(200):
            connection.call("SET", f"k{number}", "v" * 1000)
        assert connection.call("DBSIZE")[1] >= 200


def test_listening_beyond_loopback_needs_a_password() -> None:
    skep = Skep(host="0.0.0.0")
    try:
        with pytest.raises(StartFailed) as failed:
            skep.start()
        assert failed.value.code not in (0, None)
        assert "insecure" in failed.value.stderr and "requirepass" in failed.value.stderr, failed.value.stderr
    finally:
        skep.close()


@pytest.mark.parametrize("how", [{"extra": ["--insecure"]}, {"env": {"SKEP_REQUIREPASS": PASSWORD}}], ids=["insecure", "password"])
def test_listening_beyond_loopback_when_meant(how: dict) -> None:
    with Skep(host="0.0.0.0", **how) as skep, Connection(skep.port) as connection:
        assert connection.call("AUTH", PASSWORD)[0] in "+-"


def test_password_is_in_no_list_of_processes_and_no_log(locked: tuple[Server, Server]) -> None:
    _, skep = locked
    assert all(PASSWORD not in word for word in skep.line)
    assert PASSWORD not in skep.log()
    with skep.connect() as connection:
        connection.call("AUTH", PASSWORD)
        assert PASSWORD not in str(connection.call("INFO", "everything"))
        assert PASSWORD not in str(connection.call("CLIENT", "LIST"))
