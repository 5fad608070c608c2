"""The checks: at start, every ten minutes, and soon after what is not finished."""

import logging
from collections.abc import Callable, Iterator

import pytest

from image_puller import limits
from image_puller.cluster.observer import Observer
from image_puller.controller.checks import SOURCE, Checks
from image_puller.controller.metrics import Metrics
from image_puller.controller.schedule import Schedule
from image_puller.controller.writer import Writer
from image_puller.core.changes import AwaitVerification, Change, CheckDaemonSet
from image_puller.core.decide import Outcome
from image_puller.errors import RefusedByRegistryError, RegistryUnavailableError
from image_puller.registries.lookup import Lookup
from image_puller.simulation import SimulatedCluster
from image_puller.values.reference import parse
from tests.support.building import digest, push
from tests.support.clock import ManualClock
from tests.support.installation import Installation
from tests.support.registries import FakeRegistries
from tests.support.replica import Replica, Time
from tests.support.waiting import TIMEOUT_SECONDS, wait_until

AT_ONCE = {"ROLLOUT_MIN_INTERVAL_SECONDS": "0"}
NAME = "quay.io/org/app"
LATEST = {"IMAGES": f"app={NAME}:latest"} | AT_ONCE


class Process:
    """A process of the service: its writer and its schedule."""

    def __init__(
        self, replica: Replica, lookup: Lookup | None, clock: ManualClock, *, is_periodic: bool
    ) -> None:
        self.replica = replica
        self.clock = clock
        self.metrics = Metrics()
        self.writer = Writer(replica.reconciler, self.metrics, clock)
        observer = Observer(replica.config, replica.cluster, now=clock.now)
        self.checks = Checks(replica.config, observer, self.writer, lookup, clock)
        self.schedule = Schedule(self.checks, clock, is_periodic=is_periodic)
        self.writer.start()

    def start(self) -> None:
        """Start the schedule, and wait until the check at start is over."""
        self.schedule.start()
        self.wait_for_checks(1)
        self.wait_until_idle()

    def finished(self) -> int:
        """How many full checks are over."""
        line = f'image_puller_events_total{{outcome="checked",source="{SOURCE}"}} '
        found = [each for each in self.metrics.text().decode().splitlines() if line in each]
        return int(float(found[0].removeprefix(line))) if found else 0

    def wait_for_checks(self, number: int) -> None:
        wait_until(lambda: self.finished() >= number)

    def wait_until_idle(self) -> None:
        """Wait until the schedule waits, and nothing is due."""

        def is_idle() -> bool:
            due = self.schedule._next_due()
            is_due = due is not None and due <= self.clock.monotonic()
            return not is_due and self.clock.waits(self.schedule._wakes)

        wait_until(is_idle)

    def next_check(self, seconds: float = limits.CHECK_SPACING_SECONDS) -> None:
        """Let so much time pass that a check that was asked for is due, and wait for its end."""
        self.wait_until_idle()
        self.clock.advance(seconds)
        self.wait_until_idle()

    def commit(self, *changes: Change) -> tuple[Outcome, ...]:
        """Commit changes as a request does, and note them in the schedule."""
        outcomes = self.writer.commit("quay", changes, timeout=TIMEOUT_SECONDS)
        self.schedule.note_commit(changes, outcomes)
        return outcomes

    def stop(self) -> None:
        """End it."""
        self.schedule.stop()
        self.writer.stop()
        self.schedule.join(TIMEOUT_SECONDS)


@pytest.fixture
def process(
    replica: Callable[..., Replica], lookup: Lookup, clock: ManualClock
) -> Iterator[Callable[..., Process]]:
    """Makes processes of the service, each configured by these variables."""
    made: list[Process] = []

    def make(*, asks: bool = True, is_periodic: bool = True, **variables: str) -> Process:
        found = lookup if asks else None
        made.append(Process(replica(**AT_ONCE | variables), found, clock, is_periodic=is_periodic))
        return made[-1]

    yield make
    for each in made:
        each.stop()


MakeProcess = Callable[..., Process]


def has(registries: FakeRegistries, **digests: int) -> None:
    """Let the registry have these tags, each with the digest of that number, and no others."""
    tags = {name.removeprefix("v").replace("_", "."): n for name, n in digests.items()}
    registries.digests = {parse(f"{NAME}:{tag}"): digest(n) for tag, n in tags.items()}
    registries.listings = {parse(NAME): tuple(tags)}


def unverified(clock: ManualClock, tag: str = "1.2.4", number: int = 1) -> AwaitVerification:
    """A push that its registry has not confirmed yet."""
    return AwaitVerification(
        entry="app", tag=tag, digest=digest(number), time=clock.now(), reason="unavailable"
    )


# The check at start


def test_the_daemonset_is_created_with_the_digests_of_its_images(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    has(registries, v1_2_3=3)
    process().start()
    assert installation.digests() == {"app": digest(3)}
    assert installation.live()["metadata"]["generation"] == 1


def test_a_registry_that_does_not_answer_does_not_prevent_the_daemonset(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registries.fail("quay.io", RegistryUnavailableError("quay.io did not answer in time"))
    service = process()
    service.start()
    assert installation.images() == [f"{NAME}:1.2.3"]
    assert service.checks.problems == ("quay.io did not answer in time",)


def test_no_registry_is_asked_where_that_is_switched_off(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    service = process(asks=False)
    service.start()
    assert installation.images() == [f"{NAME}:1.2.3"]
    assert (registries.asked, service.checks.problems) == ([], ())


def test_on_knative_the_check_at_start_asks_registries_only_for_a_new_daemonset(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    has(registries, v1_2_3=3)
    process(is_periodic=False).start()
    assert installation.digests() == {"app": digest(3)}
    has(registries, v1_2_3=4)
    registries.asked.clear()
    service = process(is_periodic=False)
    service.start()
    assert installation.digests() == {"app": digest(3)}
    assert registries.asked == []
    service.commit(CheckDaemonSet())
    service.next_check()
    assert installation.digests() == {"app": digest(4)}


# Catching up


def test_a_check_finds_everything_that_missed_webhooks_would_have_reported(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    has(registries, v1_2_3=3)
    first = process()
    first.start()
    first.commit(push("1.2.4", 1), push("1.2.5", 1), push("1.2.9", 1))
    first.stop()
    first.clock.advance(limits.SETTLING_SECONDS)

    # Missed: 1.2.4 was mutated, 1.2.9 was deleted, 1.3.0 and 1.3.1 are new.
    has(registries, v1_2_3=3, v1_2_4=4, v1_2_5=1, v1_3_0=5, v1_3_1=6)
    process().start()

    tags = installation.state()["entries"]["app"]["tags"]
    assert [(tag["tag"], tag["digest"]) for tag in tags] == [
        ("1.3.1", digest(6)),
        ("1.3.0", digest(5)),
        ("1.2.5", digest(1)),
        ("1.2.4", digest(4)),
        ("1.2.3", digest(3)),
    ]
    assert installation.images() == [f"{NAME}:{tag}" for tag in ("1.2.3", "1.3.0", "1.3.1")]


def test_a_check_that_finds_nothing_new_writes_nothing(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    has(registries, v1_2_3=3, v1_2_4=4)
    process().start()
    installation.sent()
    process().start()
    assert installation.written() == []


def test_a_registry_that_refuses_is_a_problem_and_changes_nothing(
    process: MakeProcess,
    installation: Installation,
    registries: FakeRegistries,
    caplog: pytest.LogCaptureFixture,
) -> None:
    has(registries, v1_2_3=3, v1_2_4=4)
    process().start()
    before = installation.live()
    registries.fail("quay.io", RefusedByRegistryError("quay.io answered 401; name a pull secret"))
    service = process()
    service.start()
    assert installation.live() == before
    assert service.checks.problems == ("quay.io answered 401; name a pull secret",)
    assert "quay.io answered 401; name a pull secret" in caplog.messages


def test_an_unqueryable_mutable_tag_is_pulled_again_once_per_interval(
    process: MakeProcess, installation: Installation, registries: FakeRegistries, now: Time
) -> None:
    has(registries, latest=1)
    process(**LATEST).start()
    generation = installation.live()["metadata"]["generation"]
    now.advance(3600)
    process(**LATEST).start()
    assert installation.live()["metadata"]["generation"] == generation
    for error, rolls in ((RegistryUnavailableError("away"), 0), (RefusedByRegistryError("401"), 1)):
        registries.fail("quay.io", error)
        process(**LATEST).start()
        assert installation.live()["metadata"]["generation"] == generation + rolls


# Checks that somebody asks for


def test_a_requested_check_asks_registries(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    has(registries, v1_2_3=3)
    service = process()
    service.start()
    has(registries, v1_2_3=3, v1_2_4=4)
    service.commit(CheckDaemonSet())
    service.next_check()
    assert installation.images() == [f"{NAME}:1.2.3", f"{NAME}:1.2.4"]


def test_checks_that_are_requested_together_are_one(
    process: MakeProcess, registries: FakeRegistries
) -> None:
    service = process()
    service.start()
    for _ in range(20):
        service.commit(CheckDaemonSet())
    service.next_check(limits.CHECK_SPACING_SECONDS - 1)
    assert service.finished() == 1
    service.next_check(1)
    assert service.finished() == 2
    service.next_check(limits.CHECK_SPACING_SECONDS)
    assert service.finished() == 2


def test_off_knative_checks_are_periodic(process: MakeProcess) -> None:
    service = process(is_periodic=True)
    service.start()
    for number in (2, 3):
        service.clock.advance(limits.CHECK_INTERVAL_SECONDS)
        service.wait_for_checks(number)


def test_a_push_that_seems_older_makes_a_check(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    has(registries, latest=1)
    service = process(**LATEST)
    service.clock.advance(2 * limits.SETTLING_SECONDS)
    service.start()
    has(registries, latest=2)
    # The registry's clock is far behind.
    assert service.commit(push("latest", 2)) == (Outcome.OLDER,)
    service.next_check()
    assert installation.digests() == {"app": digest(2)}


# Unverified pushes


def test_registries_are_asked_about_an_unverified_push_until_one_confirms_it(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    has(registries, v1_2_3=3)
    service = process()
    service.start()
    service.commit(unverified(service.clock))
    for seconds in (1, 2, 4):
        asked = len(registries.asked)
        service.next_check(seconds)
        assert len(registries.asked) > asked
        assert installation.images() == [f"{NAME}:1.2.3"]
    has(registries, v1_2_3=3, v1_2_4=1)
    service.next_check(8)
    assert installation.images() == [f"{NAME}:1.2.3", f"{NAME}:1.2.4"]
    assert "unverified" not in installation.state()["entries"]["app"]
    service.next_check(16)
    assert service.schedule._verification.due is None


@pytest.mark.parametrize("is_periodic", [True, False])
def test_the_next_process_continues_with_unverified_pushes(
    process: MakeProcess, installation: Installation, registries: FakeRegistries, is_periodic: bool
) -> None:
    has(registries, v1_2_3=3)
    first = process()
    first.start()
    first.commit(unverified(first.clock))
    first.stop()
    service = process(is_periodic=is_periodic)
    service.start()
    has(registries, v1_2_3=3, v1_2_4=1)
    service.next_check(limits.FIRST_RECHECK_SECONDS)
    assert installation.images() == [f"{NAME}:1.2.3", f"{NAME}:1.2.4"]


def test_new_unverified_pushes_do_not_delay_older_ones(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    has(registries, v1_2_3=3)
    service = process()
    service.start()
    service.commit(unverified(service.clock))
    has(registries, v1_2_3=3, v1_2_4=1)
    for number in range(3):
        service.next_check(limits.FIRST_RECHECK_SECONDS * 0.4)
        service.commit(unverified(service.clock, f"1.3.{number}"))
    service.wait_until_idle()
    assert f"{NAME}:1.2.4" in installation.images()


def test_an_unverified_push_survives_an_unavailable_api_server(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    has(registries, v1_2_3=3)
    service = process()
    service.start()
    service.commit(unverified(service.clock))
    installation.cluster.fail(times=2, path="daemonsets")
    has(registries, v1_2_3=3, v1_2_4=1)
    for seconds in (1, 2, 4):
        service.next_check(seconds)
    assert installation.images() == [f"{NAME}:1.2.3", f"{NAME}:1.2.4"]


# What nodes report after a rollout


def pulled_again(installation: Installation, cluster: SimulatedCluster) -> list[str | None]:
    """When the nodes' pods were made to pull again, once all have started."""
    cluster.advance(60)
    annotations = [pod["metadata"]["annotations"] for pod in cluster.pods()]
    return [each.get("image-puller.io/pulled-again") for each in annotations]


def test_nodes_with_other_content_pull_again_once(
    process: MakeProcess,
    installation: Installation,
    cluster: SimulatedCluster,
    registries: FakeRegistries,
) -> None:
    has(registries, latest=1)
    cluster.images[f"{NAME}:latest"] = digest(1)
    service = process(**LATEST)
    service.start()
    # The push arrives, and the nodes pull, before its tag can be read.
    assert service.commit(push("latest", 2, seconds=5)) == (Outcome.MUTATED,)
    assert pulled_again(installation, cluster) == [None] * 3
    service.next_check(1)
    (tag,) = installation.state()["entries"]["app"]["tags"]
    assert tag["pulledAgain"]
    (time,) = {*pulled_again(installation, cluster)}
    assert time is not None
    for seconds in (1, 2, 4, 8):
        service.next_check(seconds)
    assert {*pulled_again(installation, cluster)} == {time}
    assert service.schedule._rollout.due is None


def test_a_rollout_is_checked_until_it_is_complete(
    process: MakeProcess, cluster: SimulatedCluster, registries: FakeRegistries
) -> None:
    has(registries, latest=1)
    service = process(**LATEST)
    service.start()
    for seconds in (1, 2, 4):
        service.next_check(seconds)
        assert service.schedule._rollout.due is not None
    cluster.advance(60)
    service.next_check(8)
    assert service.schedule._rollout.due is None


def test_a_rollout_that_does_not_end_is_left_to_the_regular_checks(
    process: MakeProcess, registries: FakeRegistries
) -> None:
    service = process(is_periodic=False, **LATEST)
    service.start()
    seconds = limits.FIRST_RECHECK_SECONDS
    while seconds <= limits.ROLLOUT_RECHECK_SECONDS:
        assert service.schedule._rollout.due is not None
        service.clock.advance(seconds)
        service.wait_until_idle()
        seconds *= 2
    assert service.schedule._rollout.due is None


def test_an_unexpected_error_does_not_end_the_schedule(
    process: MakeProcess, registries: FakeRegistries, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    registries.digests = {parse(f"{NAME}:1.2.3"): ZeroDivisionError()}
    service = process()
    service.start()
    wait_until(lambda: "the check failed, and is tried again later" in caplog.messages)
    has(registries, v1_2_3=3)
    service.commit(CheckDaemonSet())
    service.next_check()
    assert service.finished() == 2
    assert service.checks.problems == ()
