"""The issue's task-queue program, not one character changed, against `skep serve` with nothing configured.

It wants port 6379, and tests own no fixed port: it runs in a network namespace of its own, where every port is free.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.server import skep_binary

HERE = Path(__file__).resolve().parent
OUTPUT = """\
Task 'Calculate user balance' added to queue
Task 'Send payment notification' added to queue
Task 'Update inventory' added to queue
Processing task: b'Calculate user balance'
Task completed: b'Calculate user balance'
Processing task: b'Send payment notification'
Task completed: b'Send payment notification'
Processing task: b'Update inventory'
Task completed: b'Update inventory'
"""


def in_namespace(mode: str, directory: Path) -> str:
    """Runs the scene in a fresh network namespace and returns what the program printed."""
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    try:
        subprocess.run([*unshare, "ip", "link", "set", "lo", "up"], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.fail(f"this machine does not allow a network namespace, which the test needs: {error}")
    scene = [sys.executable, str(HERE / "task_queue_scene.py"), mode, str(skep_binary())]
    done = subprocess.run(
        [*unshare, "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *scene],
        cwd=directory, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_program_runs_unchanged(tmp_path: Path) -> None:
    assert in_namespace("plain", tmp_path) == OUTPUT


def test_the_program_survives_kill_and_restart_between_two_tasks(tmp_path: Path) -> None:
    """skep is killed while the first task is worked on; the other two are acknowledged and must come back."""
    assert in_namespace("kill", tmp_path) == OUTPUT
