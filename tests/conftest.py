"""Fixtures for all tests: servers shared by a test module, each ended whatever happens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.server import Redis, Skep


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--against", choices=["skep", "redis"], default="skep", help="what the libraries of tests/libraries work with")
    parser.addoption("--more-libraries", action="store_true", help="also those that need Debian's Ruby and PHP")


@pytest.fixture(scope="module")
def redis_server() -> Iterator[Redis]:
    """Debian's redis-server, without persistence."""
    with Redis() as server:
        yield server  # type: ignore[misc]


@pytest.fixture(scope="module")
def skep() -> Iterator[Skep]:
    """skep as a user starts it: durable."""
    with Skep() as server:
        yield server  # type: ignore[misc]


@pytest.fixture(scope="module")
def quick_skep() -> Iterator[Skep]:
    """skep that answers before its disk does, for tests of what it answers and not of what it keeps."""
    with Skep(extra=["--durability", "memory"]) as server:
        yield server  # type: ignore[misc]
