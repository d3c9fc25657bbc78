"""The HTTP side as CONTRACT promises it: health, readiness, metrics, the cluster's status."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

from harness.server import Skep


def get(skep: Skep, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{skep.http_port}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_health_and_readiness(quick_skep: Skep) -> None:
    assert get(quick_skep, "/healthz")[0] == 200
    assert get(quick_skep, "/readyz")[0] == 200
    assert get(quick_skep, "/nosuch")[0] == 404


def test_cluster_status(quick_skep: Skep) -> None:
    with quick_skep.connect() as connection:
        connection.call("FLUSHALL")
        connection.call("SET", "a", "1")
    status, body = get(quick_skep, "/api/v1/cluster")
    assert status == 200
    cluster = json.loads(body)
    assert len(cluster["nodes"]) == 1 and cluster["cluster_id"]
    node = cluster["nodes"][0]
    assert node["name"] == "test" and node["state"] == "up"
    assert node["client"] == f"127.0.0.1:{quick_skep.port}"
    assert sum(last - first + 1 for shard in cluster["shards"] for first, last in shard["slots"]) == 16384
    for shard in cluster["shards"]:
        assert shard["leader"] == node["id"]
        assert [replica["role"] for replica in shard["replicas"]] == ["voter"]


def test_metrics_are_prometheus_text(quick_skep: Skep) -> None:
    status, body = get(quick_skep, "/metrics")
    assert status == 200
    lines = [line for line in body.splitlines() if line and not line.startswith("#")]
    assert len(lines) > 10
    for line in lines:
        name, value = line.rsplit(" ", 1)
        assert name.startswith("skep_") or name.startswith("process_"), line
        float(value)
