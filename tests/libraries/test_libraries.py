"""Every job that a library was asked for is done, with its result, while one node after another is killed.

All chosen libraries work at once on one cluster: `pytest tests/libraries -k celery` takes one alone, `--against redis` runs the
same programs with redis-server and without kills.
"""

from __future__ import annotations

import pytest

from .scene import PRODUCER, Library, Outcome, Scene, in_node, in_python

LIBRARIES = {
    library.name: library
    for library in [
        # Celery, RQ, Dramatiq and Huey pop a job and then have it; what is in a reply that a dead node never sends is gone.
        in_python("celery", 0, "celery -A tasks worker --concurrency 2 -l warning", steady=True),
        in_python("huey", 1, "huey_consumer tasks.huey -k thread -w 4", steady=True),
        in_python("rq", 2, *["rq worker high default --with-scheduler --url {url} --maintenance-interval 5"] * 2, steady=True),
        in_python("dramatiq", 3, "dramatiq tasks --processes 2 --threads 4", steady=True),
        in_python("arq", 4, "python -m arq tasks.WorkerSettings"),
        in_node("bullmq", 5, 2),
        in_node("bull", 6, 2),
        in_node("socketio", 7, 2),
        in_python("taskiq", 8, "taskiq worker tasks:broker --workers 2"),
        in_python("flask", 9, *["python server.py"] * 2),
        in_python("django", 10, *["python server.py"] * 2),
        in_node("express", 11, 2, producer=PRODUCER),
    ]
}

# These need Debian's Ruby and PHP, which the project's tests do not install.
BY_HAND = {
    library.name: library
    for library in [
        Library("sidekiq", 12, (tuple("sidekiq -r ./tasks.rb -c 4 -q high -q default".split()),), ("ruby", "producer.rb"), steady=True),
        Library("laravel", 13, (("php", "worker.php"),) * 2, ("php", "producer.php")),
    ]
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", [*LIBRARIES, *(BY_HAND if metafunc.config.getoption("--more-libraries") else [])])


def run(libraries: list[Library], against: str) -> dict[str, Outcome]:
    scene = Scene(libraries)
    return scene.on_redis() if against == "redis" else scene.on_skep()


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> dict[str, Outcome]:
    chosen = [item.callspec.params["name"] for item in request.session.items if hasattr(item, "callspec") and item.path == request.path]
    return run([library for name, library in {**LIBRARIES, **BY_HAND}.items() if name in chosen], request.config.getoption("--against"))


@pytest.mark.timeout(600)
def test_every_job_is_done_and_none_is_lost(name: str, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[name]
    assert outcome.code == 0, f"the producer ended with {outcome.code}; workers started again: {outcome.restarts}\n{outcome.logs}"
    jobs = outcome.report["jobs"]
    assert isinstance(jobs, list) and len(jobs) >= 100, outcome.report
    lost = [job for job in jobs if job not in outcome.done]
    assert not lost, f"{len(lost)} of {len(jobs)} jobs were never done: {lost[:20]}\n{outcome.logs}"
    twice = sum(1 for job in set(jobs) if outcome.done[job] > 1)
    pauses = ", ".join(f"{seconds:.1f}" for seconds in outcome.pauses)
    more = {key: value for key, value in outcome.report.items() if key != "jobs" and value}
    print(f"{name}: {len(jobs)} jobs, {twice} done more than once, {outcome.restarts} workers started again, longest pauses {pauses or 'none'} s, {more}")
