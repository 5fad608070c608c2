"""The log of rollouts: their start, their images, what fails, and their end."""

import logging
from typing import assert_never

from image_puller.controller.writer import listed
from image_puller.core import problems
from image_puller.core.progress import (
    ImageFailing,
    ImageRecovered,
    NodeWarm,
    Notice,
    OnAllNodes,
    RolloutComplete,
    RolloutStarted,
)

log = logging.getLogger(__name__)


def write(notice: Notice) -> None:
    """Log a notice, if it is no repetition. The line begins with the name of the group."""
    if not notice.is_repeated:
        level = logging.WARNING if isinstance(notice, ImageFailing) else logging.INFO
        group = "" if notice.group is None else f"{notice.group}: "
        log.log(level, "%s%s", group, _text(notice))


def _text(notice: Notice) -> str:
    match notice:
        case RolloutStarted(nodes=nodes, changed=changed):
            what = listed([new.image for new in changed]) or "no new image"
            return f"rollout started: {nodes} nodes get {what}"
        case OnAllNodes(entry=entry, image=image, nodes=nodes, seconds=seconds):
            since = "its push" if notice.is_since_push else "the template changed"
            return (
                f"image {image} of entry {entry} is on all {nodes} nodes, "
                f"{seconds:.0f} s after {since}"
            )
        case ImageFailing(entry=entry, image=image, nodes=nodes, reason=reason):
            return (
                f"image {image} of entry {entry} fails on {nodes} nodes: {reason}; "
                f"{problems.advice(reason)}"
            )
        case ImageRecovered(entry=entry, image=image):
            why = "" if notice.is_desired else ", because it is not desired any more"
            return f"image {image} of entry {entry} fails no more{why}"
        case RolloutComplete(nodes=nodes, not_ready=others, seconds=seconds):
            unready = f"; {others} are not ready" if others else ""
            return (
                f"rollout complete: {nodes} of {nodes + others} nodes in {seconds:.0f} s{unready}"
            )
        case NodeWarm(node=node, seconds=seconds):
            after = "" if seconds is None else f", {seconds:.0f} s after it was created"
            return f"node {node} is warm{after}"
        case _:
            assert_never(notice)
