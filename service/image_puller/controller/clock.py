"""The clock of the process. Tests pass one that they set by hand."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from image_puller.events.event import in_milliseconds


class Clock:
    """Tells the time, and waits."""

    def now(self) -> datetime:
        """Return the time of day in UTC, in whole milliseconds."""
        return in_milliseconds(datetime.now(UTC))

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Wait until the held condition is notified, or for so many seconds."""
        condition.wait(seconds)

    def wait_for(
        self,
        condition: threading.Condition,
        predicate: Callable[[], object],
        seconds: float | None,
    ) -> bool:
        """Wait until the predicate is true, for so many seconds at most. Return whether it is."""
        deadline = None if seconds is None else self.monotonic() + seconds
        while not predicate():
            remaining = None if deadline is None else deadline - self.monotonic()
            if remaining is not None and remaining <= 0:
                return False
            self.wait(condition, remaining)
        return True
