"""The writer: it commits the changes of many senders together, and loses none."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from kubernetes.client import ApiClient

from image_puller import limits
from image_puller.cluster.client import KubernetesCluster
from image_puller.cluster.reconcile import Reconciler
from image_puller.controller.clock import Clock
from image_puller.controller.metrics import Metrics
from image_puller.controller.writer import Writer
from image_puller.core.changes import CheckDaemonSet
from image_puller.core.decide import Outcome
from image_puller.errors import ClusterUnavailableError, SupersededError
from image_puller.simulation import SimulatedCluster
from tests.support.building import configuration, push
from tests.support.clock import ManualClock
from tests.support.daemonset import APP, AT_ONCE, NEWER, NEWEST, READ_STATE
from tests.support.installation import NAME, NAMESPACE, Gate, Installation
from tests.support.waiting import TIMEOUT_SECONDS, wait_until

SHORT_SECONDS = 0.02

MakeWriter = Callable[..., Writer]


@pytest.fixture
def writer(api: ApiClient) -> Iterator[MakeWriter]:
    """Return started writers, each configured by these variables, after their first check."""
    started = []

    def start(*, most_waiting: int = 100, clock: Clock | None = None, **variables: str) -> Writer:
        config = configuration(**variables)
        clock = clock or Clock()
        reconciler = Reconciler(config, KubernetesCluster(api, config), now=clock.now)
        writer = Writer(reconciler, Metrics(), clock, most_waiting=most_waiting)
        writer.start()
        started.append(writer)
        writer.commit("test", [CheckDaemonSet()], timeout=TIMEOUT_SECONDS)
        return writer

    yield start
    for writer in started:
        writer.stop()


@pytest.fixture
def senders() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def submit(writer: Writer, number: int, *, timeout: float = TIMEOUT_SECONDS) -> Outcome:
    """Commit a push of the tag `1.2.<number>`."""
    (outcome,) = writer.commit("test", [push(f"1.2.{number}", number)], timeout=timeout)
    return outcome


def test_a_single_sender_costs_one_write_per_push(
    writer: MakeWriter, installation: Installation
) -> None:
    puller = writer(**AT_ONCE)
    installation.sent()
    for number in range(4, 14):
        assert submit(puller, number) is Outcome.TRACKED
    assert (
        installation.sent()
        == ["POST pods dry run", "PATCH daemonsets"] * 2 + ["PATCH daemonsets"] * 8
    )


def test_pushes_that_arrive_during_a_write_are_written_together(
    writer: MakeWriter,
    installation: Installation,
    cluster: SimulatedCluster,
    senders: ThreadPoolExecutor,
) -> None:
    puller = writer(KEEP_TAGS="20", **AT_ONCE)
    installation.sent()
    with Gate(cluster, "PATCH") as gate:
        first = senders.submit(submit, puller, 4)
        assert gate.reached.wait(TIMEOUT_SECONDS)
        others = [senders.submit(submit, puller, number) for number in range(5, 20)]
        wait_until(lambda: len(puller._waiting) == 15)
    assert [sender.result() for sender in (first, *others)] == [Outcome.TRACKED] * 16
    assert installation.written() == ["PATCH daemonsets"] * 2
    assert len(installation.images()) == 17


def test_many_senders_cost_about_two_writes_per_round(
    writer: MakeWriter,
    installation: Installation,
    cluster: SimulatedCluster,
    senders: ThreadPoolExecutor,
) -> None:
    connections, pushes = 16, 160
    puller = writer(**AT_ONCE)
    installation.sent()
    # During a write that takes so long, all senders send again, slow ones too.
    cluster.delay(0.1, method="PATCH", times=pushes)
    queue = iter(range(4, 4 + pushes))

    def send(_connection: int) -> list[Outcome]:
        return [submit(puller, number) for number in queue]

    outcomes = [each for sender in senders.map(send, range(connections)) for each in sender]
    assert len(outcomes) == pushes
    assert set(outcomes) <= {Outcome.TRACKED, Outcome.NOT_NEWEST}
    assert len(installation.written()) <= 2 * pushes / connections + 10
    assert installation.images() == ["quay.io/org/app:1.2.162", "quay.io/org/app:1.2.163", APP]


def test_each_sender_of_a_batch_gets_its_own_outcomes(
    writer: MakeWriter, cluster: SimulatedCluster, senders: ThreadPoolExecutor
) -> None:
    puller = writer(**AT_ONCE)
    with Gate(cluster, "PATCH") as gate:
        senders.submit(submit, puller, 4)
        assert gate.reached.wait(TIMEOUT_SECONDS)
        both = senders.submit(
            puller.commit, "test", [CheckDaemonSet(), push("1.2.5", 5)], timeout=TIMEOUT_SECONDS
        )
        wait_until(lambda: len(puller._waiting) == 1)
        known = senders.submit(submit, puller, 4)
        wait_until(lambda: len(puller._waiting) == 2)
    assert both.result() == (Outcome.CHECKED, Outcome.TRACKED)
    assert known.result() is Outcome.UNCHANGED


def test_a_sender_that_timed_out_finds_its_push_committed(
    writer: MakeWriter, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = writer(**AT_ONCE)
    with (
        Gate(cluster, "PATCH"),
        pytest.raises(ClusterUnavailableError, match=r"did not take the change within 0.02 s"),
    ):
        submit(puller, 4, timeout=SHORT_SECONDS)
    wait_until(lambda: installation.images() == [APP, NEWER])
    assert submit(puller, 4) is Outcome.UNCHANGED


def test_all_waiting_senders_learn_of_an_unavailable_api_server(
    writer: MakeWriter,
    installation: Installation,
    cluster: SimulatedCluster,
    senders: ThreadPoolExecutor,
) -> None:
    puller = writer(**AT_ONCE)
    with Gate(cluster, "PATCH") as gate:
        senders.submit(submit, puller, 4)
        assert gate.reached.wait(TIMEOUT_SECONDS)
        waiting = [senders.submit(submit, puller, number) for number in (5, 6)]
        wait_until(lambda: len(puller._waiting) == 2)
        cluster.fail(method="PATCH")
    for sender in waiting:
        with pytest.raises(ClusterUnavailableError):
            sender.result()
    assert submit(puller, 5) is Outcome.TRACKED
    assert installation.images() == [APP, NEWER, NEWEST]


def test_an_unexpected_error_fails_its_batch_but_not_the_writer(
    writer: MakeWriter, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    puller = writer(**AT_ONCE)
    with pytest.raises(StopIteration):
        puller.commit("test", [push("1.2.4", 4, entry="unknown")], timeout=TIMEOUT_SECONDS)
    assert "nothing was changed" in caplog.text
    assert submit(puller, 4) is Outcome.TRACKED
    assert installation.images() == [APP, NEWER]


def test_requests_beyond_the_bound_are_rejected(
    writer: MakeWriter,
    cluster: SimulatedCluster,
    senders: ThreadPoolExecutor,
) -> None:
    puller = writer(most_waiting=1, **AT_ONCE)
    with Gate(cluster, "PATCH") as gate:
        senders.submit(submit, puller, 4)
        assert gate.reached.wait(TIMEOUT_SECONDS)
        second = senders.submit(submit, puller, 5)
        wait_until(lambda: len(puller._waiting) == 1)
        with pytest.raises(ClusterUnavailableError, match="1 requests already wait"):
            submit(puller, 6)
    assert second.result() is Outcome.TRACKED


def counted(writer: Writer, name: str) -> float:
    """Return a metric of the writer."""
    prefix = f'image_puller_{name}{{group=""}} '
    lines = writer._metrics.text().decode().splitlines()
    (found,) = (line.removeprefix(prefix) for line in lines if line.startswith(prefix))
    return float(found)


def test_commits_and_the_pushes_that_share_one_are_counted(
    writer: MakeWriter, cluster: SimulatedCluster, senders: ThreadPoolExecutor
) -> None:
    puller = writer(KEEP_TAGS="20", **AT_ONCE)
    assert (counted(puller, "writes_total"), counted(puller, "conflicts_total")) == (1, 0)
    with Gate(cluster, "PATCH") as gate:
        first = senders.submit(submit, puller, 4)
        assert gate.reached.wait(TIMEOUT_SECONDS)
        others = [senders.submit(submit, puller, number) for number in range(5, 8)]
        wait_until(lambda: len(puller._waiting) == 3)
    assert [sender.result() for sender in (first, *others)] == [Outcome.TRACKED] * 4
    assert counted(puller, "writes_total") == 3
    assert counted(puller, "commit_seconds_count") == 3
    assert counted(puller, "coalesced_pushes_total") == 2


def test_lost_races_are_counted(writer: MakeWriter, installation: Installation) -> None:
    one, other = writer(**AT_ONCE), writer(**AT_ONCE)
    submit(one, 4)
    before = counted(other, "conflicts_total")
    submit(one, 5)
    submit(other, 6)
    assert counted(other, "conflicts_total") == before + 1
    assert len(installation.images()) == 3


def test_the_time_of_a_commit_is_that_of_the_writer(
    writer: MakeWriter, cluster: SimulatedCluster, clock: ManualClock
) -> None:
    puller = writer(clock=clock, **AT_ONCE)
    before = counted(puller, "commit_seconds_sum")
    cluster.before("PATCH", lambda: clock.advance(3))
    submit(puller, 4)
    assert counted(puller, "commit_seconds_sum") == before + 3


def test_a_commit_that_fails_has_no_time(writer: MakeWriter, cluster: SimulatedCluster) -> None:
    puller = writer(**AT_ONCE)
    cluster.fail(times=100)
    with pytest.raises(ClusterUnavailableError):
        submit(puller, 4)
    assert counted(puller, "commit_seconds_count") == 1


# Without senders


def test_a_pending_template_is_applied_when_it_is_due(
    writer: MakeWriter, installation: Installation, clock: ManualClock
) -> None:
    puller = writer(clock=clock, ROLLOUT_MIN_INTERVAL_SECONDS="10")
    submit(puller, 4)
    submit(puller, 5)
    wait_until(lambda: clock.sleepers() == 1)
    clock.advance(9)
    assert installation.images() == [APP]
    clock.advance(1)
    wait_until(lambda: installation.images() == [APP, NEWER, NEWEST])
    assert installation.live()["metadata"]["generation"] == 2


def test_a_failed_write_is_tried_again_without_senders(
    writer: MakeWriter,
    installation: Installation,
    cluster: SimulatedCluster,
    clock: ManualClock,
) -> None:
    puller = writer(clock=clock, ROLLOUT_MIN_INTERVAL_SECONDS="10")
    submit(puller, 4)
    cluster.fail(method="PATCH", times=3)
    wait_until(lambda: clock.sleepers() == 1)
    clock.advance(10)
    for _ in range(3):
        wait_until(lambda: clock.sleepers() == 1)
        assert installation.images() == [APP]
        clock.advance(limits.RETRY_SECONDS)
    wait_until(lambda: installation.images() == [APP, NEWER])


def test_a_failed_start_is_tried_again_without_senders(
    writer: MakeWriter,
    installation: Installation,
    cluster: SimulatedCluster,
    clock: ManualClock,
) -> None:
    cluster.fail(times=5)
    with pytest.raises(ClusterUnavailableError):
        writer(clock=clock)

    def exists_after_retry() -> bool:
        clock.advance(limits.RETRY_SECONDS)
        return cluster.daemonset(NAME, NAMESPACE) is not None

    wait_until(exists_after_retry)
    assert installation.images() == [APP]


def test_a_superseded_writer_asks_again_now_and_then_and_writes_nothing(
    writer: MakeWriter,
    installation: Installation,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = writer(clock=clock, **AT_ONCE)
    writer(KEEP_TAGS="3", **AT_ONCE)
    with pytest.raises(SupersededError):
        submit(old, 4)
    before = installation.live()
    installation.sent()
    for _ in range(3):
        wait_until(lambda: clock.sleepers() == 1)
        clock.advance(limits.RETURN_SECONDS - 1)
        assert installation.sent() == []
        clock.advance(1)
        wait_until(lambda: installation.sent() == [READ_STATE])
    assert [each.message for each in caplog.records if each.levelname == "ERROR"] == [
        f"nothing was changed: {old.superseded}"
    ]
    old.stop()
    assert installation.live() == before


# Stopping


def test_stop_applies_a_pending_template_and_keeps_the_daemonset(
    writer: MakeWriter, installation: Installation
) -> None:
    puller = writer(ROLLOUT_MIN_INTERVAL_SECONDS="3600")
    assert submit(puller, 4) is Outcome.TRACKED
    assert installation.images() == [APP]
    puller.stop()
    assert installation.images() == [APP, NEWER]


def test_stop_commits_waiting_requests(
    writer: MakeWriter,
    installation: Installation,
    cluster: SimulatedCluster,
    senders: ThreadPoolExecutor,
) -> None:
    puller = writer(**AT_ONCE)
    with Gate(cluster, "PATCH") as gate:
        first = senders.submit(submit, puller, 4)
        assert gate.reached.wait(TIMEOUT_SECONDS)
        second = senders.submit(submit, puller, 5)
        wait_until(lambda: len(puller._waiting) == 1)
        end = senders.submit(puller.stop)
        wait_until(lambda: puller._stopping)
    end.result()
    assert (first.result(), second.result()) == (Outcome.TRACKED, Outcome.TRACKED)
    assert installation.images() == [APP, NEWER, NEWEST]


def test_requests_after_stop_are_rejected(writer: MakeWriter) -> None:
    puller = writer()
    puller.stop()
    with pytest.raises(ClusterUnavailableError, match="stopping"):
        submit(puller, 4)


def test_stop_ends_when_the_api_server_is_unavailable(
    writer: MakeWriter, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = writer(ROLLOUT_MIN_INTERVAL_SECONDS="3600")
    submit(puller, 4)
    cluster.fail(times=100)
    puller.stop()
    assert not any(thread is puller._thread for thread in threading.enumerate())
    assert installation.images() == [APP]


def test_two_writers_lose_no_push_of_many_senders(
    writer: MakeWriter, installation: Installation, senders: ThreadPoolExecutor
) -> None:
    names = [f"app{number}" for number in range(8)]
    images = ";".join(f"{name}=quay.io/org/{name}:1.0.0" for name in names)
    pullers = [writer(IMAGES=images, KEEP_TAGS="1", **AT_ONCE) for _ in range(2)]
    queue = iter([push(f"1.0.{n}", n, entry=name) for n in range(1, 9) for name in names])

    def send(connection: int) -> None:
        for pushed in queue:
            while True:
                try:
                    pullers[connection % 2].commit("test", [pushed], timeout=TIMEOUT_SECONDS)
                    break
                except ClusterUnavailableError:
                    pass

    list(senders.map(send, range(8)))
    tracked = [f"quay.io/org/{name}:1.0.{n}" for name in names for n in (0, 8)]
    assert installation.images() == tracked
