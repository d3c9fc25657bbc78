"""What tools read about a running node: INFO as exporters parse it, and checkpoints on demand."""

from __future__ import annotations

import redis

from harness.server import Skep

CHECKPOINTS = f"checkpoint-{1:016x}-*"
"""Of the data; group 0 is the cluster's own."""


def test_info_is_what_exporters_expect(quick_skep: Skep) -> None:
    """redis_exporter reads the fields of cmdstat by their place, Datadog's agent by name; both need all of them."""
    with redis.Redis(port=quick_skep.port) as client:
        client.mset({f"key:{number}": "x" * 100 for number in range(20_000)})
        client.keys("*9*")
        info = client.info("everything")
        row = next(line for line in client.execute_command("INFO commandstats", NEVER_DECODE=True).splitlines() if line.startswith(b"cmdstat_keys:"))
    assert [part.split(b"=")[0] for part in row.split(b":")[1].split(b",")] == [b"calls", b"usec", b"usec_per_call", b"rejected_calls", b"failed_calls"]
    assert info["cmdstat_keys"]["usec"] > 0 and info["cmdstat_mset"]["usec_per_call"] > 0
    assert 1 << 20 < info["used_memory_rss"] < info["total_system_memory"], "half a second old at the most"
    assert info["mem_fragmentation_ratio"] > 0
    assert info["used_cpu_user"] + info["used_cpu_sys"] >= info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"] >= 0
    assert {"instantaneous_input_kbps", "instantaneous_output_kbps", "rdb_changes_since_last_save"} < info.keys()


def test_save_answers_when_the_checkpoint_is_on_the_disk() -> None:
    with Skep() as skep, redis.Redis(port=skep.port) as client:
        for saves in (1, 2):
            client.mset({f"key:{number}": f"{saves}" * 1000 for number in range(1_000)})
            before = set(skep.data.glob(CHECKPOINTS))
            assert client.save() is True
            assert set(skep.data.glob(CHECKPOINTS)) - before, "a new file under its final name"
            info = client.info("persistence")
            assert (info["rdb_bgsave_in_progress"], info["rdb_last_bgsave_status"], info["rdb_saves"]) == (0, "ok", saves)
