"""A network of its own for a cluster: one namespace per host, joined by a bridge, cut and healed link by link.

Every host has a fixed address, the same in each network, since no other process can be there. The calling thread and the
threads and processes that it starts afterwards live on the host `client` between `enter` and `leave`.

A cut loses packets in one direction and tells nobody: the sender keeps a hardware address for the other host that no
host has. (Firewall rules and netem would need kernel modules that many machines lack; a link set down would be noticed.)
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

NAMESPACES = Path("/run/netns")
PREFIX = "skeptest"
CLIENT = "client"
CLIENT_NUMBER = 100
NOBODY = "02:00:00:00:ff:ff"
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)

_serial = 0


class NetworkUnavailable(Exception):
    """This machine does not let the test make network namespaces."""


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NetworkUnavailable(f"`ip {' '.join(words)}` failed: {done.stderr.strip()}. These tests need root and Debian's iproute2.")


def enter_namespace(path: Path) -> None:
    """Moves the calling thread into a network namespace."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if LIBC.setns(descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns to {path}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(descriptor)


def remove_orphans() -> None:
    """Removes what test processes left that were killed before they could."""
    for path in NAMESPACES.glob(f"{PREFIX}-*"):
        pid = path.name.split("-")[1]
        if not Path(f"/proc/{pid}").exists():
            subprocess.run(["ip", "netns", "del", path.name], capture_output=True, check=False)


class Network:
    """Hosts 1 to `count` and the host `client`, at first all connected with each other. Close it."""

    def __init__(self, count: int) -> None:
        global _serial
        _serial += 1
        self.name = f"{PREFIX}-{os.getpid()}-{_serial}"
        self.count = count
        self.home: int | None = None
        remove_orphans()
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        switch = f"{self.name}-switch"
        ip("netns", "add", switch)
        ip("-n", switch, "link", "add", "name", "switch", "type", "bridge")
        ip("-n", switch, "link", "set", "switch", "up")
        for host in self.hosts():
            space = self.namespace(host)
            ip("netns", "add", space)
            ip("-n", space, "link", "set", "lo", "up")
            ip("-n", space, "link", "add", "eth0", "address", hardware(host), "type", "veth", "peer", "name", f"port{host}", "netns", switch)
            ip("-n", switch, "link", "set", f"port{host}", "master", "switch", "up")
            ip("-n", space, "addr", "add", f"{address(host)}/24", "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
        for source in self.hosts():
            for target in self.hosts():
                self._know(source, target, hardware(target))

    def hosts(self) -> list[int]:
        return [*range(1, self.count + 1), CLIENT_NUMBER]

    def namespace(self, host: int) -> str:
        return f"{self.name}-{CLIENT if host == CLIENT_NUMBER else host}"

    def on_host(self, host: int, line: Sequence[str]) -> list[str]:
        """The command line that runs `line` on the host, as the same process."""
        return ["nsenter", f"--net={NAMESPACES / self.namespace(host)}", *line]

    def enter(self) -> None:
        """The calling thread, and all that it starts from here on, is on the host `client`."""
        assert self.home is None, "left before it is entered again"
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        enter_namespace(NAMESPACES / self.namespace(CLIENT_NUMBER))

    def leave(self) -> None:
        if self.home is not None:
            enter_namespace(Path(f"/proc/self/fd/{self.home}"))
            os.close(self.home)
            self.home = None

    def _know(self, source: int, target: int, mac: str) -> None:
        if source != target:
            ip("-n", self.namespace(source), "neigh", "replace", address(target), "lladdr", mac, "dev", "eth0", "nud", "permanent")

    def cut(self, source: int, target: int) -> None:
        """What `source` sends to `target` is lost; the other direction works."""
        self._know(source, target, NOBODY)

    def part(self, left: Iterable[int], right: Iterable[int]) -> None:
        """Nothing passes between the two groups."""
        right = list(right)
        for one in left:
            for other in right:
                self.cut(one, other)
                self.cut(other, one)

    def isolate(self, host: int) -> None:
        """The host reaches no other but `client`."""
        self.part([host], [other for other in range(1, self.count + 1) if other != host])

    def heal(self) -> None:
        """All links work."""
        for source in self.hosts():
            for target in self.hosts():
                self._know(source, target, hardware(target))

    def close(self) -> None:
        """Removes the namespaces. What runs in them must have ended before."""
        self.leave()
        for host in self.hosts():
            subprocess.run(["ip", "netns", "del", self.namespace(host)], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", f"{self.name}-switch"], capture_output=True, check=False)


def address(host: int) -> str:
    return f"10.0.0.{host}"


def hardware(host: int) -> str:
    return f"02:00:00:00:00:{host:02x}"
