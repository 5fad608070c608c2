"""Faults between a client and the API server, which tests add."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from image_puller.simulation.responses import ApiError

_TOO_MANY_REQUESTS = 429
_MESSAGES = {
    429: "Too many requests, please try again later.",
    500: "Internal error occurred: a test asked for this failure",
    503: "the server is currently unable to handle the request",
}


@dataclass(slots=True, kw_only=True)
class _Fault:
    method: str | None
    path: str
    times: int
    action: Callable[[], None]

    def applies_to(self, method: str, path: str) -> bool:
        return self.times > 0 and self.method in (None, method) and self.path in path


class HungUpError(Exception):
    """The server must close the connection without a response."""


@dataclass(slots=True)
class Faults:
    """The faults. Several may apply to one request."""

    closing: threading.Event = field(default_factory=threading.Event)
    _before: list[_Fault] = field(default_factory=list)
    _after: list[_Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def before(
        self, action: Callable[[], None], method: str | None, *, path: str = "", times: int = 1
    ) -> None:
        """Add an action that runs before a request is served, as often as `times`."""
        self._before.append(_Fault(method=method, path=path, times=times, action=action))

    def after(
        self, action: Callable[[], None], method: str | None, *, path: str = "", times: int = 1
    ) -> None:
        """Add an action that runs after a request is served, before the response is sent."""
        self._after.append(_Fault(method=method, path=path, times=times, action=action))

    def apply_before(self, method: str, path: str) -> None:
        """Run the actions before a request. They may raise ApiError or HungUpError."""
        self._apply(self._before, method, path)

    def apply_after(self, method: str, path: str) -> None:
        """Run the actions after a request. They may raise ApiError or HungUpError."""
        self._apply(self._after, method, path)

    def wait(self, seconds: float) -> None:
        """Wait some seconds, or until the server closes."""
        self.closing.wait(seconds)

    def _apply(self, faults: list[_Fault], method: str, path: str) -> None:
        with self._lock:
            applied = [fault for fault in faults if fault.applies_to(method, path)]
            for fault in applied:
                fault.times -= 1
        for fault in applied:
            fault.action()


def failure(status: int, retry_after: int | None) -> ApiError:
    """Return the error response of a failing server."""
    error = ApiError(status, _MESSAGES.get(status, f"simulated response {status}"))
    error.retry_after = retry_after
    if status == _TOO_MANY_REQUESTS:
        # The real server's priority and fairness filter responds in plain text.
        error.body = f"{error}\n"
        error.retry_after = retry_after or 1
    return error


def hang_up() -> None:
    """Raise HungUpError."""
    raise HungUpError
