"""An observation of the cluster at one moment: what the API server has, and what follows. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from image_puller.config.configuration import Config
from image_puller.core import daemonset, node_state, rollout
from image_puller.core.daemonset import DesiredImage, Manifest
from image_puller.core.node_state import ImageOnNode, Place, Refusal
from image_puller.core.nodes import Node
from image_puller.core.pods import Pod
from image_puller.core.state import State

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
        if state is not None and _is_pending(self.config, state):
            return "pending"
        return "complete" if self._is_complete() else "in progress"

    def _is_complete(self) -> bool:
        """Whether the controller has seen the template, and every ready node runs it."""
        live = self.live.daemonset
        if live is None:
            return False
        counts, metadata = live.get("status") or {}, live["metadata"]
        if counts.get("observedGeneration", 0) < metadata.get("generation", 0):
            return False
        generation = generation_of(live)
        if self.live.nodes is None or generation is None:
            desired = counts.get("desiredNumberScheduled", 0)
            updated = counts.get("updatedNumberScheduled", 0)
            return bool(updated == desired == counts.get("numberReady", 0))
        return all(
            place.pod is not None and place.pod.is_ready and place.pod.generation == generation
            for place in self.places
            if place.is_expected and (place.facts is None or place.facts.is_ready)
        )


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


def generation_of(live: Manifest) -> str | None:
    """Return the generation of a DaemonSet's template, as its pods have it in a label."""
    generation = (live["metadata"].get("annotations") or {}).get(_GENERATION)
    return None if generation is None else str(generation)


def _is_pending(config: Config, state: State) -> bool:
    """Whether a rollout is pending. A state of another configuration does not count."""
    is_ours = state.configuration == daemonset.configuration_hash(config)
    return is_ours and rollout.is_pending(config, state)
