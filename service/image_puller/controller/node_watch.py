"""The watch of nodes that join, for clusters where no Knative source sends them as events."""

import logging
from collections.abc import Callable, Iterator

from image_puller import limits
from image_puller.controller.clock import Clock
from image_puller.controller.intake import Intake
from image_puller.controller.watch import Watch
from image_puller.errors import ImagePullerError
from image_puller.events.event import NodeJoined

log = logging.getLogger(__name__)

SOURCE = "nodes"
"""The source under which nodes that join are counted."""


def node_watch(joins: Callable[[], Iterator[str]], intake: Intake, clock: Clock) -> Watch:
    """Return a watch that hands each node that joins to the intake.

    `joins` yields the names of nodes that join from now on, and raises ImagePullerError.
    """

    def take(node: str) -> None:
        try:
            intake.accept(SOURCE, (NodeJoined(node=node),), timeout=limits.PUSH_SECONDS)
        except ImagePullerError as error:  # it does not concern the watch
            log.warning(
                "node %s joined, and the DaemonSet is checked for it only with the next check: %s",
                node,
                error,
            )

    return Watch(
        joins,
        take,
        clock,
        what="nodes",
        otherwise=(
            "so only checks notice a node that joins",
            "apply deploy/kubernetes/nodes.yaml to allow it",
        ),
    )
