"""The pushes that this process received last, for the status page."""

import threading
from collections import deque
from dataclasses import replace

from image_puller import limits
from image_puller.core.received import Received


class Recent:
    """A bounded number of pushes in memory. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: deque[Received] = deque(maxlen=limits.RECEIVED)

    def note(self, received: Received) -> None:
        """Keep a push in place of the oldest one. Its texts may come from outside, so cut them."""
        cut = replace(received, subject=_cut(received.subject), why=_cut(received.why))
        with self._lock:
            self._known.append(cut)

    def newest_first(self) -> tuple[Received, ...]:
        """Return the pushes, the newest first."""
        with self._lock:
            return tuple(reversed(self._known))


def _cut(text: str) -> str:
    most = limits.RECEIVED_CHARACTERS
    return text if len(text) <= most else f"{text[: most - 1]}…"
