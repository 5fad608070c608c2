"""The watch of nodes: it hands nodes that join to the intake, and starts again after errors."""

from collections.abc import Iterator, Sequence

import pytest

from image_puller import limits
from image_puller.controller.intake import Intake
from image_puller.controller.node_watch import node_watch
from image_puller.errors import ClusterUnavailableError, RefusedByClusterError
from image_puller.events.event import Event, NodeJoined
from tests.support.clock import ManualClock
from tests.support.waiting import TIMEOUT_SECONDS, wait_until


class Nodes:
    """Simulated watches. Each yields some nodes, and then ends, with an error or without."""

    def __init__(self, *watches: tuple[list[str], Exception | None]) -> None:
        self.watches = iter(watches)
        self.started = 0

    def joins(self) -> Iterator[str]:
        self.started += 1
        names, error = next(self.watches)
        yield from names
        if error is not None:
            raise error


class RecordingIntake(Intake):
    """An intake that only records the events. It fails for the first ones with these errors."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = iter(errors)
        self.events: list[tuple[str, Event]] = []

    def accept(
        self, source: str, events: Sequence[Event], *, timeout: float, is_trusted: bool = True
    ) -> None:
        self.events += [(source, event) for event in events]
        error = next(self.errors, None)
        if error is not None:
            raise error


def test_the_watch_starts_again_after_an_error(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Nodes(
        (["node-1", "node-2"], ClusterUnavailableError("cut")),
        (["node-3"], RefusedByClusterError("forbidden")),
    )
    intake = RecordingIntake()
    watch = node_watch(nodes.joins, intake, clock)
    watch.start()
    wait_until(lambda: clock.sleepers() == 1)
    assert nodes.started == 1
    clock.advance(limits.RETRY_SECONDS)
    wait_until(lambda: len(intake.events) == 3)
    watch.stop()
    assert intake.events == [("nodes", NodeJoined(node=f"node-{n}")) for n in (1, 2, 3)]
    assert "the watch of nodes ended and is started again: cut" in caplog.messages


def test_no_error_ends_the_watch_for_good(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Nodes((["node-1"], TypeError("a bug")), (["node-2"], RefusedByClusterError("no")))
    intake = RecordingIntake()
    watch = node_watch(nodes.joins, intake, clock)
    watch.start()
    wait_until(lambda: clock.sleepers() == 1)
    clock.advance(limits.RETRY_SECONDS)
    wait_until(lambda: len(intake.events) == 2)
    watch.stop()
    assert "the watch of nodes failed and is started again" in caplog.messages


def test_a_watch_that_is_not_allowed_is_tried_again_rarely_and_logged_once(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    refused: tuple[list[str], Exception | None] = ([], RefusedByClusterError("forbidden"))
    nodes = Nodes(refused, refused, (["node-1"], None), refused)
    watch = node_watch(nodes.joins, RecordingIntake(), clock)
    watch.start()
    wait_until(lambda: clock.sleepers() == 1)
    clock.advance(limits.REFUSED_WATCH_SECONDS - 1)
    assert nodes.started == 1
    clock.advance(1)
    wait_until(lambda: nodes.started == 2 and clock.sleepers() == 1)
    assert caplog.text.count("nodes can't be watched") == 1
    assert "only checks notice a node that joins: forbidden; apply deploy/kubernetes" in caplog.text
    clock.advance(limits.REFUSED_WATCH_SECONDS)
    wait_until(lambda: nodes.started == 3 and clock.sleepers() == 1)
    clock.advance(limits.RETRY_SECONDS)
    wait_until(lambda: nodes.started == 4 and clock.sleepers() == 1)
    watch.stop()
    assert caplog.text.count("nodes can't be watched") == 2  # it was allowed meanwhile


@pytest.mark.parametrize(
    "error", [RefusedByClusterError("no change today"), ClusterUnavailableError("away")]
)
def test_a_commit_that_fails_does_not_end_the_watch(
    clock: ManualClock, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    nodes = Nodes((["node-1", "node-2"], None))
    intake = RecordingIntake(error)
    watch = node_watch(nodes.joins, intake, clock)
    watch.start()
    wait_until(lambda: clock.sleepers() == 1)
    watch.stop()
    assert nodes.started == 1
    assert intake.events == [("nodes", NodeJoined(node=f"node-{n}")) for n in (1, 2)]
    assert (
        f"node node-1 joined, and the DaemonSet is checked for it only with the next check: {error}"
        in caplog.messages
    )


def test_the_watch_starts_again_after_its_end(clock: ManualClock) -> None:
    nodes = Nodes((["node-1"], None), (["node-2"], RefusedByClusterError("forbidden")))
    intake = RecordingIntake()
    watch = node_watch(nodes.joins, intake, clock)
    watch.start()
    wait_until(lambda: clock.sleepers() == 1)
    clock.advance(limits.RETRY_SECONDS)
    wait_until(lambda: len(intake.events) == 2)
    watch.stop()
    assert intake.events == [("nodes", NodeJoined(node=f"node-{n}")) for n in (1, 2)]


def test_no_watch_starts_after_stop(clock: ManualClock) -> None:
    nodes = Nodes((["node-1"], ClusterUnavailableError("cut")), (["node-2"], None))
    intake = RecordingIntake()
    watch = node_watch(nodes.joins, intake, clock)
    watch.start()
    wait_until(lambda: clock.sleepers() == 1)
    watch.stop()
    assert watch._thread is not None
    watch._thread.join(TIMEOUT_SECONDS)
    assert not watch._thread.is_alive()
    assert nodes.started == 1
    assert intake.events == [("nodes", NodeJoined(node="node-1"))]
