"""Counts how long nodes pulled images, from the kubelets' Events. Each Event counts once."""

import logging
from datetime import datetime, timedelta

from image_puller import limits
from image_puller.cluster.interface import Cluster
from image_puller.controller.clock import Clock
from image_puller.controller.metrics import Metrics
from image_puller.core.observation import Observation
from image_puller.core.pulls import Pulled
from image_puller.errors import ImagePullerError

log = logging.getLogger(__name__)

_KEPT = timedelta(seconds=limits.PULL_EVENT_SECONDS)
_PRECISION = timedelta(seconds=1)
"""The times of Events have whole seconds."""


class PullTimes:
    """The pulls that one process has counted. Those from before its start are not counted."""

    def __init__(self, cluster: Cluster, metrics: Metrics, clock: Clock) -> None:
        self._cluster = cluster
        self._metrics = metrics
        self._clock = clock
        self._began = clock.now() - _PRECISION
        self._known: dict[str, datetime] = {}

    def count(self, seen: Observation) -> None:
        """Count the pulls of desired images. Nothing else waits for these Events."""
        entries = {image.image: image.entry for image in seen.images}
        oldest = max(self._clock.now() - _KEPT, self._began)
        self._known = {uid: time for uid, time in self._known.items() if time >= oldest}
        for pull in self._read():
            if pull.uid in self._known or pull.time < oldest or pull.image not in entries:
                continue
            self._known[pull.uid] = pull.time
            self._metrics.note_pull(seen.config.group, entries[pull.image], pull.seconds)

    def _read(self) -> tuple[Pulled, ...]:
        try:
            return self._cluster.pulls()
        except ImagePullerError as error:
            log.debug("the Events about pulls could not be read: %s", error)
            return ()
