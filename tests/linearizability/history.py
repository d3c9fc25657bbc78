"""Operations as clients saw them, and what each kind of key does with them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

Value = Hashable
NEVER = float("inf")
"""The end of an operation whose outcome is not known: it may have happened at any time after its begin, or not at all."""


@dataclass(frozen=True)
class Operation:
    """One operation on one key. Times are of one clock; the begin is read before sending, the end after the reply."""

    client: int
    key: str
    name: str
    argument: Value
    result: Value
    begin: float
    end: float

    @property
    def certain(self) -> bool:
        return self.end != NEVER

    def __str__(self) -> str:
        end = f"{self.end:.6f}" if self.certain else "unknown"
        result = repr(self.result) if self.certain else "?"
        return f"{self.begin:.6f} to {end}: client {self.client} {self.name}({'' if self.argument is None else repr(self.argument)}) = {result}"


Step = Callable[[Value, Operation], tuple[Value, Value]]
"""Carries out an operation on a state: the state behind it and its result. The result of an uncertain one is not looked at."""


@dataclass(frozen=True)
class Model:
    """What a key of one kind does."""

    initial: Value
    step: Step
    relevant: Callable[[list[Operation]], list[Operation]] = lambda operations: operations
    """Leaves out uncertain operations that cannot matter, since each doubles what must be searched."""


def _register(state: Value, operation: Operation) -> tuple[Value, Value]:
    match operation.name:
        case "set":
            return operation.argument, "OK"
        case "getset":
            return operation.argument, state
        case "delete":
            return None, int(state is not None)
        case "get":
            return state, state
    raise ValueError(operation.name)


def _seen_writes(operations: list[Operation]) -> list[Operation]:
    """Without uncertain writes whose value nobody ever saw. Values are never written twice, so leaving such a write out of
    an order leaves that order right: what overwrote it did not depend on it. A delete answers whether there was a value,
    so beside deletes nothing is left out."""
    if any(each.name == "delete" for each in operations):
        return operations
    seen = {each.result for each in operations if each.certain and each.name in ("get", "getset")}
    return [each for each in operations if each.certain or each.argument in seen]


def _counter(state: Any, operation: Operation) -> tuple[Value, Value]:
    match operation.name:
        case "increment":
            return state + operation.argument, state + operation.argument
        case "get":
            return state, state
    raise ValueError(operation.name)


def _queue(state: Any, operation: Operation) -> tuple[Value, Value]:
    match operation.name:
        case "push":
            return (*state, operation.argument), len(state) + 1
        case "pop":
            return state[1:], state[0] if state else None
        case "all":
            return state, state
    raise ValueError(operation.name)


MODELS = {
    "register": Model(None, _register, _seen_writes),
    "counter": Model(0, _counter),
    "queue": Model((), _queue),
}


def by_key(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    keys: dict[str, list[Operation]] = {}
    for each in operations:
        keys.setdefault(each.key, []).append(each)
    return keys
