from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_puller.core import daemonset, decide, isolation, rollout
from image_puller.core.state import Blocked, Refused
from tests.support.building import NOON, at, configuration, deletion, digest, push, state_of

SECOND = timedelta(seconds=1)
TWO = "app=quay.io/org/app:1.2.3;web=quay.io/org/web:1.2.3"


def live(config, *changes):
    """The state of a DaemonSet whose template is the one of these changes."""
    return rollout.advance(config, state_of(config, *changes), NOON)


def changed(config, state, *changes):
    return decide.apply(config, state, changes)[0]


def shown(config, state):
    """What the template of a state shows: images by what is told of them, the tag for short."""
    return [
        (image.image.rpartition("/")[2], image.expected)
        for image in daemonset.desired_images(config, state)
    ]


def images(config, state):
    return [image for image, _ in shown(config, state)]


def everything(config, state):
    """All that is pulled by a tag, as what no registry said anything of."""
    return {(image.entry, image.name) for image in daemonset.desired_images(config, state)}


def pulled(config, state, now):
    """The state where no registry could be asked about anything."""
    return rollout.pull_unqueryable(config, state, now, everything(config, state))


def test_a_template_that_is_not_live_yet_is_pending():
    config = configuration()
    state = live(config)

    assert not rollout.is_pending(config, state)
    assert rollout.is_pending(config, state_of(config))
    assert rollout.is_pending(config, changed(config, state, push("1.2.4", 1)))
    assert rollout.is_pending(configuration(PRIORITY_CLASS_NAME="low"), state)


def test_a_change_that_was_undone_is_not_pending():
    config = configuration()

    state = changed(config, live(config), push("1.2.4", 1), deletion("1.2.4"))

    assert not rollout.is_pending(config, state)


def test_a_blocked_template_is_not_pending_but_any_other_is():
    config = configuration()
    state = changed(config, live(config), push("1.2.4", 1))
    blocked = Blocked(template=daemonset.template_hash(config, state), reason="no")
    state = replace(state, blocked=blocked)

    assert not rollout.is_pending(config, state)
    assert rollout.is_pending(config, changed(config, state, push("1.2.5", 2)))


def test_the_first_template_change_is_due_at_once():
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
def test_template_changes_keep_the_minimum_interval(interval, now, due):
    config = configuration(ROLLOUT_MIN_INTERVAL_SECONDS=interval)

    assert rollout.due(config, live(config), now) == due


@given(st.integers(-100_000, 100_000))
@settings(max_examples=50, deadline=None)
def test_a_change_is_due_at_the_returned_time(seconds):
    config = configuration()
    due = rollout.due(config, live(config), at(seconds))

    assert due <= max(at(seconds), rollout.due(config, live(config), due))
    assert rollout.due(config, live(config), max(at(seconds), due)) <= max(at(seconds), due)
    assert due - at(seconds) <= timedelta(seconds=20)


def test_an_advanced_state_records_the_live_template():
    config = configuration()
    state = replace(state_of(config, push("1.2.4", 1)), blocked=Blocked(template="x", reason="y"))

    advanced = rollout.advance(config, state, at(7))

    assert advanced.changed == at(7)
    assert advanced.template == daemonset.template_hash(config, state)
    assert advanced.structure == daemonset.structure_hash(config)
    assert advanced.blocked is None
    assert advanced.entries["app"].live_tags == state.entries["app"].tags


def test_advancing_a_state_changes_no_template():
    config = configuration(IMAGES=TWO)
    refused = Refused(name="1.2.3", digest=None, reason="no")
    state = isolation.refuse(state_of(config, push("1.2.4", 1)), config.entries[0], refused)

    assert shown(config, rollout.advance(config, state, NOON)) == shown(config, state)


@pytest.mark.parametrize(
    ("images", "after", "rolls"),
    [
        ("app=nginx", timedelta(hours=2), True),
        ("app=nginx:1.27;other=quay.io/org/app:1.2.3", timedelta(hours=2), True),
        ("app=nginx", timedelta(hours=2) - SECOND, False),
        ("app=quay.io/org/app:1.2.3", timedelta(hours=2), False),
        (f"app=nginx@{digest(1)}", timedelta(days=9), False),
    ],
)
def test_unqueryable_mutable_tags_are_pulled_again_once_per_interval(images, after, rolls):
    config = configuration(IMAGES=images, CACHING_INTERVAL_HOURS="2")
    state = live(config)

    rolled = pulled(config, state, NOON + after)

    assert rolled == (replace(state, pulled_again_at=NOON + after) if rolls else state)
    assert rollout.is_pending(config, rolled) is rolls


def test_a_mutable_tag_with_a_registry_answer_is_not_pulled_again():
    config = configuration(IMAGES="app=nginx;web=httpd")
    state = live(config)

    assert rollout.pull_unqueryable(config, state, at(9999), ()) == state
    assert rollout.pull_unqueryable(config, state, at(9999), {("app", "other")}) == state
    assert rollout.pull_unqueryable(
        config, state, at(9999), {("web", "latest")}
    ).pulled_again_at == at(9999)


def test_a_mutated_version_is_pulled_again_like_a_mutable_tag():
    config = configuration()
    moved = [push("1.2.4", 1), push("1.2.4", 2, seconds=1)]

    assert pulled(config, live(config, *moved), at(9999)).pulled_again_at == at(9999)
    assert pulled(config, live(config, *moved[:1]), at(9999)).pulled_again_at is None


def test_any_rollout_counts_as_pulling_mutable_tags_again():
    config = configuration(IMAGES="app=nginx")
    hour = timedelta(hours=1)
    state = rollout.advance(config, pulled(config, live(config), NOON + hour), NOON + hour)

    assert pulled(config, state, NOON + 2 * hour - SECOND) == state
    assert pulled(config, state, NOON + 2 * hour).pulled_again_at == NOON + 2 * hour


def test_a_state_without_a_template_is_not_pulled_again():
    config = configuration(IMAGES="app=nginx")

    assert pulled(config, state_of(config), NOON) == state_of(config)
