"""A Huey instance and its tasks as its manual writes them."""

from __future__ import annotations

from huey import PriorityRedisHuey
from work import DB, HOST, PORT, done

huey = PriorityRedisHuey("work", host=HOST, port=PORT, db=DB, results=True)


@huey.task()
def square(job: str, x: int) -> int:
    done(job)
    return x * x


@huey.task(retries=5, retry_delay=0.2, context=True)
def stumble(job: str, x: int, task=None) -> int:  # type: ignore[no-untyped-def]
    """Fails the first time."""
    if task.retries == 5:
        raise RuntimeError("the first try fails")
    done(job)
    return x + 1


@huey.task()
def more(job: str, amount: int, x: int) -> int:
    """A later part of a pipeline."""
    done(job)
    return x + amount
