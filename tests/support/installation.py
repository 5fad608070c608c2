"""Reads and changes what the service has in a simulated cluster."""

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
    """The DaemonSet of the service in a simulated cluster, and the requests for it."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.cluster = cluster

    def live(self) -> Json:
        """Return the DaemonSet, which must exist."""
        found = self.cluster.daemonset(NAME, NAMESPACE)
        assert found is not None
        return found

    def template(self) -> Json:
        """Return the live template."""
        template: Json = self.live()["spec"]["template"]
        return template

    def images(self) -> list[str]:
        """Return the desired images, sorted."""
        return desired_images_of(self.template())

    def digests(self) -> Json:
        """Return the digests in the template's annotation, by container."""
        digests: Json = json.loads(self.template()["metadata"]["annotations"][DIGESTS])
        return digests

    def state(self) -> Json:
        """Return the state in its annotation."""
        state: Json = json.loads(self.live()["metadata"]["annotations"][STATE])
        return state

    def annotate(self, text: str | None) -> None:
        """Replace the text of the state annotation. None removes the annotation."""

        def edit(daemonset: Json) -> None:
            annotations = daemonset["metadata"]["annotations"]
            annotations.pop(STATE)
            if text is not None:
                annotations[STATE] = text

        self.cluster.change(NAME, NAMESPACE, edit)

    def refuse(self, text: str, *, status: int = 422) -> None:
        """Let the cluster refuse each DaemonSet that has the text in an image."""
        self.cluster.deny(
            lambda daemonset: any(
                text in image for image in _all_images_of(daemonset["spec"]["template"])
            ),
            f"{text} is not allowed here",
            status=status,
        )

    def sent(self) -> list[str]:
        """Return the requests since the last call, each in words: `PATCH daemonsets dry run`.

        Requests for nodes are left out, because a thread watches nodes all the time.
        """
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
            if _kind(request.path) != "nodes"
        ]
        self.cluster.requests.clear()
        return requests

    def written(self) -> list[str]:
        """Return those requests since the last call that write a DaemonSet, without dry runs."""
        return [
            request
            for request in self.sent()
            if not request.startswith("GET")
            and "dry run" not in request
            and "daemonsets" in request
        ]

    def reports(self) -> list[tuple[str, str]]:
        """Return the reasons and messages of the service's Events."""
        return [
            (event["reason"], event["message"])
            for event in self.cluster.events(NAMESPACE)
            if event["source"]["component"] == "image-puller"
        ]


def exists(cluster: SimulatedCluster) -> bool:
    """Whether the DaemonSet exists."""
    return cluster.daemonset(NAME, NAMESPACE) is not None


def desired_images_of(template: Json) -> list[str]:
    """Return the desired images of a template, sorted: those that it runs, or mounts as volumes.

    A container that mounts images runs the sleep image, as the install container does.
    """
    mounted = _mounted(template)
    run = [
        container["image"]
        for container in template["spec"]["containers"]
        if container["name"] != INSTALL_CONTAINER
        if not any(mount["name"] in mounted for mount in container.get("volumeMounts", ()))
    ]
    return sorted([*run, *mounted.values()])


def _all_images_of(template: Json) -> list[str]:
    """Return the images of a template, with the sleep image."""
    run = [container["image"] for container in template["spec"]["containers"]]
    return [*run, *_mounted(template).values()]


def _mounted(template: Json) -> dict[str, str]:
    """Return the images that are mounted, by the names of their volumes."""
    return {
        volume["name"]: volume["image"]["reference"]
        for volume in template["spec"].get("volumes", ())
        if "image" in volume
    }


def _kind(path: str) -> str:
    parts = path.split("/")
    return parts[parts.index("namespaces") + 2] if "namespaces" in parts else parts[-1]


class Gate:
    """Delays the requests of a method until the `with` statement ends.

    `reached` is set when the first request waits.
    """

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
    """Write a kubeconfig of the cluster, and return its path."""
    file = folder / "kubeconfig"
    file.write_text(json.dumps(cluster.kubeconfig()))
    return file
