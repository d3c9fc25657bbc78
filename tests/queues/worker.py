"""A worker as a process of its own: takes one job, says so, waits for a line on stdin, acknowledges, says what came of it."""

from __future__ import annotations

import sys

import redis


def main() -> None:
    client = redis.Redis(port=int(sys.argv[1]), protocol=2)
    [[queue, job, token, *_]] = client.execute_command("QTAKE", 1, "stopped", "WORKER", "sleepy", "LEASE", 300)
    print(f"took {job.decode()} {token}", flush=True)
    sys.stdin.readline()
    try:
        print(f"acknowledged {client.execute_command('QACK', queue, job, token)}", flush=True)
    except redis.ResponseError as error:
        print(f"refused {error}", flush=True)


if __name__ == "__main__":
    main()
