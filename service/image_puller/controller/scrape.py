"""A scrape of the metrics: what was true in the cluster a moment ago, within a bounded time."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from image_puller import limits
from image_puller.controller.group import Group
from image_puller.controller.metrics import Metrics
from image_puller.controller.places import Places
from image_puller.core.counts import Counts
from image_puller.errors import ClusterUnavailableError, ImagePullerError

log = logging.getLogger(__name__)


class _BackgroundRead:
    """Reads in a thread of its own, so that its callers need not wait. One read at a time."""

    def __init__(self, read: Callable[[], Counts | None]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._running: Future[Counts | None] | None = None
        self._last: Counts | None = None
        self._last_until = 0.0

    def last(self) -> Counts | None:
        """Return what was read last, if that is not long ago."""
        return self._last if time.monotonic() < self._last_until else None

    def begin(self) -> "Future[Counts | None]":
        """Begin to read, or share the read that goes on."""
        with self._lock:
            if self._running is None or self._running.done():
                self._running = Future()
                threading.Thread(
                    target=self._run, args=(self._running,), name="scrape", daemon=True
                ).start()
            return self._running

    def _run(self, future: "Future[Counts | None]") -> None:
        try:
            self._last = self._read()
            self._last_until = time.monotonic() + limits.OLD_SCRAPE_SECONDS
            future.set_result(self._last)
        except BaseException as error:  # noqa: BLE001 - who waits gets it
            future.set_exception(error)


class Scrapes:
    """Answers scrapes. Where the API server does not answer in time, the rest is shown."""

    def __init__(self, groups: Sequence[Group], metrics: Metrics) -> None:
        self._groups = groups
        self._metrics = metrics
        self._reads = [_BackgroundRead(group.counts) for group in groups]
        self._places = Places(limits.SCRAPES, "scrapes", reason="too_many_scrapes")

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus. Raises OverloadedError."""
        with self._places.take():
            for group in self._groups:
                is_in_charge = group.superseded is None
                self._metrics.set_in_charge(group.config.group, is_in_charge=is_in_charge)
            observed, is_reachable = self._observed()
            return self._metrics.text(observed, is_reachable=is_reachable)

    def _observed(self) -> tuple[list[Counts], bool]:
        """Return the numbers of the groups that could be observed, and whether all answered."""
        deadline = time.monotonic() + limits.SCRAPE_SECONDS
        observed: list[Counts] = []
        is_reachable = True
        for read, running in [(each, each.begin()) for each in self._reads]:
            try:
                found = running.result(max(deadline - time.monotonic(), 0.0))
            except FutureTimeoutError:
                # Many nodes take longer to read than a scrape may wait. The next one finds them.
                last = read.last()
                is_reachable = is_reachable and last is not None
                observed += () if last is None else (last,)
            except ClusterUnavailableError as error:
                log.debug("the API server did not answer for a scrape: %s", error)
                is_reachable = False
            except ImagePullerError as error:
                log.debug("a group could not be observed for a scrape: %s", error)
            except Exception:
                log.exception("a group could not be observed for a scrape")
            else:
                observed += () if found is None else (found,)
        return observed, is_reachable
