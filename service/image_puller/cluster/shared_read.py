"""Reads that several calls share, so that many readers cost no more than one."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

from image_puller import limits

Value = TypeVar("Value")


class SharedRead(Generic[Value]):
    """Reads for one caller, and gives the result to all who call meanwhile. Thread-safe.

    A call after the end of a read begins a new one, so no result is kept.
    """

    def __init__(self, read: Callable[[], Value]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._running: Future[Value] | None = None

    def get(self) -> Value:
        """Return what a read finds. Raises what it raises."""
        with self._lock:
            running, own = self._running, Future[Value]()
            self._running = running or own
        if running is not None:
            return running.result()
        try:
            value = self._read()
        except BaseException as error:
            self._end()
            own.set_exception(error)
            raise
        self._end()
        own.set_result(value)
        return value

    def get_new(self) -> Value:
        """Return what a read finds that begins from now on, so that it has all earlier writes."""
        with self._lock:
            running = self._running
        if running is not None:
            wait([running])
        return self.get()

    def _end(self) -> None:
        with self._lock:
            self._running = None


class RecentRead(Generic[Value]):
    """Gives the last value while it is recent, else reads. Thread-safe.

    A value is recent for `least` seconds. Where its read took long, it is recent for twice as long
    as that, up to a bound. So short reads take at most a third of the time.
    """

    def __init__(
        self, read: Callable[[], Value], *, clock: Callable[[], float], least: float = 0.0
    ) -> None:
        self._read = read
        self._clock = clock
        self._least = least
        self._shared = SharedRead(self._timed)
        self._last: tuple[Value, float] | None = None
        """The last value, and until when it is recent."""

    def get(self) -> Value:
        """Return a recent value. Raises what a read raises."""
        last = self._last
        return last[0] if last is not None and self._clock() < last[1] else self.read()

    def read(self) -> Value:
        """Return what is true now. Calls at the same time share one read."""
        return self._shared.get()

    def next_in(self) -> float:
        """Return in how many seconds `get` reads again."""
        last = self._last
        return 0 if last is None else max(last[1] - self._clock(), 0)

    def _timed(self) -> Value:
        self._last = None  # so that a read does not need the memory of two values
        start = self._clock()
        value = self._read()
        end = self._clock()
        self._last = value, end + max(self._least, min(2 * (end - start), limits.RECENT_SECONDS))
        return value
