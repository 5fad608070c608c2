"""The metrics, in the text format of Prometheus: each moves when the thing happens."""

import time
from dataclasses import replace
from typing import Any

import pytest

from image_puller import __version__
from image_puller.controller.metrics import Metrics
from image_puller.core import counts
from image_puller.core.counts import Counts, Node, Role, Tags
from image_puller.core.decide import Outcome
from image_puller.core.node_state import ImageState
from image_puller.core.progress import OnAllNodes
from tests.support.building import NOON, configuration
from tests.support.daemonset import APP
from tests.support.observations import observed
from tests.support.states import live

OBSERVED = Counts(
    group="gpu",
    nodes={Node.WARM: 2, Node.NOT_READY: 1},
    images={("app", Role.TRACKED): {ImageState.HELD: 2, ImageState.ON_NODE: 1}},
    tags={"app": Tags(refused=1, quarantined=2, unverified=3)},
    rollout="in progress",
    changed=NOON,
)


def lines(metrics: Metrics) -> list[str]:
    return metrics.text().decode().splitlines()


def value(metrics: Metrics, series: str, *observed: Counts) -> float | None:
    """Return the value of a series, or None where there is no such series."""
    for line in metrics.text(observed).decode().splitlines():
        name, _, number = line.rpartition(" ")
        if name == f"image_puller_{series}":
            return float(number)
    return None


def test_events_are_counted_by_source_and_outcome() -> None:
    metrics = Metrics()
    metrics.count_event("quay", Outcome.TRACKED)
    metrics.count_event("quay", Outcome.TRACKED)
    metrics.count_event("harbor", "pull")
    assert value(metrics, 'events_total{outcome="tracked",source="quay"}') == 2
    assert value(metrics, 'events_total{outcome="pull",source="harbor"}') == 1


@pytest.mark.parametrize(
    ("reason", "label"),
    [
        ("unknown repository", "unknown_repository"),
        ("policy: not newer", "policy_not_newer"),
        ("pull", "pull"),
    ],
)
def test_an_outcome_is_in_snake_case(reason: str, label: str) -> None:
    metrics = Metrics()
    metrics.count_event("quay", reason)
    assert value(metrics, f'events_total{{outcome="{label}",source="quay"}}') == 1


def test_rejected_requests_are_counted_by_source_and_status() -> None:
    metrics = Metrics()
    metrics.count_rejection("quay", 401)
    assert value(metrics, 'requests_rejected_total{source="quay",status="401"}') == 1


def test_refused_connections_are_counted_by_reason() -> None:
    metrics = Metrics()
    metrics.count_refusal("too many connections")
    assert value(metrics, 'connections_refused_total{reason="too_many_connections"}') == 1


def test_malformed_entries_are_a_gauge() -> None:
    metrics = Metrics()
    assert value(metrics, "malformed_entries") == 0
    metrics.malformed_entries.set(2)
    assert value(metrics, "malformed_entries") == 2


def test_the_version_is_a_label() -> None:
    assert value(Metrics(), f'build_info{{version="{__version__}"}}') == 1


def test_the_last_push_of_a_source_has_its_time() -> None:
    metrics = Metrics()
    metrics.note_push("quay", NOON)
    series = 'last_push_timestamp_seconds{source="quay"}'
    assert value(metrics, series) == NOON.timestamp()


def test_a_commit_has_its_time_and_the_pushes_that_shared_it() -> None:
    metrics = Metrics()
    metrics.note_commit(None, 0.2, pushes=3)
    metrics.note_commit(None, 0.2, pushes=0)
    assert value(metrics, 'commit_seconds_count{group=""}') == 2
    assert value(metrics, 'commit_seconds_sum{group=""}') == pytest.approx(0.4)
    assert value(metrics, 'coalesced_pushes_total{group=""}') == 2


def test_writes_and_conflicts_are_counted() -> None:
    metrics = Metrics()
    metrics.count_writes("gpu", 2, 1)
    assert value(metrics, 'writes_total{group="gpu"}') == 2
    assert value(metrics, 'conflicts_total{group="gpu"}') == 1


@pytest.mark.parametrize("is_yes", [True, False])
def test_what_is_true_or_false_is_1_or_0(is_yes: bool) -> None:
    metrics = Metrics()
    metrics.note_check(None, NOON, is_finished=is_yes)
    metrics.note_registry("quay.io", is_reachable=is_yes)
    metrics.set_in_charge("gpu", is_in_charge=is_yes)
    assert value(metrics, 'last_check_timestamp_seconds{group=""}') == NOON.timestamp()
    assert value(metrics, 'last_check_success{group=""}') == is_yes
    assert value(metrics, 'registry_reachable{registry="quay.io"}') == is_yes
    assert value(metrics, 'in_charge{group="gpu"}') == is_yes
    reachable = f"image_puller_api_server_reachable {float(is_yes)}"
    assert reachable in metrics.text(is_reachable=is_yes).decode()


def test_the_time_of_a_push_to_all_nodes_is_noted_once() -> None:
    metrics = Metrics()
    known: dict[str, Any] = {
        "key": "key",
        "group": None,
        "entry": "app",
        "image": APP,
        "digest": None,
        "nodes": 3,
        "seconds": 7.5,
    }
    metrics.note_progress(OnAllNodes(**known, is_since_push=True))
    metrics.note_progress(OnAllNodes(**known, is_since_push=True, is_repeated=True))
    metrics.note_progress(OnAllNodes(**known, is_since_push=False))
    assert value(metrics, 'push_to_nodes_seconds_count{entry="app",group=""}') == 1
    assert value(metrics, 'push_to_nodes_seconds_bucket{entry="app",group="",le="10.0"}') == 1
    assert value(metrics, 'push_to_nodes_seconds_bucket{entry="app",group="",le="5.0"}') == 0


def test_the_time_of_a_pull_is_noted() -> None:
    metrics = Metrics()
    metrics.note_pull("gpu", "app", 3.5)
    assert value(metrics, 'pull_seconds_sum{entry="app",group="gpu"}') == 3.5


@pytest.mark.parametrize(
    ("series", "number"),
    [
        ('nodes{group="gpu",state="warm"}', 2),
        ('nodes{group="gpu",state="not_ready"}', 1),
        ('nodes{group="gpu",state="no_pod"}', 0),
        ('image_nodes{entry="app",group="gpu",role="tracked",state="held"}', 2),
        ('image_nodes{entry="app",group="gpu",role="tracked",state="on_node"}', 1),
        ('image_nodes{entry="app",group="gpu",role="tracked",state="failing"}', 0),
        ('rollout{group="gpu",state="in_progress"}', 1),
        ('rollout{group="gpu",state="complete"}', 0),
        ('rollout_start_timestamp_seconds{group="gpu"}', NOON.timestamp()),
        ('refused_tags{entry="app",group="gpu"}', 1),
        ('quarantined_tags{entry="app",group="gpu"}', 2),
        ('unverified_pushes{entry="app",group="gpu"}', 3),
    ],
)
def test_an_observation_sets_gauges_and_without_one_they_are_absent(
    series: str, number: float
) -> None:
    metrics = Metrics()
    assert value(metrics, series, OBSERVED) == number
    assert value(metrics, series) is None


def test_a_rollout_that_has_not_begun_has_no_start() -> None:
    series = 'rollout_start_timestamp_seconds{group="gpu"}'
    assert value(Metrics(), series, replace(OBSERVED, changed=None)) is None


def test_no_series_has_the_time_at_which_a_counter_began() -> None:
    metrics = Metrics()
    metrics.count_event("quay", "pull")
    metrics.note_commit(None, 0.2, pushes=1)
    assert "_created" not in metrics.text().decode()


def test_two_services_in_one_process_count_separately() -> None:
    one, other = Metrics(), Metrics()
    one.count_event("quay", "pull")
    assert not any("quay" in line for line in lines(other))


def test_a_scrape_of_a_large_cluster_is_small_and_fast() -> None:
    images = ";".join(f"image-{number}=quay.io/org/image-{number}:1.2.3" for number in range(50))
    config = configuration(IMAGES=images)
    nodes = [f"node-{number}" for number in range(1000)]
    seen = observed(config, live(config), nodes)
    metrics, began = Metrics(), time.process_time()
    found = [(str(number), counts.of(seen)) for number in range(3)]
    groups = [replace(each, group=group) for group, each in found if each is not None]
    text = metrics.text(groups).decode()
    assert text.count("image_puller_image_nodes{") == 3 * 50 * 6
    assert time.process_time() - began < 2
    assert "node-1" not in text
    assert len(text) < 200_000
