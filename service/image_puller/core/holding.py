"""How images are held: by volumes, or each by a container of its own. Pure.

An image that can't be pulled stops only the container that mounts it. So an image that no node has
held yet has a container of its own, and joins the common one with a later change of the template.
See `docs/holding.md`.
"""

from collections.abc import Collection
from dataclasses import replace

from image_puller.config.configuration import Config
from image_puller.core import daemonset
from image_puller.core.state import Holding, State


def by_containers(state: State, reason: str = "") -> State:
    """Return the state in which each image has its own container. `reason` is why, if told."""
    return replace(state, holding=Holding(reason=reason))


def by_volumes(config: Config, state: State, failing: Collection[str] = ()) -> State:
    """Return the state in which volumes hold the images.

    All are in the common container at once, but for those that fail on a node now. A state that
    holds by volumes already stays as it is.
    """
    if state.holding.by_volumes:
        return state
    begun = daemonset.with_all_common(config, state)
    common = tuple(image for image in begun.holding.common if image not in failing)
    return replace(begun, holding=replace(begun.holding, common=common))


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
