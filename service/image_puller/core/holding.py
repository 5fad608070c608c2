"""How images are held: by volumes, or each by a container of its own. Pure.

An image that can't be pulled stops only the container that mounts it. So an image that no node has
held yet has a container of its own, and joins the common one with a later change of the template.
See `docs/holding.md`.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from image_puller import limits
from image_puller.config.configuration import Config
from image_puller.core import daemonset, nodes
from image_puller.core.daemonset import Manifest
from image_puller.core.nodes import Node
from image_puller.core.state import Holding, State

CAN = "the API server keeps image volumes, and all selected nodes can mount them"
"""The reason for volumes."""
_SETTLED = timedelta(seconds=limits.HOLD_BY_SECONDS)


def by_containers(state: State, reason: str = "") -> State:
    """Return the state in which each image has its own container. `reason` is why, if told."""
    return replace(state, holding=Holding(reason=reason))


def by_volumes(config: Config, state: State) -> State:
    """Return the state in which volumes hold the images, all in the common container at first.

    A state that holds by volumes already stays as it is.
    """
    return state if state.holding.by_volumes else daemonset.with_all_common(config, state)


def why_not_on_nodes(template: Manifest, listed: Sequence[Node] | None) -> str:
    """Return why the nodes that a template selects can't hold images by volumes, or ""."""
    if listed is None:
        return "the service may not list nodes, so it does not know what they can mount"
    selected = [
        node
        for node in listed
        if nodes.why_not_selected(template, node) is None
        and nodes.untolerated_taint(template, node) is None
    ]
    unable = sorted((each for each in selected if not nodes.mounts_images(each)), key=_by_name)
    if not selected:
        return "there is no node yet that could mount images"
    if not unable:
        return ""
    first = unable[0]
    return (
        f"{len(unable)} of {len(selected)} nodes can't mount images by their versions, such as "
        f"{first.name} with {first.runtime or 'an unknown runtime'} and kubelet "
        f"{first.kubelet or 'unknown'}"
    )


def chosen(
    config: Config,
    state: State,
    why_not: str,
    now: datetime,
    *,
    at_once: bool = False,
) -> State:
    """Return the state with the way that `HOLD_BY=auto` chooses. `why_not` is against volumes.

    The way changes only after the other one has been right for a while, so a node that joins for a
    minute starts no rollout. It changes at once where none was chosen before, or where asked for.
    """
    held = state.holding
    if held.by_volumes is not bool(why_not):
        return replace(state, holding=replace(held, reason=why_not or CAN, differs_since=None))
    since = held.differs_since or now
    is_first = not held.by_volumes and not held.reason
    if not (at_once or is_first) and now - since < _SETTLED:
        return replace(state, holding=replace(held, differs_since=since))
    if why_not:
        return by_containers(state, why_not)
    begun = by_volumes(config, state)
    return replace(begun, holding=replace(begun.holding, reason=CAN))


def _by_name(node: Node) -> str:
    return node.name


def joined(config: Config, state: State) -> State:
    """Return the state for a new template: the images that are proven join the common container.

    What the template does not have any more is forgotten.
    """
    held = state.holding
    if not held.by_volumes:
        return state
    images = (image.image for image in daemonset.desired_images(config, state) if image.is_volume)
    common = tuple(
        dict.fromkeys(image for image in images if image in {*held.common, *held.proven})
    )
    return replace(state, holding=replace(held, common=common, proven=()))


def with_proven(state: State, image: str) -> State:
    """Return the state in which an image with a container of its own may join the common one."""
    held = state.holding
    if not held.by_volumes or image in (*held.common, *held.proven):
        return state
    return replace(state, holding=replace(held, proven=(*held.proven, image)))


def with_apart(state: State, image: str) -> State:
    """Return the state in which an image has a container of its own until it is proven again."""
    held = state.holding
    common = tuple(each for each in held.common if each != image)
    proven = tuple(each for each in held.proven if each != image)
    return replace(state, holding=replace(held, common=common, proven=proven))
