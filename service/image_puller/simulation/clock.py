"""The clock of a simulated cluster: it is advanced by calls, or runs in real time."""

import time
from datetime import UTC, datetime
from typing import Self

_DEFAULT_START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


class SimulatedClock:
    """A callable that returns the time in seconds since the epoch."""

    def __init__(self, start: float = _DEFAULT_START) -> None:
        self._now = start
        self._started: float | None = None

    @classmethod
    def from_real_time(cls) -> Self:
        """Return a clock that starts at the real time."""
        return cls(time.time())

    def __call__(self) -> float:
        """Return the time in seconds since the epoch."""
        if self._started is None:
            return self._now
        return self._now + time.monotonic() - self._started

    def advance_to(self, moment: float) -> None:
        """Set a later time. An earlier time has no effect, nor has any on a running clock."""
        if self._started is None:
            self._now = max(self._now, moment)

    def run(self) -> None:
        """Run in real time from now on."""
        if self._started is None:
            self._started = time.monotonic()


def timestamp(moment: float) -> str:
    """Return a time as Kubernetes writes it: RFC 3339, UTC, whole seconds."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
