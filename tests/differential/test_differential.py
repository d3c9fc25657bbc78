"""skep against redis-server: a bounded number of streams of every group.

More by hand: `python -m differential --streams 0`. The number of seeds is $DIFFERENTIAL_SEEDS, from $DIFFERENTIAL_FROM.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from harness.server import Redis, Skep

from . import campaign
from .groups import GROUPS
from .known_differences import excuse
from .running import Pair

SEEDS = int(os.environ.get("DIFFERENTIAL_SEEDS", "40"))
FIRST = int(os.environ.get("DIFFERENTIAL_FROM", "1"))
FAILURES_SHOWN = 3


@pytest.fixture(scope="module")
def pair(redis_server: Redis, quick_skep: Skep) -> Iterator[Pair]:
    pair = Pair(redis_server.port, quick_skep.port, excuse)
    yield pair
    pair.close()


@pytest.mark.parametrize("group", GROUPS)
def test_replies_are_those_of_redis(pair: Pair, group: str) -> None:
    failures = []
    for failure in campaign.run(pair, [group], range(FIRST, FIRST + SEEDS), "skep"):
        failures.append(failure)
        if len(failures) == FAILURES_SHOWN:
            break
    assert not failures, "\n\n" + "\n\n".join(map(str, failures))
