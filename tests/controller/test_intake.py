"""From events to commits: matched, counted, logged."""

import logging
import time
from collections.abc import Callable, Iterator

import pytest

from image_puller.controller.intake import Intake
from image_puller.controller.metrics import Metrics
from image_puller.controller.writer import Writer
from image_puller.core.changes import (
    AwaitVerification,
    Change,
    CheckDaemonSet,
    EnsureExists,
    RegistryAnswer,
    TrackTag,
)
from image_puller.core.decide import Outcome
from image_puller.errors import RegistryUnavailableError
from image_puller.events.event import (
    CheckRequested,
    Event,
    Ignored,
    ImageDeleted,
    ImagePushed,
    NodeJoined,
)
from image_puller.registries.lookup import Lookup
from image_puller.simulation import SimulatedCluster
from image_puller.values.reference import parse
from tests.support.building import NOON, digest
from tests.support.clock import ManualClock
from tests.support.installation import Installation
from tests.support.registries import FakeRegistries
from tests.support.replica import Replica
from tests.support.waiting import TIMEOUT_SECONDS

APP = "quay.io/org/app:1.2.3"
NEWER = "quay.io/org/app:1.2.4"


class Service:
    """An intake and what it counts."""

    def __init__(self, replica: Replica, lookup: Lookup | None = None) -> None:
        self.metrics = Metrics()
        clock = ManualClock()
        self.writer = Writer(replica.reconciler, self.metrics, clock)
        self.writer.start()
        self.noted: list[tuple[Change, Outcome]] = []
        self.intake = Intake(
            replica.config,
            self.writer,
            self.metrics,
            clock,
            lookup=lookup,
            on_commit=lambda changes, outcomes: self.noted.extend(
                zip(changes, outcomes, strict=True)
            ),
        )

    def accept(self, *events: Event, trusted: bool = True) -> None:
        self.intake.accept("quay", events, timeout=TIMEOUT_SECONDS, is_trusted=trusted)

    def counted(self) -> dict[str, int]:
        beginning = 'image_puller_events_total{outcome="'
        lines = self.metrics.text().decode().splitlines()
        return {
            line.removeprefix(beginning).partition('"')[0]: int(float(line.rpartition(" ")[2]))
            for line in lines
            if line.startswith(beginning)
        }


@pytest.fixture
def service(replica: Callable[..., Replica]) -> Iterator[Service]:
    service = Service(replica(ROLLOUT_MIN_INTERVAL_SECONDS="0"))
    service.accept(CheckRequested())
    yield service
    service.writer.stop()


@pytest.fixture
def asking(replica: Callable[..., Replica], lookup: Lookup) -> Iterator[Callable[..., Service]]:
    """Makes intakes that ask registries, each configured by these variables."""
    made: list[Service] = []

    def make(**variables: str) -> Service:
        made.append(Service(replica(ROLLOUT_MIN_INTERVAL_SECONDS="0", **variables), lookup))
        made[-1].accept(CheckRequested())
        made[-1].noted.clear()
        return made[-1]

    yield make
    for service in made:
        service.writer.stop()


def pushed(
    tag: str | None = "1.2.4", repository: str = "org/app", number: int | None = 1
) -> ImagePushed:
    content = None if number is None else digest(number)
    return ImagePushed(registry="quay.io", repository=repository, tag=tag, digest=content)


def deleted(tag: str = "1.2.4") -> ImageDeleted:
    return ImageDeleted(registry="quay.io", repository="org/app", tag=tag, digest=None)


def test_a_push_is_followed_counted_and_logged(
    service: Service, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service.accept(pushed())
    assert installation.images() == [APP, NEWER]
    assert service.counted() == {"checked": 1, "tracked": 1}
    assert f"quay: app 1.2.4 {digest(1)}: tracked" in caplog.messages


def test_a_deletion_is_forgotten(service: Service, installation: Installation) -> None:
    service.accept(pushed())
    service.accept(deleted())
    assert installation.images() == [APP]
    assert service.counted()["untracked"] == 1


@pytest.mark.parametrize("event", [NodeJoined(node="node-1"), CheckRequested()])
def test_a_node_or_a_tick_has_the_daemonset_checked(
    service: Service, caplog: pytest.LogCaptureFixture, event: Event
) -> None:
    caplog.set_level(logging.INFO)
    service.accept(event)
    assert service.counted() == {"checked": 2}
    assert "quay: DaemonSet: checked" in caplog.messages


REFUSED = [
    (Ignored(reason="pull"), "pull"),
    (pushed(tag=None), "untagged"),
    (pushed(repository="org/unknown"), "unknown repository"),
    (pushed("latest"), "policy: "),
    (ImagePushed(registry=None, repository="org/app", tag="1", digest=None), "no registry"),
]


@pytest.mark.parametrize(("event", "reason"), REFUSED)
def test_what_needs_no_state_to_be_refused_costs_no_request(
    service: Service, installation: Installation, event: Event, reason: str
) -> None:
    before = installation.live()
    installation.sent()
    service.accept(event)
    assert installation.sent() == []
    assert installation.live() == before
    (counted,) = service.counted().keys() - {"checked"}
    assert counted.startswith(reason)


def test_what_is_refused_stops_nothing_that_came_with_it(
    service: Service, installation: Installation
) -> None:
    installation.sent()
    service.accept(*(event for event, _ in REFUSED), pushed(), CheckRequested(), pushed("1.2.5"))
    assert installation.written() == ["PATCH daemonsets"]
    assert installation.images() == [APP, NEWER, "quay.io/org/app:1.2.5"]
    assert sum(service.counted().values()) == len(REFUSED) + 4


def test_nothing_is_committed_for_no_events(service: Service, installation: Installation) -> None:
    installation.sent()
    service.accept()
    assert installation.sent() == []


@pytest.mark.parametrize("event", [pushed(), deleted("1.2.3")])
def test_of_an_untrusted_sender_a_push_is_a_tick(
    service: Service, installation: Installation, cluster: SimulatedCluster, event: Event
) -> None:
    before = installation.live()
    service.accept(event, trusted=False)
    assert installation.live() == before
    assert service.counted() == {"checked": 2}
    assert any(request.dry_run for request in cluster.requests)


@pytest.mark.parametrize("event", [NodeJoined(node="node-1"), CheckRequested()])
def test_an_untrusted_sender_may_say_when_to_look(service: Service, event: Event) -> None:
    service.accept(event, trusted=False)
    assert service.counted() == {"checked": 2}


def test_of_an_untrusted_sender_too_is_ignored_what_says_nothing(
    service: Service, installation: Installation
) -> None:
    installation.sent()
    service.accept(Ignored(reason="pull"), trusted=False)
    assert installation.sent() == []
    assert service.counted() == {"checked": 1, "pull": 1}


# What registries are asked before anything is committed

VERIFIED = {"ASK_REGISTRIES": "true", "VERIFY_PUSHES": "true"}
AWAY = RegistryUnavailableError("registry quay.io can't be asked")


def test_a_push_without_a_digest_is_completed(
    asking: Callable[..., Service], installation: Installation, registries: FakeRegistries
) -> None:
    registries.digests = {parse(NEWER): digest(5)}
    asking().accept(pushed(number=None))
    assert digest(5) in installation.digests().values()


def test_a_push_that_says_everything_is_not_asked_about(
    asking: Callable[..., Service], registries: FakeRegistries
) -> None:
    asking().accept(pushed())
    assert registries.asked == []


@pytest.mark.parametrize("answer", [AWAY, None])
def test_a_push_that_nobody_can_complete_is_followed_as_it_is(
    asking: Callable[..., Service],
    installation: Installation,
    registries: FakeRegistries,
    caplog: pytest.LogCaptureFixture,
    answer: Exception | None,
) -> None:
    registries.digests = {} if answer is None else {parse(NEWER): answer}
    asking().accept(pushed(number=None))
    assert installation.images() == [APP, NEWER]
    assert installation.digests() == {}
    told = [record.message for record in caplog.records if "can't be asked" in record.message]
    assert told == ([] if answer is None else [f"quay: {AWAY}"])


def test_a_registry_that_never_answers_takes_its_part_of_the_patience_and_no_more(
    asking: Callable[..., Service], installation: Installation, registries: FakeRegistries
) -> None:
    service = asking()
    registries.close("quay.io")
    started = time.monotonic()
    service.intake.accept("quay", (pushed(number=None),), timeout=2)
    assert 0.9 < time.monotonic() - started < 2
    assert installation.images() == [APP, NEWER]


def test_a_push_that_its_registry_confirms_is_followed(
    asking: Callable[..., Service], installation: Installation, registries: FakeRegistries
) -> None:
    registries.digests = {parse(NEWER): digest(1)}
    asking(**VERIFIED).accept(pushed())
    assert digest(1) in installation.digests().values()


def test_a_forged_push_brings_nothing(
    asking: Callable[..., Service], installation: Installation, registries: FakeRegistries
) -> None:
    registries.digests = {parse(NEWER): digest(1)}
    asking(**VERIFIED).accept(pushed(number=666))
    assert installation.images() == [APP]
    (held,) = installation.state()["entries"]["app"]["unverified"]
    assert held["reason"] == f"quay.io has {digest(1)} for 1.2.4"


@pytest.mark.parametrize("answer", [AWAY, None])
def test_a_push_that_nobody_confirms_is_held_in_the_state_and_followed_up(
    asking: Callable[..., Service],
    installation: Installation,
    registries: FakeRegistries,
    answer: Exception | None,
) -> None:
    service = asking(**VERIFIED)
    template = installation.template()
    registries.digests = {} if answer is None else {parse(NEWER): answer}
    service.accept(pushed())
    assert installation.template() == template
    (held,) = installation.state()["entries"]["app"]["unverified"]
    assert held == {
        "tag": "1.2.4",
        "digest": digest(1),
        "time": "2026-01-15T12:00:00.000Z",
        "reason": str(answer) if answer else f"quay.io has no {NEWER}",
    }
    assert service.counted() == {"checked": 1, "awaiting_verification": 1}
    ((change, outcome),) = service.noted
    assert (type(change), outcome) == (AwaitVerification, Outcome.AWAITING_VERIFICATION)


@pytest.mark.parametrize("trusted", [True, False])
def test_a_deletion_that_needs_to_be_verified_is_a_tick(
    asking: Callable[..., Service], installation: Installation, trusted: bool
) -> None:
    service = asking(**VERIFIED)
    before = installation.live()
    service.accept(deleted("1.2.3"), trusted=trusted)
    assert installation.live() == before
    assert service.noted == [(CheckDaemonSet(), Outcome.CHECKED)]


def test_of_an_untrusted_sender_is_pulled_what_the_registry_has_by_the_policy(
    asking: Callable[..., Service], installation: Installation, registries: FakeRegistries
) -> None:
    registries.digests = {parse(NEWER): digest(1)}
    service = asking()
    service.accept(pushed(number=666), pushed("latest"), trusted=False)
    assert installation.images() == [APP, NEWER]
    assert [*installation.digests().values()] == [digest(1)]
    ((change, _),) = service.noted
    assert change == RegistryAnswer(entry="app", tag="1.2.4", digest=digest(1), time=NOON)


@pytest.mark.parametrize("answer", [AWAY, None])
def test_of_an_untrusted_sender_what_the_registry_does_not_confirm_is_a_tick(
    asking: Callable[..., Service],
    installation: Installation,
    registries: FakeRegistries,
    answer: Exception | None,
) -> None:
    registries.digests = {} if answer is None else {parse(NEWER): answer}
    service = asking()
    before = installation.live()
    service.accept(pushed(), trusted=False)
    assert installation.live() == before
    assert service.noted == [(CheckDaemonSet(), Outcome.CHECKED)]


def test_what_was_committed_is_followed_up(service: Service) -> None:
    service.noted.clear()
    service.accept(pushed(), NodeJoined(node="node-1"), Ignored(reason="pull"))
    assert [(type(change), outcome) for change, outcome in service.noted] == [
        (TrackTag, Outcome.TRACKED),
        (EnsureExists, Outcome.CHECKED),
    ]
