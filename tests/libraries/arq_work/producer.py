"""Jobs of each kind that ARQ knows, and their results."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from arq import create_pool
from arq.jobs import Job
from tasks import SETTINGS, surely
from work import PATIENCE, Asked, rounds


async def again(asked: Asked, call: Callable[[], Awaitable[object]]) -> object:
    """Calls until it succeeds. A job has an id, so asking again is harmless."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return await call()
        except Exception as error:
            asked.note(error)
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.05)


async def main() -> None:
    asked = Asked()
    pool = await create_pool(SETTINGS)
    wanted: list[tuple[str, object]] = []

    async def want(name: str, value: object, function: str, *args: object, **options: object) -> None:
        await again(asked, lambda: surely(pool, function, name, *args, _job_id=name, **options))
        asked.jobs.append(name)
        wanted.append((name, value))

    for n in rounds():
        await want(f"plain-{n}", n * n, "square", n)
        if n % 3 == 0:
            await want(f"stumble-{n}", n + 1, "stumble", n)
        if n % 4 == 0:
            await want(f"later-{n}", n * n, "square", n, _defer_by=0.5)
        if n % 5 == 0:
            await want(f"head-{n}", f"head-{n}-tail", "head", n)
            asked.jobs.append(f"head-{n}-tail")
            wanted.append((f"head-{n}-tail", n * n))
    end = time.monotonic() + PATIENCE
    for name, value in wanted:
        job = Job(name, pool)
        found = await again(asked, lambda job=job: job.result(timeout=max(1.0, end - time.monotonic()), poll_delay=0.1))
        assert found == value, f"{name} is {found}, not {value}"
    while pending := await again(asked, pool.queued_jobs):
        # The schedule of the worker goes on.
        if all(each.function == "cron:tick" for each in pending):  # type: ignore[attr-defined]
            break
        assert time.monotonic() < end, f"pending: {pending}"
        await asyncio.sleep(0.1)
    asked.report(results=len(wanted))


if __name__ == "__main__":
    asyncio.run(main())
