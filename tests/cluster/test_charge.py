"""The process in charge: rolling updates, rollbacks, restarts, and annotations from elsewhere."""

import itertools
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from image_puller.cluster.api_server import connect
from image_puller.core.changes import CheckDaemonSet, EnsureExists, TrackTag
from image_puller.core.decide import Outcome
from image_puller.errors import ClusterUnavailableError, SupersededError
from image_puller.simulation import SimulatedCluster
from tests.support.building import configuration, push
from tests.support.daemonset import (
    APP,
    AT_ONCE,
    BOTH,
    NEWER,
    OTHER,
    READ_OWN_POD,
    READ_STATE,
    MakeReplica,
    delete,
    end_pod,
    start_pod,
)
from tests.support.installation import NAME, NAMESPACE, Installation, kubeconfig
from tests.support.replica import Replica, Time


@pytest.fixture
def pods(cluster: SimulatedCluster) -> tuple[str, str]:
    """Return the names of two pods of the service, the older first."""
    start_pod(cluster, "old-1")
    start_pod(cluster, "new-1")
    return "old-1", "new-1"


def text(installation: Installation) -> str:
    """Return the text of the state annotation."""
    found: str = installation.live()["metadata"]["annotations"]["image-puller.io/state"]
    return found


def test_a_container_of_the_older_pod_that_restarts_during_an_update_stays_superseded(
    replica: MakeReplica, installation: Installation, pods: tuple[str, str]
) -> None:
    replica(host=pods[0], **AT_ONCE).check()
    new = replica(host=pods[1], IMAGES=BOTH, **AT_ONCE)
    new.check()
    restarted = replica(host=pods[0], **AT_ONCE)
    with pytest.raises(SupersededError, match=r"because new-1 is newer; .* until that pod is gone"):
        restarted.check()
    assert installation.images() == [APP, OTHER]
    assert new.commit(push("1.2.4", 1)) == (Outcome.TRACKED,)


def test_a_container_of_the_newer_pod_that_restarts_is_still_in_charge(
    replica: MakeReplica, installation: Installation, pods: tuple[str, str]
) -> None:
    replica(host=pods[0], **AT_ONCE).check()
    replica(host=pods[1], IMAGES=BOTH, **AT_ONCE).check()
    written = text(installation)
    replica(host=pods[1], IMAGES=BOTH, **AT_ONCE).check()
    assert text(installation) == written


@pytest.mark.parametrize("change", [CheckDaemonSet(), EnsureExists(), push("1.2.4", 1)])
def test_a_superseded_process_works_again_once_its_rival_is_gone(
    replica: MakeReplica,
    installation: Installation,
    cluster: SimulatedCluster,
    pods: tuple[str, str],
    change: CheckDaemonSet | EnsureExists | TrackTag,
) -> None:
    old, new = replica(host=pods[0], **AT_ONCE), replica(host=pods[1], IMAGES=BOTH, **AT_ONCE)
    old.check()
    new.check()
    with pytest.raises(SupersededError):
        old.commit(change)
    assert old.reconciler.superseded is not None
    end_pod(cluster, pods[1])
    old.commit(change)
    assert old.reconciler.superseded is None
    assert OTHER not in installation.images()


def test_a_superseded_process_costs_two_small_reads_and_writes_nothing(
    replica: MakeReplica, installation: Installation, pods: tuple[str, str]
) -> None:
    old, new = replica(host=pods[0], **AT_ONCE), replica(host=pods[1], IMAGES=BOTH, **AT_ONCE)
    old.check()
    new.check()
    before = installation.live()
    installation.sent()
    for _ in range(3):
        for changes in ([], [push("1.2.4", 1)], [CheckDaemonSet()]):
            with pytest.raises(SupersededError):
                old.commit(*changes)
    sent = installation.sent()
    assert sent[-6:] == [READ_STATE, READ_OWN_POD] * 3
    assert {request.split()[0] for request in sent} == {"GET"}
    assert installation.live() == before


def test_a_rollback_by_a_new_pod_takes_charge_while_the_rolled_back_pod_runs(
    replica: MakeReplica,
    installation: Installation,
    cluster: SimulatedCluster,
    pods: tuple[str, str],
) -> None:
    replica(host=pods[0], **AT_ONCE).check()
    wrong = replica(host=pods[1], IMAGES=BOTH, **AT_ONCE)
    wrong.check()
    end_pod(cluster, pods[0])
    start_pod(cluster, "old-2")
    replica(host="old-2", **AT_ONCE).check()
    assert installation.images() == [APP]
    with pytest.raises(SupersededError, match="old-2 is newer"):
        wrong.commit(push("1.2.4", 1))


def test_a_process_keeps_working_after_an_older_annotation_was_restored(
    replica: MakeReplica,
    installation: Installation,
    cluster: SimulatedCluster,
    pods: tuple[str, str],
) -> None:
    replica(host=pods[0], **AT_ONCE).check()
    backup = text(installation)
    puller = replica(host=pods[1], IMAGES=BOTH, **AT_ONCE)
    puller.check()
    end_pod(cluster, pods[0])
    installation.annotate(backup)
    assert puller.commit(push("1.2.4", 1)) == (Outcome.TRACKED,)
    assert installation.images() == [APP, NEWER, OTHER]


def test_a_replica_of_the_configuration_in_charge_holds_it_after_the_youngest_ended(
    replica: MakeReplica,
    installation: Installation,
    cluster: SimulatedCluster,
    pods: tuple[str, str],
) -> None:
    old = replica(host=pods[0], **AT_ONCE)
    old.check()
    replica(host=pods[1], IMAGES=BOTH, **AT_ONCE).check()
    start_pod(cluster, "new-2")
    replica(host="new-2", IMAGES=BOTH, **AT_ONCE).check()
    end_pod(cluster, "new-2")
    with pytest.raises(SupersededError, match="because new-1 is newer"):
        old.check()
    assert installation.images() == [APP, OTHER]


def test_a_pod_that_has_the_name_of_an_ended_one_is_another_process(
    replica: MakeReplica, cluster: SimulatedCluster, pods: tuple[str, str]
) -> None:
    old = replica(host=pods[0], **AT_ONCE)
    old.check()
    replica(host=pods[1], IMAGES=BOTH, **AT_ONCE).check()
    end_pod(cluster, pods[1])
    start_pod(cluster, pods[1])
    old.check()


def test_a_daemonset_that_is_deleted_is_created_again_by_the_younger_process_only(
    replica: MakeReplica, installation: Installation, pods: tuple[str, str]
) -> None:
    old, new = replica(host=pods[0], **AT_ONCE), replica(host=pods[1], IMAGES=BOTH, **AT_ONCE)
    old.check()
    new.check()
    with pytest.raises(SupersededError):
        old.check()
    delete(new, installation)
    with pytest.raises(SupersededError):
        old.check()
    new.check()
    assert installation.images() == [APP, OTHER]


def test_a_daemonset_that_is_deleted_is_created_again_by_any_replica_of_its_configuration(
    replica: MakeReplica, installation: Installation, pods: tuple[str, str]
) -> None:
    older, younger = replica(host=pods[0], **AT_ONCE), replica(host=pods[1], **AT_ONCE)
    for each in (older, younger, older):
        each.check()
    delete(older, installation)
    assert older.commit(push("1.2.4", 1)) == (Outcome.TRACKED,)
    assert installation.images() == [APP, NEWER]


def test_a_process_outside_the_cluster_gives_way_to_a_pod(
    replica: MakeReplica, cluster: SimulatedCluster, pods: tuple[str, str]
) -> None:
    replica(host=pods[0], **AT_ONCE).check()
    outside = replica(IMAGES=BOTH, **AT_ONCE)
    with pytest.raises(SupersededError, match="old-1 is newer"):
        outside.check()
    end_pod(cluster, pods[0])
    outside.check()
    replica(host=pods[1], **AT_ONCE).check()
    with pytest.raises(SupersededError, match="new-1 is newer"):
        outside.check()


def test_outside_the_cluster_the_process_that_started_last_is_in_charge(
    replica: MakeReplica,
) -> None:
    first, last = replica(**AT_ONCE), replica(IMAGES=BOTH, **AT_ONCE)
    first.check()
    last.check()
    with pytest.raises(SupersededError, match="writes nothing until it is restarted"):
        first.check()
    last.check()


@pytest.mark.parametrize("first_check", [True, False])
def test_a_process_works_again_once_a_newer_schema_is_gone(
    replica: MakeReplica,
    installation: Installation,
    pods: tuple[str, str],
    caplog: pytest.LogCaptureFixture,
    first_check: bool,
) -> None:
    caplog.set_level(logging.INFO)
    puller = replica(host=pods[0], **AT_ONCE)
    puller.check()
    readable = text(installation)
    installation.annotate('{"schema":99}')
    asked = replica(host=pods[0], **AT_ONCE) if first_check else puller
    for _ in range(3):
        with pytest.raises(SupersededError, match=r"until .* is removed, or can be read again"):
            asked.commit(push("1.2.4", 1))
    assert caplog.text.count("schema 99") == 1
    installation.annotate(readable)
    assert asked.commit(push("1.2.4", 1)) == (Outcome.TRACKED,)
    assert asked.reconciler.superseded is None
    assert "is in charge again" in caplog.text


def test_nothing_is_decided_while_it_is_unknown_whether_the_rival_lives(
    replica: MakeReplica,
    installation: Installation,
    cluster: SimulatedCluster,
    pods: tuple[str, str],
) -> None:
    old = replica(host=pods[0], **AT_ONCE)
    old.check()
    replica(host=pods[1], IMAGES=BOTH, **AT_ONCE).check()
    written = text(installation)
    cluster.fail(method="GET", path="/pods")
    with pytest.raises(ClusterUnavailableError):
        old.check()
    cluster.fail(method="GET", path="/pods", status=403)
    with pytest.raises(SupersededError):
        old.check()
    assert text(installation) == written


# Any order of starts, restarts and ends

_CONFIGURATIONS = ({"IMAGES": f"app={APP}"}, {"IMAGES": BOTH})

Step = tuple[str, int, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["start", "start", "restart", "end", "work", "work", "race"]),
        st.integers(0, 5),
        st.integers(0, 5),
    ),
    max_size=12,
)


class _Story:
    """Processes of two configurations, which start, restart, work and end."""

    def __init__(self, cluster: SimulatedCluster, folder: Path) -> None:
        self._cluster = cluster
        self._installation = Installation(cluster)
        self._api = connect({"KUBECONFIG": str(kubeconfig(cluster, folder))})
        self._names = (f"pod-{number}" for number in itertools.count())
        self._which: dict[str, int] = {}
        self._living: dict[str, Replica] = {}
        self._seen: str | None = None
        self.starts_and_ends = 0
        self.changes = 0

    def close(self) -> None:
        self._api.rest_client.close()

    def run(self, step: Step) -> None:
        what, which, other = step
        if what == "start":
            name = next(self._names)
            start_pod(self._cluster, name)
            self._which[name] = which % 2
            self._living[name] = self._process(name)
            self.starts_and_ends += 1
        elif self._living:
            name, rival = (list(self._living)[n % len(self._living)] for n in (which, other))
            if what == "restart":
                self._living[name] = self._process(name)
            elif what == "end":
                end_pod(self._cluster, name)
                del self._living[name]
                self.starts_and_ends += 1
            else:
                if what == "race":
                    self._cluster.before("PATCH", lambda: self._work_in_a_race(rival))
                self.work(name)

    def _work_in_a_race(self, name: str) -> None:
        if name in self._living:  # it may have ended since
            self.work(name)

    def work(self, name: str) -> bool:
        """Let a process check the DaemonSet. Return whether it is not superseded."""
        try:
            self._living[name].check()
        except SupersededError:
            return False
        finally:
            self._count()
        return True

    def in_charge(self, order: Sequence[int]) -> bool:
        """Whether the youngest is in charge, after each process has worked in this order."""
        names = list(self._living)
        for number in order:
            self.work(names[number % len(names)])
        for name in names:
            self.work(name)
        changes = self.changes
        for name in reversed(names):
            is_of_youngest = self._which[name] == self._which[names[-1]]
            if self.work(name) != is_of_youngest:
                return False
        return self.changes == changes

    def any_lives(self) -> bool:
        return bool(self._living)

    def _process(self, name: str) -> Replica:
        config = configuration(**AT_ONCE, **_CONFIGURATIONS[self._which[name]])
        return Replica(config, self._api, Time(), host=name)

    def _count(self) -> None:
        live = self._cluster.daemonset(NAME, NAMESPACE)
        found = None if live is None else self._installation.state()["configuration"]
        self.changes += found != self._seen
        self._seen = found


# Where one that remains is left out of the state, the others would take charge one after another.
_FIVE_WORK: list[Step] = [
    *[("start", which, 0) for which in (0, 1, 0, 1, 1)],
    *[("work", which, 0) for which in range(5)],
]


@given(steps, st.lists(st.integers(0, 5), max_size=6))
@example([*_FIVE_WORK, ("end", 4, 0)], [0, 1, 2, 3])
@example([*_FIVE_WORK, ("end", 3, 0)], [0, 1, 2, 3])
@settings(max_examples=100)
def test_the_youngest_process_is_in_charge_and_processes_never_take_turns(
    tmp_path_factory: pytest.TempPathFactory, story: Sequence[Step], order: Sequence[int]
) -> None:
    with SimulatedCluster(nodes=0, namespaces=(NAMESPACE,)) as cluster:
        processes = _Story(cluster, tmp_path_factory.mktemp("story"))
        try:
            for step in story:
                processes.run(step)
            if processes.any_lives():
                assert processes.in_charge(order)
            assert processes.changes <= processes.starts_and_ends
        finally:
            processes.close()
