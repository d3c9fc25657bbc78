"""A Celery application as its manual writes one: late acknowledgement, so that a job whose worker dies is given to another."""

from __future__ import annotations

from celery import Celery
from work import DB, HOST, NODES, PORT, done

app = Celery(
    "tasks",
    broker=";".join(f"redis://{node}/{DB}" for node in NODES),
    backend=f"redis://{HOST}:{PORT}/{DB}",
)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={"visibility_timeout": 30, "priority_steps": [0, 3, 6, 9], "queue_order_strategy": "priority"},
    result_backend_always_retry=True,
    result_expires=600,
)


@app.task
def add(job: str, x: int, y: int) -> int:
    done(job)
    return x + y


@app.task(bind=True, max_retries=5)
def stumble(self, job: str, x: int) -> int:  # type: ignore[no-untyped-def]
    """Fails the first time."""
    if self.request.retries == 0:
        raise self.retry(countdown=0.2)
    done(job)
    return x * x


@app.task
def total(numbers: list[int], job: str) -> int:
    done(job)
    return sum(numbers)
