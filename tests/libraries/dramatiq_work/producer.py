"""Jobs of each kind that Dramatiq knows, and their results."""

from __future__ import annotations

from dramatiq import group, pipeline
from tasks import broker, more, square, stumble, urgent
from work import Asked, rounds, until


def results(work: object) -> object:
    """Waits for less than redis-py's time-out for a reply, 5 s."""
    if isinstance(work, group):
        return list(work.get_results(block=True, timeout=2_000))
    return work.get_result(block=True, timeout=2_000)  # type: ignore[attr-defined]


def main() -> None:
    asked = Asked()
    wanted: list[tuple[object, object]] = []

    def want(names: list[str], value: object, work: object) -> None:
        send = work.run if hasattr(work, "run") else lambda: broker.enqueue(work)  # type: ignore[attr-defined]
        asked.put(names, send)
        wanted.append((work, value))

    for n in rounds():
        want([f"plain-{n}"], n * n, square.message(f"plain-{n}", n))
        if n % 3 == 0:
            want([f"high-{n}"], n + 1, urgent.message(f"high-{n}", n))
            want([f"stumble-{n}"], n + 2, stumble.message(f"stumble-{n}", n))
        if n % 4 == 0:
            late = square.message(f"later-{n}", n)
            asked.put([f"later-{n}"], lambda late=late: broker.enqueue(late, delay=500))
            wanted.append((late, n * n))
        if n % 5 == 0:
            names = [f"pipe-{n}-{part}" for part in range(3)]
            want(names, n * n + 3, pipeline([square.message(names[0], n), more.message(names[1], 1), more.message(names[2], 2)]))
            members = [f"group-{n}-{part}" for part in range(4)]
            want(members, [0, 1, 4, 9], group([square.message(name, part) for part, name in enumerate(members)]))
    for work, value in wanted:
        found = asked.again(lambda work=work: results(work))
        assert found == value, f"{work} is {found}, not {value}"

    def pending() -> int:
        queues = [name + kind for name in ("default", "high") for kind in ("", ".DQ", ".XQ")]
        unacknowledged = sum(broker.client.scard(key) for key in broker.client.keys("dramatiq:__acks__.*"))
        return sum(broker.do_qsize(queue) for queue in queues) + unacknowledged

    until(lambda: pending() == 0, "nothing is pending")
    asked.report(results=len(wanted))


if __name__ == "__main__":
    main()
