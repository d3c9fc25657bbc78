"""One node's disk is damaged, full, or hangs: the others go on, and it is made whole from them."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness.cluster import OK, Cluster, Node, until
from shell.test_full_disk import fill as fill_disk

from .load import Load
from .test_membership import check_filled, fill

SEED = 1
FLAGS = ["--log-segment-bytes", "256kb", "--checkpoint-log-bytes", "512kb"]
FULL_DISK_MB = 96
WRITTEN_MB = 20
HANGING_DISK_MB = 128


@pytest.mark.parametrize("kind", ["flipped", "zeroed"])
def test_a_replica_with_a_damaged_file_is_rebuilt_from_its_peers(kind: str) -> None:
    """Every file but the node's identity is damaged in its middle. The others see no error meanwhile."""
    rng = random.Random(f"{SEED}/{kind}")
    with Cluster(flags=FLAGS) as cluster:
        fill(cluster.node(1))
        load = Load(cluster, SEED).start_everywhere(1)
        load.progress(100)
        noticed = 0
        for role in ("follower", "leader"):
            victim = pick(cluster, role)
            with load.undisturbed(*cluster.others(victim)):
                victim.kill()
                damage(victim, kind, rng)
                before = len(victim.log())
                victim.begin()
                cluster.wait_whole()
                noticed += any(word in victim.log()[before:] for word in ("damage", "checksum", "corrupt", "rebuil"))
        assert noticed > 0, "no damage was ever told of"
        load.progress(20)
        load.finish()
        cluster.wait_equal()
        other = cluster.others(victim)[0]
        other.kill()
        cluster.wait_writes(victim)
        check_filled(victim)


def damage(node: Node, kind: str, rng: random.Random) -> None:
    """A byte flipped or a sector zeroed in a stretch that was written, of each log file or checkpoint."""
    for path in sorted(node.data.rglob("*")):
        if not path.is_file() or path.name in ("lock", "LOCK") or "identity" in path.name:
            continue
        content = bytearray(path.read_bytes())
        written = [at for at in range(0, len(content), 512) if any(content[at : at + 512])]
        if len(written) < 3:
            continue
        at = written[len(written) // 2]
        if kind == "flipped":
            content[at + rng.randrange(min(512, len(content) - at))] ^= 1 << rng.randrange(8)
        else:
            content[at : at + 512] = bytes(len(content[at : at + 512]))
        path.write_bytes(bytes(content))


def run(*line: str) -> None:
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"these tests mount file systems, and `{' '.join(line)}` failed: {done.stderr}")


@contextmanager
def mounted(node: Node, *options: str) -> Iterator[Path]:
    """The node's directory as a file system of its own."""
    run("mount", *options, str(node.directory))
    try:
        yield node.directory
    finally:
        node.kill()
        run("umount", "--lazy", str(node.directory))


def pick(cluster: Cluster, role: str) -> Node:
    leader = cluster.wait_leader()
    return leader if role == "leader" else cluster.others(leader)[0]


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_full_disk_of_one_node_does_not_stop_writes_through_the_others(role: str) -> None:
    with Cluster(flags=["--log-segment-bytes", "4mb"], form=False) as cluster, ExitStack() as disks:
        for node in cluster.nodes:
            disks.enter_context(mounted(node, "-t", "tmpfs", "-o", f"size={FULL_DISK_MB}m", "none"))
        cluster.form()
        small = pick(cluster, role)
        ballast = small.directory / "ballast"
        fill_disk(ballast)
        one, other = cluster.others(small)
        with one.connect() as connection:
            for number in range(WRITTEN_MB):
                until(lambda: connection.call("SET", f"k{number}", bytes(1 << 20)) == OK, "a write through a node with space")
        with small.connect() as connection:
            assert connection.call("GET", f"k{WRITTEN_MB - 1}") == ("$", bytes(1 << 20)), "reading needs no disk"
        ballast.unlink()
        cluster.wait_whole()
        cluster.wait_equal()
        other.kill()
        cluster.wait_writes(small)
        assert small.call("GET", f"k{WRITTEN_MB - 1}") == ("$", bytes(1 << 20))


@contextmanager
def frozen(disk: Path) -> Iterator[None]:
    """Whatever is written or synced below waits, as on a disk that hangs; what was read before can still be read."""
    run("fsfreeze", "--freeze", str(disk))
    try:
        yield
    finally:
        run("fsfreeze", "--unfreeze", str(disk))


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_disk_that_hangs_does_not_stop_the_others(role: str) -> None:
    """A leader whose disk hangs gives leadership up. Its followers alone are a majority of disks, so that writes may go on
    even under it; but a node that cannot keep anything is no leader."""
    with Cluster(form=False) as cluster, ExitStack() as disks:
        for node in cluster.nodes:
            image = cluster.directory / f"image{node.number}"
            image.touch()
            os.truncate(image, HANGING_DISK_MB << 20)
            run("mkfs.ext4", "-q", str(image))
            disks.enter_context(mounted(node, "-o", "loop", str(image)))
        cluster.form()
        slow = pick(cluster, role)
        load = Load(cluster, SEED).start_everywhere()
        rest = cluster.others(slow)
        with load.undisturbed(*rest) as clients:
            with frozen(slow.directory):
                load.progress(60, clients)
                if role == "leader":
                    cluster.wait_leader(rest)
                    load.progress(60, clients)
            load.progress(30)
        cluster.wait_whole()
        load.finish()
