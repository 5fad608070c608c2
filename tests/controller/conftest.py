"""Processes of the service at a simulated cluster and simulated registries."""

from collections.abc import Iterator

import pytest

from image_puller.registries.lookup import Lookup
from tests.support.clock import ManualClock
from tests.support.daemonset import AT_ONCE, MakeReplica
from tests.support.process import MakeProcess, Process


@pytest.fixture
def process(replica: MakeReplica, lookup: Lookup, clock: ManualClock) -> Iterator[MakeProcess]:
    """Return processes of the service, each configured by these variables."""
    processes: list[Process] = []

    def make(*, asks: bool = True, is_periodic: bool = True, **variables: str) -> Process:
        own = replica(**AT_ONCE | variables)
        processes.append(Process(own, lookup if asks else None, clock, is_periodic=is_periodic))
        return processes[-1]

    yield make
    for each in processes:
        each.stop()
