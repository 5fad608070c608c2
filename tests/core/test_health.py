"""The health of a group: what is news, and what the state keeps of it."""

from image_puller.core import decide, health
from image_puller.core.changes import NoteHealth
from image_puller.core.decide import Outcome
from image_puller.core.health import Degraded, Restored
from image_puller.core.problems import Kind, Problem
from image_puller.core.state import State
from tests.support.building import NOON, at, configuration

FULL = Problem(kind=Kind.PODS_NOT_SCHEDULED, key="full", message="1 of 3 nodes is full")
HEALTHY = State(configuration="")
DEGRADED = State(configuration="", degraded_since=NOON)


def test_the_first_problem_is_news_and_later_ones_are_not() -> None:
    news = health.news(HEALTHY, [FULL], at(5), knows_registries=False)
    assert news == Degraded(since=at(5), problems=(FULL,))
    assert health.news(DEGRADED, [FULL], at(5), knows_registries=False) is None


def test_the_end_of_the_last_problem_is_news() -> None:
    news = health.news(DEGRADED, [], at(5), knows_registries=True)
    assert news == Restored(since=NOON, seconds=5.0)
    assert health.news(HEALTHY, [], at(5), knows_registries=True) is None


def test_a_process_that_has_not_asked_registries_finds_no_group_restored() -> None:
    assert health.news(DEGRADED, [], at(5), knows_registries=False) is None


def test_a_clock_that_is_behind_gives_no_negative_time() -> None:
    news = health.news(DEGRADED, [], at(-5), knows_registries=True)
    assert news == Restored(since=NOON, seconds=0.0)


def test_without_a_state_there_is_no_news() -> None:
    assert health.news(None, [FULL], NOON, knows_registries=True) is None


def test_the_state_keeps_the_health_and_the_same_change_again_changes_nothing() -> None:
    began = health.note(Degraded(since=NOON, problems=(FULL,)))
    ended = health.note(Restored(since=NOON, seconds=5.0))
    assert (began, ended) == (NoteHealth(NOON), NoteHealth(None))
    assert decide.apply(configuration(), HEALTHY, (began, NoteHealth(at(9)))) == (
        DEGRADED,
        (Outcome.DEGRADED, Outcome.UNCHANGED),
    )
    assert decide.apply(configuration(), DEGRADED, (ended, ended)) == (
        HEALTHY,
        (Outcome.RESTORED, Outcome.UNCHANGED),
    )
