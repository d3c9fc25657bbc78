"""A data directory on a small file system that is really full."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.server import Skep, StartFailed

OK = ("+", b"OK")
MOUNT_MB = 48
SEGMENTS = ["--log-segment-bytes", "8mb"]


@pytest.fixture
def small() -> Iterator[Path]:
    """A directory that is a file system of MOUNT_MB."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "disk"
        path.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={MOUNT_MB}m", "none", str(path)]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.fail(f"these tests mount a tmpfs, and that is not permitted here: {done.stderr}")
        try:
            yield path
        finally:
            subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(ballast: Path) -> None:
    """Takes all space that is left."""
    with open(ballast, "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass


def until_ok(skep: Skep, seconds: float = 10.0) -> None:
    with skep.connect() as connection:
        end = time.monotonic() + seconds
        while connection.call("SET", "after", "1") != OK:
            assert time.monotonic() < end, "writes are refused although there is space"
            time.sleep(0.02)


@pytest.mark.parametrize("durability", ["disk", "memory"])
def test_writes_are_refused_reads_go_on_and_nothing_acknowledged_is_lost(small: Path, durability: str) -> None:
    extra = [*SEGMENTS, "--durability", durability]
    with Skep(directory=small, extra=extra) as skep:
        ballast = small / "ballast"
        ballast.write_bytes(bytes(8 << 20))
        acknowledged, refusal = 0, None
        with skep.connect() as connection:
            for number in range(4_000):
                reply = connection.call("SET", f"k{number}", bytes(50_000))
                if reply != OK:
                    refusal = reply
                    break
                acknowledged += 1
            assert refusal is not None and refusal[1].startswith(b"TRYAGAIN the disk is full"), refusal
            assert connection.call("GET", "k0") == ("$", bytes(50_000))
            assert connection.call("EXISTS", *(f"k{n}" for n in range(acknowledged))) == (":", acknowledged)
            assert b"disk" in connection.call("SET", "x", "1")[1]
        fill(ballast)
        # Started again while it is full: it answers what it has.
        assert skep.terminate() == 0
        skep.start()
        with skep.connect() as connection:
            assert connection.call("DBSIZE") == (":", acknowledged)
            assert connection.call("GET", f"k{acknowledged - 1}") == ("$", bytes(50_000))
        ballast.unlink()
        until_ok(skep)
        if durability == "disk":
            skep.kill()
        else:
            assert skep.terminate() == 0
        skep.start()
        with skep.connect() as connection:
            assert connection.call("DBSIZE") == (":", acknowledged + 1)
        assert "panic" not in skep.log()


def test_a_checkpoint_that_does_not_fit_costs_nothing_but_itself(small: Path) -> None:
    with Skep(directory=small, extra=SEGMENTS) as skep, skep.connect() as connection:
        for number in range(12):
            assert connection.call("SET", f"k{number}", bytes(1_000_000)) == OK
        time.sleep(0.2)
        fill(small / "ballast")
        connection.call("BGSAVE")
        end = time.monotonic() + 10
        while "checkpoint failed" not in skep.log():
            assert time.monotonic() < end, skep.log()
            time.sleep(0.02)
        assert skep.log().count("checkpoint failed") == 1
        assert connection.call("GET", "k3") == ("$", bytes(1_000_000))
        (small / "ballast").unlink()
        until_ok(skep)
        connection.call("BGSAVE")
        while skep.log().count("checkpoint saved") < 2:
            assert time.monotonic() < end, skep.log()
            time.sleep(0.02)
        skep.kill()
        skep.start()
        with skep.connect() as again:
            assert again.call("DBSIZE") == (":", 13)


def test_a_first_start_on_a_full_disk_says_so(small: Path) -> None:
    skep = Skep(directory=small, extra=SEGMENTS)
    try:
        fill(small / "ballast")
        with pytest.raises(StartFailed) as failed:
            skep.start()
        assert "o space left on" in failed.value.stderr and "free some" in failed.value.stderr
        (small / "ballast").unlink()
        skep.start()
        until_ok(skep)
    finally:
        skep.close()
