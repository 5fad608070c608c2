"""The intake: events are matched, completed or verified at registries, committed and counted."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from image_puller import limits
from image_puller.controller.intake import Intake, Receiver
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
from image_puller.errors import ClusterUnavailableError, RegistryUnavailableError
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
from image_puller.values.reference import Reference, parse
from tests.support.building import NOON, digest
from tests.support.clock import ManualClock
from tests.support.daemonset import (
    APP,
    AT_ONCE,
    CHECK,
    NEWER,
    READ_STATE,
    MakeReplica,
)
from tests.support.installation import Gate, Installation
from tests.support.registries import FakeRegistries
from tests.support.replica import Replica
from tests.support.waiting import TIMEOUT_SECONDS, wait_until


class Service:
    """An intake with its writer and its metrics.

    `noted` has what was committed, and `repositories` those to check.
    """

    def __init__(self, replica: Replica, lookup: Lookup | None = None) -> None:
        self.metrics = Metrics()
        self.clock = clock = ManualClock()
        self.writer = Writer(replica.reconciler, self.metrics, clock)
        self.writer.start()
        self.noted: list[tuple[Change, Outcome]] = []
        self.repositories: list[str] = []
        config = replica.config
        receiver = Receiver(config=config, writer=self.writer, listener=self)
        self.intake = Intake(
            [receiver], self.metrics, clock, verify_pushes=config.verify_pushes, lookup=lookup
        )

    def note_commit(self, changes: Sequence[Change], outcomes: Sequence[Outcome]) -> None:
        self.noted.extend(zip(changes, outcomes, strict=True))

    def note_repository(self, name: Reference) -> None:
        self.repositories.append(str(name))

    def recent(self) -> list[tuple[str, str, str | None]]:
        """Return what was decided about the last pushes: the subject, the decision, the entry."""
        return [
            (each.subject, each.decision, each.entry) for each in self.intake.recent.newest_first()
        ]

    def accept(self, *events: Event, trusted: bool = True) -> None:
        self.intake.accept("quay", events, timeout=TIMEOUT_SECONDS, is_trusted=trusted)

    def counted(self) -> dict[str, int]:
        """Return the numbers of events by outcome."""
        prefix = 'image_puller_events_total{outcome="'
        lines = self.metrics.text().decode().splitlines()
        return {
            line.removeprefix(prefix).partition('"')[0]: int(float(line.rpartition(" ")[2]))
            for line in lines
            if line.startswith(prefix)
        }


MakeService = Callable[..., Service]


@pytest.fixture
def service(replica: MakeReplica) -> Iterator[Service]:
    """Return an intake that asks no registry."""
    service = Service(replica(**AT_ONCE))
    service.accept(CheckRequested())
    yield service
    service.writer.stop()


@pytest.fixture
def asking(replica: MakeReplica, lookup: Lookup) -> Iterator[MakeService]:
    """Return intakes that ask registries, each configured by these variables."""
    services: list[Service] = []

    def make(**variables: str) -> Service:
        service = Service(replica(**AT_ONCE, **variables), lookup)
        services.append(service)
        service.accept(CheckRequested())
        service.noted.clear()
        return service

    yield make
    for service in services:
        service.writer.stop()


def pushed(
    tag: str | None = "1.2.4", repository: str = "org/app", number: int | None = 1
) -> ImagePushed:
    content = None if number is None else digest(number)
    return ImagePushed(registry="quay.io", repository=repository, tag=tag, digest=content)


def deleted(tag: str = "1.2.4") -> ImageDeleted:
    return ImageDeleted(registry="quay.io", repository="org/app", tag=tag, digest=None)


def test_a_push_is_tracked_counted_and_logged(
    service: Service, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service.accept(pushed())
    assert installation.images() == [APP, NEWER]
    assert service.counted() == {"checked": 1, "tracked": 1}
    assert f"quay: app 1.2.4 {digest(1)}: tracked" in caplog.messages


@pytest.mark.parametrize(
    ("event", "is_push"),
    [("pushed", True), ("ignored", True), ("deleted", False), ("check", False)],
)
def test_the_time_of_the_last_push_of_a_source_is_kept(
    service: Service, event: str, is_push: bool
) -> None:
    events: dict[str, Event] = {
        "pushed": pushed(),
        "ignored": pushed(repository="org/unknown"),
        "deleted": deleted(),
        "check": CheckRequested(),
    }
    service.clock.advance(60)
    service.accept(events[event])
    series = 'image_puller_last_push_timestamp_seconds{source="quay"} '
    found = [each for each in service.metrics.text().decode().splitlines() if series in each]
    times = [float(each.removeprefix(series)) for each in found]
    assert times == ([NOON.timestamp() + 60] if is_push else [])


def test_a_deleted_tag_is_untracked(service: Service, installation: Installation) -> None:
    service.accept(pushed())
    service.accept(deleted())
    assert installation.images() == [APP]
    assert service.counted()["untracked"] == 1


def test_what_was_decided_about_a_push_is_kept_with_its_reason(service: Service) -> None:
    service.accept(pushed())
    service.accept(deleted())
    service.accept(pushed(repository="org/unknown"))
    assert service.recent() == [
        (f"org/unknown 1.2.4 {digest(1)}", "ignored", None),
        ("app 1.2.4", "untracked", "app"),
        (f"app 1.2.4 {digest(1)}", "tracked", "app"),
    ]
    ignored, untracked, _ = service.intake.recent.newest_first()
    assert (ignored.source, ignored.time) == ("quay", NOON)
    assert ignored.why == "no entry of IMAGES names quay.io/org/unknown"
    assert untracked.why == "The tag was deleted, so it is no longer tracked."


@pytest.mark.parametrize("event", [NodeJoined(node="node-1"), CheckRequested()])
def test_a_node_that_joins_or_a_requested_check_is_not_kept_as_a_push(
    service: Service, event: Event
) -> None:
    service.accept(event)
    assert service.recent() == []


def test_an_event_that_is_no_push_is_kept_with_its_reason(service: Service) -> None:
    service.accept(Ignored(reason="pull"))
    assert service.recent() == [("no push of an image", "ignored", None)]
    assert service.intake.recent.newest_first()[0].why == "pull"


def test_a_push_that_could_not_be_written_is_kept_with_its_error(
    service: Service, cluster: SimulatedCluster
) -> None:
    cluster.fail(path="/daemonsets/")
    with pytest.raises(ClusterUnavailableError):
        service.accept(pushed())
    service.writer.stop()
    with pytest.raises(ClusterUnavailableError):
        service.accept(pushed())
    stopped, failed = service.intake.recent.newest_first()
    assert (failed.decision, stopped.decision) == ("not written", "not written")
    assert failed.entry == "app"
    assert failed.why
    assert stopped.why == "the service is stopping"


@pytest.mark.parametrize("event", [NodeJoined(node="node-1"), CheckRequested()])
def test_a_node_that_joins_or_a_requested_check_checks_the_daemonset(
    service: Service, caplog: pytest.LogCaptureFixture, event: Event
) -> None:
    caplog.set_level(logging.INFO)
    service.accept(event)
    assert service.counted() == {"checked": 2}
    assert "quay: DaemonSet: checked" in caplog.messages


IGNORED: list[tuple[Event, str]] = [
    (Ignored(reason="pull"), "pull"),
    (pushed(tag=None), "untagged"),
    (pushed(repository="org/unknown"), "unknown_repository"),
    (pushed("latest"), "policy_"),
    (ImagePushed(registry=None, repository="org/app", tag="1", digest=None), "no_registry"),
]


@pytest.mark.parametrize(("event", "reason"), IGNORED)
def test_an_ignored_event_costs_no_request_to_the_api_server(
    service: Service, installation: Installation, event: Event, reason: str
) -> None:
    before = installation.live()
    installation.sent()
    service.accept(event)
    assert installation.sent() == []
    assert installation.live() == before
    (counted,) = service.counted().keys() - {"checked"}
    assert counted.startswith(reason)


def test_ignored_events_do_not_affect_others_of_the_same_request(
    service: Service, installation: Installation
) -> None:
    installation.sent()
    service.accept(*(event for event, _ in IGNORED), pushed(), CheckRequested(), pushed("1.2.5"))
    assert installation.written() == ["PATCH daemonsets"]
    assert installation.images() == [APP, NEWER, "quay.io/org/app:1.2.5"]
    assert sum(service.counted().values()) == len(IGNORED) + 4


def test_a_request_without_events_commits_nothing(
    service: Service, installation: Installation
) -> None:
    installation.sent()
    service.accept()
    assert installation.sent() == []


@pytest.mark.parametrize("event", [pushed(), deleted("1.2.3")])
def test_a_push_or_deletion_of_an_untrusted_sender_is_a_check(
    service: Service, installation: Installation, cluster: SimulatedCluster, event: Event
) -> None:
    before = installation.live()
    service.accept(event, trusted=False)
    assert installation.live() == before
    assert service.counted() == {"checked": 2}
    assert any(request.dry_run for request in cluster.requests)


@pytest.mark.parametrize("event", [NodeJoined(node="node-1"), CheckRequested()])
def test_an_untrusted_sender_may_request_a_check(service: Service, event: Event) -> None:
    service.accept(event, trusted=False)
    assert service.counted() == {"checked": 2}


def test_checks_of_untrusted_senders_cost_one_inspection_in_an_interval(
    service: Service, installation: Installation
) -> None:
    installation.sent()
    service.noted.clear()
    for event in (CheckRequested(), deleted("1.2.3"), pushed(), CheckRequested()) * 25:
        service.accept(event, trusted=False)
    assert installation.sent() == CHECK
    assert service.counted() == {"checked": 2, "shared_check": 99}
    # The schedule makes one more check, because the one that was shared may be older.
    assert service.noted == [(CheckDaemonSet(), Outcome.CHECKED)] * 100
    service.clock.advance(limits.UNTRUSTED_CHECK_SECONDS)
    service.accept(CheckRequested(), trusted=False)
    assert installation.sent() == CHECK


def test_a_check_of_a_trusted_sender_is_never_shared_with_an_untrusted_one(
    service: Service, installation: Installation
) -> None:
    service.accept(CheckRequested(), trusted=False)
    installation.sent()
    service.accept(CheckRequested())
    assert installation.sent() == CHECK


def test_nodes_that_untrusted_senders_report_share_one_read(
    service: Service, installation: Installation
) -> None:
    installation.sent()
    for _ in range(10):
        service.accept(NodeJoined(node="node-1"), trusted=False)
    assert installation.sent() == [READ_STATE]


def test_a_push_that_its_registry_shows_is_committed_whatever_was_checked_before(
    asking: MakeService, installation: Installation, registries: FakeRegistries
) -> None:
    service = asking()
    service.accept(CheckRequested(), trusted=False)
    registries.digests = {parse(NEWER): digest(1)}
    service.accept(pushed(), CheckRequested(), trusted=False)
    assert installation.images() == [APP, NEWER]


def test_checks_of_trusted_senders_at_the_same_time_share_one_inspection(
    service: Service, installation: Installation, cluster: SimulatedCluster
) -> None:
    installation.sent()
    with Gate(cluster, "GET") as gate, ThreadPoolExecutor(20) as pool:
        first = pool.submit(service.accept, CheckRequested())
        assert gate.reached.wait(TIMEOUT_SECONDS)
        others = [pool.submit(service.accept, CheckRequested()) for _ in range(19)]
        wait_until(lambda: len(service.writer._waiting) == 19)
        gate.__exit__()
        for each in (first, *others):
            each.result()
    assert installation.sent() == CHECK * 2
    assert service.counted() == {"checked": 21}


def test_an_ignored_event_of_an_untrusted_sender_is_ignored(
    service: Service, installation: Installation
) -> None:
    installation.sent()
    service.accept(Ignored(reason="pull"), trusted=False)
    assert installation.sent() == []
    assert service.counted() == {"checked": 1, "pull": 1}


@pytest.mark.parametrize("tag", ["1.2.{}", "latest-{}"])
def test_a_request_with_many_events_has_one_line_for_each_outcome_and_reason(
    service: Service, caplog: pytest.LogCaptureFixture, tag: str
) -> None:
    caplog.set_level(logging.INFO)
    caplog.clear()
    service.accept(*(pushed(tag.format(number), number=number) for number in range(10, 1010)))
    (line,) = (each for each in caplog.messages if each.startswith("quay: "))
    assert line.count(tag.format("")) == limits.LINE_SUBJECTS
    assert "; and 990 more" in line


# Questions to registries before the commit

VERIFIED = {"ASK_REGISTRIES": "true", "VERIFY_PUSHES": "true"}
UNAVAILABLE = RegistryUnavailableError("registry quay.io can't be asked")


def test_a_push_without_a_digest_is_completed(
    asking: MakeService, installation: Installation, registries: FakeRegistries
) -> None:
    registries.digests = {parse(NEWER): digest(5)}
    asking().accept(pushed(number=None))
    assert digest(5) in installation.digests().values()


def test_a_push_with_a_digest_is_not_asked_about(
    asking: MakeService, registries: FakeRegistries
) -> None:
    asking().accept(pushed())
    assert registries.asked == []


@pytest.mark.parametrize("answer", [UNAVAILABLE, None])
def test_a_push_that_no_registry_completes_is_tracked_without_a_digest(
    asking: MakeService,
    installation: Installation,
    registries: FakeRegistries,
    caplog: pytest.LogCaptureFixture,
    answer: Exception | None,
) -> None:
    registries.digests = {} if answer is None else {parse(NEWER): answer}
    asking().accept(pushed(number=None))
    assert installation.images() == [APP, NEWER]
    assert installation.digests() == {}
    warnings = [record.message for record in caplog.records if "can't be asked" in record.message]
    assert warnings == ([] if answer is None else [f"quay: {UNAVAILABLE}"])


def test_a_registry_that_never_answers_costs_only_its_share_of_the_timeout(
    asking: MakeService, installation: Installation, registries: FakeRegistries
) -> None:
    service = asking()
    registries.close("quay.io")
    started = time.monotonic()
    service.intake.accept("quay", (pushed(number=None),), timeout=2)
    assert 0.9 < time.monotonic() - started < 2
    assert installation.images() == [APP, NEWER]


def test_a_push_that_its_registry_confirms_is_tracked(
    asking: MakeService, installation: Installation, registries: FakeRegistries
) -> None:
    registries.digests = {parse(NEWER): digest(1)}
    asking(**VERIFIED).accept(pushed())
    assert digest(1) in installation.digests().values()


def test_a_forged_push_changes_no_image(
    asking: MakeService, installation: Installation, registries: FakeRegistries
) -> None:
    registries.digests = {parse(NEWER): digest(1)}
    asking(**VERIFIED).accept(pushed(number=666))
    assert installation.images() == [APP]
    (unverified,) = installation.state()["entries"]["app"]["unverified"]
    assert unverified["reason"] == f"quay.io has {digest(1)} for 1.2.4"


@pytest.mark.parametrize("answer", [UNAVAILABLE, None])
def test_an_unverified_push_is_kept_in_the_state_and_noted(
    asking: MakeService,
    installation: Installation,
    registries: FakeRegistries,
    answer: Exception | None,
) -> None:
    service = asking(**VERIFIED)
    template = installation.template()
    registries.digests = {} if answer is None else {parse(NEWER): answer}
    service.accept(pushed())
    assert installation.template() == template
    (unverified,) = installation.state()["entries"]["app"]["unverified"]
    assert unverified == {
        "tag": "1.2.4",
        "digest": digest(1),
        "time": "2026-01-15T12:00:00.000Z",
        "reason": str(answer) if answer else f"quay.io has no {NEWER}",
        "ownClock": True,
    }
    assert service.counted() == {"checked": 1, "awaiting_verification": 1}
    ((change, outcome),) = service.noted
    assert (type(change), outcome) == (AwaitVerification, Outcome.AWAITING_VERIFICATION)


@pytest.mark.parametrize("trusted", [True, False])
def test_a_deletion_that_has_to_be_verified_is_a_check(
    asking: MakeService, installation: Installation, trusted: bool
) -> None:
    service = asking(**VERIFIED)
    before = installation.live()
    service.accept(deleted("1.2.3"), trusted=trusted)
    assert installation.live() == before
    assert service.noted == [(CheckDaemonSet(), Outcome.CHECKED)]


def test_a_push_of_an_untrusted_sender_is_replaced_by_the_registrys_answer(
    asking: MakeService, installation: Installation, registries: FakeRegistries
) -> None:
    registries.digests = {parse(NEWER): digest(1)}
    service = asking()
    service.accept(pushed(number=666), pushed("latest"), trusted=False)
    assert installation.images() == [APP, NEWER]
    assert [*installation.digests().values()] == [digest(1)]
    ((change, _),) = service.noted
    assert change == RegistryAnswer(entry="app", tag="1.2.4", digest=digest(1), time=NOON)


@pytest.mark.parametrize("answer", [UNAVAILABLE, None])
def test_an_unconfirmed_push_of_an_untrusted_sender_is_a_check(
    asking: MakeService,
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


def test_committed_changes_are_noted_with_their_outcomes(service: Service) -> None:
    service.noted.clear()
    service.accept(pushed(), NodeJoined(node="node-1"), Ignored(reason="pull"))
    assert [(type(change), outcome) for change, outcome in service.noted] == [
        (TrackTag, Outcome.TRACKED),
        (EnsureExists, Outcome.CHECKED),
    ]


# Pushes of tags that are not tracked


@pytest.mark.parametrize("trusted", [True, False])
def test_a_push_of_a_tag_that_is_not_tracked_causes_a_check_of_its_repository(
    service: Service, trusted: bool
) -> None:
    service.accept(pushed("latest"), trusted=trusted)
    assert service.repositories == ["quay.io/org/app"]


@pytest.mark.parametrize("event", [pushed(), pushed(tag=None), pushed("1", "org/b"), deleted("1")])
def test_other_events_cause_no_check_of_a_repository(service: Service, event: Event) -> None:
    service.accept(event)
    assert service.repositories == []


# Artifacts that are no images


@pytest.mark.parametrize("variables", [{"ASK_REGISTRIES": "true"}, VERIFIED])
@pytest.mark.parametrize("trusted", [True, False])
def test_a_push_that_its_registry_shows_to_be_no_image_is_not_tracked(
    asking: MakeService,
    installation: Installation,
    registries: FakeRegistries,
    variables: dict[str, str],
    trusted: bool,
) -> None:
    registries.digests = {parse(NEWER): digest(1)}
    registries.kinds = {digest(1): "a chart"}
    service = asking(**variables)
    service.accept(pushed(number=None), trusted=trusted)
    assert installation.images() == [APP]
    assert service.counted() == {"checked": 1, "not_image": 1}
