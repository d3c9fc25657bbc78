"""What happens inside the namespace: `skep serve` without a flag, and the user's program. See test_task_queue.py."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = Path(__file__).resolve().parent / "task_queue.py"
START_SECONDS = 30


def serve(binary: str) -> subprocess.Popen[bytes]:
    """skep with nothing but defaults, once it takes connections."""
    with open("skep.log", "ab") as log:
        process = subprocess.Popen([binary, "serve"], stdout=log, stderr=log)
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", 6379), timeout=5).close()
            return process
        except OSError:
            time.sleep(0.01)
    process.kill()
    sys.exit("skep did not start:\n" + Path("skep.log").read_text())


def main(mode: str, binary: str) -> None:
    skep = serve(binary)
    program = subprocess.Popen([sys.executable, "-u", str(PROGRAM)], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    try:
        for line in program.stdout:
            sys.stdout.write(line)
            if mode == "kill" and line.startswith("Processing task"):
                mode = "killed"
                skep.kill()
                skep.wait()
                skep = serve(binary)
        code = program.wait(30)
        skep.terminate()
        stopped = skep.wait(30)
    finally:
        program.kill()
        skep.kill()
    sys.exit(f"program ended with {code}, skep with {stopped}" if code or stopped else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
