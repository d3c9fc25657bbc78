"""An example program of a crate that takes requests on standard input and replies on standard output, as a connection."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .resp import Connection, ConnectionLost

ROOT = Path(__file__).resolve().parents[2]


class Example(Connection):
    """`name` is the example's; the variable TESTED_NAME gives another path than the release build's."""

    def __init__(self, crate: str, name: str) -> None:
        path = Path(os.environ.get(f"TESTED_{name.upper()}", ROOT / "target/release/examples" / name))
        assert path.exists(), f"{path} is not there: cargo build --release -p {crate} --example {name}"
        self.name = name
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.buffer = b""
        self.at = 0

    def send_raw(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def _receive(self, most: int) -> bytes:
        assert self.process.stdout is not None
        data = os.read(self.process.stdout.fileno(), most)
        if not data:
            raise ConnectionLost(f"{self.name} ended")
        return data

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(10) == 0, f"{self.name} died"
