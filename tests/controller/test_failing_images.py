"""One failing image stops nobody: what fails on all nodes is quarantined, and others go on."""

from collections.abc import Callable, Iterator
from datetime import datetime

import pytest

from image_puller.core import status
from image_puller.core.decide import Outcome
from image_puller.simulation import SimulatedCluster
from image_puller.simulation.clock import SimulatedClock
from tests.support.building import NOON, digest, push
from tests.support.clock import ManualClock
from tests.support.daemonset import APP, BOTH, NEWER, OTHER
from tests.support.installation import NAMESPACE, Installation
from tests.support.process import NAME, MakeProcess, Process, pass_time, registry_has
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


def test_a_rollout_is_complete_once_an_earlier_template_is_live_again(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    service = process(asks=False, IMAGES=BOTH, **ONE_BY_ONE)
    running(service, cluster)
    cluster.unpullable[NEWER] = "not found"
    service.commit(push("1.2.4", 1))
    pass_time(service, cluster, 300)
    assert installation.images() == [APP, OTHER]  # quarantined, and most pods were never replaced
    assert service.checks.status()["daemonset"]["rollout"] == "complete"


def test_a_mutable_tag_whose_new_content_can_not_be_pulled_goes_back_on_all_nodes(
    process: MakeProcess, cluster: SimulatedCluster, registries: FakeRegistries
) -> None:
    registry_has(registries, latest=1)
    cluster.images[LATEST] = digest(1)
    service = process(IMAGES=f"app={LATEST};other={OTHER}")
    running(service, cluster)
    registry_has(registries, latest=2)
    cluster.unpullable[LATEST] = "no match for platform in manifest: not found"
    service.commit(push("latest", 2, seconds=130))
    pass_time(service, cluster, 60)
    assert holders(service, LATEST) == 0
    assert holders(service, OTHER) == NODES
    pass_time(service, cluster, 300)
    assert holders(service, f"{LATEST}@{digest(1)}") == NODES
    for asked in (LATEST, f"{LATEST}@{digest(1)}", "app"):
        part = status.select(status.of_groups({None: service.checks.status()}), asked)
        assert part is not None
        assert [each["digest"] for each in part["quarantined"]] == [digest(2)]


def test_a_tag_whose_platform_no_node_has_is_tried_once(
    process: MakeProcess,
    cluster: SimulatedCluster,
    installation: Installation,
    registries: FakeRegistries,
) -> None:
    registry_has(registries, v1_2_3=3)
    service = process()
    running(service, cluster)
    generation = installation.live()["metadata"]["generation"]
    registry_has(registries, v1_2_3=3, v1_2_4=1)
    cluster.unpullable[NEWER] = "no match for platform in manifest: not found"
    service.commit(push("1.2.4", 1, seconds=130))
    pass_time(service, cluster, 3600, step=20)
    assert installation.live()["metadata"]["generation"] == generation + 2
    assert holders(service, APP) == NODES


def test_a_quarantined_tag_is_reported_and_not_tried_again_by_checks_or_other_processes(
    process: MakeProcess,
    cluster: SimulatedCluster,
    installation: Installation,
    registries: FakeRegistries,
) -> None:
    registry_has(registries, v1_2_3=3)
    service = process()
    running(service, cluster)
    registry_has(registries, v1_2_3=3, v1_2_4=1)
    cluster.unpullable[NEWER] = "unexpected status from HEAD request: 401 Unauthorized"
    service.commit(push("1.2.4", 1, seconds=130))
    pass_time(service, cluster, 1500)  # a check shows the tag, so it is tried once more
    assert installation.images() == [APP]
    generation = installation.live()["metadata"]["generation"]
    service.stop()
    service = process()
    service.start()
    pass_time(service, cluster, 3600, step=20)
    assert installation.live()["metadata"]["generation"] == generation
    assert holders(service, APP) == NODES
    found = service.checks.status()
    (quarantined,) = found["quarantined"]
    assert quarantined["entry"] == "app"
    assert (quarantined["tag"], quarantined["digest"]) == ("1.2.4", digest(1))
    assert quarantined["state"] == "quarantined"
    assert "401 Unauthorized" in quarantined["reason"]
    (problem,) = found["problems"]
    assert "tag 1.2.4 with" in problem
    assert "then push it again" in problem
    assert ("ImageQuarantined", problem) in installation.reports()
    assert b'image_puller_problems{group="",kind="ImageQuarantined"} 1.0' in service.metrics.text()

    del cluster.unpullable[NEWER]
    service.commit(push("1.2.4", 1, seconds=9000))
    pass_time(service, cluster, 60)
    assert holders(service, NEWER) == NODES
    assert service.checks.status()["problems"] == []


@pytest.mark.parametrize("bound", ["1", "100%"])
def test_a_registry_that_is_down_for_a_while_has_no_consequences(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation, bound: str
) -> None:
    cluster.images[LATEST] = digest(1)
    service = process(
        asks=False, IMAGES=f"app={LATEST};other={OTHER}", ROLLOUT_MAX_UNAVAILABLE=bound
    )
    running(service, cluster)
    for image in (LATEST, OTHER_NEWER):
        cluster.unpullable[image] = "failed to do request: dial tcp 10.0.0.1:443: i/o timeout"
    service.commit(push("latest", 2, seconds=130), push("2.0.1", 3, entry="other", seconds=130))
    generation = installation.live()["metadata"]["generation"]
    pass_time(service, cluster, 600)
    assert holders(service, OTHER) >= NODES - 1
    cluster.unpullable.clear()
    cluster.images[LATEST] = digest(2)
    pass_time(service, cluster, 900)
    assert holders(service, LATEST) == holders(service, OTHER_NEWER) == NODES
    assert installation.live()["metadata"]["generation"] == generation


def test_a_tag_whose_container_crashes_goes_back_by_digest(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    cluster.images[APP] = digest(1)
    service = process(asks=False, IMAGES=BOTH, **ONE_BY_ONE)
    running(service, cluster)
    service.commit(push("1.2.3", 1, seconds=100))
    pass_time(service, cluster, 120)
    cluster.images[APP], cluster.crashing[APP] = digest(2), ("OOMKilled", 137)
    service.commit(push("1.2.3", 2, seconds=250))
    pass_time(service, cluster, 600)
    kept = f"{APP}@{digest(1)}"
    assert installation.images() == [kept, OTHER]
    assert holders(service, kept) == NODES


def test_nothing_is_quarantined_where_no_container_runs(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    for image in (APP, OTHER, NEWER):
        cluster.crashing[image] = ("StartError", 126)
    service = process(asks=False, IMAGES=BOTH)
    service.start()
    service.commit(push("1.2.4", 1))
    pass_time(service, cluster, 900)
    assert installation.images() == [APP, NEWER, OTHER]
    assert service.checks.status()["quarantined"] == []


def test_a_configured_image_that_fails_everywhere_stays_and_others_reach_all_nodes(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    cluster.unpullable[APP] = "not found"
    service = process(asks=False, IMAGES=BOTH, **ONE_BY_ONE)
    service.start()
    pass_time(service, cluster, 60)
    service.commit(push("2.0.1", 2, entry="other", seconds=60))
    pass_time(service, cluster, 900)
    assert installation.images() == [APP, OTHER, OTHER_NEWER]
    assert holders(service, OTHER_NEWER) == NODES
    assert maximum(installation) == 1 + NODES
    del cluster.unpullable[APP]
    pass_time(service, cluster, 900)
    assert maximum(installation) == 1


def maximum(installation: Installation) -> int | str:
    """Return how many nodes may change at once."""
    rolling: dict[str, int | str] = installation.live()["spec"]["updateStrategy"]["rollingUpdate"]
    return rolling["maxUnavailable"]


@pytest.mark.parametrize(("bound", "raised", "configured"), [("1", 3, 1), ("20%", 4, "20%")])
def test_nodes_that_an_image_fails_on_are_added_to_the_bound_until_they_are_ready(
    process: MakeProcess,
    cluster: SimulatedCluster,
    installation: Installation,
    bound: str,
    raised: int,
    configured: int | str,
) -> None:
    service = process(asks=False, IMAGES=BOTH, ROLLOUT_MAX_UNAVAILABLE=bound)
    running(service, cluster)
    assert maximum(installation) == configured
    for node in ("node-3", "node-7"):
        cluster.unpullable_on(node)[NEWER] = "write /var/lib: no space left on device"
    service.commit(push("1.2.4", 1, seconds=130))
    pass_time(service, cluster, 1500)
    assert maximum(installation) == raised
    assert holders(service, NEWER) == NODES - 2
    before = {pod["metadata"]["uid"] for pod in cluster.pods()}
    service.check()  # the repair does not lower it
    assert maximum(installation) == raised
    service.stop()
    service = process(asks=False, IMAGES=BOTH, ROLLOUT_MAX_UNAVAILABLE=bound)
    service.start()  # nor does the next process
    pass_time(service, cluster, 60)
    assert maximum(installation) == raised
    for node in ("node-3", "node-7"):
        cluster.unpullable_on(node).clear()
    pass_time(service, cluster, 900)
    assert holders(service, NEWER) == NODES
    assert maximum(installation) == configured
    assert {pod["metadata"]["uid"] for pod in cluster.pods()} == before


def test_an_image_without_the_architecture_of_some_nodes_stays_on_the_others(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    arm = ("arm-1", "arm-2")
    for name in arm:
        cluster.join(name, labels={"kubernetes.io/arch": "arm64"})
    service = process(asks=False, IMAGES=BOTH, **ONE_BY_ONE)
    running(service, cluster)
    for name in arm:
        cluster.unpullable_on(name)[NEWER] = "no match for platform in manifest: not found"
    service.commit(push("1.2.4", 1, seconds=130))
    pass_time(service, cluster, 1800)
    service.commit(push("2.0.1", 2, entry="other", seconds=2000))
    pass_time(service, cluster, 900)
    assert installation.images() == [APP, NEWER, OTHER, OTHER_NEWER]
    assert holders(service, NEWER) == NODES
    assert holders(service, OTHER_NEWER) == NODES + len(arm)
