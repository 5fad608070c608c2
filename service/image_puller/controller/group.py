"""The parts of one group of images: its writer, its checks and their schedule."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from image_puller.cluster.interface import Cluster
from image_puller.cluster.observer import Observer
from image_puller.cluster.reconcile import Reconciler
from image_puller.cluster.removed_groups import RemovedGroups
from image_puller.config.configuration import Config
from image_puller.controller import progress_log
from image_puller.controller.checks import Checks, Reports
from image_puller.controller.clock import Clock
from image_puller.controller.intake import Receiver
from image_puller.controller.metrics import Metrics
from image_puller.controller.problem_tracker import ProblemTracker
from image_puller.controller.progress_tracker import Listener, ProgressTracker
from image_puller.controller.pull_times import PullTimes
from image_puller.controller.schedule import Schedule
from image_puller.controller.startup_release import StartupRelease
from image_puller.controller.writer import Writer
from image_puller.core import outgoing
from image_puller.core.counts import Counts
from image_puller.core.health import HealthChange
from image_puller.core.observation import Observation
from image_puller.core.outgoing import OutgoingEvent
from image_puller.core.page import Seen
from image_puller.registries.lookup import Lookup


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the groups of a process share.

    `lookup` is None where no registry may be asked, `send` where there is no sink, and `startup`
    where there is no startup taint.
    """

    metrics: Metrics
    clock: Clock
    lookup: Lookup | None
    send: Callable[[OutgoingEvent], None] | None
    startup: StartupRelease | None


class Group:
    """One group, which has a DaemonSet of its own. It commits and checks between start and stop.

    The checks of one group delete the DaemonSets of removed groups: `removed`.
    """

    def __init__(
        self, config: Config, cluster: Cluster, shared: Shared, removed: RemovedGroups | None
    ) -> None:
        metrics, clock = shared.metrics, shared.clock
        self._reconciler = Reconciler(config, cluster, now=clock.now)
        observer = Observer(config, cluster, now=clock.now)
        self._writer = Writer(self._reconciler, metrics, clock, group=config.group)
        reports = _reports(config, cluster, shared)
        self._checks = Checks(config, observer, self._writer, shared.lookup, clock, reports)
        # On Knative a PingSource requests the checks.
        is_periodic = config.knative_service is None
        self._schedule = Schedule(self._checks, clock, is_periodic=is_periodic, removed=removed)
        self.config = config
        self.receiver = Receiver(config=config, writer=self._writer, listener=self._schedule)

    def start(self) -> tuple[threading.Thread, ...]:
        """Start to commit and to check, and return the threads."""
        return self._writer.start(), self._schedule.start()

    def stop(self) -> None:
        """Commit what was asked for, apply a pending template, and stop. The DaemonSet stays."""
        self._schedule.stop()
        self._writer.stop()

    def join(self, seconds: float) -> None:
        """Wait, after `stop`, for a check that still runs."""
        self._schedule.join(seconds)

    @property
    def superseded(self) -> str | None:
        """Return why this process is not in charge of the DaemonSet, or None."""
        return self._reconciler.superseded

    @property
    def registry_problems(self) -> tuple[str, ...]:
        """Return what the last checks found wrong at registries."""
        return self._checks.problems

    def counts(self) -> Counts | None:
        """Return the numbers of a moment ago, for scrapes. Raises ClusterUnavailableError."""
        return self._checks.counts()

    def seen(self) -> Seen:
        """Return what is known of the group now. Raises ClusterUnavailableError."""
        return self._checks.seen()


def _reports(config: Config, cluster: Cluster, shared: Shared) -> Reports:
    """Return what is told of each observation. With a sink, events are sent."""
    metrics, clock, send = shared.metrics, shared.clock, shared.send
    listeners: tuple[Listener, ...] = (progress_log.write, metrics.note_progress)
    on_health: Callable[[HealthChange], None] | None = None
    if send is not None:
        listeners = (*listeners, lambda notice: send(outgoing.of_notice(config, notice)))
        on_health = lambda change: send(outgoing.of_health(config, change))  # noqa: E731
    on_observation: Callable[[Observation | None], None] | None = None
    if shared.startup is not None:
        on_observation = partial(shared.startup.note, config.group)
    return Reports(
        problems=ProblemTracker(cluster.report, metrics, group=config.group),
        progress=ProgressTracker(clock, listeners),
        pulls=PullTimes(cluster, metrics, clock),
        metrics=metrics,
        on_health=on_health,
        on_observation=on_observation,
    )
