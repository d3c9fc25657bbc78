"""Chooses and runs the cases. See bench/run."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import time

from . import cells, cluster, failover, gateway, handover, memory, pubsub, queues, scripts, streams, throughput

CASES = {
    "throughput": throughput.in_memory,
    "durable": throughput.durable,
    "scripts": scripts.compare,
    "streams": streams.compare,
    "pubsub": pubsub.compare,
    "queues": queues.compare,
    "handover": handover.compare,
    "memory": memory.resident,
    "checkpoint": memory.checkpoint,
    "loading": memory.loading,
    "cluster": cluster.throughput,
    "failover": failover.failover,
    "idle": cluster.idle,
    "cells": cells.throughput,
    "gateway": gateway.compare,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench/run",
        description="Measures skep beside redis-server, etcd, RabbitMQ, NATS, nginx and haproxy: same machine, same load, turn by turn, medians.",
        epilog="examples: bench/run; bench/run throughput --repeats 9; bench/run memory loading --scale 0.1",
    )
    parser.add_argument("case", nargs="*", help=f"of {', '.join(CASES)}; all if none is named")
    parser.add_argument("--repeats", type=int, default=5, help="how often each measurement is repeated (default 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the numbers of requests and keys (default 1)")
    chosen = parser.parse_args()
    if unknown := [name for name in chosen.case if name not in CASES]:
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(CASES)}")
    version = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {os.cpu_count()} cores, kernel {platform.release()}, redis-server {version}, load average {load:.2f}")
    if load > 0.5:
        print("This machine is busy: the numbers will say little.")
    for name in chosen.case or CASES:
        begun = time.monotonic()
        CASES[name](chosen.scale, chosen.repeats)
        print(f"\n({name}: {time.monotonic() - begun:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
