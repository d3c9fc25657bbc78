"""Searches for an order of a key's operations that explains every result.

The search is Wing and Gong's with Lowe's memory of visited configurations ("Testing for linearizability", 2017), as
Porcupine has it: take any operation that has begun and whose result fits the state, go on with the rest, step back where
an operation ended and no order had room for it. Linearizability is local, so each key is searched by itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from .history import MODELS, Model, Operation, Value, by_key

CONFIGURATIONS_MAX = 3_000_000
"""Visited configurations, some hundred bytes each, before the search gives up: far above what a test's history needs."""
SHOWN = 25


class Undecided(Exception):
    """The search would take too long: fewer operations to a key, or fewer uncertain ones, make it feasible."""


class Entry:
    """The begin or the end of an operation, in a list linked by time. A begin knows the end, if there is one."""

    __slots__ = ("operation", "number", "is_end", "end", "before", "after")

    def __init__(self, operation: Operation | None, number: int, is_end: bool = False, end: "Entry | None" = None) -> None:
        self.operation = operation
        self.number = number
        self.is_end = is_end
        self.end = end
        self.before: Entry | None = None
        self.after: Entry | None = None


class Search:
    """One key's search. `explain` tells how far it came."""

    def __init__(self, model: Model, operations: Iterable[Operation]) -> None:
        self.model = model
        self.operations = sorted(model.relevant(list(operations)), key=lambda each: (each.begin, each.end))
        self.head = Entry(None, -1)
        self.remaining = sum(each.certain for each in self.operations)
        self.best: tuple[int, list[Operation]] = (-1, [])
        self._link()

    def _link(self) -> None:
        timeline: list[tuple[float, int, Entry]] = []
        for number, operation in enumerate(self.operations):
            end = Entry(operation, number, is_end=True) if operation.certain else None
            begin = Entry(operation, number, end=end)
            # Of two events at one time the begin counts first: then the two overlap, which forbids less.
            timeline.append((operation.begin, 0, begin))
            if end is not None:
                timeline.append((operation.end, 1, end))
        timeline.sort(key=lambda event: event[:2])
        last = self.head
        for _, _, entry in timeline:
            last.after, entry.before = entry, last
            last = entry

    def run(self) -> bool:
        """Whether the history is linearizable. Raises Undecided."""
        state: Value = self.model.initial
        done = 0
        visited: set[tuple[int, Value]] = set()
        taken: list[tuple[Entry, Value]] = []
        entry = self.head.after
        while self.remaining:
            if entry is not None and not entry.is_end:
                after = self._fits(state, entry)
                configuration = None if after is None else (done | 1 << entry.number, after[0])
                if configuration is None or configuration in visited:
                    entry = entry.after
                    continue
                visited.add(configuration)
                if len(visited) > CONFIGURATIONS_MAX:
                    raise Undecided(f"{len(self.operations)} operations, {len(visited)} configurations")
                taken.append((entry, state))
                done, state = configuration
                self._take(entry)
                entry = self.head.after
                continue
            # An operation ended that could not be placed: the last choice was wrong.
            self._remember(taken)
            if not taken:
                return False
            entry, state = taken.pop()
            done ^= 1 << entry.number
            self._put_back(entry)
            entry = entry.after
        return True

    def _fits(self, state: Value, entry: Entry) -> tuple[Value] | None:
        assert entry.operation is not None, "only the head has none"
        after, result = self.model.step(state, entry.operation)
        return (after,) if not entry.operation.certain or result == entry.operation.result else None

    def _take(self, entry: Entry) -> None:
        for each in (entry, entry.end):
            if each is not None:
                each.before.after = each.after
                if each.after is not None:
                    each.after.before = each.before
        self.remaining -= entry.end is not None

    def _put_back(self, entry: Entry) -> None:
        for each in (entry.end, entry):
            if each is not None:
                each.before.after = each
                if each.after is not None:
                    each.after.before = each
        self.remaining += entry.end is not None

    def _remember(self, taken: list[tuple[Entry, Value]]) -> None:
        if len(taken) > self.best[0]:
            self.best = len(taken), [entry.operation for entry, _ in taken[-SHOWN:]]

    def explain(self) -> str:
        """The longest order that was found, and what could not follow it."""
        count, last = self.best
        placed = set(last)
        start = last[0].begin if last else 0.0
        rest = [each for each in self.operations if each not in placed and each.begin >= start][:SHOWN]
        lines = ["", f"{count} of {len(self.operations)} operations can be ordered; the last of these:", *map(str, last), "and nothing fits of what follows:", *map(str, rest)]
        return "\n  ".join(lines)


def is_linearizable(model: Model, operations: Iterable[Operation]) -> bool:
    return Search(model, operations).run()


def check(operations: Iterable[Operation]) -> dict[str, int]:
    """Checks each key by the model that its name begins with (`counter:7`). Returns how much was checked.

    Raises AssertionError with the part of the history that has no order.
    """
    keys = by_key(operations)
    checked = uncertain = 0
    for key, found in sorted(keys.items()):
        search = Search(MODELS[key.split(":")[0]], found)
        assert search.run(), f"{key} is not linearizable: {search.explain()}"
        checked += len(found)
        uncertain += sum(not each.certain for each in found)
    return {"keys": len(keys), "operations": checked, "uncertain": uncertain}
