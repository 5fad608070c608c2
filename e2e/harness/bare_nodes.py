"""Nodes that exist in the API server only, for what the scheduler decides about them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from e2e.harness.kubernetes_api import KubernetesApi

_NODES = "/api/v1/nodes"


class BareNodes:
    """Nodes without a kubelet. They count as ready for most of a minute after each heartbeat."""

    def __init__(self, admin: KubernetesApi, rooms: Mapping[str, Mapping[str, str]]) -> None:
        self._admin = admin
        self._rooms = rooms

    def beat(self) -> None:
        """Report that each node is ready, and how much room it has."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": now, "reason": "E2e"}
        for name, room in self._rooms.items():
            status = {"allocatable": dict(room), "capacity": dict(room), "conditions": [ready]}
            self._admin.patch(f"{_NODES}/{name}/status", {"status": status})


@contextmanager
def bare_nodes(admin: KubernetesApi, **rooms: Mapping[str, str]) -> Iterator[BareNodes]:
    """Create a node for each room, as in `allocatable`, and delete them in the end."""
    for name in rooms:
        admin.post(_NODES, {"metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}}})
    try:
        nodes = BareNodes(admin, rooms)
        nodes.beat()
        yield nodes
    finally:
        for name in rooms:
            admin.delete(f"{_NODES}/{name}")
