"""`python -m differential`, run in tests/: the comparison for as long as one likes."""

from __future__ import annotations

import argparse
import sys
import time

from harness.resp import Connection
from harness.server import Server, server

from . import campaign
from .groups import GROUPS
from .known_differences import excuse, nothing
from .running import Pair


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m differential",
        description="Sends the same generated commands to redis-server and to a peer and compares every reply.",
        epilog="example: python -m differential --peer skep --group zsets --seed 1 --streams 500",
    )
    parser.add_argument("--peer", choices=("redis", "skep"), default="skep", help="whom to compare with redis-server")
    parser.add_argument("--peer-port", type=int, help="a peer that runs already, instead of a new one (it will be flushed)")
    parser.add_argument("--group", choices=sorted(GROUPS), action="append", help="only these groups (repeat the option)")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--streams", type=int, default=1, help="how many seeds, each for every group; 0 runs until Ctrl-C")
    parser.add_argument("--length", type=int, default=campaign.LENGTH, help="commands in a stream")
    parser.add_argument("--stop-after", type=int, default=10, help="end after so many failures")
    parser.add_argument("--dedup", action="store_true", help="show only the first failure of each command")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    groups = chosen.group or list(GROUPS)
    seeds = range(chosen.seed, chosen.seed + (chosen.streams or sys.maxsize - chosen.seed))
    started: list[Server] = [server("redis").start()]
    port = chosen.peer_port
    try:
        if port is None:
            extra = ["--durability", "memory"] if chosen.peer == "skep" else []
            started.append(server(chosen.peer, extra=extra).start())
            port = started[1].port
        pair = Pair(started[0].port, port, nothing if chosen.peer == "redis" else excuse, Connection)
        return report(pair, chosen, groups, seeds)
    finally:
        for each in started:
            each.close()


def report(pair: Pair, chosen: argparse.Namespace, groups: list[str], seeds: range) -> int:
    begun, streams, failures, seen = time.monotonic(), 0, 0, set()

    def count() -> None:
        nonlocal streams
        streams += 1

    try:
        for failure in campaign.run(pair, groups, seeds, chosen.peer, chosen.length, count):
            name = failure.difference.words[0].upper()
            if chosen.dedup and name in seen:
                continue
            seen.add(name)
            failures += 1
            print(failure, flush=True)
            if failures >= chosen.stop_after:
                break
    except KeyboardInterrupt:
        pass
    for reason, times in sorted(pair.excused.items()):
        print(f"{times:8} times: {reason}")
    print(f"{streams} streams, {pair.commands} commands, {failures} failures, {time.monotonic() - begun:.1f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
