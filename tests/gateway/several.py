"""Three nodes, each with a gateway, on hosts of their own; upstreams are on the host of the test."""

from __future__ import annotations

from harness.cluster import Cluster, Node, until
from harness.network import CLIENT_NUMBER, address

from . import scene
from .scene import Answer

WEB_PORT = 8080
HERE = address(CLIENT_NUMBER)
"""Where upstreams listen."""
LISTENER = f'[gateway.listener.web]\naddress = "0.0.0.0:{WEB_PORT}"\n'


class Nodes(Cluster):
    """A cluster whose gateways work by a text, once `apply` is called."""

    def apply(self, text: str) -> None:
        path = self.directory / "gateway.toml"
        path.write_text(LISTENER + text)
        done = self.command(self.nodes[0], "apply", str(path))
        done_or_same = "in force on all" in done.stdout or "says the same already" in done.stdout
        assert done.returncode == 0 and done_or_same, done.stdout + done.stderr

    def wait_serving(self) -> None:
        """Waits until all members that run serve, and their gateways do."""

        def serves(node: Node) -> bool:
            status = node.status()
            return status is not None and status["gateway"]["in_force"] > 0

        self.wait_ready()
        until(lambda: all(serves(node) for node in self.living()), "the gateways serve")


def ask(node: Node, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
    return scene.ask(node.host, WEB_PORT, method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
