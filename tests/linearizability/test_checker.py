"""The checker finds what is wrong and passes what is right, before anything is concluded from it."""

from __future__ import annotations

import itertools
import random

import pytest

from .checker import Undecided, check, is_linearizable
from .history import MODELS, NEVER, Model, Operation

REGISTER, COUNTER, QUEUE = MODELS["register"], MODELS["counter"], MODELS["queue"]


def op(name: str, argument: object, result: object, begin: float, end: float, client: int = 0) -> Operation:
    return Operation(client, "key", name, argument, result, begin, end)


GOOD: dict[str, tuple[Model, list[Operation]]] = {
    "nothing happened": (REGISTER, []),
    "one after the other": (REGISTER, [op("set", "a", "OK", 0, 1), op("get", None, "a", 2, 3)]),
    "a read beside a write sees the old value": (REGISTER, [op("set", "a", "OK", 0, 5), op("get", None, None, 1, 2)]),
    "a read beside a write sees the new value": (REGISTER, [op("set", "a", "OK", 0, 5), op("get", None, "a", 1, 2)]),
    "an unanswered write happens later": (REGISTER, [op("set", "a", None, 0, NEVER), op("get", None, None, 1, 2), op("get", None, "a", 3, 4)]),
    "an unanswered write never happens": (REGISTER, [op("set", "a", None, 0, NEVER), op("get", None, None, 1, 2), op("set", "b", "OK", 3, 4)]),
    "an unanswered write is seen by a getset": (REGISTER, [op("set", "a", None, 0, NEVER), op("getset", "b", "a", 1, 2)]),
    "an unanswered write is what a delete removes": (REGISTER, [op("set", "a", None, 0, NEVER), op("delete", None, 1, 1, 2)]),
    "increments that overlap": (COUNTER, [op("increment", 1, 2, 0, 9), op("increment", 1, 1, 0, 9), op("get", None, 2, 10, 11)]),
    "an unanswered increment between two": (COUNTER, [op("increment", 1, 1, 0, 1), op("increment", 1, None, 0, NEVER), op("increment", 1, 3, 2, 3)]),
    "an unanswered pop took the value": (QUEUE, [op("push", "a", 1, 0, 1), op("pop", None, None, 2, NEVER), op("all", None, (), 3, 4)]),
    "two clients pop in order": (QUEUE, [op("push", "a", 1, 0, 1), op("push", "b", 2, 2, 3), op("pop", None, "b", 4, 9), op("pop", None, "a", 5, 6)]),
}

BAD: dict[str, tuple[Model, list[Operation]]] = {
    "a lost write": (REGISTER, [op("set", "a", "OK", 0, 1), op("get", None, None, 2, 3)]),
    "a stale read": (REGISTER, [op("set", "a", "OK", 0, 1), op("set", "b", "OK", 2, 3), op("get", None, "a", 4, 5)]),
    "a value from nowhere": (REGISTER, [op("get", None, "x", 0, 1)]),
    "a read of the future": (REGISTER, [op("get", None, "a", 0, 1), op("set", "a", "OK", 2, 3)]),
    "a new value, then the old one": (REGISTER, [op("set", "a", "OK", 0, 9), op("get", None, "a", 1, 2), op("get", None, None, 3, 4)]),
    "an unanswered write that comes and goes": (
        REGISTER, [op("set", "a", None, 0, NEVER), op("get", None, "a", 1, 2), op("get", None, None, 3, 4)],
    ),
    "an unanswered write undone by what it overwrote": (
        REGISTER,
        [op("set", "a", "OK", 0, 1), op("set", "b", None, 2, NEVER), op("get", None, "b", 3, 4), op("get", None, "a", 5, 6)],
    ),
    "an increment carried out twice": (COUNTER, [op("increment", 1, 1, 0, 1), op("get", None, 2, 2, 3)]),
    "two increments with one result": (COUNTER, [op("increment", 1, 1, 0, 9), op("increment", 1, 1, 0, 9)]),
    "an unanswered increment carried out twice": (COUNTER, [op("increment", 1, None, 0, NEVER), op("get", None, 2, 2, 3)]),
    "a value popped twice": (QUEUE, [op("push", "a", 1, 0, 1), op("pop", None, "a", 2, 3), op("pop", None, "a", 4, 5)]),
    "a value popped out of order": (QUEUE, [op("push", "a", 1, 0, 1), op("push", "b", 2, 2, 3), op("pop", None, "b", 4, 5)]),
    "a value that was lost": (QUEUE, [op("push", "a", 1, 0, 1), op("push", "b", 1, 2, 3)]),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_right_histories_pass(name: str) -> None:
    assert is_linearizable(*GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_wrong_histories_fail(name: str) -> None:
    assert not is_linearizable(*BAD[name])


def brute_force(model: Model, operations: list[Operation]) -> bool:
    """Every order of every subset that holds all certain operations."""
    certain = [each for each in operations if each.certain]
    uncertain = [each for each in operations if not each.certain]
    for count in range(len(uncertain) + 1):
        for chosen in itertools.combinations(uncertain, count):
            if any(explains(model, order) for order in itertools.permutations([*certain, *chosen])):
                return True
    return False


def explains(model: Model, order: tuple[Operation, ...]) -> bool:
    latest_begin = float("-inf")
    state = model.initial
    for each in order:
        if each.end < latest_begin:
            return False
        latest_begin = max(latest_begin, each.begin)
        state, result = model.step(state, each)
        if each.certain and result != each.result:
            return False
    return True


def history(rng: random.Random, kind: str, count: int, clients: int, unanswered: float, key: str = "key") -> list[Operation]:
    """What clients see of one atomic server: each operation happens at some time between its begin and its end."""
    free_at = [0.0] * clients
    planned = []
    for number in range(count):
        client = rng.randrange(clients)
        begin = free_at[client] + rng.random()
        end = begin + rng.expovariate(1.0)
        free_at[client] = end
        answered = rng.random() >= unanswered
        happens = begin + (end - begin) * rng.random() if answered else begin + rng.expovariate(0.5)
        planned.append((happens, answered or rng.random() < 0.5, begin, end if answered else NEVER, client, number))
    model = MODELS[kind]
    state, found = model.initial, []
    for _, carried_out, begin, end, client, number in sorted(planned):
        name, argument = draw(rng, kind, number)
        operation = Operation(client, key, name, argument, None, begin, end)
        if carried_out:
            state, result = model.step(state, operation)
            operation = Operation(client, key, name, argument, result if end != NEVER else None, begin, end)
        found.append(operation)
    return found


def draw(rng: random.Random, kind: str, number: int) -> tuple[str, object]:
    names = {"register": ["set", "get", "get", "getset", "delete"], "counter": ["increment", "increment", "get"], "queue": ["push", "push", "pop", "all"]}
    name = rng.choice(names[kind][:-1] if kind == "register" and number % 2 else names[kind])
    return name, {"set": f"v{number}", "getset": f"v{number}", "push": f"v{number}", "increment": 1}.get(name)


def changed(rng: random.Random, operations: list[Operation]) -> list[Operation]:
    """The history with one result replaced by another that occurs in it."""
    certain = [at for at, each in enumerate(operations) if each.certain and each.result != "OK"]
    if not certain:
        return operations
    at = rng.choice(certain)
    others = [each.result for each in operations if each.name == operations[at].name and each.certain]
    each = operations[at]
    altered = Operation(each.client, each.key, each.name, each.argument, rng.choice(others), each.begin, each.end)
    return [*operations[:at], altered, *operations[at + 1 :]]


@pytest.mark.parametrize("kind", MODELS)
def test_small_histories_are_judged_as_by_trying_every_order(kind: str) -> None:
    verdicts = {True: 0, False: 0}
    for seed in range(700):
        rng = random.Random(f"{kind}/{seed}")
        operations = history(rng, kind, rng.randint(2, 6), rng.randint(1, 3), 0.2)
        if rng.random() < 0.7:
            operations = changed(rng, operations)
        expected = brute_force(MODELS[kind], operations)
        assert is_linearizable(MODELS[kind], operations) == expected, "\n".join(["", *map(str, operations)])
        verdicts[expected] += 1
    assert min(verdicts.values()) > 30, verdicts


@pytest.mark.parametrize("kind", MODELS)
def test_long_histories_of_an_atomic_server_pass_and_a_lost_write_in_them_fails(kind: str) -> None:
    key = f"{kind}:1"
    for seed in range(8):
        rng = random.Random(f"long/{kind}/{seed}")
        operations = history(rng, kind, 300, 6, 0.01, key)
        assert check(operations)["operations"] == 300
        # An acknowledged write that is missing from what everybody saw: the counts after it are all too high for it.
        begin = max(each.end for each in operations if each.certain) + 1
        lost = {"register": ("set", "lost", "OK"), "counter": ("increment", 1, 1), "queue": ("push", "lost", 1)}[kind]
        after = {"register": ("get", None, "other"), "counter": ("get", None, 1), "queue": ("all", None, ())}[kind]
        wrong = [*operations, Operation(0, key, *lost, begin, begin + 1), Operation(0, key, *after, begin + 2, begin + 3)]
        with pytest.raises(AssertionError, match="not linearizable"):
            check(wrong)


def test_a_search_without_end_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linearizability.checker.CONFIGURATIONS_MAX", 1000)
    writes = [op("increment", 1 << number, None, 0, NEVER) for number in range(20)]
    with pytest.raises(Undecided):
        is_linearizable(COUNTER, [*writes, op("get", None, -1, 1, 2)])
