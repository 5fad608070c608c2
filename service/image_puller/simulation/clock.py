"""The time of a simulated cluster: it stands still until it is advanced, or runs by itself."""

import time
from datetime import UTC, datetime
from typing import Self

_FIRST = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


class Clock:
    """Seconds since the epoch, as a callable; may be shared with what is tested."""

    def __init__(self, start: float = _FIRST) -> None:
        self._now = start
        self._started: float | None = None

    @classmethod
    def now(cls) -> Self:
        """Start at the real time."""
        return cls(time.time())

    def __call__(self) -> float:
        """Tell the time."""
        if self._started is None:
            return self._now
        return self._now + time.monotonic() - self._started

    def advance_to(self, moment: float) -> None:
        """Move forward to a moment; never back. A running clock needs no push."""
        if self._started is None:
            self._now = max(self._now, moment)

    def run(self) -> None:
        """Go on by itself from here."""
        if self._started is None:
            self._started = time.monotonic()


def stamp(moment: float) -> str:
    """Write a moment as Kubernetes does: RFC 3339, UTC, whole seconds."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
