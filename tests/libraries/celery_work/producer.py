"""Jobs of each kind that Celery knows, and their results."""

from __future__ import annotations

from celery import chain, chord
from tasks import add, app, stumble, total
from work import PATIENCE, Asked, rounds, until


def main() -> None:
    asked = Asked()
    wanted: list[tuple[object, int]] = []
    for n in rounds():
        wanted.append((asked.put([f"plain-{n}"], lambda n=n: add.delay(f"plain-{n}", n, 1)), n + 1))
        if n % 3 == 0:
            wanted.append((asked.put([f"stumble-{n}"], lambda n=n: stumble.delay(f"stumble-{n}", n)), n * n))
            wanted.append((asked.put([f"prio-{n}"], lambda n=n: add.apply_async((f"prio-{n}", n, 2), priority=n % 10)), n + 2))
        if n % 4 == 0:
            wanted.append((asked.put([f"later-{n}"], lambda n=n: add.apply_async((f"later-{n}", n, 3), countdown=0.5)), n + 3))
        if n % 5 == 0:
            links = [f"chain-{n}-{part}" for part in range(3)]
            wanted.append((asked.put(links, lambda n=n, links=links: chain(
                add.s(links[0], n, 1), (add.si(links[1], 0, 0)), add.si(links[2], n, 5))()), n + 5))  # fmt: skip
        if n % 10 == 0:
            heads = [f"chord-{n}-{part}" for part in range(5)]
            wanted.append((asked.put([*heads, f"chord-{n}-end"], lambda n=n, heads=heads: chord(
                [add.s(head, n, part) for part, head in enumerate(heads)], total.s(f"chord-{n}-end"))()), 5 * n + 10))  # fmt: skip
    for result, value in wanted:
        found = result.get(timeout=PATIENCE)  # type: ignore[attr-defined]
        assert found == value, f"{result} is {found}, not {value}"
    with app.connection_for_read() as connection:
        client = connection.default_channel.client
        keys = ["celery", *(f"celery\x06\x16{step}" for step in (3, 6, 9))]
        until(lambda: sum(map(client.llen, keys)) + client.hlen("unacked") + client.zcard("unacked_index") == 0, "nothing is pending")
    asked.report(results=len(wanted))


if __name__ == "__main__":
    main()
