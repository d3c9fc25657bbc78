"""Many streams over many groups: what the command line and pytest both run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .generator import Words, stream
from .groups import GROUPS
from .running import Difference, Pair, line, shrink

LENGTH = 120


@dataclass
class Failure:
    """A stream on which the servers differ, shrunk, with what repeats it."""

    group: str
    seed: int
    protocol: int
    peer: str
    commands: list[Words]
    difference: Difference

    def __str__(self) -> str:
        history = "\n".join(f"  {line(words)}" for words in self.commands[:-1])
        return (
            f"group {self.group}, seed {self.seed}, RESP{self.protocol}; shrunk to {len(self.commands)} commands:\n"
            f"{history}\n> {self.difference}\n"
            f"  repeat: cd tests && ../.venv/bin/python -m differential --peer {self.peer} --group {self.group} --seed {self.seed}"
        )


def run_stream(pair: Pair, group: str, seed: int, peer: str, length: int = LENGTH, reduce: bool = True) -> Failure | None:
    """One stream. The protocol comes from the seed: even is RESP2, odd is RESP3."""
    protocol = 2 + seed % 2
    commands = stream(GROUPS[group], f"{group}/{seed}", length)
    pair.group = group
    found = pair.run(commands, protocol)
    if found is None:
        return None
    commands = commands[: found.at + 1]
    if reduce:
        commands, found = shrink(pair, commands, protocol, found)
    return Failure(group, seed, protocol, peer, commands, found)


def run(pair: Pair, groups: list[str], seeds: range, peer: str, length: int = LENGTH, each: Callable[[], None] = lambda: None) -> Iterator[Failure]:
    """All streams of the groups, seed by seed, so that a short run touches every group."""
    for seed in seeds:
        for group in groups:
            failure = run_stream(pair, group, seed, peer, length)
            each()
            if failure is not None:
                yield failure
