"""A process of the service without its web server: its writer, its checks and its schedule."""

from collections.abc import Callable

from image_puller import limits
from image_puller.cluster.observer import Observer
from image_puller.controller import progress_log
from image_puller.controller.checks import SOURCE, Checks, Reports
from image_puller.controller.metrics import Metrics
from image_puller.controller.problem_tracker import ProblemTracker
from image_puller.controller.progress_tracker import ProgressTracker
from image_puller.controller.pull_times import PullTimes
from image_puller.controller.schedule import Schedule
from image_puller.controller.writer import Writer
from image_puller.core.changes import AwaitVerification, Change
from image_puller.core.decide import Outcome
from image_puller.core.progress import Notice
from image_puller.registries.lookup import Lookup
from image_puller.simulation import SimulatedCluster
from image_puller.values.reference import parse
from tests.support.building import digest
from tests.support.clock import ManualClock
from tests.support.registries import FakeRegistries
from tests.support.replica import Replica
from tests.support.waiting import TIMEOUT_SECONDS, wait_until

NAME = "quay.io/org/app"
"""The repository that `registry_has` fills."""


class Process:
    """A process of the service. Its writer runs, and its schedule after `start`."""

    def __init__(
        self, replica: Replica, lookup: Lookup | None, clock: ManualClock, *, is_periodic: bool
    ) -> None:
        self.replica = replica
        self.clock = clock
        self.metrics = Metrics()
        self.writer = Writer(replica.reconciler, self.metrics, clock)
        observer = Observer(replica.config, replica.cluster, now=clock.now)
        self.notices: list[Notice] = []
        reports = Reports(
            problems=ProblemTracker(replica.cluster.report, self.metrics),
            progress=ProgressTracker(
                clock, (self.notices.append, progress_log.write, self.metrics.note_progress)
            ),
            pulls=PullTimes(replica.cluster, self.metrics, clock),
            metrics=self.metrics,
        )
        self.checks = Checks(replica.config, observer, self.writer, lookup, clock, reports)
        self.schedule = Schedule(self.checks, clock, is_periodic=is_periodic)
        self.writer.start()

    def start(self) -> None:
        """Start the schedule, and wait until the check at start has ended."""
        self.schedule.start()
        self.wait_for_checks(1)
        self.wait_until_idle()

    def check(self) -> None:
        """Run a full check now, without the schedule."""
        self.checks.full(limits.CHECK_SECONDS)

    def finished(self) -> int:
        """Return how many full checks have ended."""
        line = f'image_puller_events_total{{outcome="checked",source="{SOURCE}"}} '
        found = [each for each in self.metrics.text().decode().splitlines() if line in each]
        return int(float(found[0].removeprefix(line))) if found else 0

    def wait_for_checks(self, number: int) -> None:
        """Wait until so many full checks have ended."""
        wait_until(lambda: self.finished() >= number)

    def wait_until_idle(self) -> None:
        """Wait until the schedule waits, and nothing is due."""

        def is_idle() -> bool:
            due = self.schedule._next_due()
            is_due = due is not None and due <= self.clock.monotonic()
            return not is_due and self.clock.waits(self.schedule._wakes)

        wait_until(is_idle)

    def next_check(self, seconds: float = limits.CHECK_SPACING_SECONDS) -> None:
        """Advance the clock by the time after which a check is due, and wait for its end."""
        self.wait_until_idle()
        self.clock.advance(seconds)
        self.wait_until_idle()

    def commit(self, *changes: Change) -> tuple[Outcome, ...]:
        """Commit changes as a request does, and note them in the schedule."""
        outcomes = self.writer.commit("quay", changes, timeout=TIMEOUT_SECONDS)
        self.schedule.note_commit(changes, outcomes)
        return outcomes

    def stop(self) -> None:
        """Stop the schedule and the writer, as SIGTERM does."""
        self.schedule.stop()
        self.writer.stop()
        self.schedule.join(TIMEOUT_SECONDS)


MakeProcess = Callable[..., Process]
"""The type of the fixture `process`."""


def registry_has(registries: FakeRegistries, **digests: int) -> None:
    """Let the registry have these tags, each with the digest of that number, and no others.

    The tag 1.2.3 is written `v1_2_3`.
    """
    tags = {name.removeprefix("v").replace("_", "."): n for name, n in digests.items()}
    registries.digests = {parse(f"{NAME}:{tag}"): digest(n) for tag, n in tags.items()}
    registries.listings = {parse(NAME): tuple(tags)}


def unverified(clock: ManualClock, tag: str = "1.2.4", number: int = 1) -> AwaitVerification:
    """Return a push that its registry has not confirmed yet."""
    return AwaitVerification(
        entry="app", tag=tag, digest=digest(number), time=clock.now(), reason="unavailable"
    )


def pass_time(service: Process, cluster: SimulatedCluster, seconds: float, step: float = 5) -> None:
    """Let time pass for the nodes and for the service."""
    for _ in range(int(seconds / step)):
        cluster.advance(step)
        service.next_check(step)
