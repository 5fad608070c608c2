"""What checks ask and commit: full checks, unverified pushes, and rollouts."""

import pytest

from image_puller import limits
from image_puller.controller.checks import RolloutProgress
from image_puller.core.decide import Outcome
from image_puller.errors import (
    ClusterUnavailableError,
    RefusedByRegistryError,
    RegistryUnavailableError,
    SupersededError,
)
from image_puller.simulation import SimulatedCluster
from image_puller.values.reference import parse
from tests.support.building import digest, push
from tests.support.daemonset import APP, BOTH, LATEST, NEWER, OTHER, drift
from tests.support.installation import Installation
from tests.support.process import NAME, MakeProcess, Process, registry_has, unverified
from tests.support.registries import FakeRegistries
from tests.support.replica import Time

# The first check


def test_the_first_check_creates_the_daemonset_with_the_digests_of_its_images(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registry_has(registries, v1_2_3=3)
    process().check()
    assert installation.digests() == {"app": digest(3)}
    assert installation.live()["metadata"]["generation"] == 1


def test_an_unavailable_registry_does_not_prevent_the_daemonset(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registries.fail("quay.io", RegistryUnavailableError("quay.io did not answer in time"))
    service = process()
    service.check()
    assert installation.images() == [APP]
    assert service.checks.problems == ("quay.io did not answer in time",)


def test_no_registry_is_asked_where_that_is_switched_off(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    service = process(asks=False)
    service.check()
    assert installation.images() == [APP]
    assert (registries.asked, service.checks.problems) == ([], ())


# Catching up


def test_a_check_finds_everything_that_missed_webhooks_would_have_reported(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registry_has(registries, v1_2_3=3)
    service = process()
    service.check()
    service.commit(push("1.2.4", 1), push("1.2.5", 1), push("1.2.9", 1))
    service.clock.advance(limits.SETTLING_SECONDS)

    # Missed: 1.2.4 was mutated, 1.2.9 was deleted, 1.3.0 and 1.3.1 are new.
    registry_has(registries, v1_2_3=3, v1_2_4=4, v1_2_5=1, v1_3_0=5, v1_3_1=6)
    service.check()

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
    registry_has(registries, v1_2_3=3, v1_2_4=4)
    service = process()
    service.check()
    installation.sent()
    service.check()
    assert installation.written() == []


def test_a_registry_that_refuses_the_service_is_a_problem_and_changes_nothing(
    process: MakeProcess,
    installation: Installation,
    registries: FakeRegistries,
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry_has(registries, v1_2_3=3, v1_2_4=4)
    process().check()
    before = installation.live()
    registries.fail("quay.io", RefusedByRegistryError("quay.io answered 401; name a pull secret"))
    service = process()
    service.check()
    assert installation.live()["spec"] == before["spec"]
    assert service.checks.problems == ("quay.io answered 401; name a pull secret",)
    service.checks.status()
    assert "quay.io answered 401; name a pull secret" in caplog.messages


def test_an_unqueryable_mutable_tag_is_pulled_again_once_per_interval(
    process: MakeProcess, installation: Installation, registries: FakeRegistries, now: Time
) -> None:
    registry_has(registries, latest=1)
    process(IMAGES=LATEST).check()
    generation = installation.live()["metadata"]["generation"]
    now.advance(3600)
    process(IMAGES=LATEST).check()
    assert installation.live()["metadata"]["generation"] == generation
    for error, rollouts in (
        (RegistryUnavailableError("unavailable"), 0),
        (RefusedByRegistryError("401"), 1),
    ):
        registries.fail("quay.io", error)
        process(IMAGES=LATEST).check()
        assert installation.live()["metadata"]["generation"] == generation + rollouts


def test_a_check_repairs_the_daemonset_although_its_state_could_not_be_read(
    process: MakeProcess, installation: Installation, cluster: SimulatedCluster
) -> None:
    service = process()
    service.check()
    drift(cluster)
    cluster.fail(method="GET", path="daemonsets")
    with pytest.raises(ClusterUnavailableError):
        service.check()
    assert installation.images() == [APP]


# Unverified pushes


def test_a_check_of_unverified_pushes_tracks_those_that_their_registry_confirms(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registry_has(registries, v1_2_3=3)
    service = process()
    service.check()
    assert not service.checks.unverified_pushes()
    service.commit(unverified(service.clock))
    registries.digests[parse(NEWER)] = RegistryUnavailableError("unavailable")
    assert service.checks.unverified_pushes()
    assert service.checks.problems == ("unavailable",)
    registry_has(registries, v1_2_3=3, v1_2_4=1)
    assert service.checks.unverified_pushes()
    assert installation.images() == [APP, NEWER]
    assert not service.checks.unverified_pushes()
    assert not service.checks.problems


# Problems


def test_a_problem_becomes_an_event_and_a_metric_when_it_begins_and_when_it_ends(
    process: MakeProcess, installation: Installation, cluster: SimulatedCluster
) -> None:
    cluster.unpullable[APP] = "not found"
    service = process(asks=False, HOLD_BY="containers")
    service.check()
    cluster.advance(30)
    (message,) = service.checks.status()["problems"]
    assert service.checks.rollout() is RolloutProgress.WAITS
    assert installation.reports() == [("ImageFailing", message)]
    assert b'image_puller_problems{group="",kind="ImageFailing"} 1.0' in service.metrics.text()
    (event,) = (each for each in cluster.events() if each["reason"] == "ImageFailing")
    assert event["involvedObject"]["uid"] == installation.live()["metadata"]["uid"]

    del cluster.unpullable[APP]
    cluster.settle()
    assert service.checks.rollout() is RolloutProgress.FINISHED
    assert sorted(reason for reason, _ in installation.reports()) == [
        "ImageFailing",
        "ProblemSolved",
    ]
    assert b'image_puller_problems{group="",kind="ImageFailing"} 0.0' in service.metrics.text()


def metric(service: Process, series: str) -> float:
    """Return the value of a series."""
    prefix = f"image_puller_{series} "
    lines = service.metrics.text().decode().splitlines()
    (found,) = (line.removeprefix(prefix) for line in lines if line.startswith(prefix))
    return float(found)


def test_the_end_of_a_check_is_noted_and_whether_it_could_be_finished(
    process: MakeProcess, cluster: SimulatedCluster
) -> None:
    service = process(asks=False)
    service.check()
    time, success = 'last_check_timestamp_seconds{group=""}', 'last_check_success{group=""}'
    assert metric(service, time) == service.clock.now().timestamp()
    assert metric(service, success) == 1
    service.clock.advance(600)
    cluster.fail(times=100)
    with pytest.raises(ClusterUnavailableError):
        service.check()
    assert metric(service, time) == service.clock.now().timestamp()
    assert metric(service, success) == 0


def test_a_superseded_process_reports_only_that(
    process: MakeProcess, installation: Installation, cluster: SimulatedCluster
) -> None:
    cluster.unpullable[APP] = "not found"
    old = process(asks=False)
    old.check()
    process(asks=False, IMAGES=BOTH).check()
    cluster.advance(30)
    with pytest.raises(SupersededError):
        old.commit(push("1.2.4", 1))
    found = old.checks.status()["problems"]
    assert len(found) == 2
    assert "another configuration is in charge" in found[0]
    assert [reason for reason, _ in installation.reports()] == ["Superseded"]


# Rollouts


def test_nodes_that_can_be_compared_with_what_was_pushed_do_not_wait_for_others(
    process: MakeProcess, installation: Installation, cluster: SimulatedCluster
) -> None:
    cluster.images[f"{NAME}:latest"] = digest(1)
    cluster.unpullable[OTHER] = "not found"
    service = process(asks=False, IMAGES=f"{LATEST};other={OTHER}", HOLD_BY="containers")
    service.check()
    cluster.advance(60)
    cluster.kill("node-1")
    assert service.commit(push("latest", 2)) == (Outcome.MUTATED,)
    assert service.checks.rollout() is RolloutProgress.WAITS
    assert "pulledAgain" not in installation.state()["entries"]["app"]["tags"][0]
    cluster.advance(60)
    assert service.checks.rollout() is RolloutProgress.CHANGED
    assert installation.state()["entries"]["app"]["tags"][0]["pulledAgain"]
    cluster.advance(60)
    assert service.checks.rollout() is RolloutProgress.WAITS


def test_nodes_pull_again_once_their_registry_shows_what_was_pushed(
    process: MakeProcess,
    installation: Installation,
    cluster: SimulatedCluster,
    registries: FakeRegistries,
) -> None:
    registry_has(registries, latest=1)
    cluster.images[f"{NAME}:latest"] = digest(1)
    service = process(IMAGES=LATEST)
    service.check()
    assert service.commit(push("latest", 2, seconds=1)) == (Outcome.MUTATED,)
    service.clock.advance(60)
    cluster.advance(60)
    installation.sent()
    assert service.checks.rollout() is RolloutProgress.WAITS
    assert installation.written() == []
    registry_has(registries, latest=2)
    assert service.checks.rollout() is RolloutProgress.CHANGED
    (tag,) = installation.state()["entries"]["app"]["tags"]
    assert (tag["digest"], tag["confirmed"], tag["pulledAgain"]) == (digest(2), True, True)


@pytest.mark.parametrize(
    ("error", "progress"),
    [
        (RegistryUnavailableError("unavailable"), RolloutProgress.WAITS),
        (RefusedByRegistryError("401"), RolloutProgress.CHANGED),
    ],
)
def test_nodes_do_not_pull_again_while_their_registry_is_unavailable(
    process: MakeProcess,
    cluster: SimulatedCluster,
    registries: FakeRegistries,
    error: Exception,
    progress: RolloutProgress,
) -> None:
    registry_has(registries, latest=1)
    cluster.images[f"{NAME}:latest"] = digest(1)
    service = process(IMAGES=LATEST)
    service.check()
    service.commit(push("latest", 2))
    cluster.advance(60)
    registries.fail("quay.io", error)
    assert service.checks.rollout() is progress


def test_nodes_pull_again_after_the_time_in_which_a_registry_may_show_older_content(
    process: MakeProcess, installation: Installation, cluster: SimulatedCluster
) -> None:
    cluster.images[f"{NAME}:latest"] = digest(1)
    service = process(asks=False, IMAGES=LATEST)
    service.check()
    service.commit(push("latest", 2))
    cluster.advance(60)
    assert service.checks.rollout() is RolloutProgress.CHANGED
    cluster.advance(60)
    assert service.checks.rollout() is RolloutProgress.WAITS
    service.clock.advance(limits.SETTLING_SECONDS)
    assert service.checks.rollout() is RolloutProgress.CHANGED
    cluster.advance(60)
    # Some runtimes report the first digest that an image had, so this ends.
    assert service.checks.rollout() is RolloutProgress.FINISHED


# Artifacts that are no images


def test_a_check_finds_images_behind_many_newer_charts(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    charts = {f"v2_0_{number}": 100 + number for number in range(20)}
    registry_has(registries, v1_2_3=3, v1_9_0=4, v1_9_1=5, **charts)
    registries.kinds = {digest(number): "a chart" for number in charts.values()}
    service = process()
    service.check()
    assert installation.images() == [f"{NAME}:{tag}" for tag in ("1.2.3", "1.9.0", "1.9.1")]
    assert service.checks.problems == ()


def test_a_check_asks_once_what_an_image_is(
    process: MakeProcess, registries: FakeRegistries
) -> None:
    registry_has(registries, v1_2_3=3, v1_9_0=4)
    service = process()
    service.check()
    assert {str(asked.digest) for asked in registries.kinds_asked} == {digest(3), digest(4)}
    registries.kinds_asked.clear()
    service.check()
    assert registries.kinds_asked == []


def test_a_check_untracks_a_tag_that_is_no_image(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    """The webhooks of Harbor do not say what an artifact is."""
    registry_has(registries, v1_2_3=3, v2_0_0=4)
    registries.kinds = {digest(4): "a chart"}
    service = process()
    service.check()
    service.commit(push("2.0.0", 4))
    assert installation.images() == [APP, f"{NAME}:2.0.0"]
    service.check()
    assert installation.images() == [APP]


def test_a_tag_that_a_chart_has_replaced_is_untracked(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registry_has(registries, v1_2_3=3, v1_2_4=4)
    service = process()
    service.check()
    registry_has(registries, v1_2_3=3, v1_2_4=5)
    registries.kinds = {digest(5): "a chart"}
    service.check()
    assert installation.images() == [APP]


def test_a_configured_tag_that_is_no_image_is_a_problem(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registry_has(registries, v1_2_3=3)
    registries.kinds = {digest(3): "a chart"}
    service = process()
    service.check()
    assert service.checks.problems == (
        f"{APP} is configured, but it is a chart and no image; change IMAGES",
    )
    assert installation.images() == [APP]


def test_an_unverified_push_that_is_no_image_is_given_up(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registry_has(registries, v1_2_3=3, v1_2_4=1)
    registries.kinds = {digest(1): "a chart"}
    service = process()
    service.check()
    service.commit(unverified(service.clock))
    service.checks.unverified_pushes()
    assert installation.images() == [APP]
    assert "unverified" not in installation.state()["entries"]["app"]


def test_a_recent_push_counts_more_than_an_older_chart_of_its_tag(
    process: MakeProcess, installation: Installation, registries: FakeRegistries
) -> None:
    registry_has(registries, v1_2_3=3, v1_2_4=4)
    registries.kinds = {digest(4): "a chart"}
    service = process()
    service.commit(push("1.2.4", 5))
    service.check()
    assert installation.images() == [APP, NEWER]
