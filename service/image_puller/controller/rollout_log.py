"""Logs the end of each rollout: on how many nodes, and how long it took."""

import logging
from datetime import UTC, datetime

from image_puller.controller.clock import Clock
from image_puller.core.observation import Observation

log = logging.getLogger(__name__)

_LONG_AGO = datetime.fromtimestamp(0, UTC)


class RolloutLog:
    """The rollouts that one process sees. A rollout that ended before its start is not logged."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ended: datetime | None = None

    def note(self, seen: Observation) -> None:
        """Log the end of the rollout, if it ended since the last call."""
        changed = seen.live.state.changed if seen.live.state else None
        if changed is None:
            return
        if seen.rollout != "complete":
            self._ended = self._ended or _LONG_AGO
            return
        if self._ended not in (None, changed):
            self._log(seen, changed)
        self._ended = changed

    def _log(self, seen: Observation, changed: datetime) -> None:
        expected = [place for place in seen.places if place.is_expected]
        unready = sum(place.facts is not None and not place.facts.is_ready for place in expected)
        seconds = (self._end(seen, changed) - changed).total_seconds()
        log.info(
            "the rollout is complete on %d nodes, %.0f s after the template changed; "
            "%d other nodes are not ready",
            len(expected) - unready,
            seconds,
            unready,
        )

    def _end(self, seen: Observation, changed: datetime) -> datetime:
        """Return when the last container started, as its kubelet says, or now."""
        started = [
            datetime.fromisoformat(container.running_since)
            for place in seen.places
            if place.pod is not None
            for container in place.pod.containers
            if container.running_since
        ]
        last = max(started, default=_LONG_AGO)
        return last if last >= changed else self._clock.now()
