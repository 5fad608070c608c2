"""Requests that wait for the cluster: the server keeps them without a thread, and asks again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Keep = Callable[[float, float], bool]
"""Keeps the current request for so many seconds in all, and asks again after so many seconds.

It returns False if the request must be answered now. Raises OverloadedError.
"""

_keep: ContextVar[Keep | None] = ContextVar("keep", default=None)


class Parked(BaseException):
    """Ends the work on a request that is asked again.

    It is no Exception, so that no handler of errors answers it.
    """


@contextmanager
def allowed(keep: Keep) -> Iterator[None]:
    """Let the work on a request in this `with` block park it."""
    token = _keep.set(keep)
    try:
        yield
    finally:
        _keep.reset(token)


def park(seconds: float, *, again_in: float) -> None:
    """Park the current request, which raises Parked. Return if it must be answered now.

    `seconds` bounds the time from the first call to the answer.
    """
    keep = _keep.get()
    if keep is not None and keep(seconds, again_in):
        raise Parked
