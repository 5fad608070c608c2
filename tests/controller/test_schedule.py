"""When checks run: at start, every ten minutes, on request, and until nothing is unfinished."""

import logging

import pytest

from image_puller import limits
from image_puller.core.changes import CheckDaemonSet
from image_puller.core.decide import Outcome
from image_puller.simulation import SimulatedCluster
from image_puller.values.reference import parse
from tests.support.building import digest, push
from tests.support.clock import ManualClock
from tests.support.installation import Installation
from tests.support.process import NAME, MakeProcess, registry_has, unverified
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
    assert service.commit(push("latest", 2)) == (Outcome.OLDER,)
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
    registry_has(registries, latest=1)
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


def test_a_failed_last_check_of_a_rollout_is_not_repeated(
    process: MakeProcess, cluster: SimulatedCluster
) -> None:
    service = process(is_periodic=False, **LATEST)
    service.start()
    seconds = limits.FIRST_RECHECK_SECONDS
    while 2 * seconds <= limits.ROLLOUT_RECHECK_SECONDS:
        service.next_check(seconds)
        seconds *= 2
    assert service.schedule._rollout.due is not None
    cluster.fail(method="GET")
    service.next_check(seconds)
    assert service.schedule._rollout.due is None


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
