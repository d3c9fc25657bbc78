"""A TaskIQ broker as its manual writes one: a stream with a consumer group, so that what a dead worker had is claimed by others."""

from __future__ import annotations

from typing import Annotated

from taskiq import Context, SimpleRetryMiddleware, TaskiqDepends
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker
from work import DB, HOST, PORT, done

URL = f"redis://{HOST}:{PORT}/{DB}"
broker = (
    RedisStreamBroker(url=URL, idle_timeout=3_000, unacknowledged_lock_timeout=5, xread_block=500)
    .with_result_backend(RedisAsyncResultBackend(redis_url=URL, result_ex_time=600))
    .with_middlewares(SimpleRetryMiddleware(default_retry_count=5))
)


@broker.task
async def square(job: str, x: int) -> int:
    done(job)
    return x * x


@broker.task(retry_on_error=True, max_retries=5)
async def stumble(job: str, x: int, context: Annotated[Context, TaskiqDepends()]) -> int:
    """Fails the first time."""
    if not int(context.message.labels.get("_retries", 0)):
        raise RuntimeError("the first try fails")
    done(job)
    return x + 1
