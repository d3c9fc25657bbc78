"""Jobs of each kind that RQ knows, and their results."""

from __future__ import annotations

from datetime import timedelta

from redis import Redis
from rq import Queue, Retry
from rq.job import Job
from tasks import after, square, stumble
from work import DB, HOST, PORT, Asked, rounds, until


def main() -> None:
    asked = Asked()
    connection = Redis(host=HOST, port=PORT, db=DB)
    high, default = Queue("high", connection=connection), Queue("default", connection=connection)
    retry = Retry(max=9)
    wanted: list[tuple[str, int]] = []

    def want(queue: Queue, name: str, value: int, function: object, *args: object, **options: object) -> None:
        # An id of its own makes asking again harmless.
        asked.put([name], lambda: queue.enqueue(function, name, *args, job_id=name, retry=retry, result_ttl=600, **options))
        wanted.append((name, value))

    for n in rounds():
        want(default, f"plain-{n}", n * n, square, n)
        if n % 3 == 0:
            want(high, f"high-{n}", n * n, square, n)
            want(default, f"stumble-{n}", n + 1, stumble, n)
        if n % 4 == 0:
            name = f"later-{n}"
            asked.put([name], lambda n=n, name=name: default.enqueue_in(timedelta(seconds=1), square, name, n, job_id=name, retry=retry, result_ttl=600))
            wanted.append((name, n * n))
        if n % 5 == 0:
            heads = [f"head-{n}-{part}" for part in range(3)]
            for part, head in enumerate(heads):
                want(default, head, part * part, square, part)
            want(default, f"after-{n}", 5, after, depends_on=heads)
    for name, value in wanted:
        job = Job(name, connection=connection)
        until(lambda job=job: job.get_status(refresh=True) == "finished", f"{name} is finished")
        assert job.return_value(refresh=True) == value, f"{name} is {job.return_value()}, not {value}"
    for queue in (high, default):
        registries = [queue.started_job_registry, queue.deferred_job_registry, queue.scheduled_job_registry, queue.failed_job_registry]
        until(lambda queue=queue, registries=registries: [queue.count, *map(len, registries)] == [0] * 5, f"nothing is pending in {queue.name}")
    asked.report(results=len(wanted))


if __name__ == "__main__":
    main()
