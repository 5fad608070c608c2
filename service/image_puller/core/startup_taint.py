"""Which nodes lose the startup taint (`NODE_STARTUP_TAINT`), and why. Pure.

A node loses it when it holds the images of all groups that select it. After
`NODE_STARTUP_TIMEOUT_SECONDS` it loses it anyway.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from image_puller.config.configuration import Config
from image_puller.config.startup_taint import StartupTaint
from image_puller.core import daemonset, nodes, progress
from image_puller.core.daemonset import Manifest
from image_puller.core.node_state import Place
from image_puller.core.nodes import Node
from image_puller.core.observation import Observation
from image_puller.core.state import Seeding

_TEMPORARY_PREFIXES = (
    "node.kubernetes.io/",
    "node.cloudprovider.kubernetes.io/",
    "node.cluster.x-k8s.io/",
    "startup-taint.cluster-autoscaler.kubernetes.io/",
    "karpenter.sh/unregistered",
    "node.cilium.io/",
    "readiness.k8s.io/",
)
_TEMPORARY_PARTS = ("not-ready", "notready", "uninitialized", "unregistered", "startup")
"""What the keys of taints have that a node only has until it is ready."""


class Reason(StrEnum):
    """Why a node loses the taint. It is the label of a metric."""

    WARM = "warm"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of a group. `observation` is None where it could not be observed lately."""

    config: Config
    observation: Observation | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A node that loses the taint, which is at this place among its taints.

    `seconds` is the time since its creation, or None where that is unknown. `images` is how many
    images it holds. `missing` says of each group that is not complete what it lacks.
    """

    node: str
    uid: str
    index: int
    taint: Manifest
    reason: Reason
    seconds: float | None
    images: int
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfGroup:
    """What a group has on a node: how many images, and what it lacks, or None."""

    images: int = 0
    missing: str | None = None


def is_awaited(seen: Observation) -> bool:
    """Whether a node has the startup taint, so that its images are awaited."""
    taint = seen.config.node_startup_taint
    return taint is not None and any(
        _index(taint, node) is not None for node in seen.live.nodes or ()
    )


def releases(
    taint: StartupTaint,
    timeout: timedelta | None,
    groups: Sequence[Seen],
    listed: Sequence[Node],
    now: datetime,
    *,
    began: datetime,
) -> tuple[Release, ...]:
    """Return the nodes that lose the taint now. `listed` has the nodes as they were seen last.

    There are none while a DaemonSet has another configuration than this process.

    `began` is when the process began. The timeout counts from the creation of the node and of each
    DaemonSet, so a new installation does not begin with nodes that are late. Where there is no
    DaemonSet it counts from the start of the process.
    """
    due = [(index, node) for node in listed if (index := _index(taint, node)) is not None]
    if not due or any(map(_is_of_others, groups)):
        return ()
    begins = max(_begins(each, began) for each in groups)
    judges = [_Judge(each, taint) for each in groups]
    found = []
    for index, node in due:
        each = [judge.of(node) for judge in judges]
        missing = tuple(one.missing for one in each if one.missing is not None)
        since = begins if node.created is None else max(begins, node.created)
        is_late = timeout is not None and now - since >= timeout
        if missing and not is_late:
            continue
        found.append(
            Release(
                node=node.name,
                uid=node.uid,
                index=index,
                taint=node.taints[index],
                reason=Reason.TIMEOUT if missing else Reason.WARM,
                seconds=None if node.created is None else (now - node.created).total_seconds(),
                images=sum(one.images for one in each),
                missing=missing,
            )
        )
    return tuple(found)


class _Judge:
    """Says what a group has on nodes."""

    def __init__(self, seen: Seen, taint: StartupTaint) -> None:
        self._config = seen.config
        self._taint = taint
        self._seen = seen.observation
        self._places: Mapping[str, Place] = {}
        self._images: tuple[str, ...] = ()
        if self._seen is not None and self._seen.live.state is not None:
            self._places = {place.node: place for place in self._seen.places}
            live = progress.live_images(self._seen, self._seen.live.state)
            self._images = tuple(image.container for image in live)

    def of(self, node: Node) -> _OfGroup:
        """Return what the group has on a node."""
        missing = next(self._missing(node), None)
        if missing is not None:
            return _OfGroup(missing=f"{self._prefix}{missing}")
        place = self._places.get(node.name)
        is_there = place is not None and place.is_expected
        return _OfGroup(images=len(self._images) if is_there else 0)

    @property
    def _prefix(self) -> str:
        return "" if self._config.group is None else f"{self._config.group}: "

    def _why_unknown(self) -> str:
        """Return why nobody knows yet what the group has on nodes."""
        seen, name = self._seen, self._config.daemonset_name
        if seen is None:
            return f"DaemonSet {name} could not be observed"
        if seen.live.daemonset is None:
            return f"DaemonSet {name} does not exist"
        return f"the state of DaemonSet {name} can't be read"

    def _missing(self, node: Node) -> Iterator[str]:
        """Yield what keeps the node waiting for the group: nothing if it holds all images."""
        seen = self._seen
        if seen is None or seen.live.daemonset is None or seen.live.state is None:
            yield self._why_unknown()
            return
        template = seen.live.daemonset["spec"]["template"]
        if nodes.why_not_selected(template, node) is not None:
            return
        taints = nodes.untolerated_taints(template, node)
        if any(map(self._taint.matches, taints)):
            yield "the DaemonSet does not tolerate the startup taint yet"
        elif any(not _is_temporary(taint) for taint in taints):
            return  # the group has no pod there
        elif taints:
            yield f"the node still has the taint {nodes.text_of_taint(taints[0])}"
        elif not node.is_ready:
            yield "the node is not ready"
        elif seen.live.state.seeding is Seeding.EMPTY or (seen.images and not self._images):
            yield "the DaemonSet has no images yet"
        else:
            yield from self._missing_images(seen, node)

    def _missing_images(self, seen: Observation, node: Node) -> Iterator[str]:
        place = self._places.get(node.name)
        if place is None or place.facts is None or place.facts.uid != node.uid:
            yield "the node has just joined"
            return
        states = [seen.states[container][place.node] for container in self._images]
        missing = [each for each in states if not each.is_held]
        if missing:
            first = missing[0]
            yield f"{len(missing)} of {len(states)} images are not held: {first.reason}"


def _is_of_others(seen: Seen) -> bool:
    """Whether a DaemonSet has another configuration, so that another process may be in charge."""
    state = None if seen.observation is None else seen.observation.live.state
    mine = daemonset.configuration_hash(seen.config)
    return state is not None and state.configuration != mine


def _begins(seen: Seen, began: datetime) -> datetime:
    """Return from when on the group can have brought images to nodes."""
    live = None if seen.observation is None else seen.observation.live.daemonset
    created = None if live is None else live["metadata"].get("creationTimestamp")
    return began if created is None else datetime.fromisoformat(created)


def _index(taint: StartupTaint, node: Node) -> int | None:
    """Return the place of the startup taint among the taints of a node, or None."""
    found = (index for index, each in enumerate(node.taints) if taint.matches(each))
    return next(found, None)


def _is_temporary(taint: Manifest) -> bool:
    """Whether a taint looks like one that a node loses soon, so that pods come to it then."""
    key = str(taint.get("key")).lower()
    return key.startswith(_TEMPORARY_PREFIXES) or any(part in key for part in _TEMPORARY_PARTS)
