"""A shared read that rests after a long one, so that readers take only a part of the time."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from image_puller import limits
from image_puller.cluster.shared_read import SharedRead

Value = TypeVar("Value")


class RestingRead(Generic[Value]):
    """Reads, and gives the result again for twice the time that the read took. Thread-safe.

    A short read rests for so short a time that nobody notices.
    """

    def __init__(self, read: Callable[[], Value], monotonic: Callable[[], float]) -> None:
        self._shared = SharedRead(self._read_and_rest)
        self._read = read
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._rests: tuple[Value, float] | None = None

    def get(self) -> Value:
        """Return what a read finds, or found a moment ago. Raises what it raises."""
        with self._lock:
            if self._rests is not None and self._monotonic() < self._rests[1]:
                return self._rests[0]
            self._rests = None  # so that a read does not need the memory of two results
        return self._shared.get()

    def _read_and_rest(self) -> Value:
        began = self._monotonic()
        value = self._read()
        ended = self._monotonic()
        seconds = min(2 * (ended - began), limits.REST_SECONDS)
        with self._lock:
            self._rests = value, ended + seconds
        return value
