"""The problems: what a person must solve, each with what to do. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from image_puller.config.configuration import HoldBy
from image_puller.core import failure, node_state
from image_puller.core.daemonset import DesiredImage
from image_puller.core.node_state import ImageState, Place
from image_puller.core.observation import Observation
from image_puller.core.state import EntryState, Quarantined

_NAMED_NODES = 3


class Kind(StrEnum):
    """The kind of a problem. It is the reason of the Event, and the label of the metric."""

    IMAGES_MALFORMED = "ImagesMalformed"
    SUPERSEDED = "Superseded"
    REGISTRY = "RegistryNotAnswering"
    DAEMONSET_MISSING = "DaemonSetMissing"
    STATE_UNREADABLE = "StateUnreadable"
    TEMPLATE_REFUSED = "TemplateRefused"
    PODS_REFUSED = "PodsRefused"
    PODS_NOT_SCHEDULED = "PodsNotScheduled"
    SLEEP_IMAGE_FAILING = "SleepImageFailing"
    VOLUMES_UNAVAILABLE = "ImageVolumesUnavailable"
    IMAGE_FAILING = "ImageFailing"
    IMAGE_QUARANTINED = "ImageQuarantined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem. `key` is equal while it is the same problem, although the message changes."""

    kind: Kind
    key: str
    message: str


def of_process(kind: Kind, messages: Sequence[str]) -> tuple[Problem, ...]:
    """Return problems that only the process knows."""
    return tuple(Problem(kind=kind, key=f"{kind} {text}", message=text) for text in messages)


def find(seen: Observation) -> tuple[Problem, ...]:
    """Return the problems of an observation."""
    return (*of_process(Kind.IMAGES_MALFORMED, seen.config.warnings), *_of_cluster(seen))


def _of_cluster(seen: Observation) -> Iterator[Problem]:
    name, live = seen.config.daemonset_name, seen.live
    if live.daemonset is None:
        yield _only(
            Kind.DAEMONSET_MISSING,
            f"DaemonSet {name} does not exist; the next check creates it, and the log says why "
            "if it can't",
        )
        return
    if live.state is None:
        yield _only(
            Kind.STATE_UNREADABLE,
            f"DaemonSet {name} has no readable state annotation; the next check writes it again",
        )
    elif live.state.blocked is not None:
        yield _only(
            Kind.TEMPLATE_REFUSED,
            "the cluster refuses new pods, so the pods that run stay: "
            f"{live.state.blocked.reason}; "
            "correct the quota, limit range or policy that refuses it, or the configuration",
        )
    yield from _of_holding(seen)
    yield from _of_pods(seen)
    yield from _of_sleep_image(seen)
    for image in seen.images:
        yield from _of_image(seen, image)
    for entry, current in (live.state.entries if live.state else {}).items():
        for each in current.quarantined:
            yield _of_quarantined(entry, current, each)


def _of_holding(seen: Observation) -> Iterator[Problem]:
    state = seen.live.state
    if seen.config.hold_by is HoldBy.VOLUMES and state is not None and state.holding.reason:
        yield _only(
            Kind.VOLUMES_UNAVAILABLE,
            f"containers hold the images, although HOLD_BY is volumes: {state.holding.reason}; "
            "correct that, or set HOLD_BY to containers",
        )


def _of_pods(seen: Observation) -> Iterator[Problem]:
    """Return the problems of pods that can't be created, or find no room on their node."""
    without = [each for each in seen.places if each.pod is None and each.is_expected]
    refusal = seen.live.refusal
    refused = [each for each in without if refusal is not None and each.reason == refusal.reason]
    if refusal is not None and seen.live.nodes is None:
        yield _only(Kind.PODS_REFUSED, _refused("some nodes", refusal.reason))
    elif refused:
        yield _only(Kind.PODS_REFUSED, _refused(_named(refused, seen), refused[0].reason))
    waiting = {pod.node for pod in seen.live.pods if pod.unscheduled or pod.failed}
    pending = [each for each in without if each.node in waiting]
    if pending:
        yield _only(
            Kind.PODS_NOT_SCHEDULED,
            f"{_named(pending, seen)} have no pod: {pending[0].reason}; free room on them, lower "
            "CACHING_CPU_REQUEST or CACHING_MEMORY_REQUEST, or exclude them by NODE_SELECTOR",
        )


def _refused(nodes: str, reason: str) -> str:
    """Return the message. The DaemonSet controller replaces pods only after it has created all."""
    return (
        f"{nodes} have no pod, because the cluster refuses to create it: {reason}; correct the "
        "quota, limit range or policy that refuses it: until then Kubernetes replaces no pod, so "
        "no node gets a new image"
    )


def _of_sleep_image(seen: Observation) -> Iterator[Problem]:
    failing = [
        (place, *found)
        for place in seen.places
        if place.pod is not None and (found := node_state.why_sleep_image_fails(place.pod))
    ]
    if failing:
        _, container, reason = failing[0]
        yield _only(
            Kind.SLEEP_IMAGE_FAILING,
            f"the sleep image {seen.config.kip_image} (KIP_IMAGE) fails on "
            f"{_named([place for place, *_ in failing], seen)}, so container {container} "
            f"does not run: {reason}; {advice(reason)}",
        )


def _of_image(seen: Observation, image: DesiredImage) -> Iterator[Problem]:
    states = seen.states[image.container]
    failing = [each for each in seen.places if states[each.node].state is ImageState.FAILING]
    if failing:
        reason = states[failing[0].node].reason
        yield Problem(
            kind=Kind.IMAGE_FAILING,
            key=f"{Kind.IMAGE_FAILING} {image.container} {image.image}",
            message=f"image {image.image} of entry {image.entry} fails on "
            f"{_named(failing, seen)}: {reason}; {advice(reason)}",
        )


def _of_quarantined(entry: str, current: EntryState, found: Quarantined) -> Problem:
    tag, kept = found.tag, current.tag(found.tag.name)
    content = f" with {tag.digest}" if tag.digest else ""
    instead = "its previous content stays" if kept else "the entry's other tags stay"
    return Problem(
        kind=Kind.IMAGE_QUARANTINED,
        key=f"{Kind.IMAGE_QUARANTINED} {entry} {tag.name} {tag.digest}",
        message=f"tag {tag.name}{content} of entry {entry} fails on every node that tried it since "
        f"{found.since:%Y-%m-%d %H:%M} UTC, so it is quarantined and {instead}: {found.reason}; "
        f"{advice(found.reason)}, then push it again",
    )


def advice(reason: str) -> str:
    """Return what to do about a container that does not run."""
    if failure.is_pull(reason):
        return "check its name, IMAGE_PULL_SECRETS and the network of the nodes"
    if "OOMKilled" in reason:
        return "raise CACHING_MEMORY_LIMIT"
    if "permission denied" in reason:
        return "allow programs to run from the kubelet's folder: mount it without noexec"
    return "read the runtime's words, and look at the pod with kubectl describe pod"


def _named(places: Sequence[Place], seen: Observation) -> str:
    """Return how many of the nodes these are, and the names of the first ones."""
    names = ", ".join(each.node for each in places[:_NAMED_NODES])
    more = ", …" if len(places) > _NAMED_NODES else ""
    expected = sum(each.is_expected for each in seen.places)
    return f"{len(places)} of {expected} nodes ({names}{more})"


def _only(kind: Kind, message: str) -> Problem:
    """Return a problem of which there is only one at a time."""
    return Problem(kind=kind, key=kind, message=message)
