"""Seeds: a few nodes pull first, and all others follow when they hold everything."""

import logging
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest

from image_puller.config.entries import INSTALL_CONTAINER
from image_puller.core.changes import EnsureExists
from image_puller.core.decide import Outcome
from image_puller.simulation import SimulatedCluster
from image_puller.simulation.clock import SimulatedClock
from tests.support.building import NOON, digest, push
from tests.support.clock import ManualClock
from tests.support.daemonset import APP, BOTH, NEWER, NEWEST, OTHER, WRITE, drift
from tests.support.installation import NAME, NAMESPACE, Installation, Json
from tests.support.process import MakeProcess, Process, registry_has
from tests.support.registries import FakeRegistries

NODES = 10
SEEDS = {"IMAGES": BOTH, "ROLLOUT_SEED_NODES": "2", "HOLD_BY": "containers"}
PULL_SECONDS = 20.0
AN_HOUR = 3600.0
MANY = 100
FULL = "write /var/lib: no space left on device"
DOWN = "failed to do request: dial tcp 10.0.0.1:443: i/o timeout"


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    """Return a cluster of ten nodes, an hour old, whose clock begins with that of the service."""
    clock = SimulatedClock(NOON.timestamp() - AN_HOUR)
    with SimulatedCluster(nodes=NODES, namespaces=(NAMESPACE,), clock=clock) as cluster:
        cluster.advance(AN_HOUR)
        for image in (APP, OTHER, NEWER, NEWEST):
            cluster.pull_seconds[image] = PULL_SECONDS
        yield cluster


@pytest.fixture
def now(clock: ManualClock) -> Callable[[], datetime]:
    """Return the time of the service's commits: that of its clock."""
    return clock.now


def pass_time(
    service: Process, cluster: SimulatedCluster, seconds: float, step: float = 4
) -> list[tuple[int, int]]:
    """Let time pass. Return after each step how many nodes pull, and how many hold everything."""
    seen = []
    for _ in range(int(seconds / step)):
        cluster.advance(step)
        service.next_check(step)
        seen.append((pulling(cluster), holding(cluster)))
    return seen


def pulling(cluster: SimulatedCluster) -> int:
    """Return how many nodes have a pod with images that is not ready."""
    return sum(has_images(pod) and not is_ready(pod) for pod in cluster.pods())


def holding(cluster: SimulatedCluster) -> int:
    """Return how many nodes have a ready pod with the images of the live template."""
    live = cluster.daemonset(NAME, NAMESPACE)
    assert live is not None
    generation = live["metadata"]["annotations"]["deprecated.daemonset.template.generation"]
    return sum(
        is_ready(pod)
        and has_images(pod)
        and pod["metadata"]["labels"]["pod-template-generation"] == generation
        for pod in cluster.pods()
    )


def has_images(pod: Json) -> bool:
    return any(each["name"] != INSTALL_CONTAINER for each in pod["spec"]["containers"])


def is_ready(pod: Json) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions(pod))


def conditions(pod: Json) -> list[Json]:
    found: list[Json] = pod["status"].get("conditions", [])
    return found


def daemonset_status(service: Process) -> Json:
    found: Json = service.checks.status()["daemonset"]
    return found


def maximum(installation: Installation) -> int | str:
    """Return how many nodes may change at once."""
    rolling: dict[str, int | str] = installation.live()["spec"]["updateStrategy"]["rollingUpdate"]
    return rolling["maxUnavailable"]


def running(service: Process, cluster: SimulatedCluster) -> None:
    """Start a service, and wait until its images are on all nodes."""
    service.start()
    pass_time(service, cluster, 150, step=10)
    assert daemonset_status(service)["rollout"] == "complete"


def assert_seeded(seen: list[tuple[int, int]], seeds: int, nodes: int = NODES) -> None:
    """Assert that at first so many nodes pull, and that all hold everything in the end."""
    assert max(pull for pull, held in seen if held < seeds) == seeds
    assert max(pull for pull, held in seen if held >= seeds) > seeds
    assert seen[-1] == (0, nodes)


@pytest.mark.parametrize("hold_by", ["containers", "volumes"])
def test_a_new_daemonset_has_its_images_on_the_seeds_first(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation, hold_by: str
) -> None:
    service = process(asks=False, **SEEDS | {"HOLD_BY": hold_by})
    service.start()
    assert installation.images() == []
    assert daemonset_status(service)["rollout"] == "pending"
    assert daemonset_status(service)["seeding"] == (
        "the first 2 nodes pull once the pods of all ready nodes run without images"
    )
    assert_seeded(pass_time(service, cluster, 150), seeds=2)
    assert daemonset_status(service)["rollout"] == "complete"
    assert "seeding" not in daemonset_status(service)
    assert maximum(installation) == "100%"


def test_a_push_reaches_the_seeds_first_and_costs_one_write(
    process: MakeProcess,
    cluster: SimulatedCluster,
    installation: Installation,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    service = process(asks=False, **SEEDS)
    running(service, cluster)
    installation.sent()
    caplog.clear()
    assert service.commit(push("1.2.4", 1, seconds=150)) == (Outcome.TRACKED,)
    assert installation.written() == [WRITE]
    assert maximum(installation) == 2
    assert (
        f"DaemonSet {NAME}: 2 nodes change at once, until 2 hold all images; the others wait"
        in caplog.messages
    )
    seen = pass_time(service, cluster, 10)
    assert daemonset_status(service)["seeding"] == (
        "0 of 2 seeds hold all images; 2 nodes change at once, and the others wait for the seeds"
    )
    assert f"DaemonSet {NAME}: the other nodes follow the seeds" not in caplog.messages
    seen += pass_time(service, cluster, 80)
    assert_seeded(seen, seeds=2)
    assert f"DaemonSet {NAME}: the other nodes follow the seeds" in caplog.messages
    assert installation.written() == [WRITE]
    assert maximum(installation) == "100%"


def test_the_nodes_that_wait_follow_within_seconds(
    process: MakeProcess, cluster: SimulatedCluster
) -> None:
    service = process(asks=False, **SEEDS)
    running(service, cluster)
    cluster.pull_seconds[NEWER] = 600
    service.commit(push("1.2.4", 1, seconds=150))
    assert max(pass_time(service, cluster, 600, step=10)) == (2, 0)
    assert max(pass_time(service, cluster, 20)) == (NODES - 2, 2)


def test_another_push_while_the_seeds_pull_reaches_no_other_node(
    process: MakeProcess, cluster: SimulatedCluster
) -> None:
    service = process(asks=False, **SEEDS)
    running(service, cluster)
    service.commit(push("1.2.4", 1, seconds=150))
    seen = pass_time(service, cluster, 10)
    service.commit(push("1.2.5", 2, seconds=160))
    seen += pass_time(service, cluster, 150)
    assert_seeded(seen, seeds=2)


def test_without_seeds_all_nodes_pull_at_once(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    service = process(asks=False, IMAGES=BOTH)
    service.start()
    assert installation.images() == [APP, OTHER]
    assert pass_time(service, cluster, 10)[-1] == (NODES, 0)
    assert "seeding" not in installation.state()
    assert "seeding" not in daemonset_status(service)


def test_nodes_with_a_failing_image_are_no_seeds(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    service = process(asks=False, **SEEDS)
    running(service, cluster)
    service.commit(push("1.2.4", 1, seconds=150))
    cluster.advance(1)
    seeds = [pod["spec"]["nodeName"] for pod in cluster.pods() if not is_ready(pod)]
    assert len(seeds) == 2
    for node in seeds:
        cluster.unpullable_on(node)[NEWER] = FULL
        cluster.kill(node)
        cluster.revive(node)
    seen = pass_time(service, cluster, 150, step=10)
    assert max(pull for pull, _ in seen) == 2
    seen = pass_time(service, cluster, 400)
    assert seen[-1] == (2, NODES - 2)
    assert max(pull for pull, held in seen if held < 2) == 4
    assert maximum(installation) == "100%"


@pytest.mark.parametrize("times", [1, 2])
def test_a_dead_node_does_not_stop_the_others(
    process: MakeProcess, cluster: SimulatedCluster, times: int
) -> None:
    service = process(asks=False, **SEEDS | {"ROLLOUT_SEED_NODES": "1"})
    running(service, cluster)
    cluster.kill("node-1")
    for number in range(times):
        service.commit(push(f"1.2.{4 + number}", number, seconds=150 + number * 100))
        seen = pass_time(service, cluster, 100)
        assert seen[-1][1] == NODES - 1
        assert "seeding" not in daemonset_status(service)
        assert max(pull for pull, held in seen if held < 1) <= 2


def test_a_node_on_which_an_image_fails_already_does_not_stop_the_others(
    process: MakeProcess, cluster: SimulatedCluster
) -> None:
    service = process(asks=False, **SEEDS | {"ROLLOUT_SEED_NODES": "1"})
    cluster.unpullable_on("node-3")[OTHER] = FULL
    service.start()
    pass_time(service, cluster, 400, step=10)
    assert holding(cluster) == NODES - 1
    service.commit(push("1.2.4", 1, seconds=400))
    seen = pass_time(service, cluster, 150)
    assert max(pull for pull, held in seen if held < 1) == 2
    assert holding(cluster) == NODES - 1


def test_a_node_without_room_does_not_stop_the_others(
    process: MakeProcess, cluster: SimulatedCluster
) -> None:
    service = process(asks=False, **SEEDS | {"ROLLOUT_SEED_NODES": "1"})
    for number in range(1, NODES + 1):
        cluster.fill(f"node-{number}", "Insufficient memory")
    for number in range(2, NODES + 1):
        cluster.free(f"node-{number}")
    service.start()
    pass_time(service, cluster, 400, step=10)
    assert holding(cluster) == NODES - 1
    service.commit(push("1.2.4", 1, seconds=400))
    pass_time(service, cluster, 150, step=10)
    assert holding(cluster) == NODES - 1


def test_a_node_that_can_not_run_the_first_pod_delays_a_new_daemonset_by_three_minutes(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    service = process(asks=False, **SEEDS)
    cluster.unpullable_on("node-1")[service.replica.config.kip_image] = "not found"
    service.start()
    pass_time(service, cluster, 170, step=10)
    assert installation.images() == []
    pass_time(service, cluster, 30, step=10)
    assert installation.images() == [APP, OTHER]
    pass_time(service, cluster, 900, step=10)
    assert holding(cluster) == NODES - 1


def test_a_registry_that_is_down_takes_nothing_from_nodes_that_wait(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    service = process(asks=False, **SEEDS)
    running(service, cluster)
    cluster.unpullable[NEWER] = DOWN
    service.commit(push("1.2.4", 1, seconds=150))
    assert max(pass_time(service, cluster, 3500, step=50)) == (2, 0)
    pass_time(service, cluster, 120, step=10)
    assert pulling(cluster) == NODES  # after an hour nobody waits
    assert maximum(installation) == "100%"


def test_a_tag_that_fails_on_the_seeds_is_quarantined_before_others_try_it(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    service = process(asks=False, **SEEDS)
    running(service, cluster)
    cluster.unpullable[NEWER] = "not found"
    service.commit(push("1.2.4", 1, seconds=150))
    seen = pass_time(service, cluster, 400, step=5)
    assert max(pull for pull, _ in seen) == 2
    assert installation.images() == [APP, OTHER]
    assert daemonset_status(service)["rollout"] == "complete"
    assert "seeding" not in daemonset_status(service)
    assert maximum(installation) == "100%"


@pytest.mark.parametrize("seconds", [0, 4, 20, 48])
def test_another_process_continues_where_one_was_lost(
    process: MakeProcess, cluster: SimulatedCluster, seconds: int
) -> None:
    service = process(asks=False, **SEEDS)
    service.start()
    seen = pass_time(service, cluster, seconds)
    service.stop()
    service = process(asks=False, is_periodic=False, **SEEDS)
    service.start()
    seen += pass_time(service, cluster, 150)
    assert_seeded(seen, seeds=2)
    service.commit(push("1.2.4", 1, seconds=200))
    seen = pass_time(service, cluster, seconds)
    service.stop()
    service = process(asks=False, is_periodic=False, **SEEDS)
    service.start()
    seen += pass_time(service, cluster, 100)
    assert_seeded(seen, seeds=2)


def test_a_push_before_the_first_pods_run_is_pulled_by_the_seeds_first(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    service = process(asks=False, **SEEDS)
    service.start()
    service.commit(push("1.2.4", 1))
    assert installation.images() == []
    assert_seeded(pass_time(service, cluster, 200), seeds=2)
    assert installation.images() == [APP, NEWER, OTHER]


def test_a_smaller_bound_of_all_nodes_is_that_of_the_seeds_too(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    service = process(asks=False, **SEEDS, ROLLOUT_MAX_UNAVAILABLE="10%")
    service.start()
    seen = pass_time(service, cluster, 700, step=5)
    assert max(pull for pull, _ in seen) == 1
    assert seen[-1] == (0, NODES)
    assert maximum(installation) == "10%"
    service.check()
    service.commit(push("1.2.4", 1, seconds=700))
    assert maximum(installation) == 1
    seen = pass_time(service, cluster, 450, step=5)
    assert max(pull for pull, _ in seen) == 1
    assert seen[-1] == (0, NODES)


def test_fewer_nodes_than_seeds_are_all_seeds(
    process: MakeProcess, cluster: SimulatedCluster
) -> None:
    service = process(asks=False, IMAGES=BOTH, ROLLOUT_SEED_NODES="20")
    service.start()
    seen = pass_time(service, cluster, 60)
    assert max(seen) == (NODES, 0)
    assert seen[-1] == (0, NODES)
    assert "seeding" not in daemonset_status(service)


def leave_all(cluster: SimulatedCluster, nodes: int = NODES) -> None:
    for number in range(1, nodes + 1):
        cluster.leave(f"node-{number}")


def join_many(service: Process, cluster: SimulatedCluster, seconds: float) -> list[tuple[int, int]]:
    """Let many nodes join in so many seconds, and a second after each the service is told."""
    seen = []
    for number in range(1, MANY + 1):
        cluster.join(f"node-{number}")
        service.commit(EnsureExists())
        if seconds and number % 10 == 0:
            seen += pass_time(service, cluster, seconds / 10, step=seconds / 10)
    return seen


def assert_bounded(seen: list[tuple[int, int]], seeds: int, nodes: int) -> None:
    """Assert that no more nodes pull than there are seeds, until these hold everything."""
    first = next(index for index, (_, held) in enumerate(seen) if held >= seeds)
    assert max(pull for pull, _ in seen[:first]) == seeds
    assert seen[-1] == (0, nodes)


@pytest.mark.parametrize("seconds", [0, 60])
@pytest.mark.parametrize("begins", ["without nodes", "with nodes"])
def test_of_many_nodes_that_join_where_none_is_selected_the_seeds_pull_first(
    process: MakeProcess,
    cluster: SimulatedCluster,
    installation: Installation,
    begins: str,
    seconds: float,
) -> None:
    service = process(asks=False, **SEEDS)
    if begins == "with nodes":
        running(service, cluster)
        leave_all(cluster)
        cluster.advance(1)
        service.check()
        assert installation.images() == []
        assert installation.state()["seeding"] == "empty"
    else:
        leave_all(cluster)
        service.start()
    pass_time(service, cluster, 1200, step=50)
    assert installation.images() == []
    assert daemonset_status(service)["rollout"] == "complete"
    assert daemonset_status(service)["seeding"] == (
        "no node is selected; of the nodes that join, the first 2 pull first"
    )
    seen = join_many(service, cluster, seconds)
    seen += pass_time(service, cluster, 200)
    assert_bounded(seen, seeds=2, nodes=MANY)
    assert daemonset_status(service)["rollout"] == "complete"
    assert maximum(installation) == "100%"


def test_a_push_while_no_node_is_selected_changes_only_the_state(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    leave_all(cluster)
    service = process(asks=False, **SEEDS)
    service.start()
    template = installation.template()
    service.commit(push("1.2.4", 1))
    service.check()
    assert installation.template() == template
    for number in range(1, NODES + 1):
        cluster.join(f"node-{number}")
    service.commit(EnsureExists())
    assert_bounded(pass_time(service, cluster, 200), seeds=2, nodes=NODES)
    assert installation.images() == [APP, NEWER, OTHER]


def test_nodes_of_which_no_event_tells_are_found_by_a_check_of_the_rollout(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    leave_all(cluster)
    service = process(asks=False, is_periodic=False, **SEEDS)
    service.start()
    pass_time(service, cluster, 1000, step=50)
    assert installation.images() == []
    for number in range(1, NODES + 1):
        cluster.join(f"node-{number}")
    assert_bounded(pass_time(service, cluster, 400), seeds=2, nodes=NODES)


def test_nodes_that_go_on_joining_do_not_delay_the_first_ones_for_ever(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    leave_all(cluster)
    service = process(asks=False, **SEEDS)
    service.start()
    for number in range(1, 35):
        cluster.join(f"node-{number}")
        service.commit(EnsureExists())
        pass_time(service, cluster, 20, step=20)
        assert bool(installation.images()) is (number >= 30), number


def test_a_node_that_does_not_get_ready_delays_those_that_join_by_three_minutes(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    leave_all(cluster)
    service = process(asks=False, **SEEDS)
    service.start()
    for number in range(1, NODES + 1):
        cluster.join(f"node-{number}")
    cluster.unpullable_on("node-1")[service.replica.config.kip_image] = "not found"
    cluster.kill("node-2")
    service.commit(EnsureExists())
    pass_time(service, cluster, 170, step=10)
    assert installation.images() == []
    pass_time(service, cluster, 30, step=10)
    assert installation.images() == [APP, OTHER]


def test_a_node_that_joins_pulls_at_once(process: MakeProcess, cluster: SimulatedCluster) -> None:
    service = process(asks=False, **SEEDS)
    running(service, cluster)
    service.commit(push("1.2.4", 1, seconds=150))
    pass_time(service, cluster, 10)
    cluster.join("node-new")
    pass_time(service, cluster, 10)
    assert pulling(cluster) == 3


def test_a_repair_keeps_the_bound_of_the_seeds(
    process: MakeProcess, cluster: SimulatedCluster, installation: Installation
) -> None:
    service = process(asks=False, **SEEDS)
    running(service, cluster)
    drift(cluster)
    service.check()
    assert installation.images() == [APP, OTHER]
    assert maximum(installation) == 2
    assert installation.state()["maxUnavailable"] == 2
    installation.sent()
    service.check()
    assert installation.written() == []
    pass_time(service, cluster, 600, step=10)
    assert maximum(installation) == "100%"
    assert daemonset_status(service)["rollout"] == "complete"


@pytest.mark.parametrize(
    ("variables", "is_seeding"),
    [
        ({"ROLLOUT_SEED_NODES": "0"}, False),
        ({"ROLLOUT_SEED_NODES": "1"}, True),
        ({"ROLLOUT_MAX_UNAVAILABLE": "5"}, True),
        ({"KEEP_TAGS": "5"}, True),
    ],
)
@pytest.mark.parametrize("seconds", [0, 20])
def test_another_configuration_ends_seeding_only_where_it_has_no_seeds(
    process: MakeProcess,
    cluster: SimulatedCluster,
    installation: Installation,
    variables: dict[str, str],
    is_seeding: bool,
    seconds: int,
) -> None:
    service = process(asks=False, **SEEDS)
    service.start()
    pass_time(service, cluster, seconds)
    service.stop()
    configured = process(asks=False, **SEEDS | variables)
    configured.check()
    assert ("seeding" in installation.state()) is is_seeding
    if seconds and is_seeding:
        assert maximum(installation) == 2
    else:
        assert maximum(installation) == (5 if "ROLLOUT_MAX_UNAVAILABLE" in variables else "100%")
    configured.start()
    pass_time(configured, cluster, 150, step=5)
    assert holding(cluster) == NODES


def test_a_tag_that_nodes_pull_again_is_on_the_seeds_first(
    process: MakeProcess, cluster: SimulatedCluster, registries: FakeRegistries
) -> None:
    latest = "quay.io/org/app:latest"
    registry_has(registries, latest=1)
    cluster.images[latest] = digest(1)
    cluster.pull_seconds[latest] = PULL_SECONDS
    service = process(IMAGES=f"app={latest}", ROLLOUT_SEED_NODES="2")
    running(service, cluster)
    service.commit(push("latest", 2, seconds=150))
    pass_time(service, cluster, 60)  # nodes take the old content, which they have
    cluster.images[latest] = digest(2)
    registry_has(registries, latest=2)
    assert_seeded(pass_time(service, cluster, 100), seeds=2)
    nodes = [f"node-{number}" for number in range(1, NODES + 1)]
    assert [cluster.images_on(node)[latest] for node in nodes] == [digest(2)] * NODES
