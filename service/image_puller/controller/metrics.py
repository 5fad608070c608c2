"""What is counted for Prometheus. Labels never hold a name from a payload."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest


class Metrics:
    """The counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._events = Counter(
            "image_puller_events",
            "Events by where they came from and what became of them.",
            ["source", "outcome"],
            registry=self._registry,
        )
        self._refusals = Counter(
            "image_puller_requests_refused",
            "Requests that were answered 4xx or 503, by where they were sent.",
            ["source", "status"],
            registry=self._registry,
        )
        self.malformed_entries = Gauge(
            "image_puller_malformed_entries",
            "Entries of IMAGES or IMAGE_TAG_POLICIES that are ignored.",
            registry=self._registry,
        )

        self.registry_problems = Gauge(
            "image_puller_registry_problems",
            "Reasons why registries did not say all that the last look asked; /status has them.",
            registry=self._registry,
        )

    def count_event(self, source: str, outcome: str) -> None:
        """Counts one event."""
        self._events.labels(source=source, outcome=outcome).inc()

    def count_refusal(self, source: str, status: int) -> None:
        """Counts one request that the sender was told was not accepted."""
        self._refusals.labels(source=source, status=str(status)).inc()

    def text(self) -> bytes:
        """All of it in the text format of Prometheus."""
        return generate_latest(self._registry)
