"""A bound for slow work, so that it can't take all threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from image_puller.errors import OverloadedError


class Places:
    """Lets a bounded number of threads do one kind of slow work. Others are refused at once.

    `reason` is the label of the metric that counts these.
    """

    def __init__(self, most: int, work: str, *, reason: str) -> None:
        self._most = most
        self._work = work
        self._reason = reason
        self._free = threading.BoundedSemaphore(most)

    @contextmanager
    def take(self) -> Iterator[None]:
        """Take a place for the duration of a `with` block. Raises OverloadedError."""
        if not self._free.acquire(blocking=False):
            message = f"{self._most} {self._work} are being answered already"
            raise OverloadedError(message, reason=self._reason)
        try:
            yield
        finally:
            self._free.release()
