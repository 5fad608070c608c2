"""What nodes show of a rollout: what fails everywhere, on some nodes, or has other content."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from image_puller.cluster.observer import Observer
from image_puller.core import follow_up
from image_puller.core.changes import NoteHeld, Proceed, QuarantineTag, SetMaxUnavailable
from image_puller.core.node_state import ImageOnNode, ImageState
from image_puller.core.observation import Observation
from image_puller.simulation import SimulatedCluster
from image_puller.simulation.clock import SimulatedClock
from tests.support.building import NOON, digest, push
from tests.support.daemonset import (
    APP,
    AT_ONCE,
    BOTH,
    LATEST,
    NEWER,
    OTHER,
    MakeReplica,
    refuse_pods,
)
from tests.support.installation import NAMESPACE
from tests.support.replica import Replica

MISSING = "not found"
NO_PLATFORM = "no match for platform in manifest: not found"
DOWN = "dial tcp 10.0.0.1:443: i/o timeout"
FULL = "no space left on device"
AN_HOUR = 3600.0


@pytest.fixture
def replica(replica: MakeReplica) -> MakeReplica:
    """Return a function that creates replicas whose images are held by containers.

    `tests/controller/test_held_by_volumes.py` has the same for volumes.
    """
    return partial(replica, HOLD_BY="containers")


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    """Return a cluster of three nodes, of which the third has another architecture.

    The nodes are an hour old at noon.
    """
    clock = SimulatedClock(NOON.timestamp() - AN_HOUR)
    with SimulatedCluster(nodes=2, namespaces=(NAMESPACE,), clock=clock) as cluster:
        cluster.join("node-3", labels={"kubernetes.io/arch": "arm64"})
        cluster.advance(AN_HOUR)
        yield cluster


def observed(puller: Replica) -> Observation:
    return Observer(puller.config, puller.cluster, now=lambda: NOON).observe()


def now(cluster: SimulatedCluster) -> datetime:
    return datetime.fromtimestamp(cluster.clock(), UTC)


def found(puller: Replica, cluster: SimulatedCluster) -> tuple[follow_up.NodeChange, ...]:
    """Return what the nodes show now."""
    seen = observed(puller)
    return follow_up.node_changes(seen, follow_up.failing(seen, {}, now(cluster)), now(cluster))


def started(replica: MakeReplica, cluster: SimulatedCluster, images: str, **more: str) -> Replica:
    """Return a process whose images are on all nodes."""
    puller = replica(IMAGES=images, **AT_ONCE | more)
    puller.check()
    cluster.advance(60)
    assert found(puller, cluster) == ()
    return puller


def test_a_tag_is_quarantined_three_minutes_after_its_pods_began(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = started(replica, cluster, BOTH)
    cluster.unpullable[NEWER] = MISSING
    began = now(cluster)
    puller.commit(push("1.2.4", 1))
    cluster.advance(179)
    assert found(puller, cluster) == ()
    cluster.advance(2)
    (change,) = found(puller, cluster)
    assert isinstance(change, QuarantineTag)
    assert (change.entry, change.tag, change.digest) == ("app", "1.2.4", digest(1))
    assert change.since == began.replace(microsecond=0)
    assert not change.pulled
    assert MISSING in change.reason


@pytest.mark.parametrize(
    ("errors", "is_quarantined"),
    [
        ({"node-1": MISSING, "node-2": MISSING, "node-3": MISSING}, True),
        ({"node-1": MISSING, "node-2": MISSING, "node-3": DOWN}, True),
        ({"node-1": MISSING, "node-2": MISSING, "node-3": FULL}, True),
        ({"node-1": MISSING, "node-2": MISSING}, False),
        ({"node-1": NO_PLATFORM, "node-2": NO_PLATFORM, "node-3": NO_PLATFORM}, True),
        ({"node-1": NO_PLATFORM, "node-2": NO_PLATFORM, "node-3": DOWN}, False),
        ({"node-1": DOWN, "node-2": DOWN, "node-3": DOWN}, False),
        ({"node-1": FULL, "node-2": FULL, "node-3": FULL}, False),
        ({"node-3": NO_PLATFORM}, False),
    ],
)
def test_a_tag_is_quarantined_if_the_image_is_the_cause_on_every_node_that_tried_it(
    replica: MakeReplica, cluster: SimulatedCluster, errors: dict[str, str], is_quarantined: bool
) -> None:
    puller = started(replica, cluster, BOTH)
    for node, error in errors.items():
        cluster.unpullable_on(node)[NEWER] = error
    puller.commit(push("1.2.4", 1))
    cluster.advance(200)
    assert bool(found(puller, cluster)) is is_quarantined


def test_a_tag_that_a_node_still_pulls_is_not_quarantined(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = started(replica, cluster, BOTH)
    cluster.pull_seconds[NEWER] = 500
    for node in ("node-1", "node-2"):
        cluster.unpullable_on(node)[NEWER] = MISSING
    puller.commit(push("1.2.4", 1))
    cluster.advance(400)
    assert found(puller, cluster) == ()


def test_a_dead_node_does_not_count_as_one_that_tries(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = started(replica, cluster, BOTH)
    cluster.unpullable[NEWER] = MISSING
    cluster.pull_seconds[NEWER] = 500
    cluster.kill("node-2")
    puller.commit(push("1.2.4", 1))
    cluster.advance(200)
    assert [type(change) for change in found(puller, cluster)] == [QuarantineTag]


def test_a_container_before_the_failing_one_shows_when_it_began(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = started(replica, cluster, BOTH)
    first = "quay.io/org/other:2.0.1"
    cluster.pull_seconds[NEWER] = 300
    cluster.unpullable[first] = MISSING
    puller.commit(push("1.2.4", 1), push("2.0.1", 2, entry="other"))
    cluster.advance(310)
    assert found(puller, cluster) == ()
    cluster.advance(180)
    (change,) = found(puller, cluster)
    assert isinstance(change, QuarantineTag)
    assert change.tag == "2.0.1"


def test_frequent_rollouts_do_not_hide_what_fails(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = started(replica, cluster, BOTH)
    cluster.unpullable[NEWER] = MISSING
    puller.commit(push("1.2.4", 1))
    cluster.advance(120)
    known = follow_up.failing(observed(puller), {}, now(cluster))
    puller.commit(push("2.0.1", 2, entry="other"))
    cluster.advance()
    known = follow_up.failing(observed(puller), known, now(cluster))  # the new pods do not fail yet
    cluster.advance(100)
    seen = observed(puller)
    (change,) = follow_up.node_changes(
        seen, follow_up.failing(seen, known, now(cluster)), now(cluster)
    )
    assert isinstance(change, QuarantineTag)
    assert follow_up.failing(seen, {}, now(cluster)).keys() == known.keys()
    cluster.unpullable.clear()
    cluster.advance(600)
    assert follow_up.failing(observed(puller), known, now(cluster)) == {}


def test_a_back_off_without_the_words_of_the_runtime_keeps_the_earlier_ones(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = started(replica, cluster, BOTH)
    cluster.unpullable[NEWER] = MISSING
    puller.commit(push("1.2.4", 1))
    cluster.advance(1)
    known = follow_up.failing(observed(puller), {}, now(cluster))
    cluster.advance(200)
    seen = observed(puller)
    bare = ImageOnNode(
        state=ImageState.FAILING, reason=f'ImagePullBackOff: Back-off pulling image "{NEWER}"'
    )
    states = {
        container: {node: bare if each.reason else each for node, each in nodes.items()}
        for container, nodes in seen.states.items()
    }
    seen = replace(seen, states=states)
    assert (
        follow_up.node_changes(seen, follow_up.failing(seen, {}, now(cluster)), now(cluster)) == ()
    )
    (change,) = follow_up.node_changes(
        seen, follow_up.failing(seen, known, now(cluster)), now(cluster)
    )
    assert isinstance(change, QuarantineTag)
    assert MISSING in change.reason


def test_an_image_that_is_missing_only_when_its_registry_is_back_begins_to_fail_then(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = started(replica, cluster, BOTH)
    cluster.unpullable[NEWER] = DOWN
    puller.commit(push("1.2.4", 1))
    cluster.advance(600)
    known = follow_up.failing(observed(puller), {}, now(cluster))
    cluster.unpullable[NEWER] = MISSING
    cluster.advance(300)
    seen = observed(puller)
    known = follow_up.failing(seen, known, now(cluster))
    assert follow_up.node_changes(seen, known, now(cluster)) == ()
    cluster.advance(180)
    seen = observed(puller)
    known = follow_up.failing(seen, known, now(cluster))
    assert len(follow_up.node_changes(seen, known, now(cluster))) == 1


def test_held_content_is_noted_once_where_there_is_previous_content(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    cluster.images["quay.io/org/app:latest"] = digest(1)
    puller = started(replica, cluster, LATEST)
    puller.commit(push("latest", 1))
    cluster.images["quay.io/org/app:latest"] = digest(2)
    puller.commit(push("latest", 2, seconds=1))
    assert found(puller, cluster) == ()
    cluster.advance(60)
    (change,) = found(puller, cluster)
    assert isinstance(change, NoteHeld)
    assert change.digest == digest(2)
    puller.commit(change)
    assert found(puller, cluster) == ()


def test_a_tag_goes_back_to_the_newest_content_that_a_node_has(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    name = "quay.io/org/app:latest"
    puller = started(replica, cluster, LATEST)
    for number in (1, 2):  # the second is held, but the next push comes before that is noted
        cluster.images[name] = digest(number)
        puller.commit(push("latest", number, seconds=number))
        cluster.advance(30)
    cluster.unpullable[name] = MISSING
    puller.commit(push("latest", 3, seconds=3))
    cluster.advance(60)
    puller.commit(push("latest", 4, seconds=4))
    cluster.advance(200)
    (change,) = found(puller, cluster)
    assert isinstance(change, QuarantineTag)
    assert change.back_to == digest(2)
    puller.commit(change)
    cluster.advance(60)
    assert observed(puller).images[0].image == f"{name}@{digest(2)}"
    assert all(each.is_held for each in observed(puller).states["app"].values())


def test_other_content_is_not_noted_as_held(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    cluster.images["quay.io/org/app:latest"] = digest(1)
    puller = started(replica, cluster, LATEST)
    puller.commit(push("latest", 2))
    cluster.advance(60)
    assert found(puller, cluster) == ()


def test_the_bound_is_raised_only_for_nodes_on_which_nothing_else_is_missing(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = started(replica, cluster, BOTH, ROLLOUT_MAX_UNAVAILABLE="1")
    cluster.unpullable_on("node-1")[NEWER] = FULL
    cluster.pull_seconds["quay.io/org/other:2.0.1"] = 400
    puller.commit(push("1.2.4", 1), push("2.0.1", 2, entry="other"))
    cluster.advance(300)
    assert found(puller, cluster) == ()
    cluster.advance(1500)
    assert found(puller, cluster) == (SetMaxUnavailable(2),)


def test_a_raised_bound_stays_until_all_nodes_have_tried_the_template(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = started(replica, cluster, BOTH, ROLLOUT_MAX_UNAVAILABLE="1")
    puller.commit(SetMaxUnavailable(2))
    cluster.pull_seconds[NEWER] = 100
    puller.commit(push("1.2.4", 1))
    cluster.advance(50)
    assert found(puller, cluster) == ()
    cluster.advance(900)
    assert found(puller, cluster) == (SetMaxUnavailable(None),)


def test_nothing_is_raised_where_all_nodes_may_change_at_once(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    for bound in ("100%", "3", "90%"):
        puller = started(replica, cluster, BOTH, ROLLOUT_MAX_UNAVAILABLE=bound)
        cluster.unpullable_on("node-1")[OTHER] = FULL
        cluster.unpullable_on("node-1")[NEWER] = FULL
        puller.commit(push("1.2.4", 1))
        cluster.advance(900)
        assert found(puller, cluster) == ()


def proceeds(puller: Replica, cluster: SimulatedCluster) -> bool:
    """Return whether the nodes show that the rollout may go on, and commit that."""
    changes = found(puller, cluster)
    puller.commit(*changes)
    return any(isinstance(change, Proceed) for change in changes)


@pytest.mark.parametrize("lists_nodes", [True, False])
def test_a_rollout_proceeds_when_the_first_pods_run_and_again_when_the_seeds_hold(
    replica: MakeReplica, cluster: SimulatedCluster, lists_nodes: bool
) -> None:
    if not lists_nodes:
        cluster.fail(times=100, status=403, path="/api/v1/nodes")
    cluster.pull_seconds[APP] = 30
    puller = replica(ROLLOUT_SEED_NODES="1", **AT_ONCE)
    puller.check()
    assert not proceeds(puller, cluster)  # no pod has been created yet
    cluster.advance(1)
    assert not proceeds(puller, cluster)
    cluster.advance(10)
    assert proceeds(puller, cluster)
    cluster.advance(20)
    assert not proceeds(puller, cluster)
    cluster.advance(15)
    assert proceeds(puller, cluster)
    assert found(puller, cluster) == ()


@pytest.mark.parametrize("then", ["pending", "blocked"])
def test_nodes_follow_the_seeds_although_a_newer_template_waits(
    replica: MakeReplica, cluster: SimulatedCluster, then: str
) -> None:
    puller = replica(ROLLOUT_SEED_NODES="1", ROLLOUT_MIN_INTERVAL_SECONDS="1000")
    puller.check()
    cluster.advance(10)
    assert proceeds(puller, cluster)
    if then == "blocked":
        refuse_pods(cluster, "no")
        puller.commit(push("1.2.4", 1), flush=True)
    else:
        puller.commit(push("1.2.4", 1))
    cluster.allow_everything()
    cluster.advance(5)
    assert observed(puller).rollout == then
    if then == "pending":
        soon = NOON + timedelta(seconds=950)
        assert follow_up.node_changes(observed(puller), {}, soon) == ()
    assert proceeds(puller, cluster)
    cluster.advance(10)
    assert observed(puller).rollout == then
    assert found(puller, cluster) == ()
    assert all(each.is_held for each in observed(puller).states["app"].values())


def test_nodes_do_not_follow_seeds_that_have_to_pull_again(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    cluster.images["quay.io/org/app:latest"] = digest(1)
    puller = replica(IMAGES=LATEST, ROLLOUT_SEED_NODES="1", **AT_ONCE)
    puller.check()
    for _ in range(3):
        cluster.advance(20)
        proceeds(puller, cluster)
    puller.commit(push("latest", 2))
    while not any(map(observed(puller).runs_template, observed(puller).ready)):
        cluster.advance(0.1)
    assert follow_up.wrong_contents(observed(puller), time=now(cluster))
    assert not proceeds(puller, cluster)


def test_nodes_in_the_way_raise_the_bound_of_the_seeds(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = replica(ROLLOUT_SEED_NODES="1", **AT_ONCE)
    puller.check()
    cluster.advance(10)
    assert proceeds(puller, cluster)
    cluster.pull_seconds[APP] = 100
    cluster.kill("node-2")
    assert found(puller, cluster) == (SetMaxUnavailable(2),)


def test_a_state_of_another_configuration_shows_nothing(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    cluster.unpullable[NEWER] = MISSING
    old = replica(IMAGES=BOTH, **AT_ONCE)
    old.commit(push("1.2.4", 1))
    cluster.advance(300)
    assert found(old, cluster)
    other = replica(IMAGES=f"app={APP}", **AT_ONCE)
    assert found(other, cluster) == ()
    assert follow_up.wrong_contents(observed(other), time=NOON) == ()


def test_a_rollout_is_finished_once_it_is_complete(
    replica: MakeReplica, cluster: SimulatedCluster
) -> None:
    puller = started(replica, cluster, BOTH)
    assert follow_up.is_finished(observed(puller), now(cluster))
    puller.commit(push("1.2.4", 1))
    assert not follow_up.is_finished(observed(puller), now(cluster) + timedelta(days=2))
