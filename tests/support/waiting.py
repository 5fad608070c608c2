"""Waiting for what other threads or processes do."""

import time
from collections.abc import Callable

TIMEOUT_SECONDS = 10


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what other threads or processes do."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)
