"""The problems: each is reported when it begins and when it ends, and not in between."""

import logging

import pytest

from image_puller.controller import problem_tracker
from image_puller.controller.metrics import Metrics
from image_puller.controller.problem_tracker import SOLVED, ProblemTracker
from image_puller.core.problems import Kind, Problem

FULL = Problem(kind=Kind.PODS_NOT_SCHEDULED, key="full", message="1 of 3 nodes is full")


class Reports:
    """Records the Events."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str, bool]] = []

    def __call__(self, reason: str, message: str, *, is_warning: bool = True) -> None:
        self.made.append((reason, message, is_warning))


def value(metrics: Metrics, kind: Kind) -> float:
    """Return the metric of one kind."""
    prefix = f'image_puller_problems{{group="",kind="{kind}"}} '
    lines = metrics.text().decode().splitlines()
    (found,) = (line.removeprefix(prefix) for line in lines if line.startswith(prefix))
    return float(found)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines of the tracker. Threads of other tests may still write others."""
    name = problem_tracker.__name__
    return [record.getMessage() for record in caplog.records if record.name == name]


def test_a_problem_is_reported_when_it_begins_and_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    reports, metrics = Reports(), Metrics()
    tracker = ProblemTracker(reports, metrics)
    assert value(metrics, FULL.kind) == 0
    tracker.update([FULL])
    assert reports.made == [("PodsNotScheduled", "1 of 3 nodes is full", True)]
    assert messages(caplog) == ["1 of 3 nodes is full"]
    assert value(metrics, FULL.kind) == 1

    again = Problem(kind=FULL.kind, key=FULL.key, message="2 of 3 nodes are full")
    tracker.update([again])
    assert (len(reports.made), len(messages(caplog))) == (1, 1)

    tracker.update([])
    assert reports.made[1:] == [(SOLVED, "PodsNotScheduled: 2 of 3 nodes are full", False)]
    assert messages(caplog)[1:] == ["solved: 2 of 3 nodes are full"]
    assert value(metrics, FULL.kind) == 0

    tracker.update([FULL])
    assert len(reports.made) == 3


def test_problems_of_one_kind_are_counted() -> None:
    metrics = Metrics()
    failing = [
        Problem(kind=Kind.IMAGE_FAILING, key=name, message=f"{name} fails") for name in ("a", "b")
    ]
    ProblemTracker(Reports(), metrics).update(failing)
    assert value(metrics, Kind.IMAGE_FAILING) == 2
    assert value(metrics, Kind.PODS_REFUSED) == 0


@pytest.mark.parametrize(
    "kind", [Kind.IMAGES_MALFORMED, Kind.STATE_UNREADABLE, Kind.TEMPLATE_REFUSED]
)
def test_a_problem_that_the_writer_reports_has_no_second_event(kind: Kind) -> None:
    reports = Reports()
    tracker = ProblemTracker(reports, Metrics())
    tracker.update([Problem(kind=kind, key=kind, message="a problem")])
    assert reports.made == []
    tracker.update([])
    assert [reason for reason, _, _ in reports.made] == [SOLVED]
