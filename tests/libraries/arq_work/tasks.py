"""An ARQ worker as its manual writes one."""

from __future__ import annotations

from arq import Retry, cron
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import Job, JobStatus
from redis.asyncio.retry import Retry as Again
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError, TimeoutError
from work import DB, HOST, PORT, done

SETTINGS = RedisSettings(
    host=HOST, port=PORT, database=DB, conn_retries=60, conn_retry_delay=1,
    retry=Again(ExponentialBackoff(cap=1, base=0.05), 20), retry_on_error=[ConnectionError, TimeoutError],
)  # fmt: skip


async def surely(pool: ArqRedis, function: str, *args: object, _job_id: str, **options: object) -> None:
    """Adds the job. `enqueue_job` gives None if it is known already, and also where a connection broke before its EXEC was answered."""
    added = await pool.enqueue_job(function, *args, _job_id=_job_id, **options)
    if added is None and await Job(_job_id, pool).status() == JobStatus.not_found:
        raise ConnectionError(f"{_job_id} was not added")


async def square(ctx: dict, job: str, x: int) -> int:
    done(job)
    return x * x


async def stumble(ctx: dict, job: str, x: int) -> int:
    """Fails the first time."""
    if ctx["job_try"] == 1:
        raise Retry(defer=0.2)
    done(job)
    return x + 1


async def head(ctx: dict, job: str, x: int) -> str:
    """Asks for a job by itself."""
    done(job)
    try:
        await surely(ctx["redis"], "square", job + "-tail", x, _job_id=job + "-tail")
    except ConnectionError:
        raise Retry(defer=0.2) from None
    return job + "-tail"


async def tick(ctx: dict) -> None:
    done("tick")


class WorkerSettings:
    functions = [square, stumble, head]
    cron_jobs = [cron(tick, second=set(range(0, 60, 2)))]
    redis_settings = SETTINGS
    keep_result = 600
    max_tries = 20
    job_timeout = 5
    poll_delay = 0.1
