"""The times of pulls: each Event counts once, and only those of this process's life."""

from collections.abc import Iterator

import pytest

from image_puller.simulation import SimulatedCluster
from image_puller.simulation.clock import SimulatedClock
from tests.support.building import NOON, push
from tests.support.daemonset import NEWER
from tests.support.installation import NAMESPACE
from tests.support.process import MakeProcess, Process, pass_time


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    """Return a cluster of three nodes, whose time begins with that of the service."""
    clock = SimulatedClock(NOON.timestamp())
    with SimulatedCluster(nodes=3, namespaces=(NAMESPACE,), clock=clock) as cluster:
        yield cluster


def pulled(service: Process) -> dict[str, float]:
    """Return the number of pulls and their seconds."""
    prefix = "image_puller_pull_seconds_"
    labels = '{entry="app",group=""} '
    lines = service.metrics.text().decode().splitlines()
    return {
        name: float(line.removeprefix(f"{prefix}{name}{labels}"))
        for name in ("count", "sum")
        for line in lines
        if line.startswith(f"{prefix}{name}{labels}")
    }


def test_each_pull_is_counted_once(process: MakeProcess, cluster: SimulatedCluster) -> None:
    cluster.pull_seconds[NEWER] = 7
    service = process(asks=False)
    service.start()
    pass_time(service, cluster, 30)
    assert pulled(service) == {"count": 3, "sum": 6}
    service.commit(push("1.2.4", 1))
    pass_time(service, cluster, 60)
    assert pulled(service) == {"count": 6, "sum": 27}
    # A later process counts none of them again, and those of the first one stay as they are.
    later = process(asks=False)
    later.start()
    pass_time(later, cluster, 30)
    assert pulled(later) == {}
    pass_time(service, cluster, 1200)
    assert pulled(service) == {"count": 6, "sum": 27}


def test_events_are_read_only_while_a_rollout_goes_on(
    process: MakeProcess, cluster: SimulatedCluster
) -> None:
    service = process(asks=False)
    service.start()
    pass_time(service, cluster, 60)
    before = len(reads(cluster))
    assert before >= 1
    pass_time(service, cluster, 1800)
    assert len(reads(cluster)) == before


def reads(cluster: SimulatedCluster) -> list[str]:
    """Return the reads of Events about pulls."""
    found = [each for each in cluster.requests if "reason=Pulled" in str(each.query)]
    assert all(each.query["limit"] == "1000" for each in found)
    return [each.path for each in found]


@pytest.mark.parametrize("status", [403, 500])
def test_without_events_there_is_no_series_and_no_failure(
    process: MakeProcess, cluster: SimulatedCluster, status: int
) -> None:
    cluster.fail(status=status, method="GET", path="/events", times=1000)
    service = process(asks=False)
    service.start()
    pass_time(service, cluster, 30)
    assert pulled(service) == {}
    assert len(service.notices) == 3


def test_what_was_counted_is_forgotten_after_a_while(
    process: MakeProcess, cluster: SimulatedCluster
) -> None:
    service = process(asks=False)
    service.start()
    pass_time(service, cluster, 30)
    pulls = service.checks._reports.pulls
    assert len(pulls._known) == 3
    service.clock.advance(3 * 3600)
    pulls.count(service.checks._observe()[0])
    assert pulls._known == {}
    assert pulled(service)["count"] == 3
