"""Reads what runs in a cluster, of whichever namespaces. It changes nothing."""

from collections.abc import Iterator

from image_puller.cluster.api_server import ApiClient, ApiServer
from image_puller.core.daemonset import Manifest

_ENDED = ("Failed", "Succeeded")


class Survey:
    """Reads the pods and nodes of a cluster."""

    def __init__(self, api: ApiClient) -> None:
        self._server = ApiServer(api)

    def pods(self, namespace: str | None) -> Iterator[Manifest]:
        """Yield the pods of a namespace, or of all, that have not ended.

        Raises RefusedByClusterError.
        """
        path = "/api/v1/pods" if namespace is None else f"/api/v1/namespaces/{namespace}/pods"
        # Without the selector, those of all Jobs would be sent too.
        living = ",".join(f"status.phase!={phase}" for phase in _ENDED)
        return self._server.items(path, query=(("fieldSelector", living),))

    def nodes(self) -> Iterator[Manifest]:
        """Yield the nodes. Raises RefusedByClusterError."""
        return self._server.items("/api/v1/nodes")
