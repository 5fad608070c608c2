"""Rollouts: when the template may change, and when nodes pull unqueryable tags again."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_puller.config.configuration import Config
from image_puller.core import daemonset, decide, isolation, rollout
from image_puller.core.changes import Proceed
from image_puller.core.decide import Outcome
from image_puller.core.state import Blocked, Refused, Seeding, State
from tests.support.building import NOON, at, configuration, deletion, digest, push, state_of
from tests.support.states import TWO, changed, live, shown

SECOND = timedelta(seconds=1)


def pulled(config: Config, state: State, now: datetime) -> State:
    """Return the state after a check at which every desired tag is unqueryable."""
    unqueryable = {
        (image.entry, image.name)
        for image in daemonset.desired_images(config, state)
        if image.name is not None
    }
    return rollout.pull_unqueryable(config, state, now, unqueryable)


def test_a_template_that_is_not_live_yet_is_pending() -> None:
    config = configuration()
    state = live(config)

    assert not rollout.is_pending(config, state)
    assert rollout.is_pending(config, state_of(config))
    assert rollout.is_pending(config, changed(config, state, push("1.2.4", 1)))
    assert rollout.is_pending(configuration(PRIORITY_CLASS_NAME="low"), state)


def test_a_change_that_was_undone_is_not_pending() -> None:
    config = configuration()

    state = changed(config, live(config), push("1.2.4", 1), deletion("1.2.4"))

    assert not rollout.is_pending(config, state)


def test_a_blocked_template_is_not_pending_but_any_other_is() -> None:
    config = configuration()
    state = changed(config, live(config), push("1.2.4", 1))
    blocked = Blocked(template=daemonset.template_hash(config, state), reason="no")
    state = replace(state, blocked=blocked)

    assert not rollout.is_pending(config, state)
    assert rollout.is_pending(config, changed(config, state, push("1.2.5", 2)))


def test_the_first_template_change_is_due_at_once() -> None:
    assert rollout.due(configuration(), state_of(configuration()), NOON) == NOON


@pytest.mark.parametrize(
    ("interval", "now", "due"),
    [
        ("10", at(0), at(10)),
        ("10", at(9), at(10)),
        ("10", at(60), at(10)),
        ("0", at(0), at(0)),
        ("2.5", at(1), at(2.5)),
        # Another process has written, and its clock is ahead.
        ("10", at(-5), at(10)),
        ("10", at(-10), at(10)),
        ("10", at(-10.001), at(-10.001)),
        ("10", at(-3600), at(-3600)),
        ("0", at(-1), at(-1)),
    ],
)
def test_template_changes_keep_the_minimum_interval(
    interval: str, now: datetime, due: datetime
) -> None:
    config = configuration(ROLLOUT_MIN_INTERVAL_SECONDS=interval)

    assert rollout.due(config, live(config), now) == due


@given(st.integers(-100_000, 100_000))
@settings(max_examples=50, deadline=None)
def test_a_change_is_due_at_the_returned_time(seconds: int) -> None:
    config = configuration()
    due = rollout.due(config, live(config), at(seconds))

    assert due <= max(at(seconds), rollout.due(config, live(config), due))
    assert rollout.due(config, live(config), max(at(seconds), due)) <= max(at(seconds), due)
    assert due - at(seconds) <= timedelta(seconds=20)


def test_an_advanced_state_records_the_live_template() -> None:
    config = configuration()
    state = replace(state_of(config, push("1.2.4", 1)), blocked=Blocked(template="x", reason="y"))

    advanced = rollout.advance(config, state, at(7))

    assert advanced.changed == at(7)
    assert advanced.template == daemonset.template_hash(config, state)
    assert advanced.structure == daemonset.structure_hash(config)
    assert advanced.blocked is None
    assert advanced.entries["app"].live_tags == state.entries["app"].tags


def test_advancing_a_state_changes_no_template() -> None:
    config = configuration(IMAGES=TWO)
    refused = Refused(name="1.2.3", digest=None, reason="no")
    state = isolation.refuse(state_of(config, push("1.2.4", 1)), config.entries[0], refused)

    assert shown(config, rollout.advance(config, state, NOON)) == shown(config, state)


@pytest.mark.parametrize(
    ("images", "after", "is_pulled"),
    [
        ("app=nginx", timedelta(hours=2), True),
        ("app=nginx:1.27;other=quay.io/org/app:1.2.3", timedelta(hours=2), True),
        ("app=nginx", timedelta(hours=2) - SECOND, False),
        ("app=quay.io/org/app:1.2.3", timedelta(hours=2), False),
        (f"app=nginx@{digest(1)}", timedelta(days=9), False),
    ],
)
def test_unqueryable_mutable_tags_are_pulled_again_once_per_interval(
    images: str, after: timedelta, is_pulled: bool
) -> None:
    config = configuration(IMAGES=images, CACHING_INTERVAL_HOURS="2")
    state = live(config)

    checked = pulled(config, state, NOON + after)

    assert checked == (replace(state, pulled_again_at=NOON + after) if is_pulled else state)
    assert rollout.is_pending(config, checked) is is_pulled


def test_a_mutable_tag_with_a_registry_answer_is_not_pulled_again() -> None:
    config = configuration(IMAGES="app=nginx;web=httpd")
    state = live(config)

    assert rollout.pull_unqueryable(config, state, at(9999), ()) == state
    assert rollout.pull_unqueryable(config, state, at(9999), {("app", "other")}) == state
    assert rollout.pull_unqueryable(
        config, state, at(9999), {("web", "latest")}
    ).pulled_again_at == at(9999)


def test_a_mutated_version_is_pulled_again_like_a_mutable_tag() -> None:
    config = configuration()
    pushes = [push("1.2.4", 1), push("1.2.4", 2, seconds=1)]

    assert pulled(config, live(config, *pushes), at(9999)).pulled_again_at == at(9999)
    assert pulled(config, live(config, *pushes[:1]), at(9999)).pulled_again_at is None


def test_any_rollout_counts_as_pulling_mutable_tags_again() -> None:
    config = configuration(IMAGES="app=nginx")
    hour = timedelta(hours=1)
    state = rollout.advance(config, pulled(config, live(config), NOON + hour), NOON + hour)

    assert pulled(config, state, NOON + 2 * hour - SECOND) == state
    assert pulled(config, state, NOON + 2 * hour).pulled_again_at == NOON + 2 * hour


def test_a_state_without_a_template_is_not_pulled_again() -> None:
    config = configuration(IMAGES="app=nginx")

    assert pulled(config, state_of(config), NOON) == state_of(config)


# Seeds


@pytest.mark.parametrize(
    ("seeds", "bound", "nodes", "expected"),
    [
        ("2", "100%", 10, 2),
        ("2", "100%", 0, 2),
        ("2", "1", 10, 1),
        ("2", "1", 0, 1),
        ("2", "2", 10, 2),
        ("2", "10%", 10, 1),
        ("2", "10%", 11, 2),
        ("2", "10%", 0, 1),
        ("3", "5", 10, 3),
    ],
)
def test_the_smaller_bound_of_seeds_and_nodes_counts(
    seeds: str, bound: str, nodes: int, expected: int
) -> None:
    config = configuration(ROLLOUT_SEED_NODES=seeds, ROLLOUT_MAX_UNAVAILABLE=bound)
    assert rollout.seeds_at_once(config, nodes) == expected


@given(
    seeds=st.integers(1, 50),
    bound=st.integers(1, 50).map(str) | st.integers(1, 100).map("{}%".format),
    nodes=st.integers(0, 1000),
)
def test_seeds_are_at_least_one_and_at_most_as_many_as_configured(
    seeds: int, bound: str, nodes: int
) -> None:
    config = configuration(ROLLOUT_SEED_NODES=str(seeds), ROLLOUT_MAX_UNAVAILABLE=bound)
    found = rollout.seeds_at_once(config, nodes)
    assert 1 <= found <= seeds
    if bound != "100%":
        assert found <= rollout.most_at_once(config, nodes)


def test_nodes_wait_for_the_seeds_after_each_change_of_the_template() -> None:
    config = configuration(ROLLOUT_SEED_NODES="3", ROLLOUT_MAX_UNAVAILABLE="20%")
    state = rollout.advance(config, state_of(config), NOON, nodes=10)
    assert (state.seeding, state.max_unavailable) == (Seeding.SEEDS, 2)
    raised = replace(state, max_unavailable=5)
    again = rollout.advance(config, changed(config, raised, push("1.2.4", 1)), at(1), nodes=15)
    assert (again.seeding, again.max_unavailable) == (Seeding.SEEDS, 3)


def test_without_seeds_no_node_waits() -> None:
    config = configuration()
    raised = replace(state_of(config), max_unavailable=5)
    assert rollout.emptied(config, raised) == raised
    state = rollout.advance(config, raised, NOON, nodes=10)
    assert (state.seeding, state.max_unavailable) == (None, 5)


def test_a_new_daemonset_has_no_live_tags_and_its_images_are_due_at_once() -> None:
    config = configuration(ROLLOUT_SEED_NODES="2")
    empty = rollout.emptied(config, state_of(config, push("1.2.4", 1)))
    empty = replace(
        empty, entries={k: replace(e, live_tags=None) for k, e in empty.entries.items()}
    )
    created = rollout.advance(config, empty, NOON)
    assert created.seeding is Seeding.EMPTY
    assert (created.changed, created.max_unavailable) == (None, None)
    assert created.entries["app"].live_tags is None
    assert not rollout.is_pending(config, created)
    filled = changed(config, created, Proceed(created.template))
    assert rollout.is_pending(config, filled)
    assert rollout.needs_trial(config, filled)
    assert rollout.due(config, filled, NOON) == NOON


def test_a_rollout_proceeds_once_and_only_with_the_template_that_was_observed() -> None:
    config = configuration(ROLLOUT_SEED_NODES="2")
    state = live(config)
    older = Proceed(state.template)
    newer = rollout.advance(config, changed(config, state, push("1.2.4", 1)), at(1))
    assert decide.apply(config, newer, [older]) == (newer, (Outcome.UNCHANGED,))
    proceed = Proceed(newer.template)
    after, outcomes = decide.apply(config, newer, [proceed, proceed])
    assert outcomes == (Outcome.PROCEEDED, Outcome.UNCHANGED)
    assert after == replace(newer, seeding=None, max_unavailable=None)
