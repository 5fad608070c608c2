"""The numbers of an observation: each selected node and image is in exactly one state."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest

from image_puller.cluster.observer import Observer
from image_puller.core import counts, observation
from image_puller.core.counts import Counts, Node, Role, Tags
from image_puller.core.node_state import ImageState
from image_puller.simulation import SimulatedCluster
from image_puller.simulation.clock import SimulatedClock
from tests.support.building import NOON, push
from tests.support.daemonset import AT_ONCE, BOTH, NEWER, MakeReplica
from tests.support.installation import NAMESPACE
from tests.support.replica import Replica
from tests.support.states import unverified_push

TAINT = {"key": "gpu", "effect": "NoSchedule"}


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    """Return a cluster of four nodes. The DaemonSet does not select the last one."""
    clock = SimulatedClock(NOON.timestamp())
    with SimulatedCluster(nodes=3, namespaces=(NAMESPACE,), clock=clock) as cluster:
        cluster.join("node-4", taints=[TAINT])
        yield cluster


@pytest.fixture
def replica(replica: MakeReplica) -> MakeReplica:
    return partial(replica, HOLD_BY="containers")


def counted(puller: Replica) -> Counts:
    """Return the numbers of the cluster now."""
    found = counts.of(
        Observer(puller.config, puller.cluster, now=lambda: datetime.now(UTC)).observe()
    )
    assert found is not None
    return found


def test_without_a_daemonset_there_are_no_numbers(replica: MakeReplica) -> None:
    puller = replica()
    observer = Observer(puller.config, puller.cluster, now=lambda: NOON)
    assert counts.of(observer.observe()) is None


def test_each_selected_node_is_in_one_state(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    assert counted(puller).nodes == {Node.NO_POD: 3}
    cluster.advance()
    assert counted(puller).nodes == {Node.NOT_WARM: 3}
    cluster.settle()
    assert counted(puller).nodes == {Node.WARM: 3}
    cluster.kill("node-1")
    assert counted(puller).nodes == {Node.WARM: 2, Node.NOT_READY: 1}
    cluster.fill("node-5")
    cluster.join("node-5")
    cluster.advance()
    assert counted(puller).nodes == {Node.WARM: 2, Node.NOT_READY: 1, Node.NO_POD: 1}


def test_the_states_of_an_image_are_added_up_for_each_entry_and_role(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(IMAGES=BOTH, **AT_ONCE)
    puller.check()
    cluster.settle()
    cluster.unpullable[NEWER] = "not found"
    puller.commit(push("1.2.4", 1), push("1.2.5", 2))
    cluster.advance(60)
    found = counted(puller)
    assert found.images == {
        ("app", Role.CONFIGURED): {ImageState.HELD: 3},
        ("app", Role.TRACKED): {ImageState.HELD: 3, ImageState.FAILING: 3},
        ("other", Role.CONFIGURED): {ImageState.HELD: 3},
    }
    assert found.nodes == {Node.NOT_WARM: 3}
    cluster.kill("node-1")
    assert sum(counted(puller).images["app", Role.TRACKED].values()) == 4


def test_images_on_cordoned_nodes_do_not_count(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(**AT_ONCE)
    puller.check()
    cluster.settle()
    live = Observer(puller.config, puller.cluster, now=lambda: NOON).observe().live
    cordoned = [replace(each, is_cordoned=each.name == "node-2") for each in live.nodes or ()]
    found = counts.of(observation.observe(puller.config, replace(live, nodes=cordoned)))
    assert found is not None
    assert found.images == {("app", Role.CONFIGURED): {ImageState.HELD: 2}}
    assert found.nodes == {Node.WARM: 3}


def test_a_rollout_has_its_state_and_its_start(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(IMAGES=BOTH, **AT_ONCE)
    puller.check()
    assert (counted(puller).rollout, counted(puller).changed) == ("in progress", NOON)
    cluster.settle()
    assert counted(puller).rollout == "complete"
    assert {"complete", "in progress"} < set(counts.ROLLOUTS)


def test_tags_that_are_not_desired_are_counted_for_each_entry(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(IMAGES=BOTH, **AT_ONCE)
    puller.commit(unverified_push())
    none = Tags(refused=0, quarantined=0, unverified=0)
    assert counted(puller).tags == {
        "app": Tags(refused=0, quarantined=0, unverified=1),
        "other": none,
    }
    cluster.deny(lambda daemonset: NEWER in str(daemonset["spec"]), "no such tag")
    puller.commit(push("1.2.4", 1))
    assert counted(puller).tags["app"].refused == 1
