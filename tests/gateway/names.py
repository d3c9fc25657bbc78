"""A name server of the tests' own, with records that a test changes while it runs."""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

A, AAAA = 1, 28
NAME_ERROR, SERVER_FAILURE = 3, 2


@dataclass
class Zone:
    """What is said of one name."""

    addresses: list[str] = field(default_factory=list)
    ttl: int = 1
    code: int = 0
    silent: bool = False


class NameServer:
    """Answers on a UDP port of the loopback interface. Names that it does not know do not exist (NXDOMAIN)."""

    def __init__(self) -> None:
        self.zones: dict[str, Zone] = {}
        self.asked: list[tuple[float, str, int]] = []
        """When, for which name and type."""
        self.ended = False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def say(self, name: str, *addresses: str, ttl: int = 1, code: int = 0, silent: bool = False) -> None:
        self.zones[name] = Zone(list(addresses), ttl, code, silent)

    def times(self, name: str) -> list[float]:
        """When the IPv4 addresses of a name were asked for."""
        return [at for at, asked, kind in self.asked if asked == name and kind == A]

    def serve(self) -> None:
        while True:
            try:
                question, to = self.socket.recvfrom(4096)
            except OSError:
                return
            if self.ended:
                return
            if reply := self.reply(question):
                self.socket.sendto(reply, to)

    def reply(self, question: bytes) -> bytes:
        # RFC 1035, section 4: a head of 12 bytes, then labels up to an empty one, type and class.
        labels, at = [], 12
        while (length := question[at]) != 0:
            labels.append(question[at + 1 : at + 1 + length].decode())
            at += 1 + length
        kind = struct.unpack("!H", question[at + 1 : at + 3])[0]
        name = ".".join(labels).lower()
        self.asked.append((time.monotonic(), name, kind))
        zone = self.zones.get(name, Zone(code=NAME_ERROR))
        if zone.silent:
            return b""
        found = [ipaddress.ip_address(text) for text in zone.addresses]
        found = [address for address in found if address.version == (4 if kind == A else 6 if kind == AAAA else 0)]
        # An answer; recursion was asked for and is there.
        head = question[:2] + struct.pack("!HHHHH", 0x8180 | zone.code, 1, len(found), 0, 0)
        records = [struct.pack("!HHHIH", 0xC00C, kind, 1, zone.ttl, len(a.packed)) + a.packed for a in found]
        return head + question[12 : at + 5] + b"".join(records)

    def __enter__(self) -> "NameServer":
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # shutdown wakes the thread with an empty datagram; a socket without a peer refuses it, and is closed all the same.
        self.ended = True
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
