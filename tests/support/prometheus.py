"""Scrapes a service while time passes, and asks promtool which alerts fire."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from image_puller.simulation import SimulatedCluster
from tests.support import promtool
from tests.support.clock import ManualClock
from tests.support.promtool import Scrapes
from tests.support.waiting import wait_until
from tests.support.web import Web

MINUTES = 5
"""The time between two scrapes: what Prometheus looks back for the last value."""


def wait_until_idle(service: Web, clock: ManualClock) -> None:
    """Wait until no check of the service is due."""

    def is_idle() -> bool:
        for group in service.service._groups:
            schedule = group._schedule
            due = schedule._next_due()
            if (due is not None and due <= clock.monotonic()) or not clock.waits(schedule._wakes):
                return False
        return True

    wait_until(is_idle)


class Prometheus:
    """Scrapes services, and keeps what they answer."""

    def __init__(self, folder: Path, cluster: SimulatedCluster, clock: ManualClock) -> None:
        self._folder = folder
        self._cluster = cluster
        self._clock = clock
        self._began = clock.now()
        self._scrapes: list[Mapping[str, float]] = []

    def watch(self, *services: Web, minutes: int = 40) -> frozenset[str]:
        """Scrape services for some time. Return the alerts that fire at its end."""
        for number in range(minutes // MINUTES + 1):
            if number:
                self.advance(*services)
            self.scrape({f"pod-{n}": each for n, each in enumerate(services)})
        return self.firing()

    def advance(self, *services: Web) -> None:
        """Let the time between two scrapes pass, a minute at a time."""
        for _ in range(MINUTES):
            self._cluster.advance(60)
            self._clock.advance(60)
            for service in services:
                wait_until_idle(service, self._clock)

    def scrape(self, services: Mapping[str, Web | None]) -> None:
        """Scrape services once. None does not answer."""
        found: dict[str, float] = {}
        for instance, service in services.items():
            text = None if service is None else service.client.get("/metrics").text
            found |= promtool.series(text, instance)
        self._scrapes.append(found)

    def firing(self) -> frozenset[str]:
        """Return the alerts that fire at the time of the last scrape."""
        return self._stored().firing(self._folder)

    def answered(self, queries: Iterable[str]) -> frozenset[str]:
        """Return the queries that have a result at the time of the last scrape."""
        return self._stored().answered(self._folder, queries)

    def _stored(self) -> Scrapes:
        return Scrapes(values=self._scrapes, began=self._began, step=MINUTES)
