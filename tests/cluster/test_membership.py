"""Nodes that come, are drained, leave and are replaced, with data and under load."""

from __future__ import annotations

import json
import shutil

from crash.load import Load as Pipelines
from harness.cluster import OK, Cluster, Node, Status, until
from harness.resp import as_bytes

from .load import Load

SEED = 1
KEYS = 3000


def fill(node: Node, first: int = 0, count: int = KEYS) -> None:
    with node.connect() as connection:
        for number in range(first, first + count):
            if number % 200 == 0:
                connection.send([[b"SET", b"key:%d" % each, as_bytes(each) * 20] for each in range(number, number + 200)])
                for _ in range(200):
                    assert connection.read() == OK


def check_filled(node: Node, count: int = KEYS) -> None:
    with node.connect() as connection:
        replies = connection.pipeline([[b"GET", b"key:%d" % number] for number in range(count)])
        wrong = [number for number, reply in enumerate(replies) if reply != ("$", as_bytes(number) * 20)]
        assert not wrong, f"{len(wrong)} keys are wrong, the first {wrong[0]}: {replies[wrong[0]]}"


def shard(node: Node) -> Status:
    status = node.status()
    assert status is not None
    return status["shards"][0]


def holders(cluster: Cluster, node: Node) -> set[str]:
    """The names of the nodes that hold the shard, as the node knows."""
    status = node.status()
    assert status is not None
    names = {each["id"]: each["name"] for each in status["nodes"]}
    return {names.get(each["node"], f"node {each['node']}") for each in status["shards"][0]["replicas"]}


def run(cluster: Cluster, node: Node, *words: str) -> str:
    done = cluster.command(node, *words)
    assert done.returncode == 0, f"skep {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


def test_a_cluster_of_one_with_data_grows_to_three_under_load_and_each_copy_is_whole() -> None:
    with Cluster(1, spare=2) as cluster:
        (first,) = cluster.nodes
        fill(first)
        load = Load(cluster, SEED).start([first], [first])
        for node in list(cluster.spares):
            cluster.add(node)
        cluster.wait_whole()
        load.start([cluster.node(2)], [cluster.node(3)])
        load.progress(50)
        load.finish()
        cluster.wait_equal()
        assert holders(cluster, first) == {"n1", "n2", "n3"}
        size = first.call("DBSIZE")
        # Without the node that had it all, the data can only come from the copies.
        first.kill()
        cluster.wait_writes(cluster.node(2))
        for node in cluster.others(first):
            check_filled(node)
            assert node.call("DBSIZE")[1] in (size[1], size[1] + 1)
        first.begin()
        cluster.wait_whole()


def test_a_copy_too_old_for_the_log_comes_by_checkpoint_while_writes_go_on() -> None:
    """The follower misses more than the log keeps."""
    with Cluster(flags=["--log-segment-bytes", "64kb", "--checkpoint-log-bytes", "256kb"]) as cluster:
        leader = cluster.wait_leader()
        follower = cluster.others(leader)[0]
        follower.kill()
        for turn in range(5):
            fill(leader, turn * KEYS)
        load = Load(cluster, SEED).start([leader], [leader])
        follower.begin()
        load.progress(100)
        cluster.wait_whole()
        load.finish()
        cluster.wait_equal()
        cluster.others(leader, follower)[0].kill()
        cluster.wait_writes(follower)
        check_filled(follower, 5 * KEYS)


def test_a_drained_node_gives_its_copies_and_leadership_away_and_is_removed_for_good() -> None:
    with Cluster(4) as cluster:
        fill(cluster.node(1))
        load = Load(cluster, SEED).start_everywhere(1)
        drained = cluster.wait_leader()
        rest = cluster.others(drained)
        with load.undisturbed(*cluster.nodes):
            run(cluster, rest[0], "node", "drain", f"n{drained.number}")
            until(lambda: holders(cluster, rest[0]) == {f"n{node.number}" for node in rest}, lambda: cluster.describe(cluster.nodes))
            load.progress(50)
            states = {each["name"]: each["state"] for each in rest[0].status()["nodes"]}
            assert states[f"n{drained.number}"] == "draining", states
        load.finish()
        run(cluster, rest[0], "node", "remove", f"n{drained.number}", "--yes")
        cluster.forget(drained)
        cluster.wait_whole()
        check_filled(rest[1])
        # It knows that it is out, or is told: it answers nothing from its old copy and disturbs nobody.
        drained.kill()
        drained.spawn()
        with Load(cluster, SEED, "b").start_everywhere(1).undisturbed(*rest):
            assert not drained.ready()
        listed = run(cluster, rest[0], "node", "list")
        assert f"n{drained.number}" not in listed.split() and "n" + str(rest[0].number) in listed.split(), listed


def test_a_dead_node_is_replaced_by_a_new_one_under_load() -> None:
    with Cluster(3, spare=1) as cluster:
        fill(cluster.node(1))
        dead = cluster.wait_leader()
        load = Load(cluster, SEED).start(*([node] for node in cluster.others(dead)))
        with load.undisturbed(*cluster.others(dead)):
            dead.kill()
            shutil.rmtree(dead.data)
            (spare,) = cluster.spares
            cluster.add(spare)
            until(lambda: spare.status() is not None, "the new node is a member")
            run(cluster, cluster.others(dead)[0], "node", "remove", f"n{dead.number}", "--yes")
            cluster.forget(dead)
            cluster.wait_whole()
            load.progress(50)
        load.finish()
        cluster.wait_equal()
        cluster.others(spare)[0].kill()
        cluster.wait_writes(spare)
        check_filled(spare)


def test_a_node_that_lost_its_disk_comes_back_as_a_new_one_under_its_old_name() -> None:
    """It must not vote under its old id: it may have forgotten what it voted."""
    with Cluster() as cluster:
        victim = cluster.others(cluster.wait_leader())[0]
        old_id = victim.status()["node_id"]
        fill(victim)
        victim.kill()
        shutil.rmtree(victim.data)
        other = cluster.others(victim)[0]
        run(cluster, other, "node", "remove", f"n{victim.number}", "--yes")
        victim.begin()
        cluster.wait_whole()
        assert victim.status()["node_id"] > old_id
        cluster.wait_equal()
        other.kill()
        cluster.wait_writes(victim)
        check_filled(victim)


def test_a_second_node_of_the_same_name_is_refused_with_the_name() -> None:
    with Cluster(3, spare=1) as cluster:
        (spare,) = cluster.spares
        spare.label = "n2"
        spare.join = [each.peer_address for each in cluster.nodes]
        spare.spawn()
        until(lambda: "n2" in spare.log() and "name" in spare.log(), lambda: f"it is told why: {spare.log()}")
        assert not spare.ready()
        assert len(cluster.node(1).status()["nodes"]) == 3


def test_removing_what_is_not_there_is_refused_and_says_what_there_is() -> None:
    with Cluster() as cluster:
        done = cluster.command(cluster.node(1), "node", "remove", "n9", "--yes")
        assert done.returncode != 0 and "n9" in done.stderr, done
        done = cluster.command(cluster.node(1), "node", "remove", "n2", "--yes")
        assert done.returncode != 0, f"a living node that holds copies was removed: {done.stdout}"
        cluster.wait_whole()


def test_status_tells_people_and_programs_the_same() -> None:
    with Cluster() as cluster:
        table = run(cluster, cluster.node(2), "status")
        for node in cluster.nodes:
            assert f"n{node.number}" in table.split(), table
        told = json.loads(run(cluster, cluster.node(2), "status", "--json"))
        status = cluster.node(2).status()
        assert told["cluster_id"] == status["cluster_id"]
        assert [each["name"] for each in told["nodes"]] == [each["name"] for each in status["nodes"]]


def test_copies_written_by_deep_pipelines_while_a_node_joins_are_equal() -> None:
    with Cluster(2, spare=1) as cluster:
        load = Pipelines(SEED, writers=3)
        load.start(cluster.node(1))
        (spare,) = cluster.spares
        cluster.add(spare)
        cluster.wait_whole()
        load.stop.set()
        load.finish()
        load.check(spare)
        cluster.wait_equal()
        cluster.node(1).kill()
        cluster.wait_writes(spare)
        load.check(spare)
        assert load.acknowledged > 300
