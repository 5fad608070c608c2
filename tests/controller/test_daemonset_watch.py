"""The watch of the DaemonSets: it notes changes of those of the groups."""

from collections.abc import Iterator

import pytest

from image_puller.controller.daemonset_watch import daemonset_watch
from image_puller.errors import RefusedByClusterError
from tests.support.clock import ManualClock
from tests.support.waiting import wait_until


def test_each_change_of_a_daemonset_of_a_group_is_noted(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    noted: list[str] = []

    def changes() -> Iterator[str]:
        yield from ("puller", "removed-group", "puller-gpu", "puller")
        raise RefusedByClusterError("forbidden")

    notes = {name: lambda name=name: noted.append(name) for name in ("puller", "puller-gpu")}
    watch = daemonset_watch(changes, notes, clock)
    watch.start()
    wait_until(lambda: clock.sleepers() == 1)
    watch.stop()
    assert noted == ["puller", "puller-gpu", "puller"]
    assert (
        "DaemonSets can't be watched, so progress is noticed later: forbidden; "
        "the service's Role needs the verb watch on daemonsets" in caplog.messages
    )
