"""From events to commits: matched, counted, logged."""

import logging
from collections.abc import Callable, Iterator

import pytest

from image_puller.events import Event, Ignored, ImageDeleted, ImagePushed, NodeJoined, RefreshDue
from image_puller.commits import Commits
from image_puller.intake import Intake
from image_puller.metrics import Metrics
from image_puller.simulation import SimulatedCluster
from image_puller.writer import Writer
from tests.building import NOON, digest
from tests.conftest import PATIENCE_SECONDS, Installation, Replica

APP = "quay.io/org/app:1.2.3"
NEWER = "quay.io/org/app:1.2.4"


class Service:
    """An intake and what it counts."""

    def __init__(self, replica: Replica) -> None:
        self.metrics = Metrics()
        self.writer = Writer(replica.reconciler)
        self.writer.start()
        commits = Commits(self.writer, self.metrics)
        self.intake = Intake(replica.config, commits, self.metrics, now=lambda: NOON)

    def accept(self, *events: Event, trusted: bool = True) -> None:
        self.intake.accept("quay", events, patience=PATIENCE_SECONDS, is_trusted=trusted)

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
    service.accept(RefreshDue())
    yield service
    service.writer.stop()


def pushed(tag: str | None = "1.2.4", repository: str = "org/app") -> ImagePushed:
    return ImagePushed(registry="quay.io", repository=repository, tag=tag, digest=digest(1))


def deleted(tag: str = "1.2.4") -> ImageDeleted:
    return ImageDeleted(registry="quay.io", repository="org/app", tag=tag, digest=None)


def test_a_push_is_followed_counted_and_logged(
    service: Service, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service.accept(pushed())
    assert installation.images() == [APP, NEWER]
    assert service.counted() == {"checked": 1, "followed": 1}
    assert f"quay: app 1.2.4 {digest(1)} followed" in caplog.messages


def test_a_deletion_is_forgotten(service: Service, installation: Installation) -> None:
    service.accept(pushed())
    service.accept(deleted())
    assert installation.images() == [APP]
    assert service.counted()["forgotten"] == 1


@pytest.mark.parametrize("event", [NodeJoined(node="node-1"), RefreshDue()])
def test_a_node_or_a_tick_has_the_daemonset_checked(
    service: Service, caplog: pytest.LogCaptureFixture, event: Event
) -> None:
    caplog.set_level(logging.INFO)
    service.accept(event)
    assert service.counted() == {"checked": 2}
    assert "quay: DaemonSet checked" in caplog.messages


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
    service.accept(*(event for event, _ in REFUSED), pushed(), RefreshDue(), pushed("1.2.5"))
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


@pytest.mark.parametrize("event", [NodeJoined(node="node-1"), RefreshDue()])
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
