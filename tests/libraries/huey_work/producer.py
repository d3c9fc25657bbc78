"""Jobs of each kind that Huey knows, and their results."""

from __future__ import annotations

from tasks import huey, more, square, stumble
from work import PATIENCE, Asked, rounds, until


def main() -> None:
    asked = Asked()
    wanted: list[tuple[object, int]] = []

    def want(names: list[str], value: int, task: object) -> None:
        wanted.append((asked.put(names, lambda: huey.enqueue(task)), value))

    for n in rounds():
        want([f"plain-{n}"], n * n, square.s(f"plain-{n}", n))
        if n % 3 == 0:
            want([f"high-{n}"], n * n, square.s(f"high-{n}", n, priority=n % 10))
            want([f"stumble-{n}"], n + 1, stumble.s(f"stumble-{n}", n))
        if n % 4 == 0:
            want([f"later-{n}"], n * n, square.s(f"later-{n}", n, delay=1))
        if n % 5 == 0:
            names = [f"pipe-{n}-{part}" for part in range(3)]
            want(names, n * n + 3, square.s(names[0], n).then(more, names[1], 1).then(more, names[2], 2))
    for result, value in wanted:
        found = result.get(blocking=True, timeout=PATIENCE)  # type: ignore[attr-defined]
        found = found[-1] if isinstance(found, list) else found  # What the last part of a pipeline gave.
        assert found == value, f"{result} is {found}, not {value}"
    until(lambda: (huey.pending_count(), huey.scheduled_count()) == (0, 0), "nothing is pending")
    asked.report(results=len(wanted))


if __name__ == "__main__":
    main()
