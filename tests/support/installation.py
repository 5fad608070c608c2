"""The simulated cluster as its administrator sees it."""

import json
import threading
from pathlib import Path
from typing import Any, Self

from image_puller.config.entries import INSTALL_CONTAINER
from image_puller.core.daemonset import DIGESTS, STATE
from image_puller.simulation import SimulatedCluster
from tests.support.waiting import TIMEOUT_SECONDS

NAME = "kubernetes-image-puller"
NAMESPACE = "k8s-image-puller"

Json = dict[str, Any]


class Installation:
    """The cluster as its administrator sees it: the one DaemonSet, and what was asked for it."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.cluster = cluster

    def live(self) -> Json:
        """The DaemonSet, which must be there."""
        found = self.cluster.daemonset(NAME, NAMESPACE)
        assert found is not None
        return found

    def template(self) -> Json:
        """Its template."""
        return self.live()["spec"]["template"]

    def images(self) -> list[str]:
        """The images of its containers, in order."""
        return desired_images_of(self.template())

    def digests(self) -> Json:
        """The contents that its template expects, by container."""
        return json.loads(self.template()["metadata"]["annotations"][DIGESTS])

    def state(self) -> Json:
        """What it remembers."""
        return json.loads(self.live()["metadata"]["annotations"][STATE])

    def annotate(self, text: str | None) -> None:
        """Put another text in place of what it remembers; None removes it."""

        def edit(daemonset: Json) -> None:
            annotations = daemonset["metadata"]["annotations"]
            annotations.pop(STATE)
            if text is not None:
                annotations[STATE] = text

        self.cluster.change(NAME, NAMESPACE, edit)

    def refuse(self, text: str, *, status: int = 422) -> None:
        """Refuse every DaemonSet that has the text in an image."""
        self.cluster.deny(
            lambda daemonset: any(
                text in container["image"]
                for container in daemonset["spec"]["template"]["spec"]["containers"]
            ),
            f"{text} is not allowed here",
            status=status,
        )

    def sent(self) -> list[str]:
        """The requests since the last look, each as its verb, what it is about, and how."""
        requests = [
            " ".join(
                (
                    request.method,
                    _kind(request.path),
                    *(("metadata",) if "as=Partial" in request.headers["accept"] else ()),
                    *(("dry run",) if request.dry_run else ()),
                )
            )
            for request in self.cluster.requests
            if _kind(request.path) != "nodes"  # watched all the time, in a thread of its own
        ]
        self.cluster.requests.clear()
        return requests

    def written(self) -> list[str]:
        """Those of them that were to change the DaemonSet."""
        return [
            request
            for request in self.sent()
            if not request.startswith("GET")
            and "dry run" not in request
            and "daemonsets" in request
        ]

    def reports(self) -> list[tuple[str, str]]:
        """The Events about it: reasons and messages."""
        return [(event["reason"], event["message"]) for event in self.cluster.events(NAMESPACE)]


def desired_images_of(template: Json) -> list[str]:
    """The images that a template is there for."""
    containers = template["spec"]["containers"]
    return [each["image"] for each in containers if each["name"] != INSTALL_CONTAINER]


def _kind(path: str) -> str:
    parts = path.split("/")
    return parts[parts.index("namespaces") + 2] if "namespaces" in parts else parts[-1]


class Gate:
    """Holds up the requests of a method until it is opened; tells when the first one waits."""

    def __init__(self, cluster: SimulatedCluster, method: str, *, times: int = 1) -> None:
        self.reached, self._open = threading.Event(), threading.Event()
        cluster.before(method, self._wait, times=times)

    def _wait(self) -> None:
        self.reached.set()
        assert self._open.wait(TIMEOUT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.set()


def kubeconfig(cluster: SimulatedCluster, folder: Path) -> Path:
    """A file that leads to the cluster."""
    file = folder / "kubeconfig"
    file.write_text(json.dumps(cluster.kubeconfig()))
    return file
