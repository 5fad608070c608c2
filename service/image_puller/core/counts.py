"""How many nodes are in which state, for the metrics. No name of a node is kept. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from image_puller.core.daemonset import DesiredImage
from image_puller.core.node_state import ImageState, Place
from image_puller.core.observation import Observation

ROLLOUTS = ("complete", "in progress", "pending", "blocked")
"""The states of a rollout."""
IMAGES = tuple(state for state in ImageState if state is not ImageState.NOT_SELECTED)
"""The states of an image on a selected node."""


class Node(StrEnum):
    """The state of a selected node. Each is in exactly one: the first one that applies."""

    NOT_READY = "not ready"
    NO_POD = "no pod"
    WARM = "warm"
    NOT_WARM = "not warm"


class Role(StrEnum):
    """Why an image is desired."""

    CONFIGURED = "configured"
    TRACKED = "tracked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """How many tags of an entry are not desired, or only with other content, and why."""

    refused: int
    quarantined: int
    unverified: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one group's observation has, in numbers.

    `images` has the nodes that count by the state of an image, added up for all images that an
    entry desires in a role. `changed` is when the template changed.
    """

    group: str | None
    nodes: Mapping[Node, int]
    images: Mapping[tuple[str, Role], Mapping[ImageState, int]]
    tags: Mapping[str, Tags]
    rollout: str
    changed: datetime | None


def of(seen: Observation) -> Counts | None:
    """Return the numbers of an observation, or None without a DaemonSet."""
    if seen.live.daemonset is None:
        return None
    ready = [place.node for place in seen.ready]
    images: dict[tuple[str, Role], Counter[ImageState]] = {}
    lacking: set[str] = set()
    for image in seen.images:
        states = seen.states[image.container]
        found = images.setdefault((image.entry, _role(image)), Counter())
        found.update(states[place.node].state for place in seen.places if place.counts)
        lacking.update(node for node in ready if not states[node].is_held)
    state = seen.live.state
    return Counts(
        group=seen.config.group,
        nodes=Counter(_state_of(each, lacking) for each in seen.places if each.is_expected),
        images=images,
        tags={
            name: Tags(
                refused=len(entry.refused),
                quarantined=len(entry.quarantined),
                unverified=len(entry.unverified),
            )
            for name, entry in (state.entries if state else {}).items()
        },
        rollout=seen.rollout,
        changed=state.changed if state else None,
    )


def _role(image: DesiredImage) -> Role:
    return Role.CONFIGURED if image.container == image.entry else Role.TRACKED


def _state_of(place: Place, lacking: set[str]) -> Node:
    if place.facts is not None and not place.facts.is_ready:
        return Node.NOT_READY
    if place.pod is None:
        return Node.NO_POD
    return Node.NOT_WARM if place.node in lacking else Node.WARM
