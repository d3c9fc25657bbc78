"""The gateway's configuration: `skep apply` and `skep rollback` at one node, in force on all."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from pathlib import Path

from harness.cluster import Cluster, Node, until

FIRST = """
# what people wrote stays
[gateway.pool.slow]
upstreams = ["10.0.0.1:80"]
requests = 5
"""
SECOND = FIRST.replace("5", "7")
THIRD = FIRST.replace("5", "9")
POOL = """[gateway.pool.slow]
upstreams = ["10.0.0.1:80"]
"""


def written(cluster: Cluster, text: str, name: str = "gateway.toml") -> str:
    path = cluster.directory / name
    path.write_text(text)
    return str(path)


def run(cluster: Cluster, node: Node, *words: str) -> str:
    done = cluster.command(node, *words)
    assert done.returncode == 0, f"skep {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


def in_force(node: Node) -> int:
    status = node.status()
    return status["gateway"]["in_force"] if status else -1


def test_what_is_applied_at_one_node_is_in_force_on_all_and_is_rolled_back() -> None:
    with Cluster(3) as cluster:
        one, two, three = cluster.nodes
        assert [in_force(node) for node in cluster.nodes] == [0, 0, 0]
        dry = run(cluster, one, "apply", written(cluster, FIRST), "--dry-run")
        assert "+ gateway.pool.slow.requests = 5" in dry and "nothing was changed" in dry, dry
        assert in_force(one) == 0

        done = run(cluster, one, "apply", written(cluster, FIRST))
        assert "version 1 is in force on all 3 nodes" in done, done
        assert [in_force(node) for node in cluster.nodes] == [1, 1, 1]

        done = run(cluster, two, "apply", written(cluster, SECOND))
        assert "5 -> 7" in done and "version 2 is in force on all 3 nodes" in done, done
        again = run(cluster, three, "apply", written(cluster, SECOND))
        assert "version 2 says the same already" in again, again

        assert run(cluster, three, "apply", "--show") == SECOND
        assert run(cluster, one, "apply", "--show", "1") == FIRST
        listed = run(cluster, two, "apply", "--list").splitlines()
        assert len(listed) == 3 and listed[1].split()[0] == "1" and listed[2].endswith("gateway.toml"), listed

        back = run(cluster, three, "rollback")
        assert "7 -> 5" in back and "version 3 is in force on all 3 nodes" in back, back
        assert run(cluster, one, "apply", "--show") == FIRST
        run(cluster, one, "rollback", "2")
        assert run(cluster, two, "apply", "--show") == SECOND
        none = cluster.command(one, "rollback", "17")
        assert none.returncode == 1 and "there is no version 17" in none.stderr and "1 to 4" in none.stderr, none.stderr


def test_a_file_with_a_mistake_changes_nothing_and_says_where() -> None:
    with Cluster(1) as cluster:
        (node,) = cluster.nodes
        run(cluster, node, "apply", written(cluster, FIRST))
        path = written(cluster, POOL + "reqests = 3\n", "wrong.toml")
        for words in (["apply", path], ["apply", path, "--dry-run"]):
            done = cluster.command(node, *words)
            assert done.returncode == 2, done
            assert f"{path}:3: `gateway.pool.slow.reqests` is not known; did you mean `requests`?" in done.stderr, done.stderr
        assert in_force(node) == 1
        assert cluster.command(node, "apply", str(Path(path).with_name("none.toml"))).returncode == 2
        # Whoever passes the command line by is told the same, and changes nothing.
        reply = node.call("SKEP", "GATEWAY", "SET", 1, "by hand", POOL + "reqests = 3\n")
        assert reply[0] == "-" and b"line 3: `gateway.pool.slow.reqests`" in bytes(reply[1]), reply
        reply = node.call("SKEP", "GATEWAY", "SET", 0, "by hand", "[gateway]")
        assert b"is at version 1, this change was made for version 0" in bytes(reply[1]), reply
        assert run(cluster, node, "apply", "--show") == FIRST


def test_other_settings_of_the_file_stay_out_of_the_cluster() -> None:
    with Cluster(1) as cluster:
        (node,) = cluster.nodes
        run(cluster, node, "apply", written(cluster, 'requirepass = "secret"\n' + FIRST))
        shown = run(cluster, node, "apply", "--show")
        assert "secret" not in shown and "gateway.pool.slow.requests = 5" in shown, shown


def test_a_node_that_was_down_or_cut_off_catches_up() -> None:
    with Cluster(3) as cluster:
        one, two, three = cluster.nodes
        run(cluster, one, "apply", written(cluster, FIRST))
        three.kill()
        until(lambda: "down" in run(cluster, one, "node", "list"), "n3 is missed")
        done = run(cluster, one, "apply", written(cluster, SECOND))
        assert "version 2 is in force on 2 of 3 nodes" in done and "n3" in done, done
        three.spawn()
        until(lambda: in_force(three) == 2, "n3 works by version 2 when it is back")
        # All die at once: what was acknowledged is there when they are back.
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            node.spawn()
        cluster.wait_ready()
        until(lambda: [in_force(node) for node in cluster.nodes] == [2, 2, 2], "all work by version 2")
        assert run(cluster, two, "apply", "--show") == SECOND


LISTENING = "import socket, time; s = socket.create_server(('0.0.0.0', 8080)); print('listens', flush=True); time.sleep(60)"


def test_what_one_node_cannot_carry_out_is_taken_back_on_all_and_tried_again_as_long_as_it_is_wanted() -> None:
    listener = FIRST + '[gateway.listener.web]\naddress = "0.0.0.0:8080"\n'
    with Cluster(3) as cluster:
        one, two, three = cluster.nodes
        run(cluster, one, "apply", written(cluster, FIRST))
        line = cluster.network.on_host(three.number, [sys.executable, "-c", LISTENING])
        with subprocess.Popen(line, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None and other.stdout.readline() == b"listens\n"
            done = cluster.command(one, "apply", written(cluster, listener))
            assert done.returncode == 1 and "n3: " in done.stderr and "cannot listen on 0.0.0.0:8080" in done.stderr, done.stderr
            assert "version 2 was taken back on all nodes" in done.stderr and "version 3 is in force on all 3 nodes" in done.stdout, done
            assert run(cluster, one, "apply", "--show") == FIRST
            # Whoever passes the command line by has two nodes of three work by it, and the third as soon as it can.
            assert one.call("SKEP", "GATEWAY", "SET", 3, "by hand", listener) == (":", 4)
            until(lambda: [in_force(node) for node in cluster.nodes] == [4, 4, 3], "n3 lags")
            lagging = re.compile(r"gateway: version 4 is not in force on all nodes: version 4 on n\d, n\d; version 3 on n3\n  n3: ")
            until(lambda: lagging.search(run(cluster, one, "status")), "the status says so, and why")
            told = json.loads(run(cluster, three, "status", "--json"))["nodes"]
            assert {node["name"]: node["gateway"]["in_force"] for node in told} == {"n1": 4, "n2": 4, "n3": 3}, told
            other.kill()
        until(lambda: in_force(three) == 4, "n3 works by it when its port is free")
        shown = run(cluster, two, "status")
        assert "gateway: version 4 is in force on all nodes\n" in shown, shown
        again = run(cluster, one, "apply", written(cluster, listener))
        assert "says the same already" in again and "version 4 is in force on all 3 nodes" in again, again


def test_of_two_who_apply_at_once_one_is_told_of_the_other() -> None:
    with Cluster(3) as cluster:
        run(cluster, cluster.nodes[0], "apply", written(cluster, FIRST))
        for turn in range(10):
            base = 1 + turn
            replies: list[tuple[str, object]] = []

            def change(node: Node, base: int = base, replies: list[tuple[str, object]] = replies) -> None:
                replies.append(node.call("SKEP", "GATEWAY", "SET", base, "at once", f"[gateway]\ntrusted-hops = {node.number}"))

            threads = [threading.Thread(target=change, args=[node]) for node in cluster.nodes]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            made = [reply for reply in replies if reply[0] == ":"]
            told = [reply for reply in replies if reply[0] == "-" and b"is at version" in bytes(reply[1])]
            assert len(made) == 1 and len(told) == 2, replies
            assert made[0][1] == base + 1, replies


def test_the_file_of_a_node_begins_the_clusters_configuration_and_is_no_second_place_for_it() -> None:
    with Cluster(3, form=False) as cluster:
        path = written(cluster, FIRST, "node.toml")
        for node in cluster.nodes:
            node.extra = ["--config", path]
        cluster.form()
        until(lambda: [in_force(node) for node in cluster.nodes] == [1, 1, 1], "the file's is in force")
        listed = run(cluster, cluster.nodes[0], "apply", "--list").splitlines()
        assert len(listed) == 2 and "the file of n" in listed[1], listed
        run(cluster, cluster.nodes[0], "apply", written(cluster, THIRD))
        one = cluster.nodes[0]
        one.kill()
        one.spawn()
        until(lambda: "has no effect" in one.log(), "the log says that the file is not in force")
        assert in_force(one) == 2


def test_the_password_is_needed() -> None:
    with Cluster(1, form=False) as cluster:
        (node,) = cluster.nodes
        secret = written(cluster, "secret\n", "secret")
        cluster.flags = ["--requirepass-file", secret]
        cluster.form()
        refused: subprocess.CompletedProcess[str] = cluster.command(node, "apply", written(cluster, FIRST))
        assert refused.returncode == 1 and "NOAUTH" in refused.stderr, refused
        assert in_force(node) == 0
        run(cluster, node, "apply", written(cluster, FIRST), "--password-file", secret)
        assert in_force(node) == 1
