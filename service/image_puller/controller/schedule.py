"""When to look: at start, at each tick, and again at what a commit or a look has left open."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from image_puller import limits
from image_puller.controller.checks import Looks
from image_puller.core.changes import Change, Hold, Refresh
from image_puller.core.decide import Outcome
from image_puller.errors import ImagePullerError

log = logging.getLogger(__name__)

_ROLLING = (Outcome.MOVED, Outcome.ROLLED_AGAIN)


class _Pace:
    """When to look again at what is not finished: soon at first, then after twice the time each."""

    def __init__(self, most: float) -> None:
        self.due: float | None = None
        self.most = most
        self._step = 0.0

    @property
    def is_last(self) -> bool:
        return 2 * self._step > self.most

    def begin(self) -> None:
        self._step = limits.FIRST_FOLLOW_UP_SECONDS
        self._be_due()

    def go_on(self) -> None:
        if not self.is_last:
            self._step *= 2
            self._be_due()

    def _be_due(self) -> None:
        self.due = _earlier(self.due, time.monotonic() + self._step)


class Ticker:
    """Looks in a thread of its own between `start` and `stop`.

    With `ticks` it looks every ten minutes; elsewhere others send ticks, and the look at start
    leaves registries to them.
    """

    def __init__(self, looks: Looks, *, ticks: bool) -> None:
        self._looks = looks
        self._ticks = ticks
        self._wakes = threading.Condition()
        self._stopping = False
        self._tick: float | None = None
        self._not_before = 0.0
        self._verification = _Pace(most=limits.TICK_SECONDS)
        self._rollout = _Pace(most=limits.FOLLOW_UP_SECONDS)
        self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)

    def start(self) -> None:
        """Begins with the look at start."""
        self._thread.start()

    def stop(self) -> None:
        """Begins no other look; one that is under way ends by itself."""
        with self._wakes:
            self._stopping = True
            self._wakes.notify()

    def follow_up(self, changes: Iterable[Change], outcomes: Sequence[Outcome]) -> None:
        """Goes on soon with what was committed and is not finished by that."""
        with self._wakes:
            for change, outcome in zip(changes, outcomes, strict=True):
                # Clocks differ: what seems older may be what the registry has now.
                if isinstance(change, Refresh) or outcome is Outcome.OLDER:
                    self._tick = _earlier(self._tick, max(time.monotonic(), self._not_before))
                if isinstance(change, Hold):
                    self._verification.begin()
                if outcome in _ROLLING:
                    self._rollout.begin()
            self._wakes.notify()

    def _run(self) -> None:
        self._look(limits.FIRST_LOOK_SECONDS, only_if_new=not self._ticks)
        while self._wait():
            if self._take(self._verification):
                self._verify()
            elif self._take(self._rollout):
                self._compare()
            elif self._take_tick():
                self._look(limits.LOOK_SECONDS)

    def _wait(self) -> bool:
        """Until something is due; False where the service stops."""
        with self._wakes:
            while not self._stopping:
                due = _earlier(self._tick, _earlier(self._verification.due, self._rollout.due))
                if due is not None and due <= time.monotonic():
                    return True
                self._wakes.wait(None if due is None else due - time.monotonic())
            return False

    def _take_tick(self) -> bool:
        with self._wakes:
            if not _is_due(self._tick):
                return False
            self._tick = None
            return True

    def _take(self, pace: _Pace) -> bool:
        with self._wakes:
            if not _is_due(pace.due):
                return False
            pace.due = None
            return True

    def _look(self, seconds: float, *, only_if_new: bool = False) -> None:
        self._attempt(lambda: self._looks.everything(seconds, only_if_new=only_if_new))
        with self._wakes:
            self._not_before = time.monotonic() + limits.LOOKS_APART_SECONDS
            # What another process has not finished is gone on with.
            self._verification.begin()
            self._rollout.begin()
            if self._ticks:
                self._tick = _earlier(self._tick, time.monotonic() + limits.TICK_SECONDS)

    def _verify(self) -> None:
        if self._attempt(self._looks.unverified):
            with self._wakes:
                self._verification.go_on()
                self._rollout.begin()

    def _compare(self) -> None:
        is_last = self._rollout.is_last
        if self._attempt(lambda: self._looks.rollout(is_last=is_last)):
            with self._wakes:
                self._rollout.go_on()

    def _attempt(self, look: Callable[[], object]) -> bool:
        """Whether a look has to be taken again; one that fails has to."""
        try:
            return bool(look())
        except ImagePullerError as error:
            log.warning("the look could not be finished: %s", error)
        except Exception:
            # The health check must outlive whatever it finds; a service that stops finds a lot.
            if not self._stopping:
                log.exception("the look failed")
        return True


def _is_due(when: float | None) -> bool:
    return when is not None and when <= time.monotonic()


def _earlier(one: float | None, other: float | None) -> float | None:
    return min((each for each in (one, other) if each is not None), default=None)
