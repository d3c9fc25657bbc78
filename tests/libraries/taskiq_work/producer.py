"""Jobs for TaskIQ, and their results."""

from __future__ import annotations

import asyncio
import time

from redis import Redis
from tasks import URL, broker, square, stumble
from work import PATIENCE, Asked, rounds, until


async def main() -> None:
    asked = Asked()
    await broker.startup()
    wanted: list[tuple[object, int]] = []

    async def want(name: str, value: int, task, x: int) -> None:  # type: ignore[no-untyped-def]
        end = time.monotonic() + PATIENCE
        while True:
            try:
                wanted.append((await task.kiq(name, x), value))
                asked.jobs.append(name)
                return
            except Exception as error:
                asked.note(error)
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.05)

    for n in rounds():
        await want(f"plain-{n}", n * n, square, n)
        if n % 3 == 0:
            await want(f"stumble-{n}", n + 1, stumble, n)
    for result, value in wanted:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                found = await result.wait_result(check_interval=0.1, timeout=max(1.0, end - time.monotonic()))  # type: ignore[attr-defined]
                if not found.is_err:
                    break
                await asyncio.sleep(0.1)  # The first try's error, until the second try's result is there.
            except Exception as error:
                asked.note(error)
            assert time.monotonic() < end, f"no result of {result}"
        assert found.return_value == value, f"{result} is {found}, not {value}"
    with Redis.from_url(URL) as client:
        until(lambda: client.xpending(broker.queue_name, broker.consumer_group_name)["pending"] == 0, "nothing is pending")
    await broker.shutdown()
    asked.report(results=len(wanted))


if __name__ == "__main__":
    asyncio.run(main())
