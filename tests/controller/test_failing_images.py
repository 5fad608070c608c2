"""One failing image stops nobody: what fails on all nodes is quarantined, and others go on."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from kubernetes.client import ApiClient

from image_puller.cluster.client import connect
from image_puller.core.decide import Outcome
from image_puller.simulation import SimulatedCluster
from image_puller.simulation.clock import SimulatedClock
from tests.support.building import NOON, digest, push
from tests.support.clock import ManualClock
from tests.support.daemonset import APP, BOTH, NEWER, OTHER
from tests.support.installation import NAMESPACE, Installation, kubeconfig
from tests.support.process import NAME, MakeProcess, Process, registry_has
from tests.support.registries import FakeRegistries

NODES = 10
ONE_BY_ONE = {"ROLLOUT_MAX_UNAVAILABLE": "1"}
LATEST = f"{NAME}:latest"
OTHER_NEWER = "quay.io/org/other:2.0.1"


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    """Return a cluster of ten nodes whose clock begins with that of the service."""
    clock = SimulatedClock(NOON.timestamp())
    with SimulatedCluster(nodes=NODES, namespaces=(NAMESPACE,), clock=clock) as cluster:
        yield cluster


@pytest.fixture
def now(clock: ManualClock) -> Callable[[], datetime]:
    """Return the time of the service's commits: that of its clock."""
    return clock.now


@pytest.fixture
def api(cluster: SimulatedCluster, tmp_path: Path) -> Iterator[ApiClient]:
    """Return a client of that cluster's API server."""
    api = connect({"KUBECONFIG": str(kubeconfig(cluster, tmp_path))})
    yield api
    api.rest_client.close()


def pass_time(service: Process, cluster: SimulatedCluster, seconds: float, step: float = 5) -> None:
    """Let time pass for the nodes and for the service."""
    for _ in range(int(seconds / step)):
        cluster.advance(step)
        service.next_check(step)


def holders(service: Process, image: str) -> int:
    """Return how many nodes hold an image."""
    found = [each for each in service.checks.status()["images"] if each["image"] == image]
    return sum(each["held"] for each in found)


def running(service: Process, cluster: SimulatedCluster) -> None:
    """Start a service, and wait until its images are on all nodes."""
    service.start()
    pass_time(service, cluster, 120)
    assert service.checks.status()["daemonset"]["rollout"] == "complete"


def test_a_push_reaches_all_nodes_although_another_tag_can_not_be_pulled(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    service = process(asks=False, IMAGES=BOTH, **ONE_BY_ONE)
    running(service, cluster)
    cluster.unpullable[NEWER] = "not found"
    assert service.commit(push("1.2.4", 1)) == (Outcome.TRACKED,)
    pass_time(service, cluster, 30)
    assert service.commit(push("2.0.1", 2, entry="other")) == (Outcome.TRACKED,)
    pass_time(service, cluster, 900)
    assert holders(service, OTHER_NEWER) == NODES
    assert holders(service, APP) == holders(service, OTHER) == NODES
    assert installation.images() == [APP, OTHER, OTHER_NEWER]


def test_a_push_reaches_all_nodes_although_another_image_fails_on_one_of_them(
    process: MakeProcess, cluster: SimulatedCluster
) -> None:
    cluster.unpullable_on("node-3")[APP] = "no match for platform in manifest"
    service = process(asks=False, IMAGES=BOTH, **ONE_BY_ONE)
    service.start()
    pass_time(service, cluster, 300)
    assert service.commit(push("2.0.1", 2, entry="other")) == (Outcome.TRACKED,)
    pass_time(service, cluster, 600)
    assert holders(service, OTHER_NEWER) == NODES
    assert holders(service, APP) == NODES - 1


def test_a_tag_that_was_pulled_too_early_is_pulled_again_although_a_node_is_dead(
    process: MakeProcess, cluster: SimulatedCluster, registries: FakeRegistries
) -> None:
    registry_has(registries, latest=1)
    cluster.images[LATEST] = digest(1)
    service = process(IMAGES=f"app={LATEST}")
    running(service, cluster)
    cluster.kill("node-1")
    assert service.commit(push("latest", 2, seconds=130)) == (Outcome.MUTATED,)
    pass_time(service, cluster, 60)
    cluster.images[LATEST] = digest(2)
    registry_has(registries, latest=2)
    pass_time(service, cluster, 900)
    on_nodes = [cluster.images_on(f"node-{number}")[LATEST] for number in range(2, NODES + 1)]
    assert on_nodes == [digest(2)] * (NODES - 1)
