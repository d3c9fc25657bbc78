"""Another system that jobs have effects in: a database file that refuses the tokens of workers who were replaced.

It keeps the greatest token that it has seen for each job, as docs/queues.md advises. Who repeats is given the same answer.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

TABLES = """
CREATE TABLE IF NOT EXISTS effects (job TEXT PRIMARY KEY, token INTEGER NOT NULL, times INTEGER NOT NULL, refused INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS acknowledged (job TEXT NOT NULL, token INTEGER NOT NULL, worker TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS stale (job TEXT NOT NULL, token INTEGER NOT NULL, worker TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS asleep (job TEXT NOT NULL, worker TEXT NOT NULL, process INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS killed (process INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS added (job TEXT NOT NULL);
"""


class Outside:
    """One process's connection to it."""

    def __init__(self, path: str | Path) -> None:
        self.base = sqlite3.connect(path, timeout=60, isolation_level=None)
        self.base.execute("PRAGMA journal_mode = WAL")
        self.base.executescript(TABLES)

    def carry_out(self, job: str, token: int) -> bool:
        """Whether the effect was let in: not if a later lease's was."""
        self.base.execute("BEGIN IMMEDIATE")
        seen = self.base.execute("SELECT token FROM effects WHERE job = ?", (job,)).fetchone()
        fits = seen is None or token >= seen[0]
        if seen is None:
            self.base.execute("INSERT INTO effects VALUES (?, ?, 1, 0)", (job, token))
        elif fits:
            self.base.execute("UPDATE effects SET token = ?, times = times + 1 WHERE job = ?", (token, job))
        else:
            self.base.execute("UPDATE effects SET refused = refused + 1 WHERE job = ?", (job,))
        self.base.execute("COMMIT")
        return fits

    def note(self, table: str, *row: object) -> None:
        self.base.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)

    def rows(self, question: str) -> list[tuple]:
        return self.base.execute(question).fetchall()
