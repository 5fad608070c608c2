"""The progress: a process tells what happened, in order, each once, and no listener stops it."""

import logging
from collections.abc import Iterator

import pytest

from image_puller.controller.progress_tracker import ProgressTracker
from image_puller.core.progress import (
    NodeWarm,
    Notice,
    OnAllNodes,
    RolloutComplete,
    RolloutStarted,
)
from image_puller.simulation import SimulatedCluster
from image_puller.simulation.clock import SimulatedClock
from tests.support.building import NOON, configuration, push
from tests.support.clock import ManualClock
from tests.support.daemonset import APP, NEWER
from tests.support.installation import NAMESPACE
from tests.support.observations import observed
from tests.support.process import MakeProcess, pass_time
from tests.support.replica import Time
from tests.support.states import live


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    """Return a cluster of three nodes, whose time begins with that of the service."""
    clock = SimulatedClock(NOON.timestamp())
    with SimulatedCluster(nodes=3, namespaces=(NAMESPACE,), clock=clock) as cluster:
        yield cluster


def test_a_process_tells_the_way_of_a_push_in_order_and_each_step_once(
    process: MakeProcess, cluster: SimulatedCluster, now: Time, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service = process(asks=False)
    service.start()
    pass_time(service, cluster, 30)
    assert [type(each) for each in service.notices] == [RolloutStarted, OnAllNodes, RolloutComplete]
    service.notices.clear()
    caplog.clear()

    now.now = service.clock.now()
    service.commit(push("1.2.4", 1, seconds=service.clock.monotonic()))
    pass_time(service, cluster, 60)
    cluster.join("node-4")
    pass_time(service, cluster, 600)
    started, on_all, complete, warm = service.notices
    assert isinstance(started, RolloutStarted)
    assert isinstance(on_all, OnAllNodes)
    assert isinstance(complete, RolloutComplete)
    assert isinstance(warm, NodeWarm)
    assert (on_all.image, on_all.is_since_push, warm.node) == (NEWER, True, "node-4")
    lines = [record.getMessage() for record in caplog.records if "progress" in record.name]
    assert len(lines) == 4
    assert "quay: app 1.2.4" in caplog.records[0].getMessage()


def test_a_listener_that_fails_stops_neither_others_nor_the_observation(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_notice: Notice) -> None:
        raise ValueError("a defect")

    told: list[Notice] = []
    tracker = ProgressTracker(clock, (fail, told.append))
    config = configuration(IMAGES=f"app={APP}")
    tracker.note(observed(config, live(config)))
    assert [type(each) for each in told] == [RolloutStarted, RolloutComplete]
    assert "a listener failed, and misses a notice: rollout-complete/" in caplog.text
    assert "a defect" in caplog.text
