"""One check for many senders: those without credentials can cause only one in an interval."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from image_puller import limits
from image_puller.controller.clock import Clock
from image_puller.errors import ClusterUnavailableError


class SharedCheck:
    """Makes at most one check in `limits.UNTRUSTED_CHECK_SECONDS`. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._began = 0.0
        self._last: Future[None] | None = None

    def make(self, check: Callable[[], object], *, timeout: float) -> bool:
        """Make the check, or share the result of the last one. Return whether it was made.

        Raises what the check that was made or shared raises.
        """
        with self._lock:
            now, last, own = self._clock.monotonic(), self._last, Future[None]()
            if last is None or now - self._began >= limits.UNTRUSTED_CHECK_SECONDS:
                self._began, self._last, last = now, own, None
        if last is not None:
            return self._share(last, timeout)
        try:
            check()
        except BaseException as error:
            own.set_exception(error)
            raise
        own.set_result(None)
        return True

    @staticmethod
    def _share(last: "Future[None]", timeout: float) -> bool:
        try:
            last.result(timeout)
        except FutureTimeoutError:
            raise ClusterUnavailableError(
                f"the check that others asked for did not end within {timeout:.1f} s"
            ) from None
        return False
