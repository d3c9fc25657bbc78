"""Bytes flipped and ends cut in every file of a small data directory.

core/log tries every byte in memory; here a sample goes through the real start-up, message and exit code included.
Samples per file: $DAMAGE_SAMPLES.
"""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from crash.load import Load
from harness.server import Skep, StartFailed

SAMPLES = int(os.environ.get("DAMAGE_SAMPLES", "12"))
SEED = int(os.environ.get("DAMAGE_SEED", "1"))
FLAGS = ["--log-segment-bytes", "64kb", "--checkpoint-log-bytes", "128kb"]


@dataclass
class Saved:
    """A data directory as a clean stop left it, and what was acknowledged into it."""

    directory: Path
    load: Load

    def files(self) -> list[Path]:
        data = self.directory / "data"
        return sorted(path.relative_to(data) for path in data.rglob("*") if path.is_file() and path.stat().st_size > 0)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saved]:
    """Several log files and a checkpoint, left by kill -9: no clean end of the log."""
    directory = tmp_path_factory.mktemp("saved")
    load = Load(SEED, writers=2)
    with Skep(directory=directory, extra=FLAGS) as skep:
        load.start(skep)
        while load.acknowledged < 6000 and all(thread.is_alive() for thread in load.threads):
            load.threads[0].join(0.01)
        load.stop.set()
        load.finish()
        skep.kill()
        yield Saved(directory, load)


def start_damaged(saved: Saved, directory: Path, what: str) -> str:
    """Starts skep on the damaged copy. Returns `served` or `refused`; anything else fails the test."""
    skep = Skep(directory=directory, extra=FLAGS)
    try:
        try:
            skep.start()
        except StartFailed as failed:
            message = failed.stderr
            assert "panicked" not in message, f"{what}: {message}"
            assert failed.code not in (0, None) and failed.code > 0, f"{what}: ended with {failed.code}\n{message}"
            assert names_the_place(message), f"{what}: the message names no file and offset:\n{message}"
            return "refused"
        with skep.connect() as connection:
            for writer in saved.load.writers:
                assert writer.read(connection) == writer.state, f"{what}: served, but acknowledged writes are gone"
        assert "panicked" not in skep.log(), f"{what}: {skep.log()}"
        return "served"
    finally:
        skep.close()


def names_the_place(message: str) -> bool:
    return "data" in message and re.search(r"(offset|byte|position)\D{0,12}\d+|:\d+|short|missing|empty", message) is not None


def copy(saved: Saved, target: Path) -> Path:
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(saved.directory, target)
    return target


def test_undamaged_copy_is_served(saved: Saved, tmp_path: Path) -> None:
    assert start_damaged(saved, copy(saved, tmp_path / "copy"), "nothing") == "served"
    assert len(saved.files()) >= 3, saved.files()


def test_flipped_bytes_are_served_or_refused_with_the_place(saved: Saved, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    outcomes = {"served": 0, "refused": 0}
    for name in saved.files():
        size = (saved.directory / "data" / name).stat().st_size
        spots = {0, size - 1, *(rng.randrange(size) for _ in range(SAMPLES))}
        for spot in sorted(spots):
            directory = copy(saved, tmp_path / "copy")
            path = directory / "data" / name
            content = bytearray(path.read_bytes())
            content[spot] ^= 1 << rng.randrange(8)
            path.write_bytes(bytes(content))
            outcomes[start_damaged(saved, directory, f"{name} byte {spot} of {size} flipped")] += 1
    print(f"flipped: {outcomes}")
    assert outcomes["refused"] > 0, "no flipped byte was noticed"


def test_cut_files_are_served_or_refused_with_the_place(saved: Saved, tmp_path: Path) -> None:
    """A cut inside the last log file may lose acknowledged writes silently only if it can be told from a torn tail,
    which it cannot: there the check is that nothing wrong is served, here that every other file is checked in full."""
    rng = random.Random(SEED + 1)
    outcomes = {"served": 0, "refused": 0}
    for name in saved.files():
        size = (saved.directory / "data" / name).stat().st_size
        for length in sorted({0, size // 2, size - 1, *(rng.randrange(size) for _ in range(SAMPLES // 2))}):
            directory = copy(saved, tmp_path / "copy")
            with open(directory / "data" / name, "r+b") as file:
                file.truncate(length)
            outcomes[start_damaged(saved, directory, f"{name} cut from {size} to {length} bytes")] += 1
    print(f"cut: {outcomes}")


def test_missing_files_are_served_or_refused(saved: Saved, tmp_path: Path) -> None:
    for name in saved.files():
        directory = copy(saved, tmp_path / "copy")
        (directory / "data" / name).unlink()
        start_damaged(saved, directory, f"{name} removed")


def test_foreign_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A data directory that holds something else is a mistake of the caller's, not a place to write into."""
    data = tmp_path / "d" / "data"
    data.mkdir(parents=True)
    (data / "holiday.jpg").write_bytes(b"not ours")
    skep = Skep(directory=tmp_path / "d")
    try:
        skep.start()
    except StartFailed as failed:
        assert "panicked" not in failed.stderr
    finally:
        skep.close()
    assert (data / "holiday.jpg").read_bytes() == b"not ours"


def test_unwritable_directory_is_refused_with_its_path(tmp_path: Path) -> None:
    """A file where the directory should be: root may write anywhere, so permissions would prove nothing."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "data").write_text("a file")
    skep = Skep(directory=tmp_path / "d")
    try:
        with pytest.raises(StartFailed) as failed:
            skep.start()
        assert str(skep.data) in failed.value.stderr and "panicked" not in failed.value.stderr
    finally:
        skep.close()
