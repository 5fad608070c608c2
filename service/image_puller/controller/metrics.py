"""The metrics, for Prometheus. No label holds a name from a payload, and none that of a node."""

import re
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric

from image_puller import __version__
from image_puller.core import counts
from image_puller.core.counts import Counts
from image_puller.core.problems import Kind
from image_puller.core.progress import NodeWarm, Notice, OnAllNodes

_OTHER = re.compile(r"[^a-z0-9]+")
_COMMIT_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_PULL_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_TO_NODES_SECONDS = (1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)


class _Registry(CollectorRegistry):
    """A registry without the times at which counters began, which would double their series."""

    def collect(self) -> Iterator[Metric]:
        for metric in super().collect():
            kept = [each for each in metric.samples if not each.name.endswith("_created")]
            metric.samples = kept
            yield metric


class Metrics:
    """The metrics of one process, in a Prometheus registry of their own. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._registry = registry = _Registry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"image_puller_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"image_puller_{name}", text, labels, registry=registry)

        def histogram(
            name: str, text: str, *labels: str, buckets: Sequence[float] = _COMMIT_SECONDS
        ) -> Histogram:
            name = f"image_puller_{name}"
            return Histogram(name, text, labels, registry=registry, buckets=buckets)

        # Requests and events

        self._events = counter("events", "Events, by source and outcome.", "source", "outcome")
        self._rejections = counter(
            "requests_rejected",
            "Requests that were answered 4xx or 503, by source and status.",
            "source",
            "status",
        )
        self._refused_connections = counter(
            "connections_refused",
            "Requests and connections that the server refused because of its own bounds.",
            "reason",
        )
        self._last_push = gauge(
            "last_push_timestamp_seconds", "When a source last reported a push.", "source"
        )

        self._sent = counter(
            "cloudevents", "CloudEvents for the sink, by type and outcome.", "type", "outcome"
        )

        # Commits

        self._commit_seconds = histogram(
            "commit_seconds",
            "From when the writer takes changes until they are committed.",
            "group",
        )
        self._writes = counter("writes", "Writes of the DaemonSet.", "group")
        self._conflicts = counter(
            "conflicts", "Commits that another process was faster than.", "group"
        )
        self._coalesced = counter(
            "coalesced_pushes", "Pushes that shared the commit of another one.", "group"
        )
        self._in_charge = gauge(
            "in_charge", "Whether this process is in charge of the DaemonSet.", "group"
        )

        # Checks

        self._last_check = gauge(
            "last_check_timestamp_seconds", "When the last check ended.", "group"
        )
        self._last_check_success = gauge(
            "last_check_success", "Whether the last check could be finished.", "group"
        )
        self._registry_reachable = gauge(
            "registry_reachable", "Whether the registry answered the last question.", "registry"
        )
        self.registry_problems = gauge(
            "registry_problems",
            "Reasons why registries did not answer the last check. /status lists them.",
        )
        self._problems = gauge(
            "problems",
            "Problems that a person must solve, by group and kind. /status lists them.",
            "group",
            "kind",
        )
        self.malformed_entries = gauge(
            "malformed_entries",
            "Malformed entries of IMAGES or IMAGE_TAG_POLICIES, which are ignored.",
        )
        self._build_info = gauge("build_info", "The version of the service.", "version")
        self._build_info.labels(version=__version__).set(1)

        # Nodes

        self._api_server_reachable = gauge(
            "api_server_reachable", "Whether the API server answered for this scrape."
        )
        self._nodes = gauge("nodes", "Selected nodes, by state.", "group", "state")
        self._image_nodes = gauge(
            "image_nodes",
            "Nodes that count by the state of an image, for all images of an entry and role.",
            "group",
            "entry",
            "role",
            "state",
        )
        self._rollout = gauge("rollout", "The state of the rollout.", "group", "state")
        self._rollout_start = gauge(
            "rollout_start_timestamp_seconds", "When the template last changed.", "group"
        )
        self._refused_tags = gauge(
            "refused_tags", "Tags that the cluster does not admit.", "group", "entry"
        )
        self._quarantined_tags = gauge(
            "quarantined_tags", "Tags that fail on every node that tried them.", "group", "entry"
        )
        self._unverified_pushes = gauge(
            "unverified_pushes", "Pushes that no registry has verified yet.", "group", "entry"
        )
        self._push_to_nodes_seconds = histogram(
            "push_to_nodes_seconds",
            "From a push until all selected, ready nodes hold its image.",
            "group",
            "entry",
            buckets=_TO_NODES_SECONDS,
        )
        self._node_warm_seconds = histogram(
            "node_warm_seconds",
            "From the creation of a node until it holds all images.",
            "group",
            buckets=_TO_NODES_SECONDS,
        )
        self._startup_releases = counter(
            "node_startup_releases", "Nodes that lost the startup taint, by reason.", "reason"
        )
        self._pull_seconds = histogram(
            "pull_seconds",
            "How long nodes pulled an image, by the kubelet's Events.",
            "group",
            "entry",
            buckets=_PULL_SECONDS,
        )

    # What happens

    def count_event(self, source: str, outcome: str) -> None:
        """Count one event. The outcome becomes a label in snake case."""
        label = _snake_case(outcome)
        self._events.labels(source=source, outcome=label).inc()

    def count_rejection(self, source: str, status: int) -> None:
        """Count one request that was answered 4xx or 503."""
        self._rejections.labels(source=source, status=str(status)).inc()

    def count_refusal(self, reason: str) -> None:
        """Count one request or connection that a bound of the server refused."""
        self._refused_connections.labels(reason=_snake_case(reason)).inc()

    def note_push(self, source: str, time: datetime) -> None:
        """Note when a source reported a push."""
        self._last_push.labels(source=source).set(time.timestamp())

    def note_commit(self, group: str | None, seconds: float, *, pushes: int) -> None:
        """Note how long a commit took, and how many pushes it had."""
        self._commit_seconds.labels(group=group or "").observe(seconds)
        self._coalesced.labels(group=group or "").inc(max(pushes - 1, 0))

    def count_writes(self, group: str | None, writes: int, conflicts: int) -> None:
        """Count the writes and the lost races of a commit, also of one that failed."""
        self._writes.labels(group=group or "").inc(writes)
        self._conflicts.labels(group=group or "").inc(conflicts)

    def note_check(self, group: str | None, time: datetime, *, is_finished: bool) -> None:
        """Note when a check ended, and whether it could be finished."""
        self._last_check.labels(group=group or "").set(time.timestamp())
        self._last_check_success.labels(group=group or "").set(is_finished)

    def note_registry(self, registry: str, *, is_reachable: bool) -> None:
        """Note whether a registry of the configuration answered a question."""
        self._registry_reachable.labels(registry=registry).set(is_reachable)

    def note_progress(self, notice: Notice) -> None:
        """Note how long a push took to the nodes, and how long a node took to be warm."""
        if isinstance(notice, NodeWarm) and notice.seconds is not None and not notice.is_repeated:
            self._node_warm_seconds.labels(group=notice.group or "").observe(notice.seconds)
        if isinstance(notice, OnAllNodes) and notice.is_since_push and not notice.is_repeated:
            labels = {"group": notice.group or "", "entry": notice.entry}
            self._push_to_nodes_seconds.labels(**labels).observe(notice.seconds)

    def count_startup_release(self, reason: str) -> None:
        """Count one node that lost the startup taint."""
        self._startup_releases.labels(reason=reason).inc()

    def note_pull(self, group: str | None, entry: str, seconds: float) -> None:
        """Note how long a node pulled an image."""
        self._pull_seconds.labels(group=group or "", entry=entry).observe(seconds)

    def set_problems(self, kinds: Sequence[Kind], group: str | None) -> None:
        """Set how many problems of each kind a group has. `kinds` has an item for each problem."""
        for kind in Kind:
            self._problems.labels(group=group or "", kind=kind.value).set(kinds.count(kind))

    def set_in_charge(self, group: str | None, *, is_in_charge: bool) -> None:
        """Set whether this process is in charge of a group's DaemonSet."""
        self._in_charge.labels(group=group or "").set(is_in_charge)

    def count_sent(self, event_type: str, outcome: str) -> None:
        """Count one event for the sink."""
        self._sent.labels(type=event_type, outcome=outcome).inc()

    # The text

    def text(self, observed: Sequence[Counts] = (), *, is_reachable: bool = True) -> bytes:
        """Return all metrics in the text format of Prometheus.

        `observed` has the numbers of the groups that could be observed. The others have no series,
        because old numbers would look like new ones. `is_reachable`: the API server answered.
        """
        with self._lock:
            self._api_server_reachable.set(is_reachable)
            for metric in (
                self._nodes,
                self._image_nodes,
                self._rollout,
                self._rollout_start,
                self._refused_tags,
                self._quarantined_tags,
                self._unverified_pushes,
            ):
                metric.clear()
            for each in observed:
                self._set(each)
            return generate_latest(self._registry)

    def _set(self, observed: Counts) -> None:
        group = observed.group or ""
        for node in counts.Node:
            labels = {"group": group, "state": _snake_case(node)}
            self._nodes.labels(**labels).set(observed.nodes.get(node, 0))
        for (entry, role), states in observed.images.items():
            for state in counts.IMAGES:
                labels = {"group": group, "entry": entry, "role": role.value}
                found = self._image_nodes.labels(**labels, state=_snake_case(state))
                found.set(states.get(state, 0))
        for rollout in counts.ROLLOUTS:
            labels = {"group": group, "state": _snake_case(rollout)}
            self._rollout.labels(**labels).set(observed.rollout == rollout)
        if observed.changed is not None:
            self._rollout_start.labels(group=group).set(observed.changed.timestamp())
        for entry, tags in observed.tags.items():
            self._refused_tags.labels(group=group, entry=entry).set(tags.refused)
            self._quarantined_tags.labels(group=group, entry=entry).set(tags.quarantined)
            self._unverified_pushes.labels(group=group, entry=entry).set(tags.unverified)


def _snake_case(text: str) -> str:
    """Return a text of ours as the value of a label."""
    return _OTHER.sub("_", text.lower()).strip("_")
