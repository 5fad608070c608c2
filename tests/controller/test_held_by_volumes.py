"""Images held by volumes, on simulated nodes: what the service notes, moves apart and reports."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from image_puller.config.entries import COMMON_CONTAINER
from image_puller.core.changes import EnsureExists
from image_puller.core.decide import Outcome
from image_puller.simulation import SimulatedCluster
from image_puller.simulation.clock import SimulatedClock
from tests.support.building import NOON, digest, push
from tests.support.clock import ManualClock
from tests.support.daemonset import APP, BOTH, NEWER, OTHER
from tests.support.installation import NAMESPACE, Installation
from tests.support.process import MakeProcess, Process, pass_time

VOLUMES = {"HOLD_BY": "volumes", "IMAGES": BOTH}
NODES = 3


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    """Return a cluster whose clock begins with that of the service."""
    clock = SimulatedClock(NOON.timestamp())
    with SimulatedCluster(nodes=NODES, namespaces=(NAMESPACE,), clock=clock) as cluster:
        yield cluster


@pytest.fixture
def now(clock: ManualClock) -> Callable[[], datetime]:
    """Return the time of the service's commits: that of its clock."""
    return clock.now


def states(service: Process, image: str) -> dict[str, str]:
    """Return the state of an image on each node."""
    (found,) = [each for each in service.checks.status()["images"] if each["image"] == image]
    return {node: each["state"] for node, each in found["nodes"].items()}


def everywhere(state: str) -> dict[str, str]:
    """Return one state on all nodes."""
    return {f"node-{number}": state for number in range(1, NODES + 1)}


def holder(service: Process, image: str) -> str:
    """Return the container that holds an image."""
    (found,) = [each for each in service.checks.status()["images"] if each["image"] == image]
    return str(found["holder"])


def kinds(service: Process) -> list[str]:
    """Return the problems of the status."""
    problems: list[str] = service.checks.status()["problems"]
    return problems


def rollouts(installation: Installation) -> int:
    """Return how often the template has changed."""
    generation: int = installation.live()["metadata"]["generation"]
    return generation


def test_all_images_are_held_and_the_status_says_by_what(
    process: MakeProcess, cluster: SimulatedCluster
) -> None:
    service = process(asks=False, **VOLUMES)
    service.start()
    pass_time(service, cluster, 60)
    status: dict[str, Any] = service.checks.status()
    assert status["daemonset"]["holdBy"] == "volumes"
    assert status["daemonset"]["requests"] == {"cpu": "50m", "memory": "10Mi"}
    assert states(service, APP) == states(service, OTHER) == everywhere("held")
    assert {each["holder"] for each in status["images"]} == {COMMON_CONTAINER}
    assert {each["state"] for each in status["nodes"].values()} == {"warm"}
    assert status["problems"] == []


def test_a_pushed_tag_is_proven_and_joins_with_the_next_push_only(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    cluster.images[NEWER] = digest(1)
    service = process(asks=False, **VOLUMES)
    service.start()
    pass_time(service, cluster, 60)
    assert service.commit(push("1.2.4", 1)) == (Outcome.TRACKED,)
    pass_time(service, cluster, 60)
    assert states(service, NEWER) == everywhere("held")
    assert holder(service, NEWER) != COMMON_CONTAINER
    (found,) = [e for e in service.checks.status()["images"] if e["image"] == NEWER]
    assert {each["imageID"] for each in found["nodes"].values()} == {"same"}
    before = rollouts(installation)
    pass_time(service, cluster, 1200)
    assert rollouts(installation) == before
    service.commit(push("2.0.1", 2, entry="other"))
    assert holder(service, NEWER) == COMMON_CONTAINER
    assert rollouts(installation) == before + 1


def test_a_pushed_tag_that_can_not_be_pulled_leaves_the_others_held_and_is_quarantined(
    process: MakeProcess, cluster: SimulatedCluster
) -> None:
    service = process(asks=False, **VOLUMES)
    service.start()
    pass_time(service, cluster, 60)
    cluster.unpullable[NEWER] = f'failed to resolve reference "{NEWER}": not found'
    service.commit(push("1.2.4", 1))
    pass_time(service, cluster, 60)
    assert states(service, APP) == states(service, OTHER) == everywhere("held")
    assert states(service, NEWER) == everywhere("failing")
    assert any(NEWER in problem for problem in kinds(service))
    pass_time(service, cluster, 600)
    assert [each["tag"] for each in service.checks.status()["quarantined"]] == ["1.2.4"]
    assert states(service, APP) == states(service, OTHER) == everywhere("held")


def test_an_image_of_a_new_daemonset_that_can_not_be_pulled_is_moved_apart(
    process: MakeProcess, cluster: SimulatedCluster
) -> None:
    cluster.unpullable[OTHER] = f'failed to resolve reference "{OTHER}": not found'
    service = process(asks=False, **VOLUMES)
    service.start()
    cluster.advance(20)
    assert states(service, APP) == everywhere("on node")
    assert states(service, OTHER) == everywhere("failing")
    pass_time(service, cluster, 60)
    assert states(service, APP) == everywhere("held")
    assert states(service, OTHER) == everywhere("failing")
    del cluster.unpullable[OTHER]
    pass_time(service, cluster, 1200)
    assert states(service, OTHER) == everywhere("held")
    service.commit(push("1.2.4", 1))
    assert holder(service, OTHER) == COMMON_CONTAINER


def test_an_image_that_only_a_new_node_can_not_pull_is_moved_apart_and_stays_apart(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    service = process(asks=False, **VOLUMES)
    service.start()
    pass_time(service, cluster, 60)
    cluster.join("node-4")
    cluster.unpullable_on("node-4")[OTHER] = "no match for platform in manifest"
    service.commit(EnsureExists())
    pass_time(service, cluster, 120)
    assert states(service, APP) == everywhere("held") | {"node-4": "held"}
    assert states(service, OTHER) == everywhere("held") | {"node-4": "failing"}
    service.commit(push("1.2.4", 1))
    pass_time(service, cluster, 60)
    assert holder(service, OTHER) == "other"


def test_a_registry_that_is_down_while_a_node_joins_starts_no_rollout(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    service = process(asks=False, **VOLUMES)
    service.start()
    pass_time(service, cluster, 60)
    before = rollouts(installation)
    cluster.join("node-4")
    down = "dial tcp: connection refused"
    cluster.unpullable_on("node-4").update({APP: down, OTHER: down})
    service.commit(EnsureExists())
    pass_time(service, cluster, 900)
    assert rollouts(installation) == before
    cluster.unpullable_on("node-4").clear()
    pass_time(service, cluster, 900)
    assert states(service, APP) == everywhere("held") | {"node-4": "held"}


def test_one_registry_that_stays_down_delays_what_the_node_has_only_for_a_while(
    process: MakeProcess, cluster: SimulatedCluster
) -> None:
    service = process(asks=False, **VOLUMES)
    service.start()
    pass_time(service, cluster, 60)
    cluster.join("node-4")
    cluster.unpullable_on("node-4")[OTHER] = "dial tcp: connection refused"
    service.commit(EnsureExists())
    pass_time(service, cluster, 120)
    assert states(service, APP)["node-4"] == "on node"
    pass_time(service, cluster, 600)
    assert states(service, APP) == everywhere("held") | {"node-4": "held"}
    assert states(service, OTHER) == everywhere("held") | {"node-4": "failing"}


def test_a_failing_sleep_image_is_named_as_the_reason(
    process: MakeProcess, cluster: SimulatedCluster
) -> None:
    cluster.unpullable["example.com/sleep:1"] = "not found"
    service = process(asks=False, KIP_IMAGE="example.com/sleep:1", **VOLUMES)
    service.start()
    pass_time(service, cluster, 60)
    (problem,) = kinds(service)
    assert "the sleep image example.com/sleep:1 (KIP_IMAGE) fails on 3 of 3 nodes" in problem
    assert states(service, APP) == everywhere("on node")


def test_a_runtime_that_names_no_image_does_not_blame_the_sleep_image(
    process: MakeProcess, cluster: SimulatedCluster
) -> None:
    cluster.unpullable[OTHER] = "reading manifest 2.0.0 in quay.io/org/other: manifest unknown"
    service = process(asks=False, **VOLUMES)
    service.start()
    for _ in range(20):
        assert not any("KIP_IMAGE" in problem for problem in kinds(service))
        cluster.advance(1)
    assert states(service, OTHER) == everywhere("failing")


def test_the_status_names_the_reason_why_containers_hold_the_images(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    cluster.drop_image_volumes()
    service = process(asks=False, **VOLUMES)
    service.start()
    pass_time(service, cluster, 60)
    daemonset = service.checks.status()["daemonset"]
    assert daemonset["holdBy"] == "containers"
    assert "drops image volumes" in daemonset["holdByReason"]
    (problem,) = kinds(service)
    assert problem.startswith("containers hold the images, although HOLD_BY is volumes: ")
    assert ("ImageVolumesUnavailable", problem) in installation.reports()
    assert states(service, APP) == everywhere("held")
