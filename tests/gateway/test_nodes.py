"""Three gateways in front of the same upstreams: one is killed under load, and configurations come one after the other."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import threading
import time
from collections import Counter

from harness.cluster import Node, until

from .scene import PATIENCE_SECONDS, Upstream, shout, websocket
from .several import HERE, LISTENER, WEB_PORT, Nodes, ask

CLIENTS = 6
REQUESTS = 120
"""Of each client."""
CHANGES = 50
SECOND_PORT = 8081


def get(node: Node, path: str) -> int:
    """Its status; 0 if the node broke off."""
    try:
        return ask(node, "GET", path).status
    except (OSError, http.client.HTTPException):
        return 0


def test_a_node_is_killed_under_load_and_every_get_is_answered_elsewhere_and_no_post_sent_twice() -> None:
    with Nodes(3) as nodes, Upstream("a", host=HERE) as a, Upstream("b", host=HERE) as b:
        nodes.apply(f'[gateway.route.all]\npool = "p"\n[gateway.pool.p]\nupstreams = ["{a.address}", "{b.address}"]\n')
        posts: Counter[int] = Counter()
        gets: Counter[int] = Counter()
        lock, done, half = threading.Lock(), [0], threading.Event()
        victim = nodes.nodes[2]

        def client(number: int) -> None:
            for n in range(REQUESTS):
                node = nodes.nodes[(number + n) % 3]
                path = f"/{number}-{n}"
                if n % 3 == 0:
                    # Nobody may say it again. Of the node that dies it is not known whether it was carried out.
                    try:
                        status = ask(node, "POST", path, b"once").status
                    except (OSError, http.client.HTTPException):
                        assert node is victim
                        status = 0
                    with lock:
                        posts[status] += 1
                else:
                    tries = [node, *(other for other in nodes.nodes if other is not node)]
                    status = next((status for one in tries if (status := get(one, path))), 0)
                    with lock:
                        gets[status] += 1
                with lock:
                    done[0] += 1
                    if done[0] > CLIENTS * REQUESTS // 3:
                        half.set()

        threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        assert half.wait(PATIENCE_SECONDS)
        victim.kill()
        for thread in threads:
            thread.join(PATIENCE_SECONDS * 2)
        assert done[0] == CLIENTS * REQUESTS
        assert set(gets) == {200}, gets
        assert set(posts) <= {200, 0} and posts[200] > 0, posts
        came = Counter(r.path for upstream in (a, b) for r in upstream.requests if r.method == "POST")
        assert max(came.values()) == 1, "each POST came once at most"
        assert len(came) >= posts[200]


def test_a_session_that_one_node_began_goes_on_at_the_others_when_it_is_gone() -> None:
    with Nodes(3) as nodes, Upstream("a", host=HERE) as a, Upstream("b", host=HERE) as b:
        nodes.apply(
            f'[gateway.route.all]\npool = "p"\n[gateway.pool.p]\nupstreams = ["{a.address}", "{b.address}"]\n'
            'balance = "round-robin"\nsticky = { cookie = "s" }\n'
        )
        first, *others = nodes.nodes
        cookies: dict[str, str] = {}

        def begun() -> bool:
            answer = ask(first, "GET", "/")
            cookies[answer.json()["upstream"]] = str(answer.header("set-cookie")).split(";")[0]
            return len(cookies) == 2

        until(begun, "there is a session at each upstream")

        def goes_on(node: Node) -> None:
            for upstream, cookie in cookies.items():
                for _ in range(5):
                    answer = ask(node, "GET", "/", cookie=cookie)
                    assert answer.json()["upstream"] == upstream
                    assert answer.header("set-cookie") is None, "it has one that holds"

        for node in nodes.nodes:
            goes_on(node)
        first.kill()
        for node in others:
            goes_on(node)


def changed(n: int, a: Upstream, b: Upstream) -> str:
    """Another set of upstreams, other limits and other listeners than the one before."""
    upstreams = [f'"{a.address}"', f'"{b.address}"', f'"{a.address}", "{b.address}"'][n % 3]
    second = f'[gateway.listener.second]\naddress = "0.0.0.0:{SECOND_PORT}"\n' if n % 2 else ""
    limits = 'limits = ["wide", "wider"]' if n % 4 < 2 else 'limits = "wide"'
    return f"""{LISTENER}{second}
[gateway.limit.wide]
requests = {1_000_000 + n}
burst = 1_000_000
scope = "node"

[gateway.limit.wider]
requests = {2_000_000 + n}
burst = 1_000_000
by = "header:x-caller"
scope = "node"

[gateway.route.extra]
path = "/extra"
answer = {{ status = 203, body = "{n}" }}

[gateway.route.all]
pool = "p"
{limits}

[gateway.pool.p]
upstreams = [{upstreams}]
"""


def test_ten_changes_a_second_at_three_nodes_fail_no_request_and_close_no_websocket() -> None:
    with Nodes(3) as nodes, Upstream("a", host=HERE, behave=shout) as a, Upstream("b", host=HERE, behave=shout) as b:
        nodes.apply(changed(0, a, b).replace(LISTENER, ""))
        stop, found = threading.Event(), Counter()

        def client(node: Node) -> None:
            connection = http.client.HTTPConnection(node.host, WEB_PORT, timeout=PATIENCE_SECONDS)
            while not stop.is_set():
                try:
                    connection.request("GET", "/any")
                    response = connection.getresponse()
                    response.read()
                    found[response.status] += 1
                except (OSError, http.client.HTTPException) as error:
                    found[repr(error)] += 1

        sockets: list[socket.socket] = []
        loads: list[subprocess.Popen[str]] = []
        threads = [threading.Thread(target=client, args=(node,), daemon=True) for node in nodes.nodes]
        try:
            sockets += [websocket(node.host, WEB_PORT) for node in nodes.nodes for _ in range(2)]
            for thread in threads:
                thread.start()
            for node in nodes.nodes:
                command = ["h2load", "-D", str(CHANGES // 10 + 1), "-c", "1", "-m", "4", f"http://{node.host}:{WEB_PORT}/over-h2"]
                loads.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
            with nodes.nodes[0].connect() as store:
                version = 1
                for n in range(1, CHANGES + 1):
                    began = time.monotonic()
                    kind, told = store.call("SKEP", "GATEWAY", "SET", version, "by hand", changed(n, a, b))
                    assert kind == ":", told
                    version += 1
                    for connection in sockets:
                        connection.sendall(b"still there")
                    time.sleep(max(0.0, 0.1 - (time.monotonic() - began)))
            last = time.monotonic()
            until(lambda: all(ask(node, "GET", "/extra").body == str(CHANGES).encode() for node in nodes.nodes), "the last one is in force")
            print(f"the last of {CHANGES} changes is in force on all nodes after {time.monotonic() - last:.2f} s")
            over_h2 = [load.communicate(timeout=PATIENCE_SECONDS)[0] for load in loads]
            stop.set()
            for thread in threads:
                thread.join(PATIENCE_SECONDS)
            assert set(found) == {200} and found[200] > 100, found
            for said in over_h2:
                line = re.search(r"requests: (\d+) total, .* (\d+) failed, (\d+) errored, (\d+) timeout", said)
                assert line is not None and int(line[1]) > 100 and [line[n] for n in (2, 3, 4)] == ["0"] * 3, said
                assert re.search(r"status codes: \d+ 2xx, 0 3xx, 0 4xx, 0 5xx", said), said
            for connection in sockets:
                got = b""
                while len(got) < CHANGES * len("still there"):
                    more = connection.recv(10_000)
                    assert more, "a WebSocket was closed"
                    got += more
                assert got == b"STILL THERE" * CHANGES
        finally:
            stop.set()
            for load in loads:
                load.kill()
                load.wait()
            for connection in sockets:
                connection.close()
