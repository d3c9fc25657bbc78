"""node-redis and ioredis, as they come: they print the same against redis-server and against skep."""

from __future__ import annotations

import subprocess

import pytest

from harness.server import ROOT, Redis, Server, Skep

NODE = ROOT / "tests" / "node"


def run(program: str, server: Server) -> str:
    node = ROOT / ".venv" / "bin" / "node"
    done = subprocess.run([str(node), program, str(server.port)], cwd=NODE, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("program", ["node_redis.mjs", "ioredis.mjs"])
def test_same_output_as_with_redis(redis_server: Redis, skep: Skep, program: str) -> None:
    expected = run(program, redis_server)
    assert len(expected.splitlines()) > 25, expected
    assert run(program, skep) == expected
