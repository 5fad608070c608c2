"""Waits for other threads and processes."""

import time
from collections.abc import Callable

TIMEOUT_SECONDS = 10


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true. Fail after TIMEOUT_SECONDS."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)
