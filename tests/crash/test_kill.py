"""kill -9 and SIGTERM at random moments under load, many times over one data directory.

By hand for longer: `CRASH_SECONDS=3600 CRASH_SEED=7 pytest crash`. kill -9 leaves the kernel's page cache alone; loss of
unsynced pages is the simulator's part.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from harness.server import Skep, StartFailed

from .load import Load

SECONDS = float(os.environ.get("CRASH_SECONDS", "20"))
SEED = int(os.environ.get("CRASH_SEED", "1"))
ROUNDS_MIN = 5
SMALL = ["--checkpoint-log-bytes", "256kb", "--log-segment-bytes", "64kb"]


@pytest.mark.timeout(SECONDS + 240)
@pytest.mark.parametrize("flags", [[], SMALL], ids=["one log file", "many log files and checkpoints"])
def test_acknowledged_writes_survive_kill_nine(flags: list[str]) -> None:
    rng = random.Random(f"{SEED}/{flags}")
    load = Load(SEED)
    end, rounds = time.monotonic() + SECONDS, 0
    with Skep(extra=flags) as skep:
        while time.monotonic() < end or rounds < ROUNDS_MIN:
            load.start(skep)
            time.sleep(rng.expovariate(1 / 0.15))  # The moment of the crash is what the test is about.
            skep.kill()
            load.finish()
            while rng.random() < 0.3:
                # A crash while the last one is being recovered from.
                skep.spawn()
                time.sleep(rng.expovariate(1 / 0.01))
                skep.kill()
            skep.start()
            load.check(skep)
            rounds += 1
        assert "panicked" not in skep.log()
    assert load.acknowledged > rounds * 10, f"only {load.acknowledged} writes in {rounds} rounds: no test"
    print(f"seed {SEED}: {rounds} crashes, {load.acknowledged} acknowledged writes, {load.uncertain} unanswered ones found done")


@pytest.mark.parametrize("flags", [[], SMALL, ["--durability", "memory"]], ids=["disk", "small", "memory"])
def test_acknowledged_writes_survive_a_clean_stop_under_load(flags: list[str]) -> None:
    """SIGTERM ends with 0, and loses nothing even when answers do not wait for the disk."""
    load = Load(SEED)
    with Skep(extra=flags) as skep:
        for _ in range(4):
            load.start(skep)
            time.sleep(0.1)
            assert skep.terminate() == 0, skep.log()
            load.finish()
            skep.start()
            load.check(skep)
        assert "panicked" not in skep.log()
    assert load.acknowledged > 100


def test_checkpoint_and_restart_keep_every_type() -> None:
    """Enough writes for several checkpoints, then a restart that starts from one."""
    load = Load(SEED, writers=2)
    with Skep(extra=[*SMALL, "--durability", "memory"]) as skep:
        load.start(skep)
        end = time.monotonic() + 60
        while load.acknowledged < 30_000 and time.monotonic() < end:
            time.sleep(0.01)
        load.stop.set()
        load.finish()
        assert skep.terminate() == 0
        size = sum(path.stat().st_size for path in skep.data.rglob("*") if path.is_file())
        assert size < 4_000_000, f"{size} bytes on the disk: the log was never cut"
        skep.start()
        load.check(skep)


def test_expiry_survives_a_crash() -> None:
    """Deadlines are kept, and what expired while the server was down is not seen after it."""
    with Skep() as skep:
        with skep.connect() as connection:
            connection.call("SET", "far", "1", "EXAT", 4102444800)
            connection.call("SET", "soon", "1", "PX", 60)
            connection.call("HSET", "h", "a", "1", "b", "2")
            connection.call("HPEXPIRE", "h", 60, "FIELDS", 1, "a")
            dies = time.monotonic() + 0.06
        skep.kill()
        while time.monotonic() < dies:
            time.sleep(0.005)
        skep.start()
        with skep.connect() as connection:
            assert connection.call("GET", "soon") == ("$", None)
            assert connection.call("HGETALL", "h") == ("*", (("$", b"b"), ("$", b"2")))
            assert connection.call("EXPIRETIME", "far") == (":", 4102444800)
            end = time.monotonic() + 10
            while connection.call("DBSIZE") != (":", 2):
                assert time.monotonic() < end, "what has expired is not removed"


def test_streams_and_their_groups_survive_crashes_and_checkpoints() -> None:
    """Entries, deletions, groups and what their consumers have not acknowledged: from the log, then from a checkpoint."""
    with Skep(extra=SMALL) as skep:
        entries = 0
        for consumer in ("one", "two"):
            with skep.connect() as connection:
                for _ in range(12):
                    first, entries = entries + 1, entries + 500
                    added = connection.pipeline([[b"XADD", b"s", b"%d-0" % n, b"field", b"x" * 50 + b"%d" % n] for n in range(first, entries + 1)])
                    assert added[-1] == ("$", b"%d-0" % entries)
                connection.call("XGROUP", "CREATE", "s", "g", "0")
                assert connection.call("XREADGROUP", "GROUP", "g", consumer, "COUNT", 3000, "STREAMS", "s", ">")[0] == "*"
                assert connection.call("XACK", "s", "g", *(f"{n}-0" for n in range(1, entries, 3)))[1] > 0
                assert connection.call("XDEL", "s", f"{entries - 100}-0", f"{entries - 99}-0") == (":", 2)
                assert connection.call("XTRIM", "s", "MAXLEN", "~", 11000, "LIMIT", 0)[0] == ":"
                before = [connection.call("XINFO", "STREAM", "s", "FULL", "COUNT", 0), connection.call("XINFO", "GROUPS", "s")]
            skep.kill()
            skep.start()
            with skep.connect() as connection:
                assert [connection.call("XINFO", "STREAM", "s", "FULL", "COUNT", 0), connection.call("XINFO", "GROUPS", "s")] == before


def test_second_process_on_the_same_data_is_refused(skep: Skep) -> None:
    second = Skep(directory=skep.directory)
    with pytest.raises(StartFailed) as failed:
        second.start()
    assert failed.value.code not in (0, None)
    assert "panicked" not in failed.value.stderr
    assert str(skep.data) in failed.value.stderr, failed.value.stderr
    with skep.connect() as connection:
        assert connection.call("SET", "still", "here") == ("+", b"OK")


def test_lock_ends_with_its_process() -> None:
    with Skep() as skep:
        for _ in range(3):
            skep.kill()
            skep.start()
