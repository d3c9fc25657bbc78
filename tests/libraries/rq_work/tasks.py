"""Functions that RQ's workers import."""

from __future__ import annotations

from rq import get_current_job
from work import done


def square(job: str, x: int) -> int:
    done(job)
    return x * x


def stumble(job: str, x: int) -> int:
    """Fails the first time."""
    current = get_current_job()
    assert current is not None
    if not current.meta.get("stumbled"):
        current.meta["stumbled"] = True
        current.save_meta()
        raise RuntimeError("the first try fails")
    done(job)
    return x + 1


def after(job: str) -> int:
    """Adds up what the jobs before gave."""
    current = get_current_job()
    assert current is not None
    values = [dependency.return_value() for dependency in current.fetch_dependencies()]
    done(job)
    return sum(values)
