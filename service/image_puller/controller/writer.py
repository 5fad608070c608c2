"""One writer per process: what arrives while a write is in flight goes out together in the next.

So n senders at once cost about 2 x pushes / n writes, and a single one a write per push.
"""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field

from image_puller import limits
from image_puller.cluster.reconcile import Reconciler
from image_puller.core.changes import Change
from image_puller.core.decide import Outcome
from image_puller.errors import ClusterUnavailableError, ImagePullerError, SupersededError

log = logging.getLogger(__name__)

Outcomes = tuple[Outcome, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Delivery:
    """The changes of one request, and where their outcomes are awaited."""

    changes: tuple[Change, ...]
    committed: "Future[Outcomes]" = field(default_factory=Future)


class Writer:
    """Commits what several threads submit, in a thread of its own between `start` and `stop`."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler
        self._arrival = threading.Condition()
        self._waiting: list[_Delivery] = []
        self._stopping = False
        self._expected = 1
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        """Begins to commit."""
        self._thread.start()

    def stop(self) -> None:
        """Commits what was submitted and applies what is pending, then returns."""
        with self._arrival:
            self._stopping = True
            self._arrival.notify()
        self._thread.join()

    def submit(self, changes: Sequence[Change], *, patience: float) -> Outcomes:
        """What became of the changes, once nothing of them can get lost any more.

        Raises ClusterUnavailableError after `patience` seconds; the commit may still be made, so
        that the sender's next try finds nothing to do.
        """
        delivery = _Delivery(changes=tuple(changes))
        with self._arrival:
            if self._stopping or len(self._waiting) >= limits.WAITING_EVENTS:
                raise ClusterUnavailableError("the service is stopping, or has too much to do")
            self._waiting.append(delivery)
            self._arrival.notify()
        try:
            return delivery.committed.result(timeout=patience)
        except FutureTimeoutError:
            raise ClusterUnavailableError(
                f"the API server did not take the change within {patience} s"
            ) from None

    def _run(self) -> None:
        while True:
            batch, stopping = self._take()
            self._commit(batch, flush=stopping)
            if stopping:
                return

    def _take(self) -> tuple[list[_Delivery], bool]:
        """The next batch: what waits, or nothing when a pending template is due."""
        with self._arrival:
            self._arrival.wait_for(
                lambda: self._waiting or self._stopping, timeout=self._seconds_until_due()
            )
            self._gather()
            batch, self._waiting = self._waiting, []
            return batch, self._stopping

    def _gather(self) -> None:
        """Under load: a moment for the senders that were just answered to come back.

        Where they don't, fewer are expected, but not at once: one that is late may only be slow.
        """
        are_there = self._expected == 1 or self._arrival.wait_for(
            lambda: len(self._waiting) >= self._expected or self._stopping,
            timeout=limits.GATHER_SECONDS,
        )
        self._expected = max(len(self._waiting), 1 if are_there else self._expected // 2)

    def _seconds_until_due(self) -> float | None:
        if self._failed:
            return limits.RETRY_SECONDS
        return self._reconciler.seconds_until_due()

    def _commit(self, batch: Sequence[_Delivery], *, flush: bool) -> None:
        changes = [change for delivery in batch for change in delivery.changes]
        try:
            outcomes = iter(self._reconciler.commit(changes, flush=flush))
        except ImagePullerError as error:
            log.error("nothing was changed: %s", error)  # noqa: TRY400 - the message says it all
            self._fail(batch, error)
        except Exception as error:
            # A fault of ours: its senders are told, and the writer lives on for the others.
            log.exception("nothing was changed")
            self._fail(batch, error)
        else:
            self._failed = False
            for delivery in batch:
                delivery.committed.set_result(tuple(next(outcomes) for _ in delivery.changes))

    def _fail(self, batch: Sequence[_Delivery], error: Exception) -> None:
        """Tells the senders; without any, the next attempt is soon, unless others took over."""
        self._failed = not isinstance(error, SupersededError)
        for delivery in batch:
            delivery.committed.set_exception(error)
