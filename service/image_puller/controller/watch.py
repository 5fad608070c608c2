"""A watch of objects of the API server, in a thread of its own. It starts again after each end."""

import logging
import threading
from collections.abc import Callable, Iterator

from image_puller import limits
from image_puller.controller.clock import Clock
from image_puller.errors import ImagePullerError, RefusedByClusterError

log = logging.getLogger(__name__)


class Watch:
    """Takes the name of each object that changes.

    `changes` yields the names from now on, and raises ImagePullerError. `what` names the objects,
    and `otherwise` says what follows where they can't be watched, and what allows it.
    """

    def __init__(
        self,
        changes: Callable[[], Iterator[str]],
        take: Callable[[str], None],
        clock: Clock,
        *,
        what: str,
        otherwise: tuple[str, str],
    ) -> None:
        self._changes = changes
        self._take = take
        self._clock = clock
        self._what = what
        self._consequence, self._advice = otherwise
        self._wakes = threading.Condition()
        self._stopping = False
        self._was_refused = False
        self._thread: threading.Thread | None = None

    def start(self) -> threading.Thread:
        """Start to watch, and return the thread."""
        # The web server forks before this. A thread object from before would count as ended.
        self._thread = threading.Thread(target=self._run, name=self._what, daemon=True)
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
            for name in self._changes():
                self._was_refused = False
                self._take(name)
        except RefusedByClusterError as error:
            level = logging.DEBUG if self._was_refused else logging.WARNING
            self._was_refused = True
            log.log(
                level,
                "%s can't be watched, %s: %s; %s",
                self._what,
                self._consequence,
                error,
                self._advice,
            )
            return limits.REFUSED_WATCH_SECONDS
        except ImagePullerError as error:
            log.warning("the watch of %s ended and is started again: %s", self._what, error)
        except Exception:
            # No answer of the API server may end the watch for good.
            log.exception("the watch of %s failed and is started again", self._what)
        return limits.RETRY_SECONDS
