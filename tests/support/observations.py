"""Builds observations of clusters of any size, without an API server."""

from collections.abc import Callable, Sequence

from image_puller.config.configuration import Config
from image_puller.config.entries import INSTALL_CONTAINER
from image_puller.core import daemonset, observation
from image_puller.core.daemonset import DesiredImage, Platform
from image_puller.core.nodes import Node
from image_puller.core.observation import Live, Observation
from image_puller.core.pods import Container, Pod
from image_puller.core.state import State
from tests.support.building import NOON

RUNNING = NOON.isoformat()
GENERATION = "1"

Place = tuple[int, DesiredImage]
"""The number of a node, which counts from 1, and an image."""


def observed(
    config: Config,
    state: State,
    nodes: Sequence[str] = ("node-1", "node-2", "node-3"),
    *,
    fails: Callable[[int, DesiredImage], str] = lambda _number, _image: "",
    without_pod: Sequence[str] = (),
    labels: dict[str, str] | None = None,
    may_list_nodes: bool = True,
) -> Observation:
    """Return an observation in which every node holds every image but those that fail.

    `fails` returns why an image fails on a node, or "".
    """
    manifest = daemonset.manifest(config, state, Platform(), "")
    manifest["metadata"] |= {
        "generation": 1,
        "annotations": {"deprecated.daemonset.template.generation": GENERATION},
    }
    manifest["status"] = {"observedGeneration": 1, "desiredNumberScheduled": len(nodes)}
    images = daemonset.desired_images(config, state)
    found = [
        _pod(name, number, images, fails)
        for number, name in enumerate(nodes, 1)
        if name not in without_pod
    ]
    listed = [
        Node(
            name=name,
            created=NOON,
            labels={"kubernetes.io/os": "linux", **(labels or {})},
            runtime="containerd://2.1.0",
        )
        for name in nodes
    ]
    live = Live(
        daemonset=manifest, state=state, pods=found, nodes=listed if may_list_nodes else None
    )
    return observation.observe(config, live)


def _pod(
    node: str,
    number: int,
    images: Sequence[DesiredImage],
    fails: Callable[[int, DesiredImage], str],
) -> Pod:
    containers = [Container(name=INSTALL_CONTAINER, image="sleep", running_since=RUNNING)]
    for image in images:
        reason = fails(number, image)
        since = None if reason else RUNNING
        containers.append(
            Container(name=image.container, image=image.image, running_since=since, reason=reason)
        )
    return Pod(
        name=f"pod-{number}",
        node=node,
        is_bound=True,
        is_ready=not any(each.reason for each in containers),
        generation=GENERATION,
        started=RUNNING,
        digests={image.container: image.expected for image in images if image.expected},
        containers=tuple(containers),
    )
