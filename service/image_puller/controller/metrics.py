"""The metrics, for Prometheus. No label holds a name from a payload."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from image_puller.core.problems import Kind


class Metrics:
    """The metrics of one process, in a Prometheus registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._events = Counter(
            "image_puller_events",
            "Events, by source and outcome.",
            ["source", "outcome"],
            registry=self._registry,
        )
        self._rejections = Counter(
            "image_puller_requests_rejected",
            "Requests that were answered 4xx or 503, by source and status.",
            ["source", "status"],
            registry=self._registry,
        )
        self.malformed_entries = Gauge(
            "image_puller_malformed_entries",
            "Malformed entries of IMAGES or IMAGE_TAG_POLICIES, which are ignored.",
            registry=self._registry,
        )

        self.registry_problems = Gauge(
            "image_puller_registry_problems",
            "Reasons why registries did not answer the last check. /status lists them.",
            registry=self._registry,
        )
        self._problems = Gauge(
            "image_puller_problems",
            "Problems that a person must solve, by group and kind. /status lists them.",
            ["group", "kind"],
            registry=self._registry,
        )

        self._sent = Counter(
            "image_puller_cloudevents",
            "CloudEvents for the sink, by type and outcome.",
            ["type", "outcome"],
            registry=self._registry,
        )

    def set_problems(self, kinds: Sequence[Kind], group: str | None) -> None:
        """Set how many problems of each kind a group has. `kinds` has an item for each problem."""
        for kind in Kind:
            self._problems.labels(group=group or "", kind=kind.value).set(kinds.count(kind))

    def count_event(self, source: str, outcome: str) -> None:
        """Count one event."""
        self._events.labels(source=source, outcome=outcome).inc()

    def count_sent(self, event_type: str, outcome: str) -> None:
        """Count one event for the sink."""
        self._sent.labels(type=event_type, outcome=outcome).inc()

    def count_rejection(self, source: str, status: int) -> None:
        """Count one request that was answered 4xx or 503."""
        self._rejections.labels(source=source, status=str(status)).inc()

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._registry)
