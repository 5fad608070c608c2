"""Tells listeners what happened in a group: rollouts, images, and nodes that join."""

import logging
from collections.abc import Callable

from image_puller.controller.clock import Clock
from image_puller.core import progress
from image_puller.core.observation import Observation
from image_puller.core.progress import Notice, Snapshot

log = logging.getLogger(__name__)

Listener = Callable[[Notice], None]
"""Is told each notice, in their order. It must not wait, because observations wait for it."""


class ProgressTracker:
    """What one process has seen of a group. Not thread-safe: observations come one by one."""

    def __init__(self, clock: Clock, listeners: tuple[Listener, ...]) -> None:
        self._clock = clock
        self._listeners = listeners
        self._began = clock.now()
        self._snapshot: Snapshot | None = None

    def note(self, seen: Observation) -> None:
        """Tell all listeners what happened since the last observation. No listener stops others."""
        self._snapshot, notices = progress.advance(
            self._snapshot, seen, self._clock.now(), began=self._began
        )
        for notice in notices:
            for listener in self._listeners:
                try:
                    listener(notice)
                except Exception:
                    log.exception("a listener failed, and misses a notice: %s", notice.key)
