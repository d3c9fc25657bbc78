"""redis-cli and redis-benchmark: Debian's, in the ways that people use them."""

from __future__ import annotations

import re
import subprocess

import pytest

from harness.server import Redis, Server, Skep

SCRIPT = """\
SET a 1
GET a
INCR a
GET none
RPUSH l x y z
LRANGE l 0 -1
HSET h f v g w
HGETALL h
ZADD z 1 a 2 b
ZRANGE z 0 -1 WITHSCORES
SADD s only
SMEMBERS s
LPUSH a x
NOSUCH command
SELECT 3
DBSIZE
EXPIRE none 10
OBJECT ENCODING a
PING "hello world"
"""


def cli(server: Server, *words: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        ["redis-cli", "-p", str(server.port), *words], input=stdin, capture_output=True, text=True, timeout=120
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("flags", [[], ["-3"], ["--no-raw"], ["-3", "--no-raw"], ["--csv"], ["--json"]], ids=" ".join)
def test_a_script_prints_the_same(redis_server: Redis, skep: Skep, flags: list[str]) -> None:
    printed = []
    for server in (redis_server, skep):
        cli(server, "FLUSHALL")
        printed.append(cli(server, *flags, stdin=SCRIPT))
    # Scores are doubles in RESP3, and every whole number prints the same in 7.0 and 7.4.
    assert printed[0] == printed[1]


def fill(server: Server) -> None:
    cli(server, "FLUSHALL")
    lines = [f"SET k:{number} {'v' * number}" for number in range(1, 101)]
    lines += ["RPUSH list a b c", "SADD set a b", "HSET hash a 1 b 2", "ZADD zset 1 a"]
    cli(server, stdin="\n".join(lines) + "\n")


def test_scan(redis_server: Redis, skep: Skep) -> None:
    found = []
    for server in (redis_server, skep):
        fill(server)
        found.append(sorted(cli(server, "--scan", "--pattern", "k:*").split()))
    assert found[0] == found[1] and len(found[1]) == 100


def test_bigkeys(redis_server: Redis, skep: Skep) -> None:
    summaries = []
    for server in (redis_server, skep):
        fill(server)
        output = cli(server, "--bigkeys")
        summaries.append(sorted(line for line in output.splitlines() if re.match(r"(Biggest|\d+ )", line.strip())))
    assert summaries[0] == summaries[1] and len(summaries[1]) > 8


def test_memkeys(skep: Skep) -> None:
    fill(skep)
    assert "Biggest string" in cli(skep, "--memkeys")


def test_stat_one_round(skep: Skep) -> None:
    """--stat never ends by itself; one line of numbers is what it needs INFO for."""
    fill(skep)
    process = subprocess.Popen(
        ["redis-cli", "-p", str(skep.port), "--stat", "-i", "0.01"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )  # fmt: skip
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        assert re.match(r"\s*104\s", lines[2]), lines
    finally:
        process.kill()
        process.wait()


def test_interactive_help_asks_for_command_docs(skep: Skep) -> None:
    assert "summary" in cli(skep, "COMMAND", "DOCS", "GET")


def test_latency_and_ping_many(skep: Skep) -> None:
    assert cli(skep, "-r", "5", "PING").split() == ["PONG"] * 5


def test_pipe_mode_loads_a_file(skep: Skep) -> None:
    """`redis-cli --pipe` sends raw RESP and an ECHO at the end, and counts errors and replies."""
    cli(skep, "FLUSHALL")
    data = "".join(f"*3\r\n$3\r\nSET\r\n${len(f'p:{n}')}\r\np:{n}\r\n$1\r\nx\r\n" for n in range(2000))
    assert "errors: 0, replies: 2000" in cli(skep, "--pipe", stdin=data)
    assert cli(skep, "DBSIZE").strip() == "2000"


@pytest.mark.parametrize("pipeline", ["1", "16"])
def test_benchmark_runs_through(skep: Skep, pipeline: str) -> None:
    tests = "ping_inline,ping_mbulk,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange,mset"
    done = subprocess.run(
        ["redis-benchmark", "-p", str(skep.port), "-q", "-n", "2000", "-c", "20", "-P", pipeline, "-r", "100", "-t", tests],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    rates = re.findall(r"^(?:.*\r)?(\S[^:\r\n]*): ([\d.]+) requests per second", done.stdout, re.MULTILINE)
    assert len(rates) >= 16, done.stdout
    assert "rror" not in done.stdout + done.stderr
