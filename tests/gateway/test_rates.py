"""Rates that all nodes share."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from harness.cluster import until

from .scene import Gateway
from .several import HERE, WEB_PORT, Nodes, ask

ROUTES = """
[gateway.limit.shared]
requests = {rate}
burst = {burst}
by = "header:x-caller"

[gateway.route.limited]
path-prefix = "/limited"
answer.body = "passed"
limits = "shared"

[gateway.route.free]
answer.body = "passed"
"""


Load = Callable[[int, float], tuple[int, float]]
"""At which node a client is, and how many requests a second it sends at most, so many seconds after the beginning."""


def even(client: int, at: float) -> tuple[int, float]:
    return client % 3, FAST


def at_one(client: int, at: float) -> tuple[int, float]:
    return 0, FAST


def uneven(client: int, at: float) -> tuple[int, float]:
    """7 of 10 requests at one node, 2 at another, 1 at the third, three times as many as may pass in all."""
    node, share = ((0, 0.35), (0, 0.35), (1, 0.2), (2, 0.1))[client]
    return node, 3 * RATE * share


def moving(client: int, at: float) -> tuple[int, float]:
    """As uneven, and the node that has most is another each second."""
    node, rate = uneven(client, at)
    return (node + int(at)) % 3, rate


FAST = 1e6
RATE, BURST, SECONDS = 200, 60, 10.0


@pytest.fixture(scope="module")
def limited() -> Iterator[Nodes]:
    with Nodes(3) as nodes:
        nodes.apply(ROUTES.format(rate=RATE, burst=BURST))
        yield nodes


@pytest.mark.parametrize("load", [even, at_one, uneven, moving])
def test_three_nodes_together_keep_a_rate_to_five_percent(limited: Nodes, load: Load) -> None:
    """Each node alone would let three times as much through, or less than the rate if it were divided and the load is not even."""
    passed: list[float] = []
    statuses: Counter[int] = Counter()
    start = time.monotonic()

    def client(number: int) -> None:
        connections = [http.client.HTTPConnection(node.host, WEB_PORT, timeout=30) for node in limited.nodes]
        due = 0.0
        while (now := time.monotonic() - start) < SECONDS:
            if now < due:
                time.sleep(due - now)
            node, rate = load(number, due)
            # Who is late sends at once what he has not sent, as many clients would.
            due += 1 / rate
            connections[node].request("GET", "/limited", headers={"x-caller": load.__name__})
            response = connections[node].getresponse()
            response.read()
            statuses[response.status] += 1
            if response.status == 200:
                passed.append(time.monotonic() - start)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(4 if load is not even else 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # From the second second on: before it there is the burst, and gateways that ask for the first time.
    steady = sum(1 for at in passed if at >= 2.0)
    wanted = RATE * (max(passed) - 2.0)
    print(f"{load.__name__}: {steady} of {wanted:.0f}, {steady / wanted:.3f}; {sum(statuses.values())} came")
    assert set(statuses) == {200, 429}, f"more came than may pass: {statuses}"
    assert 0.95 * wanted - 1 <= steady <= 1.05 * wanted + 1, f"{load.__name__}: {steady} passed of {wanted:.0f}"
    assert len(passed) <= (RATE * max(passed) + BURST) * 1.05


def test_a_rate_that_is_used_up_at_one_node_is_used_up_at_all() -> None:
    with Nodes(3) as nodes:
        nodes.apply(ROUTES.format(rate=1, burst=5).replace("burst = 5", 'burst = 5\nper = "1h"'))
        one, two, three = nodes.nodes
        for left in (4, 3, 2, 1, 0):
            answer = ask((one, two)[left % 2], "GET", "/limited", x_caller="ann")
            assert answer.status == 200
            assert answer.header("ratelimit-policy") == '"shared";q=1;w=3600'
            assert (answer.header("ratelimit") or "").startswith(f'"shared";r={left};'), answer.headers
        refused = ask(three, "GET", "/limited", x_caller="ann")
        assert refused.status == 429 and int(refused.header("retry-after") or 0) > 3_000
        assert ask(three, "GET", "/limited", x_caller="bob").status == 200, "another caller has a rate of its own"
        # A node that dies, or all, give nobody a new burst.
        for node in nodes.nodes:
            node.kill()
        for node in nodes.nodes:
            node.spawn()
        nodes.wait_serving()
        assert [ask(node, "GET", "/limited", x_caller="ann").status for node in nodes.nodes] == [429] * 3


def test_without_a_majority_a_limit_does_not_open() -> None:
    with Nodes(3) as nodes:
        nodes.apply(ROUTES.format(rate=1000, burst=1000))
        alone, *others = nodes.nodes
        assert ask(alone, "GET", "/limited", x_caller="ann").status == 200
        for node in others:
            node.kill()
        answer = ask(alone, "GET", "/limited", x_caller="bob")
        assert answer.status == 503 and answer.header("retry-after") == "1"
        assert ask(alone, "GET", "/free").status == 200
        for node in others:
            node.spawn()
        nodes.wait_serving()
        until(lambda: ask(alone, "GET", "/limited", x_caller="bob").status == 200, "it is known again")


def test_below_a_rate_nobody_is_refused_and_little_is_asked_of_the_store() -> None:
    text = '[gateway.listener.web]\naddress = "{web}"\n' + ROUTES.format(rate=1000, burst=1000)
    with Gateway(text) as gateway:
        for caller in range(10):
            # All but the first come while the store is being asked for the first.
            statuses: list[int] = []

            def client(caller: int = caller, statuses: list[int] = statuses) -> None:
                statuses.append(gateway.ask("GET", "/limited", headers={"x-caller": f"many {caller}"}).status)

            threads = [threading.Thread(target=client) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert statuses == [200] * 20
        for _ in range(500):
            assert gateway.ask("GET", "/limited", headers={"x-caller": "ann"}).status == 200

        def questions() -> float:
            lines = [line for line in gateway.metrics().splitlines() if line.startswith("skep_gateway_rate_questions_total")]
            return float(lines[0].split()[-1]) if lines else 0

        until(lambda: questions() > 0, "they are counted")
        assert questions() < 350, "many of the 700 share a question"
