"""What goes wrong between a client and the API server, on demand."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from image_puller.simulation.answers import RefusedError

_TOO_MANY_REQUESTS = 429
_MESSAGES = {
    429: "Too many requests, please try again later.",
    500: "Internal error occurred: the simulation was told to fail",
    503: "the server is currently unable to handle the request",
}


@dataclass(slots=True, kw_only=True)
class _Fault:
    method: str | None
    path: str
    times: int
    act: Callable[[], None]

    def concerns(self, method: str, path: str) -> bool:
        return self.times > 0 and self.method in (None, method) and self.path in path


class HungUpError(Exception):
    """The connection is to be closed without an answer."""


@dataclass(slots=True)
class Faults:
    """Faults wait for the requests that they concern; several may strike one request."""

    closing: threading.Event = field(default_factory=threading.Event)
    _before: list[_Fault] = field(default_factory=list)
    _after: list[_Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def before(
        self, act: Callable[[], None], method: str | None, *, path: str = "", times: int = 1
    ) -> None:
        """Act on requests before they are served."""
        self._before.append(_Fault(method=method, path=path, times=times, act=act))

    def after(
        self, act: Callable[[], None], method: str | None, *, path: str = "", times: int = 1
    ) -> None:
        """Act on requests after they are served, before they are answered."""
        self._after.append(_Fault(method=method, path=path, times=times, act=act))

    def strike_before(self, method: str, path: str) -> None:
        """Let the faults that concern a request act; may raise what becomes its answer."""
        self._strike(self._before, method, path)

    def strike_after(self, method: str, path: str) -> None:
        """Do the same for those that come after the request is served."""
        self._strike(self._after, method, path)

    def wait(self, seconds: float) -> None:
        """Make a request wait; a server that closes waits no longer."""
        self.closing.wait(seconds)

    def _strike(self, faults: list[_Fault], method: str, path: str) -> None:
        with self._lock:
            concerned = [fault for fault in faults if fault.concerns(method, path)]
            for fault in concerned:
                fault.times -= 1
        for fault in concerned:
            fault.act()


def failure(status: int, retry_after: int | None) -> RefusedError:
    """Give the answer of a server in trouble."""
    error = RefusedError(status, _MESSAGES.get(status, f"simulated answer {status}"))
    error.retry_after = retry_after
    if status == _TOO_MANY_REQUESTS:
        # Said by what stands before the API, which knows no Status objects.
        error.body = f"{error}\n"
        error.retry_after = retry_after or 1
    return error


def hang_up() -> None:
    """Close the connection."""
    raise HungUpError
