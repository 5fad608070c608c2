"""The writer: one thread commits the changes of all requests.

Changes that arrive during a write go out together in the next one. So n senders at once need about
2 x pushes / n writes, and a single sender needs one write per push.
"""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import assert_never

from image_puller import limits
from image_puller.cluster.reconcile import Reconciler
from image_puller.controller.clock import Clock
from image_puller.controller.metrics import Metrics
from image_puller.core.changes import (
    AwaitVerification,
    Change,
    CheckDaemonSet,
    EnsureExists,
    HoldApart,
    NoteHeld,
    NoteProven,
    Proceed,
    PullAgain,
    QuarantineTag,
    RegistryAnswer,
    SetMaxUnavailable,
    TrackTag,
    UntrackTag,
)
from image_puller.core.decide import Outcome
from image_puller.errors import ClusterUnavailableError, ImagePullerError, SupersededError

log = logging.getLogger(__name__)

Outcomes = tuple[Outcome, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """The changes of one request, and the future that its sender waits for."""

    changes: tuple[Change, ...]
    committed: "Future[Outcomes]" = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """Changes that a writer was asked to commit. Their sender waits for the outcomes."""

    source: str
    changes: tuple[Change, ...]
    committed: "Future[Outcomes]"

    def outcomes(self, timeout: float) -> Outcomes:
        """Return the outcomes once nothing of the changes can get lost.

        Raises ClusterUnavailableError after `timeout` seconds. The commit may still be made then;
        the sender's retry changes nothing.
        """
        try:
            return self.committed.result(timeout=timeout)
        except FutureTimeoutError:
            raise ClusterUnavailableError(
                f"the API server did not take the change within {timeout:.2f} s"
            ) from None


class Writer:
    """Commits what several threads ask for, in a thread of its own between `start` and `stop`."""

    def __init__(
        self,
        reconciler: Reconciler,
        metrics: Metrics,
        clock: Clock,
        *,
        group: str | None = None,
        most_waiting: int = limits.WAITING_REQUESTS,
    ) -> None:
        self._group = group
        self._prefix = "" if group is None else f"{group}/"
        self._reconciler = reconciler
        self._metrics = metrics
        self._clock = clock
        self._most_waiting = most_waiting
        metrics.count_writes(group, 0, 0)
        self._arrival = threading.Condition()
        self._waiting: list[_Request] = []
        self._stopping = False
        self._expected = 1
        self._retry: float | None = None
        self._thread: threading.Thread | None = None

    @property
    def superseded(self) -> str | None:
        """Return why this process is not in charge, or None."""
        return self._reconciler.superseded

    def start(self) -> threading.Thread:
        """Start to commit, and return the thread."""
        # The web server forks before this. A thread object from before would count as ended.
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()
        return self._thread

    def stop(self) -> None:
        """Commit what was asked for, apply a pending template, and return."""
        with self._arrival:
            self._stopping = True
            self._arrival.notify()
        if self._thread is not None:
            self._thread.join()

    def commit(self, source: str, changes: Sequence[Change], *, timeout: float) -> Outcomes:
        """Commit changes, and return their outcomes once nothing of them can get lost.

        Raises what `submit` and `Submitted.outcomes` raise.
        """
        submitted = self.submit(source, changes)
        outcomes = submitted.outcomes(timeout)
        self.note(submitted, outcomes)
        return outcomes

    def note(self, submitted: Submitted, outcomes: Outcomes) -> None:
        """Count and log the outcomes of changes under their source."""
        lines: dict[tuple[int, Outcome], list[str]] = {}
        for change, outcome in zip(submitted.changes, outcomes, strict=True):
            self._metrics.count_event(submitted.source, outcome)
            is_news = not isinstance(change, RegistryAnswer) or outcome is not Outcome.UNCHANGED
            level = logging.INFO if is_news else logging.DEBUG
            lines.setdefault((level, outcome), []).append(self._prefix + subject(change))
        for (level, outcome), subjects in lines.items():
            log.log(level, "%s: %s: %s", submitted.source, listed(subjects), outcome)

    def submit(self, source: str, changes: Sequence[Change]) -> Submitted:
        """Ask for a commit. Raises ClusterUnavailableError where none can be made."""
        request = _Request(changes=tuple(changes))
        with self._arrival:
            if self._stopping:
                raise ClusterUnavailableError("the service is stopping")
            if len(self._waiting) >= self._most_waiting:
                raise ClusterUnavailableError(f"{len(self._waiting)} requests already wait")
            self._waiting.append(request)
            self._arrival.notify()
        return Submitted(source=source, changes=request.changes, committed=request.committed)

    def _run(self) -> None:
        while True:
            batch, stopping = self._take()
            self._commit(batch, flush=stopping)
            if stopping:
                return

    def _take(self) -> tuple[list[_Request], bool]:
        """Return the next batch: what waits, or nothing when a pending template is due."""
        with self._arrival:
            self._clock.wait_for(
                self._arrival,
                lambda: self._waiting or self._stopping,
                self._seconds_until_due(),
            )
            self._gather()
            batch, self._waiting = self._waiting, []
            return batch, self._stopping

    def _gather(self) -> None:
        """Under load, wait a moment for the senders that were just answered to send again.

        Where they don't, expect fewer next time, but not at once: a late one may only be slow.
        """
        are_there = self._expected == 1 or self._clock.wait_for(
            self._arrival,
            lambda: len(self._waiting) >= self._expected or self._stopping,
            limits.GATHER_SECONDS,
        )
        self._expected = max(len(self._waiting), 1 if are_there else self._expected // 2)

    def _seconds_until_due(self) -> float | None:
        if self._retry is not None:
            return self._retry
        return self._reconciler.seconds_until_due()

    def _commit(self, batch: Sequence[_Request], *, flush: bool) -> None:
        changes = [change for request in batch for change in request.changes]
        try:
            outcomes = iter(self._counted(changes, flush=flush))
        except SupersededError as error:
            level = logging.ERROR if batch else logging.DEBUG  # why it is so, was logged once
            log.log(level, "nothing was changed: %s", error)
            self._fail(batch, error, limits.RETURN_SECONDS)
        except ImagePullerError as error:
            log.error("nothing was changed: %s", error)  # noqa: TRY400 - the message is complete
            self._fail(batch, error)
        except Exception as error:
            # An error in our code fails the requests of this batch only.
            log.exception("nothing was changed")
            self._fail(batch, error)
        else:
            self._retry = None
            for request in batch:
                request.committed.set_result(tuple(next(outcomes) for _ in request.changes))

    def _counted(self, changes: Sequence[Change], *, flush: bool) -> Outcomes:
        """Commit changes, and count what it took."""
        reconciler, began = self._reconciler, self._clock.monotonic()
        writes, conflicts = reconciler.writes, reconciler.conflicts
        try:
            outcomes = reconciler.commit(changes, flush=flush)
        finally:
            self._metrics.count_writes(
                self._group, reconciler.writes - writes, reconciler.conflicts - conflicts
            )
        pushes = sum(isinstance(change, TrackTag | AwaitVerification) for change in changes)
        seconds = self._clock.monotonic() - began
        self._metrics.note_commit(self._group, seconds, pushes=pushes)
        return outcomes

    def _fail(
        self, batch: Sequence[_Request], error: Exception, retry: float = limits.RETRY_SECONDS
    ) -> None:
        """Fail the batch, and try again after so many seconds."""
        self._retry = retry
        for request in batch:
            request.committed.set_exception(error)


def listed(texts: Sequence[str]) -> str:
    """Return texts as one for the log: each once, the first ones, and how many more there are."""
    known = list(dict.fromkeys(texts))
    shown, more = known[: limits.LINE_SUBJECTS], len(known) - limits.LINE_SUBJECTS
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")


def subject(change: Change) -> str:
    """Return what a change is about, for the log and the status page."""
    match change:
        case TrackTag() | UntrackTag() | RegistryAnswer() | PullAgain() | NoteHeld():
            return " ".join(filter(None, (change.entry, change.tag, change.digest)))
        case QuarantineTag():
            return f"{change.entry} {change.tag} {change.digest or ''} ({change.reason})"
        case NoteProven(image) | HoldApart(image):
            return image
        case SetMaxUnavailable(nodes):
            return f"ROLLOUT_MAX_UNAVAILABLE, now {nodes or 'as configured'}"
        case AwaitVerification():
            return f"{change.entry} {change.tag} ({change.reason})"
        case EnsureExists() | CheckDaemonSet() | Proceed():
            return "DaemonSet"
        case _:
            assert_never(change)
