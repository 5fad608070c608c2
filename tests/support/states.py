"""States and templates for the tests of the pure modules."""

from image_puller.config.configuration import Config
from image_puller.core import daemonset, decide, rollout
from image_puller.core.changes import AwaitVerification, Change
from image_puller.core.state import State
from tests.support.building import NOON, at, digest, state_of

TWO = "app=quay.io/org/app:1.2.3;web=quay.io/org/web:1.2.3"
"""Two images, for `IMAGES`."""


def unverified_push(
    tag: str = "1.2.4", number: int | None = 1, *, seconds: float = 0, reason: str = "unavailable"
) -> AwaitVerification:
    """Return a push that awaits verification, with the digest of that number or none."""
    content = None if number is None else digest(number)
    return AwaitVerification(entry="app", tag=tag, digest=content, time=at(seconds), reason=reason)


def live(config: Config, *changes: Change) -> State:
    """Return the state of a DaemonSet whose live template has these changes."""
    return rollout.advance(config, state_of(config, *changes), NOON)


def changed(config: Config, state: State, *changes: Change) -> State:
    """Return the state after these changes."""
    return decide.apply(config, state, changes)[0]


def shown(config: Config, state: State) -> list[tuple[str, str | None]]:
    """Return the images of a state's template as `app:1.2.3`, each with its expected digest."""
    return [
        (image.image.rpartition("/")[2], image.expected)
        for image in daemonset.desired_images(config, state)
    ]


def images(config: Config, state: State) -> list[str]:
    """Return the images of a state's template as `app:1.2.3`."""
    return [image for image, _ in shown(config, state)]
