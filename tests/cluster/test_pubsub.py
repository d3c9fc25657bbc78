"""Pub/sub, keyspace notifications and client-side caching with redis-py, each connection at another node."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import redis
from redis.cache import CacheConfig

from harness.cluster import CLIENT_PORT, PATIENCE_SECONDS, Cluster, Node, until

Client = redis.Redis


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


def client(node: Node, **options: object) -> Client:
    return redis.Redis(host=node.host, port=CLIENT_PORT, socket_timeout=PATIENCE_SECONDS, **options)  # type: ignore[arg-type]


def next_message(listener: redis.client.PubSub) -> dict:
    message = listener.get_message(ignore_subscribe_messages=True, timeout=PATIENCE_SECONDS)
    while message is None:
        message = listener.get_message(ignore_subscribe_messages=True, timeout=PATIENCE_SECONDS)
    return message


def listen(at: Client, *channels: str, patterns: tuple[str, ...] = ()) -> redis.client.PubSub:
    """A listener that was told that it is subscribed."""
    listener = at.pubsub()
    if channels:
        listener.subscribe(*channels)
    if patterns:
        listener.psubscribe(*patterns)
    for _ in range(len(channels) + len(patterns)):
        until(lambda: listener.get_message(timeout=1), "the answer to a subscription")
    return listener


def test_messages_reach_listeners_at_all_nodes_in_the_order_of_each_publisher(cluster: Cluster) -> None:
    clients = [client(node) for node in cluster.nodes]
    for number in range(30):
        listener = listen(clients[number % 3], f"fresh-{number}")
        clients[(number + 1) % 3].publish(f"fresh-{number}", "at once")
        assert next_message(listener)["data"] == b"at once"
        listener.close()
    listeners = [listen(each, "all") for each in clients]
    count = 500

    def publish(number: int) -> None:
        for at in range(count):
            clients[number].publish("all", f"{number} {at}")

    publishers = [threading.Thread(target=publish, args=(number,)) for number in range(3)]
    [each.start() for each in publishers]
    for listener in listeners:
        heard: dict[bytes, list[int]] = {b"0": [], b"1": [], b"2": []}
        for _ in range(3 * count):
            who, at = next_message(listener)["data"].split()
            heard[who].append(int(at))
        assert all(each == list(range(count)) for each in heard.values())
    [each.join() for each in publishers]


def test_counts_are_the_clusters_and_a_dead_nodes_listeners_do_not_count(cluster: Cluster) -> None:
    one, two, three = (client(node) for node in cluster.nodes)
    listeners = [listen(one, "a", "b"), listen(two, "a", patterns=("a*",)), listen(three, "a")]
    until(lambda: two.pubsub_numsub("a", "b", "c") == [(b"a", 3), (b"b", 1), (b"c", 0)], "counts of all")
    assert one.publish("a", "x") == 4
    assert sorted(three.pubsub_channels()) == [b"a", b"b"]
    assert three.pubsub_numpat() == 1
    cluster.nodes[2].kill()
    until(lambda: one.pubsub_numsub("a") == [(b"a", 2)], "the dead node's listener is forgotten")
    listeners[0].close()
    until(lambda: two.pubsub_numsub("a", "b") == [(b"a", 1), (b"b", 0)], "who left is forgotten")


def test_a_listener_that_does_not_read_is_cut_off_and_others_are_served(cluster: Cluster) -> None:
    one, two = client(cluster.nodes[0]), client(cluster.nodes[1])
    one.config_set("client-output-buffer-limit", "pubsub 1mb 0 0")
    slow, good = listen(one, "a"), listen(one, "a")
    message = b"x" * 100_000
    for number in range(300):
        two.publish("a", message)
        assert next_message(good)["data"] == message, number
    until(lambda: int(one.info("clients")["pubsub_clients"]) == 1, "the slow one is closed")
    slow.close()


def test_keys_that_expire_are_told_on_time_at_every_node(cluster: Cluster) -> None:
    clients = [client(node) for node in cluster.nodes]
    clients[1].config_set("notify-keyspace-events", "Egx")
    assert [each.config_get("notify-keyspace-events") for each in clients] == [{"notify-keyspace-events": "gxE"}] * 3
    listeners = [listen(each, patterns=("__keyevent@*__:*",)) for each in clients]
    for number, each in enumerate(clients):
        each.set(f"soon-{number}", "x", px=300)
        each.set(f"gone-{number}", "x")
        each.delete(f"gone-{number}")
    due = time.monotonic() + 0.3
    for listener in listeners:
        heard = sorted((message["channel"], message["data"]) for message in (next_message(listener) for _ in range(9)))
        events = (b"del", b"gone"), (b"expire", b"soon"), (b"expired", b"soon")
        assert heard == [(b"__keyevent@0__:" + name, b"%s-%d" % (key, number)) for name, key in events for number in range(3)]
    assert time.monotonic() - due < 5, "the leader wakes up for what is due"


def test_a_cache_at_one_node_forgets_what_is_changed_at_another(cluster: Cluster) -> None:
    cached = [client(node, protocol=3, cache_config=CacheConfig()) for node in cluster.nodes[:2]]
    writer = client(cluster.nodes[2])
    for number in range(100):
        writer.set("k", number)
        for each in cached:
            until(lambda each=each: each.get("k") == b"%d" % number, f"the cache has {number}", every=0.001)
        cached[number % 2].set("k", f"{number}x")
        until(lambda: cached[1 - number % 2].get("k") == b"%dx" % number, "the other cache has the new value", every=0.001)
    hits = [each.get_cache().size for each in cached]
    assert all(size > 0 for size in hits), "they cached"
    # The value comes from the cache: the server is not asked.
    before = int(writer.info("commandstats").get("cmdstat_get", {}).get("calls", 0))
    for _ in range(50):
        assert cached[0].get("k") == b"99x"
    asked = client(cluster.nodes[0]).info("commandstats")["cmdstat_get"]["calls"]
    for _ in range(50):
        cached[0].get("k")
    assert client(cluster.nodes[0]).info("commandstats")["cmdstat_get"]["calls"] == asked
    assert int(writer.info("commandstats").get("cmdstat_get", {}).get("calls", 0)) == before


def test_a_cache_outlives_the_death_of_the_leader(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    one, two = cluster.others(leader)
    cached, writer = client(one, protocol=3, cache_config=CacheConfig()), client(two)
    writer.set("k", "before")
    assert cached.get("k") == b"before"
    leader.kill()
    writer.set("k", "after")
    until(lambda: cached.get("k") == b"after", "the cache has forgotten")
