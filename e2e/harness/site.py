"""The status page of a real service beside a simulated cluster, whose time tests advance."""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from e2e.harness.service import Service
from e2e.harness.workspace import Workspace, http_session, wait_until
from image_puller.simulation import SimulatedCluster

PASSWORD = "password of readers"
HOST = "quay.example.com"
_NAME, _NAMESPACE = "kubernetes-image-puller", "k8s-image-puller"
_QUAY = "secret-of-quay"


class Site:
    """A service, and its URL. `images` has the tag of each image by its name, `more` has variables.

    The last node of `crowded` ones has no room, and nodes can't pull an image called `broken`.
    """

    def __init__(
        self,
        workspace: Workspace,
        make_service: Callable[..., Service],
        images: Mapping[str, str],
        *,
        nodes: int,
        crowded: bool = False,
        **more: str,
    ) -> None:
        self._folder = workspace.folder("site")
        self._stack = ExitStack()
        self.cluster = SimulatedCluster(nodes=nodes, pull_seconds=1)
        self.cluster.unpullable[f"{HOST}/team/broken:1.0.0"] = (
            f"{HOST}/team/broken:1.0.0: not found"
        )
        if crowded:
            self.cluster.fill(f"node-{nodes}")
        for name, text in (
            ("read", PASSWORD),
            ("quay", _QUAY),
            ("kubeconfig", json.dumps(self.cluster.kubeconfig())),
        ):
            (self._folder / name).write_text(text)
        environment = {
            "IMAGES": ";".join(f"{name}={HOST}/team/{name}:{tag}" for name, tag in images.items()),
            "NAMESPACE": _NAMESPACE,
            "HOLD_BY": "containers",
            "ROLLOUT_MIN_INTERVAL_SECONDS": "0",
            "WEBHOOK_SECRETS_DIR": str(self._folder),
            "ASK_REGISTRIES": "false",
            **more,
        }
        self._service = make_service(environment, kubeconfig=self._folder / "kubeconfig")
        self.url = self._service.url

    def __enter__(self) -> Self:
        self._stack.enter_context(self.cluster)
        self._stack.enter_context(self._service)
        wait_until(lambda: self.cluster.daemonset(_NAME, _NAMESPACE), "the DaemonSet")
        self.cluster.advance(60)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def push(self, name: str, tag: str) -> None:
        """Report a push. Nodes pull nothing before the time of the cluster advances."""
        payload = {"docker_url": f"{HOST}/team/{name}", "updated_tags": [tag]}
        with http_session() as session:
            url = f"{self.url}/webhooks/quay/{_QUAY}"
            answer = session.post(url, json=payload, timeout=60)
        assert answer.status_code == 202, answer.text
