"""The comparison is itself tested: two redis-servers never differ, and a planted difference is always found."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from harness.resp import Connection, Reply
from harness.server import Redis

from . import campaign
from .groups import GROUPS
from .known_differences import excuse, nothing, shortest
from .running import Pair

STREAMS = 3


@pytest.fixture(scope="module")
def two_redis() -> Iterator[tuple[Redis, Redis]]:
    with Redis() as left, Redis() as right:
        yield left, right  # type: ignore[misc]


@pytest.mark.parametrize("group", GROUPS)
def test_two_redis_servers_never_differ(two_redis: tuple[Redis, Redis], group: str) -> None:
    pair = Pair(two_redis[0].port, two_redis[1].port, nothing)
    try:
        for seed in range(STREAMS):
            failure = campaign.run_stream(pair, group, seed, "redis")
            assert failure is None, str(failure)
        assert pair.commands >= STREAMS * campaign.LENGTH / 2, "the streams were cut short"
    finally:
        pair.close()


class Planted(Connection):
    """A connection whose replies of one kind are changed, as those of a wrong server would be."""

    change: Callable[[Reply], Reply]

    def read(self) -> Reply:
        return type(self).change(super().read())


def planted(change: Callable[[Reply], Reply]) -> type[Planted]:
    return type("PlantedReply", (Planted,), {"change": staticmethod(change)})


def exchange_values(reply: Reply) -> Reply:
    """A hash of two fields or more with the first two values exchanged, in either protocol's form."""
    if reply[0] == "%" and len(reply[1]) > 1:
        (first, one), (second, two), *rest = reply[1]
        return ("%", ((first, two), (second, one), *rest))
    if reply[0] == "*" and reply[1] and len(reply[1]) == 4:
        first, one, second, two = reply[1]
        return ("*", (first, two, second, one))
    return reply


PLANTS = {
    "an integer one too large": ("lists", lambda r: (":", r[1] + 1) if r[0] == ":" and r[1] == 3 else r),
    "a null array for a null bulk": ("strings", lambda r: ("*", None) if r == ("$", None) else r),
    "other words in an error": ("zsets", lambda r: ("-", r[1].replace(b"syntax", b"sintax")) if r[0] == "-" else r),
    "a member lost": ("sets", lambda r: (r[0], r[1][1:]) if r[0] in "*~" and r[1] and len(r[1]) > 4 else r),
    "an order reversed": ("lists", lambda r: ("*", r[1][::-1]) if r[0] == "*" and r[1] and len(r[1]) > 2 else r),
    "a score as a bulk string": ("zsets", lambda r: ("$", r[1]) if r[0] == "," else r),
    "a simple string for a bulk string": ("strings", lambda r: ("+", r[1]) if r == ("$", b"foo") else r),
    "values of two fields exchanged": ("hashes", lambda r: exchange_values(r)),
    "one byte of a value": ("strings", lambda r: ("$", r[1][:-1] + b"?") if r[0] == "$" and r[1] and len(r[1]) > 40 else r),
}  # fmt: skip


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_difference_is_found_and_shrunk(two_redis: tuple[Redis, Redis], plant: str) -> None:
    group, change = PLANTS[plant]
    pair = Pair(two_redis[0].port, two_redis[1].port, excuse, planted(change))
    try:
        failures = (campaign.run_stream(pair, group, seed, "redis") for seed in range(1, 20))
        failure = next((each for each in failures if each is not None), None)
        assert failure is not None, "the planted difference was not noticed"
        assert len(failure.commands) <= 12, f"not shrunk: {failure}"
        assert f"--seed {failure.seed}" in str(failure)
    finally:
        pair.close()


def test_wrong_digits_are_excused_only_where_distances_are_stored() -> None:
    words = [b"ZRANGE", b"k", b"0", b"-1", b"WITHSCORES"]
    one, two = (("*", (("$", b"m"), ("$", score))) for score in (b"190.44242984775784", b"190.44242984775795"))
    assert excuse(words, one, two, "geo") and excuse(words, one, two, "mixed")
    assert excuse(words, one, two, "zsets") is None
    assert excuse(words, one, two) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, b"0.1"), (1.0, b"1"), (-2.5, b"-2.5"), (1e17, b"100000000000000000"), (1e300, b"1e+300"),
        (5e-324, b"5e-324"), (1e-5, b"0.00001"), (1.7976931348623157e308, b"1.7976931348623157e+308"),
        (float("inf"), b"inf"), (float("-inf"), b"-inf"), (-0.0, b"-0"), (123456.789, b"123456.789"), (1e-7, b"1e-7"),
    ],
)  # fmt: skip
def test_doubles_are_printed_as_redis_74_prints_them(value: float, text: bytes) -> None:
    assert shortest(value) == text
