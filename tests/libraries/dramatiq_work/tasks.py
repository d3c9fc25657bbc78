"""A Dramatiq broker and its actors as its manual writes them."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import CurrentMessage
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from work import DB, HOST, PORT, done

URL = f"redis://{HOST}:{PORT}/{DB}"
broker = RedisBroker(url=URL, heartbeat_timeout=10_000, maintenance_chance=1_000)
broker.add_middleware(Results(backend=RedisBackend(url=URL), result_ttl=600_000))
broker.add_middleware(CurrentMessage())
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True, max_retries=20, min_backoff=100, max_backoff=2_000)
def square(job: str, x: int) -> int:
    done(job)
    return x * x


@dramatiq.actor(store_results=True, queue_name="high", priority=0, max_retries=20, min_backoff=100, max_backoff=2_000)
def urgent(job: str, x: int) -> int:
    done(job)
    return x + 1


@dramatiq.actor(store_results=True, max_retries=20, min_backoff=100, max_backoff=2_000)
def stumble(job: str, x: int) -> int:
    """Fails the first time."""
    message = CurrentMessage.get_current_message()
    assert message is not None
    if not message.options.get("retries"):
        raise RuntimeError("the first try fails")
    done(job)
    return x + 2


@dramatiq.actor(store_results=True, max_retries=20, min_backoff=100, max_backoff=2_000)
def more(job: str, amount: int, x: int) -> int:
    """A later part of a pipeline."""
    done(job)
    return amount + x
