"""Scrapes: what they show is a moment old at most, and they wait only for a bounded time."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from image_puller import limits
from image_puller.controller.scrape import Scrapes
from image_puller.errors import OverloadedError
from image_puller.simulation import SimulatedCluster
from image_puller.simulation.clock import SimulatedClock
from tests.support.building import NOON, digest
from tests.support.clock import ManualClock
from tests.support.installation import NAMESPACE
from tests.support.waiting import wait_until
from tests.support.web import Web

MakeWeb = Callable[..., Web]
VARIABLES = {"READ_AUTH": "none"}
WARM = 'image_puller_nodes{group="",state="warm"}'
REACHABLE = "image_puller_api_server_reachable"


def scrape(web: Web) -> dict[str, float]:
    """Return the series of a scrape, with their values."""
    response = web.client.get("/metrics")
    assert response.status_code == 200
    lines = (line.rpartition(" ") for line in response.text.splitlines() if line[0] != "#")
    return {name: float(number) for name, _, number in lines}


def reads(cluster: SimulatedCluster) -> int:
    """Return how often pods were listed."""
    return sum(
        each.method == "GET" and each.path.endswith("/pods") and "labelSelector" in each.query
        for each in cluster.requests
    )


@pytest.fixture
def cluster() -> Iterator[SimulatedCluster]:
    """Return a cluster of three nodes, whose time begins with that of the service."""
    clock = SimulatedClock(NOON.timestamp())
    with SimulatedCluster(nodes=3, namespaces=(NAMESPACE,), clock=clock) as cluster:
        yield cluster


def test_a_scrape_observes_the_cluster(web: MakeWeb, cluster: SimulatedCluster) -> None:
    service = web(**VARIABLES)
    cluster.settle()
    found = scrape(service)
    assert (found[WARM], found[REACHABLE]) == (3, 1)
    assert found['image_puller_in_charge{group=""}'] == 1
    assert found['image_puller_last_check_success{group=""}'] == 1
    assert found['image_puller_rollout{group="",state="complete"}'] == 1


def test_scrapes_share_an_observation_of_the_last_moment(
    web: MakeWeb, cluster: SimulatedCluster, clock: ManualClock
) -> None:
    service = web(**VARIABLES)
    cluster.settle()
    scrape(service)
    before = reads(cluster)
    for _ in range(3):
        scrape(service)
    assert reads(cluster) == before
    cluster.kill("node-1")
    clock.advance(limits.OBSERVED_SECONDS)
    assert scrape(service)[WARM] == 2


def test_a_request_for_the_status_makes_the_next_scrape_newer(
    web: MakeWeb, cluster: SimulatedCluster
) -> None:
    service = web(**VARIABLES)
    cluster.settle()
    scrape(service)
    cluster.kill("node-1")
    service.client.get("/status")
    assert scrape(service)[WARM] == 2


@pytest.mark.parametrize("status", [500, 503])
def test_where_the_api_server_fails_the_gauges_are_absent(
    web: MakeWeb, cluster: SimulatedCluster, clock: ManualClock, status: int
) -> None:
    service = web(**VARIABLES)
    cluster.settle()
    assert WARM in scrape(service)
    clock.advance(limits.OBSERVED_SECONDS)
    cluster.fail(status=status, times=100)
    found = scrape(service)
    assert found[REACHABLE] == 0
    assert not [name for name in found if "nodes{" in name or "rollout" in name]
    assert 'image_puller_in_charge{group=""}' in found


def test_where_the_api_server_hangs_a_scrape_waits_for_a_bounded_time(
    web: MakeWeb,
    cluster: SimulatedCluster,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = web(**VARIABLES)
    cluster.settle()
    monkeypatch.setattr(limits, "SCRAPE_SECONDS", 0.05)
    cluster.delay(1, times=100, method="GET", path="/daemonsets")
    clock.advance(limits.OBSERVED_SECONDS)  # the check at start may have observed
    began = time.monotonic()
    found = [scrape(service) for _ in range(3)]
    assert time.monotonic() - began < 1
    assert [each[REACHABLE] for each in found] == [0, 0, 0]
    assert WARM not in found[0]
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("scrape") == 1
    wait_until(lambda: "scrape" not in [thread.name for thread in threading.enumerate()])
    monkeypatch.setattr(limits, "SCRAPE_SECONDS", 10)
    assert scrape(service)[WARM] == 3


def test_an_answer_that_refuses_is_an_answer(
    web: MakeWeb, cluster: SimulatedCluster, clock: ManualClock
) -> None:
    service = web(**VARIABLES)
    clock.advance(limits.OBSERVED_SECONDS)
    cluster.fail(status=403, times=100)
    found = scrape(service)
    assert (found[REACHABLE], WARM in found) == (1, False)


def test_a_defect_is_logged_and_the_rest_is_shown(
    web: MakeWeb, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = web(**VARIABLES)

    def fail(*_: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr("image_puller.core.counts.of", fail)
    assert WARM not in scrape(service)
    assert "a group could not be observed for a scrape" in caplog.text


def test_too_many_scrapes_at_once_are_refused(
    web: MakeWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SCRAPES", 0)
    service = web(**VARIABLES)
    assert service.client.get("/metrics").status_code == 503
    monkeypatch.setattr(limits, "SCRAPES", 1)
    scrapes = Scrapes((), service.service.metrics)
    reason = 'connections_refused_total{reason="too_many_scrapes"} 1.0'
    assert reason in scrapes.text().decode()
    with scrapes._places.take(), pytest.raises(OverloadedError):
        scrapes.text()


def test_a_scrape_sees_that_a_push_is_on_all_nodes(
    web: MakeWeb, cluster: SimulatedCluster, clock: ManualClock
) -> None:
    service = web(ROLLOUT_MIN_INTERVAL_SECONDS="0", **VARIABLES)
    service.secret("harbor", "secret")
    cluster.settle()
    scrape(service)
    seconds = 20.0
    clock.advance(seconds)
    wait_until(lambda: clock.sleepers() == 1)  # until the rollout is checked
    cluster.advance(seconds)
    resource = {"digest": digest(1), "tag": "1.2.4", "resource_url": "quay.io/org/app:1.2.4"}
    event = {"resources": [resource], "repository": {"repo_full_name": "org/app"}}
    headers = {"Authorization": "secret"}
    body = {
        "type": "PUSH_ARTIFACT",
        "occur_at": int(NOON.timestamp() + seconds),
        "event_data": event,
    }
    assert service.client.post("/webhooks/harbor", json=body, headers=headers).status_code == 202
    cluster.advance(30)
    clock.advance(30)
    found = scrape(service)
    series = 'image_puller_push_to_nodes_seconds_{}{{entry="app",group=""}}'
    assert found[series.format("count")] == 1
    assert 2 <= found[series.format("sum")] <= 10
    assert found['image_puller_last_push_timestamp_seconds{source="harbor"}'] > NOON.timestamp()
    start = found['image_puller_rollout_start_timestamp_seconds{group=""}']
    assert start == NOON.timestamp() + seconds
