"""An observation of the cluster at one moment: what the API server has, and what follows. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from image_puller.config.configuration import Config
from image_puller.core import daemonset, node_state, rollout
from image_puller.core.daemonset import DesiredImage, Manifest
from image_puller.core.node_state import ImageOnNode, Place, Refusal
from image_puller.core.nodes import Node
from image_puller.core.pods import Pod
from image_puller.core.state import Seeding, State

_DESIRED = "desiredNumberScheduled"
_SELECTED = (_DESIRED, "currentNumberScheduled", "numberMisscheduled")
_GENERATION = "deprecated.daemonset.template.generation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What the API server has at one moment.

    `daemonset` is None where it is missing. `state` is None where it can't be read. `nodes` is None
    where the service may not list them. `refusal` is the latest failure of the DaemonSet controller
    to create a pod. It is None where there is none, or where Events may not be read.
    """

    daemonset: Manifest | None
    state: State | None
    pods: Sequence[Pod] = ()
    nodes: Sequence[Node] | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What follows from `Live`: the desired images, the nodes, and the state of each on each.

    `states` has the state by container and by node.
    """

    config: Config
    live: Live
    images: tuple[DesiredImage, ...]
    places: tuple[Place, ...]
    states: Mapping[str, Mapping[str, ImageOnNode]]

    @property
    def rollout(self) -> str:
        """Return the state of the rollout: complete, in progress, pending or blocked."""
        state = self.live.state
        if state is not None and state.blocked is not None:
            return "blocked"
        is_empty = state is not None and state.seeding is Seeding.EMPTY
        if is_empty and not self.selects_nothing:
            return "pending"
        if state is not None and _is_pending(self.config, state):
            return "pending"
        return "complete" if self.is_complete else "in progress"

    @property
    def is_complete(self) -> bool:
        """Whether the controller has seen the live template, and every ready node runs it."""
        live = self.live.daemonset
        if live is None or not self._is_seen:
            return False
        if self.live.nodes is None or generation_of(live) is None:
            return self.has_reached_all and self._count("numberReady") == self._count(_DESIRED)
        return all(self.runs_template(place) for place in self.ready)

    @property
    def has_reached_all(self) -> bool:
        """Whether the controller has created a pod of the live template for each selected node."""
        return self._is_seen and self._count("updatedNumberScheduled") == self._count(_DESIRED)

    @property
    def selects_nothing(self) -> bool:
        """Whether the DaemonSet has no pod, and no node should have one."""
        live = self.live.daemonset
        is_empty = live is not None and selects_no_node(live) and not self.live.pods
        return is_empty and not any(place.is_expected for place in self.places)

    @property
    def ready(self) -> tuple[Place, ...]:
        """Return the ready nodes that the DaemonSet selects. Where it is unknown, they count."""
        return tuple(
            place
            for place in self.places
            if place.is_expected and (place.facts is None or place.facts.is_ready)
        )

    def runs_template(self, place: Place) -> bool:
        """Whether the pod of a node has the live template, and is ready: it holds its images."""
        return place.pod is not None and place.pod.is_ready and self.has_template(place.pod)

    def has_template(self, pod: Pod) -> bool:
        """Whether a pod has the live template.

        Where that is an earlier one again, its pods stay, with the generation of then.
        """
        live = self.live.daemonset
        generation = None if live is None else generation_of(live)
        return generation in (None, pod.generation) or self.has_reached_all

    @property
    def _is_seen(self) -> bool:
        return self.live.daemonset is None or _is_seen(self.live.daemonset)

    def _count(self, name: str) -> int:
        return 0 if self.live.daemonset is None else _count(self.live.daemonset, name)


def observe(config: Config, live: Live) -> Observation:
    """Return what follows from what the API server has."""
    state = live.state
    images = tuple(
        image
        for entry in config.entries
        if state is not None and entry.name in state.entries
        for image in daemonset.desired_images_of(
            config, entry, state.entries[entry.name], state.holding
        )
    )
    if live.daemonset is None:
        return Observation(config=config, live=live, images=images, places=(), states={})
    template, generation = live.daemonset["spec"]["template"], generation_of(live.daemonset)
    places = node_state.places(template, live.nodes or (), live.pods, live.refusal)
    states = {
        image.container: {
            place.node: node_state.on_node(image, place, generation) for place in places
        }
        for image in images
    }
    return Observation(config=config, live=live, images=images, places=places, states=states)


def selects_no_node(live: Manifest) -> bool:
    """Whether the DaemonSet controller has found no node for a DaemonSet as it is now."""
    return _is_seen(live) and not any(_count(live, name) for name in _SELECTED)


def generation_of(live: Manifest) -> str | None:
    """Return the generation of a DaemonSet's template, as its pods have it in a label."""
    generation = (live["metadata"].get("annotations") or {}).get(_GENERATION)
    return None if generation is None else str(generation)


def _is_seen(live: Manifest) -> bool:
    """Whether the DaemonSet controller has seen a DaemonSet as it is now."""
    return _count(live, "observedGeneration") >= int(live["metadata"].get("generation", 0))


def _count(live: Manifest, name: str) -> int:
    """Return a count of a DaemonSet's status. The API server leaves out zeros."""
    return int((live.get("status") or {}).get(name, 0))


def _is_pending(config: Config, state: State) -> bool:
    """Whether a rollout is pending. A state of another configuration does not count."""
    is_ours = state.configuration == daemonset.configuration_hash(config)
    return is_ours and rollout.is_pending(config, state)
