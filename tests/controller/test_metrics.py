"""What is counted, in the text format of Prometheus."""

from image_puller.controller.metrics import Metrics
from image_puller.core.decide import Outcome


def lines(metrics: Metrics) -> list[str]:
    return metrics.text().decode().splitlines()


def test_events_are_counted_by_source_and_outcome() -> None:
    metrics = Metrics()
    metrics.count_event("quay", Outcome.TRACKED)
    metrics.count_event("quay", Outcome.TRACKED)
    metrics.count_event("harbor", "pull")
    assert 'image_puller_events_total{outcome="tracked",source="quay"} 2.0' in lines(metrics)
    assert 'image_puller_events_total{outcome="pull",source="harbor"} 1.0' in lines(metrics)


def test_refused_requests_are_counted_by_source_and_status() -> None:
    metrics = Metrics()
    metrics.count_rejection("quay", 401)
    counted = 'image_puller_requests_rejected_total{source="quay",status="401"} 1.0'
    assert counted in lines(metrics)


def test_malformed_entries_are_told() -> None:
    metrics = Metrics()
    assert "image_puller_malformed_entries 0.0" in lines(metrics)
    metrics.malformed_entries.set(2)
    assert "image_puller_malformed_entries 2.0" in lines(metrics)


def test_two_services_of_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.count_event("quay", "pull")
    assert not any("quay" in line for line in lines(other))
