"""The log of rollouts: the end of each, with the number of nodes and the time that it took."""

import logging
import re
from datetime import UTC, datetime

import pytest

from image_puller.cluster.observer import Observer
from image_puller.controller.rollout_log import RolloutLog
from image_puller.core.state import State
from image_puller.simulation import SimulatedCluster
from tests.support.building import push
from tests.support.clock import ManualClock
from tests.support.daemonset import AT_ONCE, MakeReplica
from tests.support.replica import Replica, Time


def note(log: RolloutLog, puller: Replica) -> None:
    """Let the log note what is true in the cluster now."""
    log.note(Observer(puller.config, puller.cluster, now=lambda: datetime.now(UTC)).observe())


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the logged ends of rollouts."""
    return [each for each in caplog.messages if each.startswith("the rollout is complete")]


def test_the_end_of_a_rollout_is_logged_once(
    replica: MakeReplica,
    cluster: SimulatedCluster,
    now: Time,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    puller, log = replica(**AT_ONCE), RolloutLog(clock)
    note(log, puller)
    now.now = datetime.fromtimestamp(int(cluster.clock()), UTC)
    puller.check()
    note(log, puller)
    assert messages(caplog) == []
    cluster.settle()
    note(log, puller)
    note(log, puller)
    (message,) = messages(caplog)
    assert re.match("the rollout is complete on 3 nodes, [45] s after the template", message)

    # A rollout that has ended before it is seen for the first time is logged as well.
    cluster.kill("node-2")
    now.advance(60)
    puller.commit(push("1.2.4", 1))
    cluster.advance(60)
    note(log, puller)
    assert "on 2 nodes, " in messages(caplog)[1]
    assert messages(caplog)[1].endswith("; 1 other nodes are not ready")


def test_a_rollout_that_ended_before_the_start_is_not_logged(
    replica: MakeReplica,
    cluster: SimulatedCluster,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    puller = replica(**AT_ONCE)
    puller.check()
    cluster.settle()
    note(RolloutLog(clock), puller)
    assert messages(caplog) == []


def test_a_rollout_without_any_container_took_until_now(
    replica: MakeReplica,
    cluster: SimulatedCluster,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    for node in ("node-1", "node-2", "node-3"):
        cluster.leave(node)
    puller, log = replica(**AT_ONCE), RolloutLog(clock)
    puller.check()
    note(log, puller)
    clock.advance(7)
    cluster.settle()
    note(log, puller)
    (message,) = messages(caplog)
    assert "on 0 nodes, 7 s after" in message


def test_a_missing_state_is_no_rollout(replica: MakeReplica, clock: ManualClock) -> None:
    log = RolloutLog(clock)
    note(log, replica())
    assert State(configuration="").changed is None
    assert log._ended is None
