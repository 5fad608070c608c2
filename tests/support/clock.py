"""Clocks that only tests advance."""

import math
import threading
from datetime import datetime, timedelta

from image_puller.controller.clock import Clock
from tests.support.building import NOON
from tests.support.waiting import TIMEOUT_SECONDS


class Seconds:
    """A clock of seconds, which tests set. It takes the place of `time.monotonic`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class ManualClock(Clock):
    """A clock whose time passes only in `advance`. It wakes up the threads that wait on it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds = 0.0
        self._waiting: dict[threading.Condition, float] = {}

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        with self._lock:
            return self._seconds

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        with self._lock:
            self._waiting[condition] = math.inf if seconds is None else self._seconds + seconds
        # The timeout ends a test that would hang.
        condition.wait(None if seconds is None else TIMEOUT_SECONDS)
        with self._lock:
            self._waiting.pop(condition, None)

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake up the threads whose time has come."""
        with self._lock:
            self._seconds += seconds
            due = [waiting for waiting, end in self._waiting.items() if end <= self._seconds]
        for condition in due:
            with condition:
                condition.notify_all()

    def waits(self, condition: threading.Condition) -> bool:
        """Whether a thread waits on the condition, and its time has not come."""
        with self._lock:
            return self._waiting.get(condition, self._seconds) > self._seconds

    def sleepers(self) -> int:
        """Return how many threads wait with a timeout that has not passed."""
        with self._lock:
            return sum(self._seconds < end < math.inf for end in self._waiting.values())
