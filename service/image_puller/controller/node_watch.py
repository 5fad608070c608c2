"""The watch of nodes that join, for clusters where no Knative source sends them as events."""

import logging
import threading
from collections.abc import Callable, Iterator

from image_puller import limits
from image_puller.controller.clock import Clock
from image_puller.controller.intake import Intake
from image_puller.errors import ImagePullerError, RefusedByClusterError
from image_puller.events.event import NodeJoined

log = logging.getLogger(__name__)

SOURCE = "nodes"
"""The source under which nodes that join are counted."""


class NodeWatch:
    """Hands each node that joins to the intake, in a thread of its own.

    `joins` yields the names of nodes that join from now on, and raises ImagePullerError.
    """

    def __init__(self, joins: Callable[[], Iterator[str]], intake: Intake, clock: Clock) -> None:
        self._joins = joins
        self._intake = intake
        self._clock = clock
        self._wakes = threading.Condition()
        self._stopping = False
        self._was_refused = False
        self._thread: threading.Thread | None = None

    def start(self) -> threading.Thread:
        """Start to watch, and return the thread."""
        # The web server forks before this. A thread object from before would count as ended.
        self._thread = threading.Thread(target=self._run, name="nodes", daemon=True)
        self._thread.start()
        return self._thread

    def stop(self) -> None:
        """Start no other watch, and return at once."""
        with self._wakes:
            self._stopping = True
            self._wakes.notify()

    def _run(self) -> None:
        while not self._stopping:
            seconds = self._watch()
            with self._wakes:
                self._clock.wait_for(self._wakes, lambda: self._stopping, seconds)

    def _watch(self) -> float:
        """Watch until the watch ends. Return the seconds until the next one."""
        try:
            for node in self._joins():
                self._was_refused = False
                self._take(node)
        except RefusedByClusterError as error:
            level = logging.DEBUG if self._was_refused else logging.WARNING
            self._was_refused = True
            log.log(
                level,
                "nodes can't be watched, so only checks notice a node that joins: %s; "
                "apply deploy/kubernetes/nodes.yaml to allow it",
                error,
            )
            return limits.REFUSED_WATCH_SECONDS
        except ImagePullerError as error:
            log.warning("the watch of nodes ended and is started again: %s", error)
        except Exception:
            # No answer of the API server may end the watch for good.
            log.exception("the watch of nodes failed and is started again")
        return limits.RETRY_SECONDS

    def _take(self, node: str) -> None:
        """Hand a node to the intake. Its errors do not concern the watch."""
        try:
            self._intake.accept(SOURCE, (NodeJoined(node=node),), timeout=limits.PUSH_SECONDS)
        except ImagePullerError as error:
            log.warning(
                "node %s joined, and the DaemonSet is checked for it only with the next check: %s",
                node,
                error,
            )
