"""What happened between two observations: rollouts, images on all nodes, failures, warm nodes."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import pytest

from image_puller.cluster.observer import Observer
from image_puller.core import progress
from image_puller.core.progress import (
    ImageFailing,
    ImageRecovered,
    NewImage,
    NodeWarm,
    Notice,
    OnAllNodes,
    RolloutComplete,
    RolloutStarted,
    Snapshot,
)
from image_puller.simulation import SimulatedCluster
from image_puller.simulation.clock import SimulatedClock
from image_puller.simulation.resources import NODES
from image_puller.simulation.store import Key
from tests.support.building import NOON, at, configuration, deletion, digest, push
from tests.support.daemonset import (
    APP,
    AT_ONCE,
    BOTH,
    LATEST,
    NEWER,
    NEWEST,
    OTHER,
    MakeReplica,
    drift,
)
from tests.support.installation import NAME, NAMESPACE
from tests.support.observations import observed
from tests.support.replica import Replica, Time
from tests.support.states import live

HOUR = 3600
TAINT = {"key": "gpu", "effect": "NoSchedule"}


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    """Return a cluster of three nodes, whose time begins at noon."""
    clock = SimulatedClock(NOON.timestamp())
    with SimulatedCluster(nodes=3, namespaces=(NAMESPACE,), clock=clock) as cluster:
        yield cluster


class Watch:
    """A process that observes a group, and the time of the cluster and of all processes."""

    def __init__(
        self, puller: Replica, cluster: SimulatedCluster, time: Time, began: datetime | None = None
    ) -> None:
        self.puller = puller
        self.cluster = cluster
        self.time = time
        self.began = began or time.now
        self.snapshot: Snapshot | None = None

    def look(self, seconds: float = 0) -> tuple[Notice, ...]:
        """Let time pass, and return what happened since the last call."""
        self.time.advance(seconds)
        self.cluster.advance(seconds)
        seen = Observer(self.puller.config, self.puller.cluster, now=self.time).observe()
        self.snapshot, notices = progress.advance(
            self.snapshot, seen, self.time.now, began=self.began
        )
        return notices

    def push(self, tag: str, number: int, *, ago: float = 0) -> None:
        """Commit a push of an image of the entry `app`, which was pushed some seconds ago."""
        seconds = (self.time.now - NOON).total_seconds() - ago
        self.puller.commit(push(tag, number, seconds=seconds))

    def again(self) -> "Watch":
        """Return a process that starts now."""
        return Watch(self.puller, self.cluster, self.time)


@pytest.fixture
def watch(replica: MakeReplica, cluster: SimulatedCluster, now: Time) -> Watch:
    """Return a process whose images have been on all nodes for two hours."""
    watch = watching(replica, cluster, now)
    watch.look(60)
    assert watch.look(2 * HOUR) == ()
    return watch


def watching(
    replica: MakeReplica, cluster: SimulatedCluster, now: Time, images: str = BOTH, **more: str
) -> Watch:
    """Return a process that has just created the DaemonSet."""
    watch = Watch(replica(**AT_ONCE | {"IMAGES": images, **more}), cluster, now)
    assert watch.look() == ()
    watch.puller.check()
    return watch


def kinds(notices: tuple[Notice, ...]) -> list[type[Notice]]:
    """Return the types of notices, in their order."""
    return [type(notice) for notice in notices]


def test_a_push_is_told_from_its_rollout_to_its_end_each_step_once(watch: Watch) -> None:
    watch.push("1.2.4", 1, ago=1)
    uid = watch.puller.cluster.read()["metadata"]["uid"]
    (started,) = watch.look()
    assert isinstance(started, RolloutStarted)
    new = NewImage(entry="app", image=NEWER, digest=digest(1))
    assert (started.changed, started.nodes, started.group) == ((new,), 3, None)
    assert started.key.startswith(f"rollout-started/{uid}/{started.template}/")
    assert watch.look(1) == ()
    on_all, complete = watch.look(30)
    assert isinstance(on_all, OnAllNodes)
    assert (on_all.entry, on_all.image, on_all.digest) == ("app", NEWER, digest(1))
    assert (on_all.nodes, on_all.is_since_push) == (3, True)
    assert isinstance(complete, RolloutComplete)
    assert (complete.nodes, complete.not_ready, complete.changed) == (3, 0, (new,))
    assert complete.template == started.template
    # The kubelet says when the last container started, so a late observation makes no difference.
    assert 2 <= complete.seconds <= on_all.seconds <= 8
    assert watch.look(60) == ()
    assert not any(each.is_repeated for each in (started, on_all, complete))


def test_the_first_images_of_a_daemonset_are_told(
    replica: MakeReplica, cluster: SimulatedCluster, now: Time
) -> None:
    watch = watching(replica, cluster, now)
    (started,) = watch.look()
    assert isinstance(started, RolloutStarted)
    assert {new.image for new in started.changed} == {APP, OTHER}
    notices = watch.look(60)
    assert kinds(notices) == [OnAllNodes, OnAllNodes, RolloutComplete]
    first = notices[0]
    assert isinstance(first, OnAllNodes)
    # Nobody pushed them, so the time is that since the template changed.
    assert not first.is_since_push


def test_an_image_is_told_once_it_is_on_all_nodes_although_the_rollout_goes_on(
    replica: MakeReplica, cluster: SimulatedCluster, now: Time
) -> None:
    watch = watching(replica, cluster, now, HOLD_BY="containers")
    watch.look()
    cluster.pull_seconds[OTHER] = 300
    notices = watch.look(100)
    assert [each.image for each in notices if isinstance(each, OnAllNodes)] == [APP]
    assert kinds(watch.look(300)) == [OnAllNodes, RolloutComplete]


def test_an_image_in_flight_keeps_the_time_of_its_push_in_the_next_rollout(watch: Watch) -> None:
    watch.cluster.pull_seconds[NEWER] = 100
    watch.push("1.2.4", 1)
    watch.look(20)
    watch.push("1.2.5", 2)
    started = watch.look()[0]
    assert isinstance(started, RolloutStarted)
    assert [new.image for new in started.changed] == [NEWEST]
    notices = watch.look(400)
    seconds = {each.image: each for each in notices if isinstance(each, OnAllNodes)}
    assert seconds[NEWER].is_since_push
    assert seconds[NEWER].seconds >= 100
    assert seconds[NEWER].seconds - seconds[NEWEST].seconds >= -100


def test_a_tag_of_the_reserve_that_comes_back_is_no_push(
    replica: MakeReplica, cluster: SimulatedCluster, now: Time
) -> None:
    watch = watching(replica, cluster, now, KEEP_TAGS="1")
    watch.look(60)
    for tag, number in (("1.2.4", 1), ("1.2.5", 2)):
        watch.look(2 * HOUR)
        watch.push(tag, number)
    watch.look(2 * HOUR)
    watch.puller.commit(deletion("1.2.5", seconds=(now.now - NOON).total_seconds()))
    watch.look()
    on_all = watch.look(60)[0]
    assert isinstance(on_all, OnAllNodes)
    assert (on_all.image, on_all.is_since_push) == (NEWER, False)
    assert on_all.seconds < 60


def test_an_image_that_stays_is_not_told_again(watch: Watch) -> None:
    watch.push("1.2.4", 1)
    images = [each.image for each in watch.look(60) if isinstance(each, OnAllNodes)]
    assert images == [NEWER]


def test_new_content_of_a_tag_is_told(
    replica: MakeReplica, cluster: SimulatedCluster, now: Time
) -> None:
    watch = watching(replica, cluster, now, LATEST)
    name = LATEST.partition("=")[2]
    for number in (1, 2):
        cluster.images[name] = digest(number)
        watch.look(60)
        watch.push("latest", number)
        (on_all,) = (each for each in watch.look(60) if isinstance(each, OnAllNodes))
        assert on_all.digest == digest(number)


def test_a_pending_template_is_not_told_before_it_is_live(
    replica: MakeReplica, cluster: SimulatedCluster, now: Time
) -> None:
    watch = watching(replica, cluster, now, ROLLOUT_MIN_INTERVAL_SECONDS="600")
    watch.look(60)
    watch.push("1.2.4", 1)
    assert watch.look(60) == ()
    now.advance(600)
    watch.puller.commit(flush=True)
    notices = (*watch.look(), *watch.look(60))
    assert kinds(notices) == [RolloutStarted, OnAllNodes, RolloutComplete]
    on_all = notices[1]
    assert isinstance(on_all, OnAllNodes)
    assert on_all.is_since_push
    assert on_all.seconds > 600


def test_nodes_that_are_not_ready_do_not_hold_up_the_end(watch: Watch) -> None:
    watch.cluster.kill("node-2")
    watch.push("1.2.4", 1)
    *_, on_all, complete = (*watch.look(), *watch.look(60))
    assert isinstance(on_all, OnAllNodes)
    assert on_all.nodes == 2
    assert isinstance(complete, RolloutComplete)
    assert (complete.nodes, complete.not_ready) == (2, 1)


def test_without_a_ready_node_no_image_is_on_all_nodes(
    replica: MakeReplica, cluster: SimulatedCluster, now: Time
) -> None:
    for node in ("node-1", "node-2", "node-3"):
        cluster.leave(node)
    watch = watching(replica, cluster, now)
    assert kinds((*watch.look(), *watch.look(7))) == [RolloutStarted, RolloutComplete]


def test_a_failing_image_is_told_once_with_the_count_and_the_reason(watch: Watch) -> None:
    watch.cluster.unpullable_on("node-1")[NEWER] = "not found"
    watch.cluster.unpullable_on("node-3")[NEWER] = "not found"
    watch.push("1.2.4", 1)
    watch.look()
    (failing,) = (each for each in watch.look(30) if isinstance(each, ImageFailing))
    assert (failing.entry, failing.image, failing.nodes) == ("app", NEWER, 2)
    assert "not found" in failing.reason
    watch.cluster.join("node-4")
    watch.cluster.unpullable_on("node-4")[NEWER] = "not found"
    assert watch.look(60) == ()


def test_a_recovered_image_is_told_when_the_last_node_holds_it(watch: Watch) -> None:
    watch.cluster.unpullable[NEWER] = "not found"
    watch.push("1.2.4", 1)
    failing = watch.look(60)[-1]
    assert isinstance(failing, ImageFailing)
    watch.cluster.unpullable.clear()
    watch.cluster.unpullable_on("node-1")[NEWER] = "not found"
    assert watch.look(600) == ()
    watch.cluster.unpullable_on("node-1").clear()
    notices = watch.look(600)
    assert kinds(notices) == [OnAllNodes, ImageRecovered, RolloutComplete]
    recovered = notices[1]
    assert isinstance(recovered, ImageRecovered)
    assert (recovered.entry, recovered.image, recovered.is_desired) == ("app", NEWER, True)


def test_each_failure_of_an_image_is_another_one(
    replica: MakeReplica, cluster: SimulatedCluster, now: Time
) -> None:
    watch = watching(replica, cluster, now, HOLD_BY="containers")
    keys: list[str] = []
    for _ in range(2):
        watch.look(60)
        watch.cluster.crashing[APP] = ("Error", 1)
        for pod in watch.cluster.pods(NAMESPACE):
            watch.cluster.delete(pod["metadata"]["name"], NAMESPACE, resource="pods")
        keys += [each.key for each in watch.look(30) if isinstance(each, ImageFailing)]
        watch.cluster.crashing.clear()
        (recovered,) = (each for each in watch.look(700) if isinstance(each, ImageRecovered))
        assert recovered.is_desired
        assert recovered.key == keys[-1].replace("failing", "recovered")
    assert len(set(keys)) == 2


def test_an_image_that_fails_and_is_not_desired_any_more_has_recovered(watch: Watch) -> None:
    watch.cluster.unpullable[NEWER] = "not found"
    watch.push("1.2.4", 1)
    watch.look(60)
    watch.puller.commit(deletion("1.2.4", seconds=(watch.time.now - NOON).total_seconds()))
    (recovered,) = (each for each in watch.look(60) if isinstance(each, ImageRecovered))
    assert (recovered.image, recovered.is_desired) == (NEWER, False)


def test_pods_that_are_replaced_do_not_begin_to_fail_anew(watch: Watch) -> None:
    watch.cluster.unpullable[NEWER] = "not found"
    watch.push("1.2.4", 1)
    watch.look(60)
    watch.push("1.2.5", 2)
    notices = (*watch.look(), *watch.look(1), *watch.look(60))
    assert not {ImageFailing, ImageRecovered} & set(kinds(notices))


def test_a_node_that_joins_is_told_once_it_is_warm(watch: Watch) -> None:
    watch.cluster.join("node-4")
    assert watch.look() == ()
    (warm,) = watch.look(60)
    assert isinstance(warm, NodeWarm)
    assert warm.node == "node-4"
    assert warm.seconds is not None
    assert 2 <= warm.seconds <= 10
    watch.push("1.2.4", 1)
    watch.look(1)
    assert NodeWarm not in kinds(watch.look(60))


def test_a_node_that_joins_again_under_its_name_is_another_node(watch: Watch) -> None:
    keys = set()
    for _ in range(2):
        watch.cluster.leave("node-3")
        watch.cluster.join("node-3")
        (warm,) = watch.look(60)
        assert isinstance(warm, NodeWarm)
        keys.add(warm.key)
    assert len(keys) == 2


def test_a_node_is_told_once_although_a_taint_excludes_it_for_a_while(watch: Watch) -> None:
    watch.cluster.join("node-4", taints=[TAINT])
    assert watch.look(60) == ()
    _set_taints(watch, [])
    assert kinds(watch.look(60)) == [NodeWarm]
    _set_taints(watch, [TAINT])
    watch.look(60)
    _set_taints(watch, [])
    assert watch.look(60) == ()


def _set_taints(watch: Watch, taints: list[dict[str, str]]) -> None:
    store = watch.cluster._api.store
    (node,) = (each for each in store.all(NODES) if each["metadata"]["name"] == "node-4")
    store.replace(Key(NODES, "", "node-4"), {**node, "spec": {"taints": taints}})


def test_a_configured_image_that_the_template_lacks_is_not_told() -> None:
    config = configuration(IMAGES=f"app={APP}")
    state = live(config, push("1.2.4", 1))
    lacking = state.with_entry("app", replace(state.entries["app"], live_tags=None))
    seen = observed(config, state)
    snapshot, _ = progress.advance(
        None, replace(seen, live=replace(seen.live, state=lacking)), at(1), began=NOON
    )
    assert snapshot is not None
    assert [expected for _, expected in snapshot.images] == [digest(1)]


def test_a_new_process_tells_of_a_node_that_joined_after_the_template_changed(
    watch: Watch,
) -> None:
    watch.cluster.join("node-4")
    again = watch.again()
    assert again.look() == ()
    assert kinds(again.look(60)) == [NodeWarm]


def test_a_node_is_known_by_its_name_where_nodes_may_not_be_listed() -> None:
    config = configuration(IMAGES=f"app={APP}")
    state = live(config)
    names = ["node-1", "node-2"]
    seen = [observed(config, state, names[:count], may_list_nodes=False) for count in (1, 2)]
    before, _ = progress.advance(None, seen[0], at(HOUR), began=at(60))
    _, notices = progress.advance(before, seen[1], at(HOUR), began=at(60))
    assert [(each.node, each.seconds) for each in notices if isinstance(each, NodeWarm)] == [
        ("node-2", None)
    ]


def test_a_new_process_does_not_tell_what_ended_long_ago(watch: Watch) -> None:
    assert watch.again().look() == ()


def test_a_new_process_repeats_the_rollout_of_the_last_hour_with_the_same_keys(
    watch: Watch,
) -> None:
    watch.push("1.2.4", 1)
    told = {each.key for each in (*watch.look(), *watch.look(60))}
    on_all, complete = watch.again().look(10)
    assert isinstance(on_all, OnAllNodes)
    assert on_all.image == NEWER
    assert isinstance(complete, RolloutComplete)
    assert [new.image for new in complete.changed] == [NEWER]
    assert all(each.is_repeated and each.key in told for each in (on_all, complete))


def test_a_new_process_repeats_the_start_of_a_rollout_that_goes_on(watch: Watch) -> None:
    watch.push("1.2.4", 1)
    watch.look(1)
    again = watch.again()
    (started,) = again.look()
    assert isinstance(started, RolloutStarted)
    assert started.is_repeated
    notices = again.look(60)
    assert kinds(notices) == [OnAllNodes, RolloutComplete]
    assert not any(each.is_repeated for each in notices)


def test_what_ends_after_the_process_began_is_no_repetition(watch: Watch) -> None:
    again = watch.again()
    watch.push("1.2.4", 1)
    notices = again.look(60)
    assert kinds(notices) == [RolloutStarted, OnAllNodes, RolloutComplete]
    assert not any(each.is_repeated for each in notices)


def test_a_new_process_tells_what_fails_now_with_the_same_key(watch: Watch) -> None:
    watch.cluster.unpullable[NEWER] = "not found"
    watch.push("1.2.4", 1)
    (told,) = (each for each in watch.look(60) if isinstance(each, ImageFailing))
    again = watch.again()
    (repeated,) = (each for each in again.look(2 * HOUR) if isinstance(each, ImageFailing))
    assert repeated.key == told.key


def test_an_unreadable_state_or_a_missing_daemonset_changes_nothing(watch: Watch) -> None:
    before = watch.snapshot
    watch.cluster.change(NAME, NAMESPACE, lambda live: live["metadata"]["annotations"].clear())
    assert watch.look() == ()
    assert watch.snapshot == before


def test_a_repair_that_restarts_no_pod_is_no_rollout(watch: Watch) -> None:
    watch.cluster.change(NAME, NAMESPACE, lambda live: live["metadata"]["labels"].clear())
    watch.puller.check()
    assert watch.look(10) == ()
    watch.push("1.2.4", 1)
    assert kinds(watch.look()) == [RolloutStarted]


def test_a_repair_of_the_template_is_a_rollout(watch: Watch) -> None:
    drift(watch.cluster)
    watch.look()
    watch.puller.check()
    assert kinds((*watch.look(), *watch.look(60))) == [RolloutStarted, RolloutComplete]


def test_a_daemonset_that_is_created_again_is_another_rollout(watch: Watch) -> None:
    watch.cluster.delete(NAME, NAMESPACE)
    assert watch.look(10) == ()
    watch.puller.check()
    assert kinds((*watch.look(), *watch.look(60))) == [RolloutStarted, RolloutComplete]


def test_one_step_of_a_large_group_is_fast() -> None:
    images = ";".join(f"image-{number}=quay.io/org/image-{number}:1.2.3" for number in range(50))
    config = configuration(IMAGES=images)
    nodes = [f"node-{number}" for number in range(1000)]
    seen = observed(config, live(config), nodes)
    assert seen.live.daemonset is not None
    seen.live.daemonset["metadata"]["creationTimestamp"] = NOON.isoformat()
    began = time.process_time()
    before, first = progress.advance(None, seen, at(1), began=NOON)
    _, then = progress.advance(before, seen, at(2), began=NOON)
    assert time.process_time() - began < 2
    assert (len(first), len(then)) == (52, 0)
