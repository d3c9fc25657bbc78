"""The command groups by name. `mixed` draws from all of them, so that every command meets every type."""

from __future__ import annotations

from collections.abc import Sequence

from ..generator import Maker
from . import bits, geo, hashes, keys, lists, server, sets, sort, streams, strings, zsets

Group = Sequence[tuple[float, Maker]]

GROUPS: dict[str, Group] = {
    "strings": strings.GROUP,
    "keys": keys.GROUP,
    "databases": keys.DATABASE_GROUP,
    "hashes": hashes.GROUP,
    "lists": lists.GROUP,
    "sets": sets.GROUP,
    "zsets": zsets.GROUP,
    "bits": bits.BITS,
    "hll": bits.HLL,
    "geo": geo.GROUP,
    "sort": sort.GROUP,
    "streams": streams.GROUP,
    "long_streams": streams.LONG_GROUP,
    "server": server.GROUP,
}
GROUPS["mixed"] = [entry for name, group in GROUPS.items() if name not in ("server", "databases", "long_streams") for entry in group]
