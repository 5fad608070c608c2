"""A read that calls at the same time share, so that many readers cost no more than one."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

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
            own.set_result(value)
        except BaseException as error:
            own.set_exception(error)
            raise
        finally:
            with self._lock:
                self._running = None
        return value
