"""When checks run: at start, every ten minutes, on request, and until nothing is unfinished."""

import logging

import pytest

from image_puller import limits
from image_puller.core.changes import CheckDaemonSet
from image_puller.core.decide import Outcome
from image_puller.core.progress import NodeWarm
from image_puller.errors import RegistryUnavailableError
from image_puller.simulation import SimulatedCluster
from image_puller.values.reference import parse
from tests.support.building import deletion, digest, push
from tests.support.clock import ManualClock
from tests.support.installation import Installation
from tests.support.process import NAME, MakeProcess, Process, registry_has, unverified
from tests.support.registries import FakeRegistries
from tests.support.waiting import TIMEOUT_SECONDS, wait_until

LATEST = {"IMAGES": f"app={NAME}:latest"}


# The check at start


def test_on_knative_the_check_at_start_asks_registries_only_for_a_new_daemonset(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registry_has(registries, v1_2_3=3)
    process(is_periodic=False).start()
    assert installation.digests() == {"app": digest(3)}
    registry_has(registries, v1_2_3=4)
    registries.asked.clear()
    service = process(is_periodic=False)
    service.start()
    assert installation.digests() == {"app": digest(3)}
    assert registries.asked == []
    service.commit(CheckDaemonSet())
    service.next_check()
    assert installation.digests() == {"app": digest(4)}


# Requested and periodic checks


def test_a_requested_check_asks_registries(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registry_has(registries, v1_2_3=3)
    service = process()
    service.start()
    registry_has(registries, v1_2_3=3, v1_2_4=4)
    service.commit(CheckDaemonSet())
    service.next_check()
    assert installation.images() == [f"{NAME}:1.2.3", f"{NAME}:1.2.4"]


def test_checks_that_are_requested_together_run_once(
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


def test_a_push_that_seems_older_causes_a_check(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registry_has(registries, latest=1)
    service = process(**LATEST)
    service.clock.advance(2 * limits.SETTLING_SECONDS)
    service.start()
    registry_has(registries, latest=2)
    # The registry's clock is far behind.
    late = push("latest", 2, seconds=-limits.CLOCK_TOLERANCE_SECONDS - 1)
    assert service.commit(late) == (Outcome.OLDER,)
    service.next_check()
    assert installation.digests() == {"app": digest(2)}


# Unverified pushes


def test_registries_are_asked_about_an_unverified_push_until_one_confirms_it(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registry_has(registries, v1_2_3=3)
    service = process()
    service.start()
    service.commit(unverified(service.clock))
    for seconds in (1, 2, 4):
        asked = len(registries.asked)
        service.next_check(seconds)
        assert len(registries.asked) > asked
        assert installation.images() == [f"{NAME}:1.2.3"]
    registry_has(registries, v1_2_3=3, v1_2_4=1)
    service.next_check(8)
    assert installation.images() == [f"{NAME}:1.2.3", f"{NAME}:1.2.4"]
    assert "unverified" not in installation.state()["entries"]["app"]
    service.next_check(16)
    assert service.schedule._verification.due is None


@pytest.mark.parametrize("is_periodic", [True, False])
def test_the_next_process_continues_with_unverified_pushes(
    process: MakeProcess, installation: Installation, registries: FakeRegistries, is_periodic: bool
) -> None:
    registry_has(registries, v1_2_3=3)
    first = process()
    first.start()
    first.commit(unverified(first.clock))
    first.stop()
    service = process(is_periodic=is_periodic)
    service.start()
    registry_has(registries, v1_2_3=3, v1_2_4=1)
    service.next_check(limits.FIRST_RECHECK_SECONDS)
    assert installation.images() == [f"{NAME}:1.2.3", f"{NAME}:1.2.4"]


def test_new_unverified_pushes_do_not_delay_older_ones(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registry_has(registries, v1_2_3=3)
    service = process()
    service.start()
    service.commit(unverified(service.clock))
    registry_has(registries, v1_2_3=3, v1_2_4=1)
    for number in range(3):
        service.next_check(limits.FIRST_RECHECK_SECONDS * 0.4)
        service.commit(unverified(service.clock, f"1.3.{number}"))
    service.wait_until_idle()
    assert f"{NAME}:1.2.4" in installation.images()


def test_an_unverified_push_survives_an_unavailable_api_server(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registry_has(registries, v1_2_3=3)
    service = process()
    service.start()
    service.commit(unverified(service.clock))
    installation.cluster.fail(times=2, path="daemonsets")
    registry_has(registries, v1_2_3=3, v1_2_4=1)
    for seconds in (1, 2, 4):
        service.next_check(seconds)
    assert installation.images() == [f"{NAME}:1.2.3", f"{NAME}:1.2.4"]


# Rollouts


def pulled_again(installation: Installation, cluster: SimulatedCluster) -> list[str | None]:
    """Return the pods' annotations of when they pulled again, once all pods have started."""
    cluster.advance(60)
    annotations = [pod["metadata"]["annotations"] for pod in cluster.pods()]
    return [each.get("image-puller.io/pulled-again") for each in annotations]


def test_nodes_with_other_content_pull_again_once(
    process: MakeProcess,
    installation: Installation,
    cluster: SimulatedCluster,
    registries: FakeRegistries,
) -> None:
    registry_has(registries, latest=1)
    cluster.images[f"{NAME}:latest"] = digest(1)
    service = process(**LATEST)
    service.start()
    # Nodes still pull the old content, because the registry announced the push early.
    assert service.commit(push("latest", 2, seconds=5)) == (Outcome.MUTATED,)
    assert pulled_again(installation, cluster) == [None] * 3
    registry_has(registries, latest=2)
    service.next_check(1)
    (tag,) = installation.state()["entries"]["app"]["tags"]
    assert tag["pulledAgain"]
    (time,) = {*pulled_again(installation, cluster)}
    assert time is not None
    for seconds in (1, 2, 4, 8):
        service.next_check(seconds)
    assert {*pulled_again(installation, cluster)} == {time}


def test_a_rollout_is_checked_until_it_is_complete(
    process: MakeProcess, cluster: SimulatedCluster, registries: FakeRegistries
) -> None:
    registry_has(registries, latest=1)
    service = process(**LATEST)
    service.start()
    for seconds in (1, 2, 4):
        service.next_check(seconds)
        assert service.schedule._rollout.due is not None
    cluster.advance(60)
    service.next_check(8)
    assert service.schedule._rollout.due is None


def test_the_checks_of_a_rollout_that_does_not_end_keep_a_bounded_pace(
    process: MakeProcess, cluster: SimulatedCluster
) -> None:
    service = process(**LATEST)
    service.start()
    seconds = limits.FIRST_RECHECK_SECONDS
    while 2 * seconds <= limits.ROLLOUT_RECHECK_SECONDS:
        service.next_check(seconds)
        seconds *= 2
    for _ in range(12):  # regular checks come between
        due = service.schedule._rollout.due
        assert due is not None
        assert seconds / 2 < due - service.clock.monotonic() <= seconds
        service.next_check(due - service.clock.monotonic())


def test_a_failed_check_of_a_rollout_is_repeated(
    process: MakeProcess, cluster: SimulatedCluster
) -> None:
    service = process(is_periodic=False, **LATEST)
    service.start()
    seconds = limits.FIRST_RECHECK_SECONDS
    while 2 * seconds <= limits.ROLLOUT_RECHECK_SECONDS:
        service.next_check(seconds)
        seconds *= 2
    cluster.fail(method="GET")
    service.next_check(seconds)
    assert service.schedule._rollout.due == service.clock.monotonic() + seconds


# Changes of the DaemonSet


@pytest.fixture
def finished(process: MakeProcess, cluster: SimulatedCluster) -> Process:
    """Return a process whose rollout is complete, so that it observes nothing by itself."""
    service = process(is_periodic=False)
    service.start()
    cluster.advance(60)
    service.next_check(limits.FIRST_RECHECK_SECONDS)
    assert service.schedule._rollout.due is None
    return service


def observations(installation: Installation) -> int:
    """Return how often the DaemonSet was observed since the last call."""
    return installation.sent().count("GET pods")


def test_a_change_of_the_daemonset_is_observed_at_once(
    finished: Process, cluster: SimulatedCluster
) -> None:
    cluster.join("late")
    finished.schedule.note_progress()
    finished.wait_until_idle()
    assert finished.schedule._rollout.due is not None
    cluster.advance(60)
    finished.clock.advance(limits.PROGRESS_SECONDS / 2)
    finished.schedule.note_progress()
    finished.next_check(limits.PROGRESS_SECONDS / 2)
    assert isinstance(finished.notices[-1], NodeWarm)


def test_changes_of_the_daemonset_cause_few_observations(
    finished: Process, installation: Installation
) -> None:
    observations(installation)
    for expected in (1, 1, 1):
        for _ in range(20):
            finished.schedule.note_progress()
        finished.wait_until_idle()
        assert observations(installation) == expected
        finished.schedule.note_progress()
        finished.next_check(limits.PROGRESS_SECONDS / 2)
        assert observations(installation) == 0
        finished.next_check(limits.PROGRESS_SECONDS / 2)
        assert observations(installation) == 1
        finished.next_check(limits.PROGRESS_SECONDS)
        assert observations(installation) == 0


def test_a_change_during_a_long_observation_is_observed_after_a_longer_pause(
    finished: Process, installation: Installation, clock: ManualClock
) -> None:
    observations(installation)
    seconds = 3.0

    def take_long() -> None:
        clock.advance(seconds)
        finished.schedule.note_progress()

    began = clock.monotonic()
    installation.cluster.before("GET", take_long, path="/pods")
    finished.schedule.note_progress()
    wait_until(lambda: clock.monotonic() > began)
    finished.wait_until_idle()
    assert observations(installation) == 1
    finished.next_check(seconds / limits.PROGRESS_SHARE - 1)
    assert observations(installation) == 0
    finished.next_check(1)
    assert observations(installation) == 1


def test_a_change_of_the_daemonset_does_not_slow_the_checks_of_the_rollout(
    process: MakeProcess, installation: Installation
) -> None:
    service = process(is_periodic=False, **LATEST)
    service.start()
    due = service.schedule._rollout.due
    service.schedule.note_progress()
    service.wait_until_idle()
    assert service.schedule._rollout.due == due


# Unexpected errors


def test_an_unexpected_error_does_not_end_the_schedule(
    process: MakeProcess, registries: FakeRegistries, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    registries.digests = {parse(f"{NAME}:1.2.3"): ZeroDivisionError()}
    service = process()
    service.start()
    wait_until(lambda: "the check failed, and is tried again later" in caplog.messages)
    registry_has(registries, v1_2_3=3)
    service.commit(CheckDaemonSet())
    service.next_check()
    assert service.finished() == 2
    assert service.checks.problems == ()


def test_an_unexpected_error_while_the_service_stops_is_not_logged(
    process: MakeProcess,
    registries: FakeRegistries,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    registries.digests = {parse(f"{NAME}:1.2.3"): ZeroDivisionError()}
    registries.close("quay.io")
    service = process()
    service.schedule.start()
    wait_until(lambda: registries.asked != [])
    service.schedule.stop()
    registries.open_all()
    service.schedule.join(TIMEOUT_SECONDS)
    assert service.finished() == 1
    assert "the check failed" not in caplog.text


# Tags whose order is in doubt


def test_the_registry_is_asked_which_of_two_pushes_of_the_same_time_is_current(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registry_has(registries, latest=2)
    service = process(**LATEST)
    service.start()
    service.clock.advance(60)
    both = [push("latest", number, seconds=60) for number in (2, 1)]
    assert [service.commit(each)[0] for each in both][-1] is Outcome.IN_DOUBT
    service.next_check(1)
    assert installation.digests() == {"app": digest(2)}


def test_a_registry_that_shows_the_earlier_content_for_a_while_is_asked_again(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registry_has(registries, latest=1)
    service = process(**LATEST)
    service.start()
    assert service.commit(push("latest", 2, seconds=-30)) == (Outcome.IN_DOUBT,)
    service.next_check(1)
    registry_has(registries, latest=2)
    service.next_check(2)
    assert installation.digests() == {"app": digest(2)}
    service.next_check(4)
    assert service.schedule._doubtful == frozenset()


def test_the_registry_is_asked_after_a_deletion_in_doubt(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registry_has(registries, v1_2_3=3, v1_2_4=4)
    service = process()
    service.start()
    assert service.commit(deletion("1.2.4", seconds=-1)) == (Outcome.IN_DOUBT,)
    assert installation.images() == [f"{NAME}:1.2.3"]
    service.next_check(1)
    assert installation.images() == [f"{NAME}:1.2.3", f"{NAME}:1.2.4"]


def test_a_deleted_tag_whose_order_is_in_doubt_goes_once_its_registry_lacks_it(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registry_has(registries, v1_2_3=3)
    service = process()
    service.start()
    service.commit(deletion("1.2.4"))
    assert service.commit(push("1.2.4", 4)) == (Outcome.IN_DOUBT,)
    service.next_check(1)
    assert installation.images() == [f"{NAME}:1.2.3"]


def test_a_deletion_of_content_in_doubt_causes_a_check(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registry_has(registries, v1_2_3=3, v1_2_4=4)
    service = process()
    service.start()
    assert service.commit(deletion(None, 4, seconds=-1)) == (Outcome.IN_DOUBT,)
    service.next_check()
    assert installation.images() == [f"{NAME}:1.2.3", f"{NAME}:1.2.4"]


def test_a_registry_that_does_not_answer_is_asked_again_about_a_tag_in_doubt(
    process: MakeProcess, registries: FakeRegistries
) -> None:
    service = process(**LATEST)
    service.start()
    service.commit(push("latest", 1), push("latest", 2))
    registries.fail("quay.io", RegistryUnavailableError("unavailable"))
    steps = 9  # 1, 2, 4 and so on, up to the time that a registry needs to settle
    for step in range(steps):
        assert service.schedule._doubtful == {("app", "latest")}
        service.next_check(2**step)
    assert 2 ** (steps - 1) <= limits.SETTLING_SECONDS < 2**steps
    assert service.schedule._doubtful == frozenset()


def test_no_registry_is_asked_about_a_tag_in_doubt_where_that_is_switched_off(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    service = process(asks=False, **LATEST)
    service.start()
    service.commit(push("latest", 1), push("latest", 2))
    service.next_check(1)
    assert installation.digests() == {"app": digest(2)}
    assert registries.asked == []
    assert service.schedule._doubtful == frozenset()


# Repositories that got a push of a tag that is not tracked


def test_a_repository_is_checked_soon_after_a_push_of_another_tag(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registry_has(registries, v1_2_3=3)
    service = process(IMAGES=f"app={NAME}:1.2.3;other=quay.io/org/other:1.0.0")
    service.start()
    registry_has(registries, v1_2_3=3, v1_2_4=4)
    registries.asked.clear()
    service.schedule.note_repository(parse(NAME))
    service.next_check(limits.REPOSITORY_CHECK_SECONDS)
    assert installation.images() == [f"{NAME}:1.2.3", f"{NAME}:1.2.4", "quay.io/org/other:1.0.0"]
    assert {reference.name for reference, _ in registries.asked} == {NAME}


def test_pushes_of_other_tags_cause_few_checks(
    process: MakeProcess, registries: FakeRegistries
) -> None:
    service = process()
    service.start()
    registries.asked.clear()

    def listings() -> int:
        return sum(reference.tag is None for reference, _ in registries.asked)

    for _ in range(9):
        service.schedule.note_repository(parse(NAME))
    service.next_check(limits.REPOSITORY_CHECK_SECONDS)
    for _ in range(9):
        service.schedule.note_repository(parse(NAME))
    service.next_check(limits.REPOSITORY_CHECK_SPACING_SECONDS - 1)
    assert listings() == 1
    service.next_check(1)
    assert listings() == 2
    service.next_check(limits.REPOSITORY_CHECK_SPACING_SECONDS)
    assert listings() == 2


def test_no_repository_is_checked_where_registries_are_not_asked(
    process: MakeProcess, registries: FakeRegistries
) -> None:
    service = process(asks=False)
    service.start()
    service.schedule.note_repository(parse(NAME))
    service.next_check(limits.REPOSITORY_CHECK_SECONDS)
    assert registries.asked == []
