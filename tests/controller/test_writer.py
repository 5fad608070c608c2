"""One writer for many senders: what arrives together goes out together, and nothing gets lost."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from kubernetes.client import ApiClient

from image_puller import limits
from image_puller.cluster.client import KubernetesCluster
from image_puller.cluster.reconcile import Reconciler
from image_puller.controller.writer import Writer
from image_puller.core.changes import Refresh
from image_puller.core.decide import Outcome
from image_puller.errors import ClusterUnavailableError, SupersededError
from image_puller.simulation import SimulatedCluster
from tests.conftest import NAME, NAMESPACE, PATIENCE_SECONDS, Gate, Installation, wait_until
from tests.support.building import configuration, push

AT_ONCE = {"ROLLOUT_MIN_INTERVAL_SECONDS": "0"}
APP = "quay.io/org/app:1.2.3"
NEWER = "quay.io/org/app:1.2.4"
NEWEST = "quay.io/org/app:1.2.5"
SHORT_SECONDS = 0.02

MakeWriter = Callable[..., Writer]


@pytest.fixture
def writer(api: ApiClient) -> Iterator[MakeWriter]:
    """Starts writers, each configured by these variables, that have looked at everything once."""
    started = []

    def start(*, looked: bool = True, **variables: str) -> Writer:
        config = configuration(**variables)
        writer = Writer(Reconciler(config, KubernetesCluster(api, config)))
        writer.start()
        started.append(writer)
        if looked:
            writer.submit([Refresh()], patience=PATIENCE_SECONDS)
        return writer

    yield start
    for writer in started:
        writer.stop()


@pytest.fixture
def senders() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def submit(writer: Writer, number: int, *, patience: float = PATIENCE_SECONDS) -> Outcome:
    (outcome,) = writer.submit([push(f"1.2.{number}", number)], patience=patience)
    return outcome


def test_a_serial_sender_costs_a_write_a_push(
    writer: MakeWriter, installation: Installation
) -> None:
    puller = writer(**AT_ONCE)
    installation.sent()
    for number in range(4, 14):
        assert submit(puller, number) is Outcome.FOLLOWED
    assert installation.sent() == ["PATCH daemonsets"] * 10


def test_what_arrives_while_a_write_is_in_flight_goes_out_together(
    writer: MakeWriter,
    installation: Installation,
    cluster: SimulatedCluster,
    senders: ThreadPoolExecutor,
) -> None:
    puller = writer(KEEP_TAGS="20", **AT_ONCE)
    installation.sent()
    with Gate(cluster, "PATCH") as gate:
        first = senders.submit(submit, puller, 4)
        assert gate.reached.wait(PATIENCE_SECONDS)
        others = [senders.submit(submit, puller, number) for number in range(5, 20)]
        wait_until(lambda: len(puller._waiting) == 15)
    assert [sender.result() for sender in (first, *others)] == [Outcome.FOLLOWED] * 16
    assert installation.sent() == ["PATCH daemonsets"] * 2
    assert len(installation.images()) == 17


def test_many_senders_cost_about_two_writes_for_a_push_of_each(
    writer: MakeWriter,
    installation: Installation,
    cluster: SimulatedCluster,
    senders: ThreadPoolExecutor,
) -> None:
    connections, pushes = 16, 160
    puller = writer(**AT_ONCE)
    installation.sent()
    cluster.delay(0.1, method="PATCH", times=pushes)  # senders come back meanwhile, slow ones too
    queue = iter(range(4, 4 + pushes))

    def send(_connection: int) -> list[Outcome]:
        return [submit(puller, number) for number in queue]

    outcomes = [each for sender in senders.map(send, range(connections)) for each in sender]
    assert len(outcomes) == pushes
    assert set(outcomes) <= {Outcome.FOLLOWED, Outcome.SURPASSED}
    assert len(installation.written()) <= 2 * pushes / connections + 10
    assert installation.images() == [APP, "quay.io/org/app:1.2.162", "quay.io/org/app:1.2.163"]


def test_the_outcomes_of_a_batch_go_to_their_own_senders(
    writer: MakeWriter, cluster: SimulatedCluster, senders: ThreadPoolExecutor
) -> None:
    puller = writer(**AT_ONCE)
    with Gate(cluster, "PATCH") as gate:
        senders.submit(submit, puller, 4)
        assert gate.reached.wait(PATIENCE_SECONDS)
        both = senders.submit(
            puller.submit, [Refresh(), push("1.2.5", 5)], patience=PATIENCE_SECONDS
        )
        wait_until(lambda: len(puller._waiting) == 1)
        known = senders.submit(submit, puller, 4)
        wait_until(lambda: len(puller._waiting) == 2)
    assert both.result() == (Outcome.CHECKED, Outcome.FOLLOWED)
    assert known.result() is Outcome.UNCHANGED


def test_who_has_no_patience_comes_again_and_finds_it_done(
    writer: MakeWriter, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = writer(**AT_ONCE)
    with (
        Gate(cluster, "PATCH"),
        pytest.raises(ClusterUnavailableError, match=r"did not take the change within 0.02 s"),
    ):
        submit(puller, 4, patience=SHORT_SECONDS)
    wait_until(lambda: installation.images() == [APP, NEWER])
    assert submit(puller, 4) is Outcome.UNCHANGED


def test_an_api_server_in_trouble_is_told_to_all_who_wait(
    writer: MakeWriter,
    installation: Installation,
    cluster: SimulatedCluster,
    senders: ThreadPoolExecutor,
) -> None:
    puller = writer(**AT_ONCE)
    with Gate(cluster, "PATCH") as gate:
        senders.submit(submit, puller, 4)
        assert gate.reached.wait(PATIENCE_SECONDS)
        waiting = [senders.submit(submit, puller, number) for number in (5, 6)]
        wait_until(lambda: len(puller._waiting) == 2)
        cluster.fail(method="PATCH")
    for sender in waiting:
        with pytest.raises(ClusterUnavailableError):
            sender.result()
    assert submit(puller, 5) is Outcome.FOLLOWED
    assert installation.images() == [APP, NEWER, NEWEST]


def test_a_fault_of_ours_fails_its_batch_and_not_the_writer(
    writer: MakeWriter, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    puller = writer(**AT_ONCE)
    with pytest.raises(StopIteration):
        puller.submit([push("1.2.4", 4, entry="nobody")], patience=PATIENCE_SECONDS)
    assert "nothing was changed" in caplog.text
    assert submit(puller, 4) is Outcome.FOLLOWED
    assert installation.images() == [APP, NEWER]


def test_too_many_who_wait_are_told_to_come_again(
    writer: MakeWriter,
    cluster: SimulatedCluster,
    senders: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "WAITING_EVENTS", 1)
    puller = writer(**AT_ONCE)
    with Gate(cluster, "PATCH") as gate:
        senders.submit(submit, puller, 4)
        assert gate.reached.wait(PATIENCE_SECONDS)
        second = senders.submit(submit, puller, 5)
        wait_until(lambda: len(puller._waiting) == 1)
        with pytest.raises(ClusterUnavailableError, match="too much to do"):
            submit(puller, 6)
    assert second.result() is Outcome.FOLLOWED


# Without senders


def test_what_is_pending_is_applied_when_it_is_due(
    writer: MakeWriter, installation: Installation
) -> None:
    puller = writer(ROLLOUT_MIN_INTERVAL_SECONDS="0.1")
    submit(puller, 4)
    submit(puller, 5)
    wait_until(lambda: installation.images() == [APP, NEWER, NEWEST])
    assert installation.live()["metadata"]["generation"] <= 3


def test_what_failed_is_tried_again_without_senders(
    writer: MakeWriter,
    installation: Installation,
    cluster: SimulatedCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "RETRY_SECONDS", SHORT_SECONDS)
    puller = writer(ROLLOUT_MIN_INTERVAL_SECONDS="0.05")
    submit(puller, 4)
    cluster.fail(method="PATCH", times=3)
    cluster.fail(method="GET", times=2)
    wait_until(lambda: installation.images() == [APP, NEWER])


def test_a_start_that_failed_is_tried_again_without_senders(
    writer: MakeWriter,
    installation: Installation,
    cluster: SimulatedCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "RETRY_SECONDS", SHORT_SECONDS)
    cluster.fail(times=5)
    with pytest.raises(ClusterUnavailableError):
        writer()
    wait_until(lambda: cluster.daemonset(NAME, NAMESPACE) is not None)
    assert installation.images() == [APP]


def test_a_writer_that_others_took_over_from_does_not_go_on_trying(
    writer: MakeWriter, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RETRY_SECONDS", 0.001)
    old = writer(**AT_ONCE)
    writer(KEEP_TAGS="3", **AT_ONCE)
    with pytest.raises(SupersededError):
        submit(old, 4)
    before = installation.live()
    installation.sent()
    time.sleep(SHORT_SECONDS)
    assert installation.sent() == []
    old.stop()
    assert installation.live() == before


# The end


def test_stop_applies_what_is_pending_and_leaves_the_daemonset(
    writer: MakeWriter, installation: Installation
) -> None:
    puller = writer(ROLLOUT_MIN_INTERVAL_SECONDS="3600")
    assert submit(puller, 4) is Outcome.FOLLOWED
    assert installation.images() == [APP]
    puller.stop()
    assert installation.images() == [APP, NEWER]


def test_stop_commits_what_waits(
    writer: MakeWriter,
    installation: Installation,
    cluster: SimulatedCluster,
    senders: ThreadPoolExecutor,
) -> None:
    puller = writer(**AT_ONCE)
    with Gate(cluster, "PATCH") as gate:
        first = senders.submit(submit, puller, 4)
        assert gate.reached.wait(PATIENCE_SECONDS)
        second = senders.submit(submit, puller, 5)
        wait_until(lambda: len(puller._waiting) == 1)
        end = senders.submit(puller.stop)
        wait_until(lambda: puller._stopping)
    end.result()
    assert (first.result(), second.result()) == (Outcome.FOLLOWED, Outcome.FOLLOWED)
    assert installation.images() == [APP, NEWER, NEWEST]


def test_after_stop_senders_are_told_to_come_again(writer: MakeWriter) -> None:
    puller = writer()
    puller.stop()
    with pytest.raises(ClusterUnavailableError, match="stopping"):
        submit(puller, 4)


def test_stop_comes_to_an_end_when_the_api_server_is_away(
    writer: MakeWriter, installation: Installation, cluster: SimulatedCluster
) -> None:
    puller = writer(ROLLOUT_MIN_INTERVAL_SECONDS="3600")
    submit(puller, 4)
    cluster.fail(times=100)
    puller.stop()
    assert not any(thread is puller._thread for thread in threading.enumerate())
    assert installation.images() == [APP]


def test_two_writers_lose_nothing_of_what_many_senders_push(
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
                    pullers[connection % 2].submit([pushed], patience=PATIENCE_SECONDS)
                    break
                except ClusterUnavailableError:
                    pass

    list(senders.map(send, range(8)))
    followed = [f"quay.io/org/{name}:1.0.{n}" for name in names for n in (0, 8)]
    assert installation.images() == followed
