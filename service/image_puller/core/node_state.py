"""What is true about each node, and about each desired image on it: one state, with a reason. Pure.

`docs/operations/status.md` describes the states.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from image_puller.config.entries import INSTALL_CONTAINER
from image_puller.core import failure, nodes
from image_puller.core.daemonset import DesiredImage, Manifest
from image_puller.core.nodes import Node
from image_puller.core.pods import Container, Pod
from image_puller.values.reference import InvalidReferenceError, Reference, is_digest, parse

OLDER_TEMPLATE = "the node's pod has an older template"

_QUOTED = re.compile(r'"([^"]*)"')
"""The kubelet and the runtime quote the names of images."""
_NOTHING_TO_RUN = ("RunContainerError", "StartError", "CrashLoopBackOff")
"""What the kubelet reports where the node has the image, but its command does not exist yet."""


class ImageState(StrEnum):
    """The state of a desired image on one node."""

    HELD = "held"
    ON_NODE = "on node"
    PULLING = "pulling"
    FAILING = "failing"
    WAITING = "waiting"
    NO_POD = "no pod"
    NOT_SELECTED = "not selected"


class NodeState(StrEnum):
    """The state of one node."""

    WARM = "warm"
    NOT_WARM = "not warm"
    NO_POD = "no pod"
    NOT_SELECTED = "not selected"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOnNode:
    """The state of an image on a node, with its reason, or "" where it is held.

    `image_id` compares the held image with the pushed digest: `same`, `other` or `unknown`.
    `since` is from when on the image is held, or is pulled. It is None for other states.
    """

    state: ImageState
    reason: str = ""
    image_id: str | None = None
    since: str | None = None

    @property
    def is_held(self) -> bool:
        """Whether a running container keeps the image, which it runs or mounts."""
        return self.state is ImageState.HELD


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A node and its pod. `pod` is None where it has none that can hold images.

    `missing` is why it has none: `NO_POD` or `NOT_SELECTED`, with the reason. `facts` is None where
    the service may not list nodes. `is_expected`: the DaemonSet should have a pod there.
    """

    node: str
    pod: Pod | None = None
    facts: Node | None = None
    missing: ImageState = ImageState.NO_POD
    reason: str = ""
    is_expected: bool = True

    @property
    def counts(self) -> bool:
        """Whether the node should hold all images now.

        One that is not ready, or cordoned, may be about to leave, so nobody should wait for it.
        """
        is_in_use = self.facts is None or (self.facts.is_ready and not self.facts.is_cordoned)
        return self.is_expected and is_in_use


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why the DaemonSet controller could not create a pod, and when it tried last."""

    reason: str
    time: datetime | None = None


def places(
    template: Manifest, listed: Sequence[Node], pods: Iterable[Pod], refusal: Refusal | None
) -> tuple[Place, ...]:
    """Return each node, sorted by name. `refusal` is the latest one, if there is one.

    Where no nodes can be listed, those that have or await a pod are returned.
    """
    by_node: dict[str, Pod] = {}
    for pod in sorted(pods, key=_rank):
        if pod.node is not None:
            by_node[pod.node] = pod
    facts = {node.name: node for node in listed}
    return tuple(
        _place(name, template, facts.get(name), by_node.get(name), refusal)
        for name in sorted({*facts, *by_node})
    )


def on_node(image: DesiredImage, place: Place, generation: str | None) -> ImageOnNode:
    """Return the state of an image on a node. `generation` is that of the live template."""
    if place.pod is None:
        if place.missing is ImageState.NO_POD and _is_listed(image, place.facts):
            return ImageOnNode(state=ImageState.ON_NODE, reason=f"no pod: {place.reason}")
        return ImageOnNode(state=place.missing, reason=place.reason)
    pod, container = place.pod, place.pod.holder(image.container)
    if container is None or not _expects(image, container, pod, generation):
        is_listed = _is_listed(image, place.facts)
        state = ImageState.ON_NODE if is_listed else ImageState.WAITING
        return ImageOnNode(state=state, reason=OLDER_TEMPLATE)
    is_mounted = image.container in container.image_volumes
    if container.running_since is not None:
        image_id = (
            _compare_listed(image, place.facts)
            if is_mounted
            else _compare(image, container.image_id)
        )
        since = container.running_since
        return ImageOnNode(state=ImageState.HELD, image_id=image_id, since=since)
    if is_mounted:
        return _not_mounted(image, container, pod, place.facts)
    return _not_running(image, container, pod, place.facts)


def why_install_fails(pod: Pod) -> str:
    """Return why the install container does not run, or "" where it runs or has only begun."""
    container = pod.container(INSTALL_CONTAINER)
    return "" if container is None else _reason(container)


def why_sleep_image_fails(pod: Pod) -> tuple[str, str] | None:
    """Return a container that does not run because of the sleep image, and the reason, or None."""
    for container in pod.containers:
        is_ours = container.name == INSTALL_CONTAINER or container.image_volumes
        if is_ours and _blames_sleep_image(container):
            return container.name, _reason(container)
    return None


def _rank(pod: Pod) -> tuple[bool, bool, bool]:
    """Order the pods of one node: a pod that can hold images comes last, and so it counts."""
    return (pod.deleted is None, not pod.failed, pod.is_bound)


def _place(
    name: str, template: Manifest, facts: Node | None, pod: Pod | None, refusal: Refusal | None
) -> Place:
    selects = None if facts is None else nodes.why_not_selected(template, facts)
    taint = None if facts is None else nodes.untolerated_taint(template, facts)
    is_expected = selects is None and taint is None
    if pod is not None and pod.deleted is None and pod.is_bound and not pod.failed:
        return Place(node=name, pod=pod, facts=facts, is_expected=is_expected)
    missing = ImageState.NO_POD if selects is None else ImageState.NOT_SELECTED
    if selects is not None:
        reason = selects
    elif taint is not None:
        reason = f"the node has the taint {taint}, which TOLERATIONS does not tolerate"
    else:
        reason = _why_no_pod(pod, facts, refusal)
    return Place(node=name, facts=facts, missing=missing, reason=reason, is_expected=is_expected)


def _why_no_pod(pod: Pod | None, facts: Node | None, refusal: Refusal | None) -> str:
    if pod is None and refusal is not None and not _is_older(refusal, facts):
        return refusal.reason
    if pod is None:
        return "the DaemonSet controller has not created a pod yet"
    if pod.deleted is not None:
        return f"pod {pod.name} is terminating since {pod.deleted}"
    if pod.failed:
        return f"pod {pod.name} failed: {pod.failed}"
    return pod.unscheduled or f"pod {pod.name} is not scheduled yet"


def _is_older(refusal: Refusal, facts: Node | None) -> bool:
    """Whether a pod was refused before the node joined, so that it was a pod of another node."""
    if refusal.time is None or facts is None or facts.created is None:
        return False
    return refusal.time < facts.created


def _expects(image: DesiredImage, container: Container, pod: Pod, generation: str | None) -> bool:
    """Whether a container has the image with the expected content.

    An admission webhook may rewrite the image's name in a pod: to a mirror, or to a digest. So the
    name counts only where neither the digest nor the generation of the template decides.
    """
    if pod.digests.get(image.container) != image.expected:
        return False
    is_decided = image.expected is not None or (
        generation is not None and pod.generation == generation
    )
    found = container.image_volumes.get(image.container, container.image)
    return is_decided or _is_same_name(found, image.image)


def _is_same_name(found: str, wanted: str) -> bool:
    """Whether two images have one tag, or digest, and the same last part of the repository."""
    if found == wanted:
        return True
    one, other = _parsed(found), _parsed(wanted)
    if one is None or other is None:
        return False
    is_same_content = (one.tag or one.digest) == (other.tag or other.digest)
    return is_same_content and _last_part(one) == _last_part(other)


def _last_part(reference: Reference) -> str:
    return reference.repository.rpartition("/")[2]


def _parsed(text: str) -> Reference | None:
    try:
        return parse(text)
    except InvalidReferenceError:
        return None


def _not_running(
    image: DesiredImage, container: Container, pod: Pod, facts: Node | None
) -> ImageOnNode:
    own, installer = _reason(container), why_install_fails(pod)
    has_image = bool(container.image_id) or _is_listed(image, facts)
    if installer and own.startswith(_NOTHING_TO_RUN):
        reason = f"waiting for container {INSTALL_CONTAINER} (KIP_IMAGE): {installer}"
        return ImageOnNode(state=ImageState.ON_NODE, reason=reason)
    if own:
        return ImageOnNode(state=ImageState.FAILING, reason=own)
    if has_image:
        return ImageOnNode(state=ImageState.ON_NODE, reason="the container is about to start")
    return _not_pulled(container, pod)


def _not_mounted(
    image: DesiredImage, container: Container, pod: Pod, facts: Node | None
) -> ImageOnNode:
    """Return the state of an image whose volume is not mounted, because its container waits.

    The kubelet pulls all volumes of a pod before it starts a container. It tells of one that fails.
    """
    own, failing = _reason(container), _failing_volumes(container)
    if image.container in failing:
        return ImageOnNode(state=ImageState.FAILING, reason=own)
    is_listed = _is_listed(image, facts)
    if own:
        is_sleep_image = _blames_sleep_image(container)
        cause = "the sleep image (KIP_IMAGE) of" if is_sleep_image else "another image of"
        state = ImageState.ON_NODE if is_listed else ImageState.WAITING
        reason = f"waiting for {cause} container {container.name}: {own}"
        return ImageOnNode(state=state, reason=reason)
    if is_listed:
        return ImageOnNode(state=ImageState.ON_NODE, reason="the container is about to start")
    if pod.waits_for or pod.started is None:
        reason = pod.waits_for or f"the kubelet has not started pod {pod.name} yet"
        return ImageOnNode(state=ImageState.WAITING, reason=reason)
    reason = f"since {pod.started}, with the other volumes of the pod one after another"
    return ImageOnNode(state=ImageState.PULLING, reason=reason, since=pod.started)


def _blames_sleep_image(container: Container) -> bool:
    """Whether a container of the sleep image does not run because of that image.

    The words of some runtimes name no image. Then the next words of the kubelet do.
    """
    if not container.reason or _failing_volumes(container):
        return False
    is_named = container.image in _QUOTED.findall(container.reason)
    return is_named or not container.image_volumes or not failure.is_pull(container.reason)


def _failing_volumes(container: Container) -> frozenset[str]:
    """Return the volumes that a container waits for, because their images can't be pulled.

    Where the reason names no image, it is about the only one, or about the sleep image.
    """
    if not container.reason:
        return frozenset()
    names = set(_QUOTED.findall(container.reason))
    named = [volume for volume, image in container.image_volumes.items() if image in names]
    if not named and len(container.image_volumes) == 1 and container.image not in names:
        named = list(container.image_volumes)
    return frozenset(named)


def _not_pulled(container: Container, pod: Pod) -> ImageOnNode:
    """Return the state of an image of a container that has only begun.

    The kubelet pulls the images of a pod one after another, in the order of the containers.
    """
    if pod.waits_for:
        return ImageOnNode(state=ImageState.WAITING, reason=pod.waits_for)
    if pod.started is None:
        reason = f"the kubelet has not started pod {pod.name} yet"
        return ImageOnNode(state=ImageState.WAITING, reason=reason)
    pulled = next(each for each in pod.containers if _has_only_begun(each))
    if pulled is container:
        since = _last_start(pod)
        return ImageOnNode(state=ImageState.PULLING, reason=f"since {since}", since=since)
    return ImageOnNode(state=ImageState.WAITING, reason=f"the node first pulls {pulled.image}")


def _has_only_begun(container: Container) -> bool:
    return container.running_since is None and not container.reason and not container.image_id


def _last_start(pod: Pod) -> str:
    """Return since when the node pulls the next image: since the last container started."""
    running = (each.running_since for each in pod.containers if each.running_since)
    return max((*running, pod.started or ""))


def _reason(container: Container) -> str:
    """Return why a container does not run, with its last exit, or "" where it has only begun."""
    if not container.reason or not container.last_exit:
        return container.reason
    return f"{container.reason}; the last exit: {container.last_exit}"


def _is_listed(image: DesiredImage, facts: Node | None) -> bool:
    """Whether the kubelet lists the image. It lists the 50 largest by default."""
    if facts is None or not facts.images:
        return False
    reference = parse(image.image)
    digest = image.tag.digest if image.tag else reference.digest
    if digest is not None:
        return f"{reference.name}@{digest}" in facts.images
    # Another content of a mutable tag has the same name, so the name shows nothing.
    return not image.always and f"{reference.name}:{reference.pull_tag}" in facts.images


def _compare(image: DesiredImage, image_id: str) -> str:
    """Compare digests. Runtimes report an image's first digest, not always the requested one."""
    _, at, digest = image_id.rpartition("@")
    if not at or image.tag is None or image.tag.digest is None or not is_digest(digest):
        return "unknown"
    return "same" if digest == image.tag.digest else "other"


def _compare_listed(image: DesiredImage, facts: Node | None) -> str:
    """Compare digests with those that the node lists. No digest of a volume is in the pod."""
    is_known = image.tag is not None and image.tag.digest is not None
    return "same" if is_known and _is_listed(image, facts) else "unknown"


def state_of(place: Place, images: Mapping[str, ImageOnNode]) -> tuple[NodeState, str]:
    """Return the state of a node, and the reason. `images` has its images by container."""
    if place.pod is None:
        return NodeState(place.missing), place.reason
    if all(each.is_held for each in images.values()):
        state, reason = NodeState.WARM, ""
    else:
        missing = [each for each in images.values() if not each.is_held]
        state = NodeState.NOT_WARM
        first = missing[0]
        why = f"pulling {first.reason}" if first.state is ImageState.PULLING else first.reason
        reason = f"{len(missing)} of {len(images)} images are not held: {why}"
    if place.facts is not None and not place.facts.is_ready:
        reason = f"the node is not ready, so this is what it reported last{reason and '; '}{reason}"
    elif place.facts is not None and place.facts.is_cordoned:
        reason = f"the node is cordoned{reason and '; '}{reason}"
    return state, reason
