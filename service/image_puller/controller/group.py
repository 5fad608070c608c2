"""The parts of one group of images: its writer, its checks and their schedule."""

import threading

from image_puller.cluster.interface import Cluster
from image_puller.cluster.observer import Observer
from image_puller.cluster.reconcile import Reconciler
from image_puller.cluster.removed_groups import RemovedGroups
from image_puller.config.configuration import Config
from image_puller.controller.checks import Checks
from image_puller.controller.clock import Clock
from image_puller.controller.intake import Receiver
from image_puller.controller.metrics import Metrics
from image_puller.controller.problem_tracker import ProblemTracker
from image_puller.controller.schedule import Schedule
from image_puller.controller.writer import Writer
from image_puller.core.page import Seen
from image_puller.registries.lookup import Lookup


class Group:
    """One group, which has a DaemonSet of its own. It commits and checks between start and stop.

    The checks of one group delete the DaemonSets of removed groups: `removed`.
    """

    def __init__(
        self,
        config: Config,
        cluster: Cluster,
        metrics: Metrics,
        clock: Clock,
        lookup: Lookup | None,
        removed: RemovedGroups | None,
    ) -> None:
        self._reconciler = Reconciler(config, cluster, now=clock.now)
        observer = Observer(config, cluster, now=clock.now)
        self._writer = Writer(self._reconciler, metrics, clock, group=config.group)
        tracker = ProblemTracker(cluster.report, metrics, group=config.group)
        self._checks = Checks(config, observer, self._writer, lookup, clock, tracker)
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

    def seen(self) -> Seen:
        """Return what is known of the group now. Raises ClusterUnavailableError."""
        return self._checks.seen()
