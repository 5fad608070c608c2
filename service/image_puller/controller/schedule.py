"""The schedule of checks: at start, every ten minutes, and soon while something is unfinished."""

import logging
import math
import threading
from collections.abc import Callable, Iterable, Sequence

from image_puller import limits
from image_puller.cluster.removed_groups import RemovedGroups
from image_puller.controller.checks import Checks, RolloutProgress
from image_puller.controller.clock import Clock
from image_puller.core.changes import (
    AwaitVerification,
    Change,
    CheckDaemonSet,
    EnsureExists,
    TrackTag,
    UntrackTag,
)
from image_puller.core.decide import STARTS_ROLLOUT, Outcome
from image_puller.errors import ImagePullerError
from image_puller.values.reference import Reference

log = logging.getLogger(__name__)


class _Backoff:
    """When to check again: soon at first, then after twice the time each, up to a bound.

    With `ends` there is no check after the bound. Otherwise its pace stays.
    """

    def __init__(self, clock: Clock, most: float, *, ends: bool = True) -> None:
        self._clock = clock
        self._most = most
        self._ends = ends
        self._step = 0.0
        self.due: float | None = None

    @property
    def is_last(self) -> bool:
        return 2 * self._step > self._most

    def begin(self) -> None:
        self._step = limits.FIRST_RECHECK_SECONDS
        self._set_due()

    def begin_unless_due(self) -> None:
        if self.due is None:
            self.begin()

    def continue_(self, most: float = math.inf) -> None:
        if not self.is_last:
            self._step *= 2
        elif self._ends:
            return
        self._step = min(self._step, most)
        self._set_due()

    def _set_due(self) -> None:
        self.due = _earlier(self.due, self._clock.monotonic() + self._step)


class Schedule:
    """Runs checks in a thread of its own between `start` and `stop`.

    With `is_periodic` it runs a check every ten minutes. Otherwise senders request the checks, and
    the check at start asks registries only where there is no DaemonSet yet. After each check the
    DaemonSets of removed groups are deleted, if `removed` is given.
    """

    def __init__(
        self,
        checks: Checks,
        clock: Clock,
        *,
        is_periodic: bool,
        removed: RemovedGroups | None = None,
    ) -> None:
        self._removed = removed
        self._checks = checks
        self._clock = clock
        self._is_periodic = is_periodic
        self._wakes = threading.Condition()
        self._stopping = False
        self._check_due: float | None = None
        self._not_before = 0.0
        self._verification = _Backoff(clock, most=limits.CHECK_INTERVAL_SECONDS)
        self._doubt = _Backoff(clock, most=limits.SETTLING_SECONDS)
        self._doubtful: frozenset[tuple[str, str]] = frozenset()
        self._repositories_due: float | None = None
        self._repositories_not_before = 0.0
        self._repositories: frozenset[Reference] = frozenset()
        self._rollout = _Backoff(clock, most=limits.ROLLOUT_RECHECK_SECONDS, ends=False)
        self._progress_due: float | None = None
        self._progress_not_before = 0.0
        self._thread: threading.Thread | None = None

    def start(self) -> threading.Thread:
        """Start and return the thread, whose first act is the check at start."""
        # The web server forks before this. A thread object from before would count as ended.
        self._thread = threading.Thread(target=self._run, name="schedule", daemon=True)
        self._thread.start()
        return self._thread

    def stop(self) -> None:
        """Start no other check, and return at once. A check that runs ends by itself."""
        with self._wakes:
            self._stopping = True
            self._wakes.notify()

    def join(self, seconds: float) -> None:
        """Wait for the check that runs to end."""
        if self._thread is not None:
            self._thread.join(seconds)

    def note_commit(self, changes: Iterable[Change], outcomes: Sequence[Outcome]) -> None:
        """Schedule the checks that committed changes need."""
        with self._wakes:
            for change, outcome in zip(changes, outcomes, strict=True):
                # Clocks differ: a push that seems older may have the newest content.
                if isinstance(change, CheckDaemonSet) or outcome is Outcome.OLDER:
                    earliest = max(self._clock.monotonic(), self._not_before)
                    self._check_due = _earlier(self._check_due, earliest)
                if isinstance(change, AwaitVerification):
                    self._verification.begin()
                if outcome is Outcome.IN_DOUBT:
                    self._note_doubt(change)
                # A node that joined pulls all images, as in a rollout.
                if outcome in STARTS_ROLLOUT or isinstance(change, EnsureExists):
                    self._rollout.begin()
            self._wakes.notify()

    def note_repository(self, name: Reference) -> None:
        """Schedule a check of a repository that got a push of a tag that is not tracked."""
        with self._wakes:
            soon = self._clock.monotonic() + limits.REPOSITORY_CHECK_SECONDS
            self._repositories |= {name}
            self._repositories_due = _earlier(
                self._repositories_due, max(soon, self._repositories_not_before)
            )
            self._wakes.notify()

    def note_progress(self) -> None:
        """Schedule a check of the rollout, because the DaemonSet changed.

        It changes with each pod that becomes ready, so such checks are spaced, and take only a
        small part of the time. The other checks of the rollout keep their pace: they also notice
        what takes too long.
        """
        with self._wakes:
            earliest = max(self._clock.monotonic(), self._progress_not_before)
            self._progress_due = _earlier(self._progress_due, earliest)
            self._wakes.notify()

    def _note_doubt(self, change: Change) -> None:
        if isinstance(change, TrackTag | UntrackTag) and change.tag is not None:
            self._doubtful |= {(change.entry, change.tag)}
            self._doubt.begin()
        else:  # a digest, or a whole repository
            self._check_due = _earlier(
                self._check_due, max(self._clock.monotonic(), self._not_before)
            )

    def _run(self) -> None:
        self._check(limits.FIRST_CHECK_SECONDS, asks_if_new=not self._is_periodic)
        while self._wait():
            if self._take(self._verification):
                self._check_unverified()
            elif self._take(self._doubt):
                self._check_doubtful()
            elif self._take_repositories():
                self._check_repositories()
            elif self._take(self._rollout):
                self._check_rollout()
            elif self._take_progress():
                self._check_progress()
            else:
                self._take_check()
                self._check(limits.CHECK_SECONDS)

    def _wait(self) -> bool:
        """Wait until a check is due. Return False where the service stops."""
        with self._wakes:
            while not self._stopping:
                due = self._next_due()
                if due is not None and due <= self._clock.monotonic():
                    return True
                self._clock.wait(
                    self._wakes, None if due is None else due - self._clock.monotonic()
                )
            return False

    def _next_due(self) -> float | None:
        dues = (
            self._check_due,
            self._verification.due,
            self._doubt.due,
            self._repositories_due,
            self._rollout.due,
            self._progress_due,
        )
        return min((due for due in dues if due is not None), default=None)

    def _take_check(self) -> None:
        with self._wakes:
            self._check_due = None

    def _take(self, backoff: _Backoff) -> bool:
        with self._wakes:
            if not self._is_due(backoff.due):
                return False
            backoff.due = None
            return True

    def _check(self, seconds: float, *, asks_if_new: bool = False) -> None:
        def full() -> bool:
            starts_rollout = self._checks.full(seconds, asks_if_new=asks_if_new)
            if self._removed is not None:  # the check has shown that this process is in charge
                self._removed.delete()
            return starts_rollout

        starts_rollout = self._attempt(full)
        with self._wakes:
            self._not_before = self._clock.monotonic() + limits.CHECK_SPACING_SECONDS
            # An earlier process may have left unverified pushes, or an unfinished rollout.
            self._verification.begin()
            self._rollout.begin_unless_due()
            if starts_rollout:
                self._rollout.begin()
            if self._is_periodic:
                next_check = self._clock.monotonic() + limits.CHECK_INTERVAL_SECONDS
                self._check_due = _earlier(self._check_due, next_check)

    def _check_unverified(self) -> None:
        if self._attempt(self._checks.unverified_pushes):
            with self._wakes:
                self._verification.continue_()
                self._rollout.begin()

    def _check_doubtful(self) -> None:
        with self._wakes:
            tags, self._doubtful = self._doubtful, frozenset()
        left: list[frozenset[tuple[str, str]]] = [tags]  # where the check fails

        def check() -> bool:
            left[0] = self._checks.doubtful(tags)
            return bool(left[0])

        is_unfinished = self._attempt(check)
        with self._wakes:
            if is_unfinished and not self._doubt.is_last:
                self._doubtful |= left[0]
                self._doubt.continue_()
            self._rollout.begin()

    def _take_repositories(self) -> bool:
        with self._wakes:
            if not self._is_due(self._repositories_due):
                return False
            self._repositories_due = None
            return True

    def _check_repositories(self) -> None:
        with self._wakes:
            names, self._repositories = self._repositories, frozenset()
        self._attempt(lambda: self._checks.repositories(names))
        with self._wakes:
            self._repositories_not_before = (
                self._clock.monotonic() + limits.REPOSITORY_CHECK_SPACING_SECONDS
            )
            if self._repositories:  # noted during the check
                self._repositories_due = self._repositories_not_before
            self._rollout.begin()

    def _take_progress(self) -> bool:
        with self._wakes:
            if not self._is_due(self._progress_due):
                return False
            self._progress_due = None
            return True

    def _check_progress(self) -> None:
        began = self._clock.monotonic()
        progress = self._rollout_progress()
        with self._wakes:
            now = self._clock.monotonic()
            pause = max(limits.PROGRESS_SECONDS, (now - began) / limits.PROGRESS_SHARE)
            self._progress_not_before = now + pause
            if self._progress_due is not None:  # noted during the check
                self._progress_due = self._progress_not_before
            if progress is RolloutProgress.CHANGED:
                self._rollout.begin()
            elif progress is not RolloutProgress.FINISHED:
                self._rollout.begin_unless_due()

    def _check_rollout(self) -> None:
        began = self._clock.monotonic()
        progress = self._rollout_progress()
        with self._wakes:
            if progress is RolloutProgress.CHANGED:
                self._rollout.begin()
            elif progress is RolloutProgress.SEEDS:
                self._rollout.continue_(limits.SEEDING_RECHECK_SECONDS)
            elif progress is RolloutProgress.JOINING:
                # So such checks take at most a third of the time.
                pause = 2 * (self._clock.monotonic() - began)
                self._rollout.continue_(max(limits.STARTUP_RECHECK_SECONDS, pause))
            elif progress is RolloutProgress.WAITS:
                self._rollout.continue_()

    def _rollout_progress(self) -> RolloutProgress:
        found = [RolloutProgress.WAITS]  # where the check fails

        def check() -> None:
            found[0] = self._checks.rollout()

        self._attempt(check)
        return found[0]

    def _attempt(self, check: Callable[[], object]) -> bool:
        """Run a check. Return whether to run it again, as after a failure."""
        try:
            return bool(check())
        except ImagePullerError as error:
            log.warning("the check could not be finished, and is tried again later: %s", error)
        except Exception:
            # No error may end the schedule. While the service stops, errors are expected.
            if not self._stopping:
                log.exception("the check failed, and is tried again later")
        return True

    def _is_due(self, when: float | None) -> bool:
        return when is not None and when <= self._clock.monotonic()


def _earlier(one: float | None, other: float | None) -> float | None:
    return min((each for each in (one, other) if each is not None), default=None)
