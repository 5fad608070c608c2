"""The looks that nobody waits for: at start, at each tick, and at what earlier ones left open."""

import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from image_puller import limits
from image_puller.cluster.observer import Observer
from image_puller.controller import schedule
from image_puller.controller.checks import SOURCE, Looks
from image_puller.controller.commits import Commits
from image_puller.controller.metrics import Metrics
from image_puller.controller.schedule import Ticker
from image_puller.controller.writer import Writer
from image_puller.core.changes import Change, Hold, Refresh
from image_puller.core.decide import Outcome
from image_puller.errors import RefusedByRegistryError, RegistryUnavailableError
from image_puller.registries.lookup import Lookup
from image_puller.simulation import SimulatedCluster
from image_puller.values.reference import parse
from tests.conftest import PATIENCE_SECONDS, Installation, Replica, Time, wait_until
from tests.support.building import digest, push
from tests.support.registries import Answers

AT_ONCE = {"ROLLOUT_MIN_INTERVAL_SECONDS": "0"}
NAME = "quay.io/org/app"
LATEST = {"IMAGES": f"app={NAME}:latest"} | AT_ONCE


class Process:
    """A process of the service: its writer and its ticker."""

    def __init__(self, replica: Replica, lookup: Lookup | None, *, ticks: bool) -> None:
        self.replica = replica
        self.metrics = Metrics()
        self.writer = Writer(replica.reconciler)
        self.commits = Commits(self.writer, self.metrics)
        observer = Observer(replica.config, replica.cluster)
        self.looks = Looks(replica.config, observer, self.commits, lookup)
        self.ticker = Ticker(self.looks, ticks=ticks)
        self.writer.start()

    def start(self) -> None:
        """Start to look, and wait for the end of the first look."""
        self.ticker.start()
        self.wait_for_looks(1)

    def taken(self) -> int:
        """How many looks are over."""
        line = f'image_puller_events_total{{outcome="checked",source="{SOURCE}"}} '
        found = [each for each in self.metrics.text().decode().splitlines() if line in each]
        return int(float(found[0].removeprefix(line))) if found else 0

    def wait_for_looks(self, number: int) -> None:
        wait_until(lambda: self.taken() >= number)

    def commit(self, *changes: Change) -> tuple[Outcome, ...]:
        """Commit changes as a request does, and have the ticker follow them up."""
        outcomes = self.commits.commit("quay", changes, patience=PATIENCE_SECONDS)
        self.ticker.follow_up(changes, outcomes)
        return outcomes

    def stop(self) -> None:
        """End it."""
        self.ticker.stop()
        self.writer.stop()
        self.ticker._thread.join(PATIENCE_SECONDS)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is followed up is followed up at once."""
    monkeypatch.setattr(limits, "FIRST_FOLLOW_UP_SECONDS", 0.005)
    monkeypatch.setattr(limits, "LOOKS_APART_SECONDS", 0.0)


@pytest.fixture
def process(replica: Callable[..., Replica], lookup: Lookup) -> Iterator[Callable[..., Process]]:
    """Makes processes of the service, each configured by these variables."""
    made: list[Process] = []

    def make(*, asks: bool = True, ticks: bool = True, **variables: str) -> Process:
        made.append(Process(replica(**AT_ONCE | variables), lookup if asks else None, ticks=ticks))
        return made[-1]

    yield make
    for each in made:
        each.stop()


MakeProcess = Callable[..., Process]


def has(answers: Answers, **digests: int) -> None:
    """Let the registry have these tags, each with the digest of that number, and no others."""
    tags = {name.removeprefix("v").replace("_", "."): n for name, n in digests.items()}
    answers.digests = {parse(f"{NAME}:{tag}"): digest(n) for tag, n in tags.items()}
    answers.listings = {parse(NAME): tuple(tags)}


def hold(tag: str = "1.2.4", number: int = 1) -> Hold:
    now = datetime.now(UTC).replace(microsecond=0)
    return Hold(entry="app", tag=tag, digest=digest(number), time=now, reason="away")


# The first look


def test_the_daemonset_is_made_with_what_registries_say_of_its_images(
    process: MakeProcess, installation: Installation, answers: Answers
) -> None:
    has(answers, v1_2_3=3)
    process().start()
    assert installation.digests() == {"app": digest(3)}
    assert installation.live()["metadata"]["generation"] == 1


def test_a_registry_that_says_nothing_does_not_keep_the_daemonset_from_being_made(
    process: MakeProcess,
    installation: Installation,
    answers: Answers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "FIRST_LOOK_SECONDS", 0.02)
    answers.close("quay.io")
    service = process()
    service.start()
    assert installation.images() == [f"{NAME}:1.2.3"]
    assert len(service.looks.problems) == 2  # the listing, the digest
    assert all("did not say in time" in problem for problem in service.looks.problems)


def test_where_no_registry_may_be_asked_none_is_and_nothing_is_wrong(
    process: MakeProcess, installation: Installation, answers: Answers
) -> None:
    service = process(asks=False)
    service.start()
    assert installation.images() == [f"{NAME}:1.2.3"]
    assert (answers.asked, service.looks.problems) == ([], ())


def test_where_others_tick_the_look_at_start_leaves_registries_to_them_unless_all_is_new(
    process: MakeProcess, installation: Installation, answers: Answers
) -> None:
    has(answers, v1_2_3=3)
    process(ticks=False).start()
    assert installation.digests() == {"app": digest(3)}
    has(answers, v1_2_3=4)
    answers.asked.clear()
    service = process(ticks=False)
    service.start()
    assert installation.digests() == {"app": digest(3)}
    assert answers.asked == []
    service.commit(Refresh())
    wait_until(lambda: installation.digests() == {"app": digest(4)})


# Catching up


def test_after_any_number_of_missed_webhooks_a_look_finds_all_that_they_would_have_said(
    process: MakeProcess, installation: Installation, answers: Answers
) -> None:
    has(answers, v1_2_3=3)
    first = process()
    first.start()
    first.commit(push("1.2.4", 1), push("1.2.5", 1), push("1.2.9", 1))
    first.stop()

    # Missed: 1.2.4 moved, 1.2.9 was deleted, 1.3.0 and 1.3.1 are new.
    has(answers, v1_2_3=3, v1_2_4=4, v1_2_5=1, v1_3_0=5, v1_3_1=6)
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


def test_a_look_after_which_nothing_is_new_writes_nothing(
    process: MakeProcess, installation: Installation, answers: Answers
) -> None:
    has(answers, v1_2_3=3, v1_2_4=4)
    process().start()
    installation.sent()
    process().start()
    assert installation.written() == []


def test_what_a_registry_does_not_say_is_a_problem_and_changes_nothing(
    process: MakeProcess,
    installation: Installation,
    answers: Answers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    has(answers, v1_2_3=3, v1_2_4=4)
    process().start()
    before = installation.live()
    refusal = RefusedByRegistryError("quay.io answered 401; name a pull secret")
    answers.digests = dict.fromkeys(answers.digests, refusal)
    answers.listings = {parse(NAME): refusal}
    service = process()
    service.start()
    assert installation.live() == before
    assert service.looks.problems == ("quay.io answered 401; name a pull secret",)
    assert "quay.io answered 401; name a pull secret" in caplog.messages


def test_a_moving_tag_that_nobody_can_be_asked_about_is_rolled_once_per_interval(
    process: MakeProcess, installation: Installation, answers: Answers, now: Time
) -> None:
    has(answers, latest=1)
    process(**LATEST).start()
    generation = installation.live()["metadata"]["generation"]
    now.advance(3600)
    process(**LATEST).start()
    assert installation.live()["metadata"]["generation"] == generation
    for error, rolls in ((RegistryUnavailableError("away"), 0), (RefusedByRegistryError("401"), 1)):
        answers.digests = {parse(f"{NAME}:latest"): error}
        process(**LATEST).start()
        assert installation.live()["metadata"]["generation"] == generation + rolls


# Ticks


def test_a_tick_that_somebody_sends_is_followed_by_a_look(
    process: MakeProcess, installation: Installation, answers: Answers
) -> None:
    has(answers, v1_2_3=3)
    service = process()
    service.start()
    has(answers, v1_2_3=3, v1_2_4=4)
    service.commit(Refresh())
    wait_until(lambda: installation.images() == [f"{NAME}:1.2.3", f"{NAME}:1.2.4"])


def test_ticks_that_arrive_together_are_one(
    process: MakeProcess, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = 60.0
    monkeypatch.setattr(limits, "LOOKS_APART_SECONDS", apart)
    service = process()
    service.start()
    wait_until(lambda: service.ticker._not_before > 0)
    for _ in range(20):
        service.commit(Refresh())
    assert service.taken() == 1
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + apart)
    monkeypatch.setattr(schedule, "time", later)
    service.ticker.follow_up((), ())  # has it look at the clock
    service.wait_for_looks(2)
    time.sleep(0.05)
    assert service.taken() == 2


def test_off_knative_it_looks_again_and_again(
    process: MakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TICK_SECONDS", 0.005)
    service = process(ticks=True)
    service.start()
    service.wait_for_looks(3)


def test_a_push_that_seems_older_has_its_registry_asked(
    process: MakeProcess, installation: Installation, answers: Answers
) -> None:
    has(answers, latest=1)
    service = process(**LATEST)
    service.start()
    has(answers, latest=2)
    # The registry's clock is far behind ours.
    assert service.commit(push("latest", 2)) == (Outcome.OLDER,)
    wait_until(lambda: installation.digests() == {"app": digest(2)})


# Unverified pushes


def test_an_unverified_push_is_asked_about_until_its_registry_confirms_it(
    process: MakeProcess, installation: Installation, answers: Answers
) -> None:
    has(answers, v1_2_3=3)
    service = process()
    service.start()
    service.commit(hold())
    asked = len(answers.asked)
    wait_until(lambda: len(answers.asked) >= asked + 2)
    assert installation.images() == [f"{NAME}:1.2.3"]
    has(answers, v1_2_3=3, v1_2_4=1)
    wait_until(lambda: installation.images() == [f"{NAME}:1.2.3", f"{NAME}:1.2.4"])
    assert "unverified" not in installation.state()["entries"]["app"]
    wait_until(lambda: service.ticker._verification.due is None)


@pytest.mark.parametrize("ticks", [True, False])
def test_whichever_process_runs_next_goes_on_with_unverified_pushes(
    process: MakeProcess, installation: Installation, answers: Answers, ticks: bool
) -> None:
    has(answers, v1_2_3=3)
    first = process()
    first.start()
    first.commit(hold())
    first.stop()
    process(ticks=ticks).start()
    has(answers, v1_2_3=3, v1_2_4=1)
    wait_until(lambda: installation.images() == [f"{NAME}:1.2.3", f"{NAME}:1.2.4"])


def test_a_stream_of_new_pushes_keeps_no_older_one_from_being_verified(
    process: MakeProcess,
    installation: Installation,
    answers: Answers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "FIRST_FOLLOW_UP_SECONDS", 0.2)
    has(answers, v1_2_3=3)
    service = process()
    service.start()
    service.commit(hold())
    has(answers, v1_2_3=3, v1_2_4=1)

    def is_followed() -> bool:
        service.commit(hold(f"1.3.{len(answers.asked)}"))
        return f"{NAME}:1.2.4" in installation.images()

    wait_until(is_followed)


def test_an_unverified_push_outlives_an_api_server_that_is_away(
    process: MakeProcess, installation: Installation, answers: Answers
) -> None:
    has(answers, v1_2_3=3)
    service = process()
    service.start()
    service.commit(hold())
    installation.cluster.fail(times=2, path="daemonsets")
    has(answers, v1_2_3=3, v1_2_4=1)
    wait_until(lambda: installation.images() == [f"{NAME}:1.2.3", f"{NAME}:1.2.4"])


# What nodes then report


def rolled(installation: Installation, cluster: SimulatedCluster) -> list[str | None]:
    """The times of blind rolls that the nodes' pods show, once all have started."""
    cluster.advance(60)
    annotations = [pod["metadata"]["annotations"] for pod in cluster.pods()]
    return [each.get("image-puller.io/refreshed") for each in annotations]


def test_nodes_that_got_another_content_are_rolled_once_more_and_only_once(
    process: MakeProcess, installation: Installation, cluster: SimulatedCluster, answers: Answers
) -> None:
    has(answers, latest=1)
    cluster.images[f"{NAME}:latest"] = digest(1)
    service = process(**LATEST)
    service.start()
    # The push is heard of, and the nodes pull, before its tag can be read.
    now = (datetime.now(UTC).timestamp() - datetime(2026, 1, 15, 12, tzinfo=UTC).timestamp()) // 1
    assert service.commit(push("latest", 2, seconds=now + 5)) == (Outcome.MOVED,)
    assert rolled(installation, cluster) == [None] * 3
    tag = lambda: installation.state()["entries"]["app"]["tags"][0]  # noqa: E731
    wait_until(lambda: tag().get("again", False))
    (again,) = {*rolled(installation, cluster)}
    assert again is not None
    # Whatever they report now, they have been asked.
    wait_until(lambda: service.ticker._rollout.due is None)
    assert {*rolled(installation, cluster)} == {again}


def test_a_rollout_is_followed_for_as_long_as_it_takes(
    process: MakeProcess, cluster: SimulatedCluster, answers: Answers
) -> None:
    has(answers, latest=1)
    service = process(**LATEST)
    service.start()
    cluster.requests.clear()
    pods = f"/api/v1/namespaces/{service.replica.config.namespace}/pods"
    wait_until(lambda: [each.path for each in cluster.requests].count(pods) >= 3)
    cluster.advance(60)
    wait_until(lambda: service.ticker._rollout.due is None)


def test_a_rollout_that_does_not_end_is_left_to_the_ticks(
    process: MakeProcess, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FOLLOW_UP_SECONDS", 0.02)
    service = process(**LATEST)
    service.ticker._rollout.most = 0.02
    service.start()
    wait_until(lambda: service.ticker._rollout.due is None)


def test_a_fault_of_ours_ends_no_ticker(
    process: MakeProcess, answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answers.digests = {parse(f"{NAME}:1.2.3"): ZeroDivisionError()}
    service = process()
    service.start()
    wait_until(lambda: "the look failed" in caplog.messages)
    has(answers, v1_2_3=3)
    service.commit(Refresh())
    service.wait_for_looks(2)
    assert service.looks.problems == ()
