from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_puller.core import daemonset, decide, rollout
from image_puller.core.daemonset import configuration_hash
from image_puller.core.state import Blocked
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
        for image in daemonset.images(config, state)
    ]


def images(config, state):
    return [image for image, _ in shown(config, state)]


class Admission:
    """A cluster that refuses images by their name, or their digest; it remembers what was asked."""

    def __init__(self, config, *refused):
        self.config = config
        self.refused = refused
        self.asked = []

    def __call__(self, state):
        found = shown(self.config, state)
        self.asked.append([image for image, _ in found])
        for each in found:
            for part in each:
                if part in self.refused:
                    return f"{part} is not allowed"
        return None


def everything(config, state):
    """All that is pulled by a tag, as what no registry said anything of."""
    return {(image.entry, image.name) for image in daemonset.images(config, state)}


def refreshed(config, state, now):
    """The state where no registry could be asked about anything."""
    return rollout.refreshed(config, state, now, everything(config, state))


def isolate(config, state, *refused):
    return rollout.isolate(config, state, Admission(config, *refused))


def reasons(state, entry="app"):
    return {refused.name: refused.reason for refused in state.entries[entry].refused}


def test_a_template_that_is_not_live_yet_is_pending():
    config = configuration()
    state = live(config)

    assert not rollout.is_pending(config, state)
    assert rollout.is_pending(config, state_of(config))
    assert rollout.is_pending(config, changed(config, state, push("1.2.4", 1)))
    assert rollout.is_pending(configuration(PRIORITY_CLASS_NAME="low"), state)


def test_a_change_that_was_taken_back_is_not_pending():
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


def test_the_first_change_may_be_made_at_once():
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
def test_changes_are_spaced(interval, now, due):
    config = configuration(ROLLOUT_MIN_INTERVAL_SECONDS=interval)

    assert rollout.due(config, live(config), now) == due


@given(st.integers(-100_000, 100_000))
@settings(max_examples=50, deadline=None)
def test_whoever_waits_until_a_change_is_due_may_make_it(seconds):
    config = configuration()
    due = rollout.due(config, live(config), at(seconds))

    assert due <= max(at(seconds), rollout.due(config, live(config), due))
    assert rollout.due(config, live(config), max(at(seconds), due)) <= max(at(seconds), due)
    assert due - at(seconds) <= timedelta(seconds=20)


def test_a_state_knows_what_is_live():
    config = configuration()
    state = replace(state_of(config, push("1.2.4", 1)), blocked=Blocked(template="x", reason="y"))

    advanced = rollout.advance(config, state, at(7))

    assert advanced.changed == at(7)
    assert advanced.template == daemonset.template_hash(config, state)
    assert advanced.structure == daemonset.structure_hash(config)
    assert advanced.blocked is None
    assert advanced.entries["app"].applied == state.entries["app"].tags


def test_to_advance_changes_no_template():
    config = configuration(IMAGES=TWO)
    state = isolate(config, state_of(config, push("1.2.4", 1)), "app:1.2.3")

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
def test_moving_tags_are_rolled_once_in_an_interval(images, after, rolls):
    config = configuration(IMAGES=images, CACHING_INTERVAL_HOURS="2")
    state = live(config)

    rolled = refreshed(config, state, NOON + after)

    assert rolled == (replace(state, refreshed=NOON + after) if rolls else state)
    assert rollout.is_pending(config, rolled) is rolls


def test_a_moving_tag_that_its_registry_spoke_of_is_not_rolled_blindly():
    config = configuration(IMAGES="app=nginx;web=httpd")
    state = live(config)

    assert rollout.refreshed(config, state, at(9999), ()) == state
    assert rollout.refreshed(config, state, at(9999), {("app", "other")}) == state
    assert rollout.refreshed(config, state, at(9999), {("web", "latest")}).refreshed == at(9999)


def test_a_version_that_was_seen_to_move_is_a_moving_tag():
    config = configuration()
    moved = [push("1.2.4", 1), push("1.2.4", 2, seconds=1)]

    assert refreshed(config, live(config, *moved), at(9999)).refreshed == at(9999)
    assert refreshed(config, live(config, *moved[:1]), at(9999)).refreshed is None


def test_any_other_rollout_counts_as_a_roll_of_the_moving_tags():
    config = configuration(IMAGES="app=nginx")
    hour = timedelta(hours=1)
    state = rollout.advance(config, refreshed(config, live(config), NOON + hour), NOON + hour)

    assert refreshed(config, state, NOON + 2 * hour - SECOND) == state
    assert refreshed(config, state, NOON + 2 * hour).refreshed == NOON + 2 * hour


def test_what_was_never_rolled_needs_no_roll():
    config = configuration(IMAGES="app=nginx")

    assert refreshed(config, state_of(config), NOON) == state_of(config)


def test_a_refused_tag_is_marked_and_the_others_go_on():
    config = configuration(IMAGES=TWO)
    state = changed(
        config, live(config), push("1.2.4", 1), push("1.2.4", 1, entry="web"), push("1.2.5", 2)
    )

    kept = isolate(config, state, "app:1.2.4")

    assert images(config, kept) == ["app:1.2.3", "app:1.2.5", "web:1.2.3", "web:1.2.4"]
    assert reasons(kept) == {"1.2.4": "app:1.2.4 is not allowed"}
    assert kept.entries["app"].refused[0].digest == digest(1)
    assert reasons(kept, "web") == {}
    assert rollout.is_pending(config, kept)


def test_a_refused_tag_alone_leaves_nothing_to_change():
    config = configuration()
    state = live(config, push("1.2.4", 1))

    kept = isolate(config, changed(config, state, push("1.2.5", 2)), "app:1.2.5")

    assert kept == replace(state, entries=kept.entries)
    assert images(config, kept) == ["app:1.2.3", "app:1.2.4"]
    assert not rollout.is_pending(config, kept)


def test_a_refused_moved_digest_goes_back_to_the_old_one():
    config = configuration()
    state = live(config, push("1.2.4", 1), push("1.2.4", 2, seconds=1))

    kept = isolate(config, changed(config, state, push("1.2.4", 3, seconds=2)), digest(3))

    assert shown(config, kept)[1] == ("app:1.2.4", digest(2))
    assert kept.entries["app"].refused[0].digest == digest(3)
    assert not rollout.is_pending(config, kept)


def test_a_refused_move_of_the_configured_tag_keeps_the_configured_image():
    config = configuration(IMAGES="app=quay.io/org/app:latest")
    for before in ([], [push("latest", 1)]):
        state = live(config, *before)

        kept = isolate(config, changed(config, state, push("latest", 2, seconds=1)), digest(2))

        assert shown(config, kept) == [("app:latest", digest(1) if before else None)]
        assert list(reasons(kept)) == ["latest"]
        assert not rollout.is_pending(config, kept)


def test_a_refused_move_brings_back_what_it_displaced():
    """A tag that was not cached any more moves: it is the newest now, until it is refused."""
    config = configuration(IMAGE_TAG_POLICIES="app=any", KEEP_TAGS="1")
    state = live(config, push("a", 1), push("b", 2, seconds=1))
    assert images(config, state) == ["app:1.2.3", "app:b"]

    kept = isolate(config, changed(config, state, push("a", 3, seconds=2)), digest(3))

    assert images(config, kept) == ["app:1.2.3", "app:b"]
    assert not rollout.is_pending(config, kept)


def test_a_refused_new_configured_image_is_left_out_while_others_are_kept():
    old = configuration()
    new = configuration(IMAGES=f"{TWO};db=quay.io/org/db:7")
    state = decide.adopt(new, live(old, push("1.2.4", 1)), configuration_hash(new))

    kept = isolate(new, state, "web:1.2.3")

    assert images(new, kept) == ["app:1.2.3", "app:1.2.4", "db:7"]
    assert reasons(kept, "web") == {"1.2.3": "web:1.2.3 is not allowed"}


def test_a_configured_image_left_out_is_not_tried_again_until_it_is_pushed_again():
    config = configuration(IMAGES=TWO)
    state = rollout.advance(config, isolate(config, state_of(config), "web:1.2.3"), NOON)
    assert not rollout.is_pending(config, state)
    admission = Admission(config)

    kept = rollout.isolate(config, changed(config, state, push("1.2.4", 1)), admission)

    assert not any("web:1.2.3" in asked for asked in admission.asked)
    assert reasons(kept, "web") == {"1.2.3": "web:1.2.3 is not allowed"}
    again = changed(config, kept, push("1.2.3", 1, entry="web", seconds=9))
    assert images(config, again) == ["app:1.2.3", "app:1.2.4", "web:1.2.3"]


def test_tags_of_an_entry_whose_configured_image_is_left_out_go_on():
    config = configuration(IMAGES=TWO)
    state = rollout.advance(config, isolate(config, state_of(config), "app:1.2.3"), NOON)
    state = rollout.advance(config, changed(config, state, push("1.2.4", 1)), NOON)
    assert images(config, state) == ["app:1.2.4", "web:1.2.3"]

    kept = isolate(config, changed(config, state, push("1.2.5", 1)), "app:1.2.5")

    assert images(config, kept) == ["app:1.2.4", "web:1.2.3"]
    assert list(reasons(kept)) == ["1.2.3", "1.2.5"]
    assert not rollout.is_pending(config, kept)


def test_a_repository_that_is_not_allowed_at_all_is_left_out():
    config = configuration(IMAGES=TWO, KEEP_TAGS="5")
    tags = [f"1.2.{number}" for number in range(4, 13)]
    state = state_of(config, *(push(tag, 1) for tag in tags))

    kept = isolate(config, state, "app:1.2.3", *(f"app:{tag}" for tag in tags))

    assert images(config, kept) == ["web:1.2.3"]
    assert kept.entries["app"].refuses("1.2.3")


def test_where_the_cluster_takes_no_image_at_all_none_is_left():
    config = configuration(IMAGES=TWO)
    state = state_of(config, push("1.2.4", 1))
    admission = Admission(config, "app:1.2.3", "app:1.2.4", "web:1.2.3")

    kept = rollout.isolate(config, state, admission)

    assert images(config, kept) == []
    assert list(reasons(kept)) == ["1.2.3", "1.2.4"]
    assert list(reasons(kept, "web")) == ["1.2.3"]
    assert [] not in admission.asked


def test_where_no_tag_is_to_blame_the_template_is_blocked_and_the_state_stays():
    config = configuration()
    state = changed(config, live(config), push("1.2.4", 1))

    kept = isolate(config, state, "app:1.2.3")

    assert kept == replace(state, blocked=kept.blocked)
    assert kept.blocked == Blocked(
        template=daemonset.template_hash(config, state), reason="app:1.2.3 is not allowed"
    )
    assert not rollout.is_pending(config, kept)


def test_an_evicted_tag_comes_back_when_the_new_one_is_refused():
    config = configuration(KEEP_TAGS="1")
    state = live(config, push("1.2.4", 1))
    state = changed(config, state, push("1.2.5", 2))
    assert images(config, state) == ["app:1.2.3", "app:1.2.5"]

    kept = isolate(config, state, "app:1.2.5")

    assert images(config, kept) == ["app:1.2.3", "app:1.2.4"]
    assert not rollout.is_pending(config, kept)


def test_a_tag_forgotten_since_does_not_come_back():
    config = configuration()
    state = live(config, push("1.2.4", 1), push("1.2.5", 2))
    state = changed(config, state, deletion("1.2.5", seconds=5), push("1.2.6", 3))

    kept = isolate(config, state, "app:1.2.6")

    assert images(config, kept) == ["app:1.2.3", "app:1.2.4"]


def test_a_tag_that_was_only_remembered_is_refused_like_a_new_one():
    config = configuration(KEEP_TAGS="1")
    state = live(config, push("1.2.4", 1), push("1.2.5", 2), push("1.2.6", 3))
    state = changed(config, state, deletion("1.2.6", seconds=5))
    assert images(config, state) == ["app:1.2.3", "app:1.2.5"]

    kept = isolate(config, state, "app:1.2.5")

    assert images(config, kept) == ["app:1.2.3", "app:1.2.4"]
    assert reasons(kept) == {"1.2.5": "app:1.2.5 is not allowed"}
    assert kept.blocked is None


def test_tags_are_tried_from_the_oldest_on_and_only_those_that_show():
    config = configuration(KEEP_TAGS="2")
    state = live(config, push("1.2.4", 1), push("1.2.5", 1), push("1.2.6", 1))
    admission = Admission(config)

    rollout.isolate(config, changed(config, state, push("1.2.8", 1), push("1.2.7", 1)), admission)

    assert admission.asked == [
        ["app:1.2.3", "app:1.2.5", "app:1.2.6"],
        ["app:1.2.3", "app:1.2.6", "app:1.2.7"],
        ["app:1.2.3", "app:1.2.7", "app:1.2.8"],
    ]


def test_a_change_of_an_entry_drops_what_was_followed_for_it_only():
    old = configuration(IMAGES=TWO)
    new = configuration(IMAGES=TWO.replace("web:1.2.3", "web:1.3.0"))
    before = live(old, push("1.4.0", 1), push("1.4.0", 1, entry="web"))

    state = decide.adopt(new, before, configuration_hash(new))

    assert images(new, state) == ["app:1.2.3", "app:1.4.0", "web:1.3.0"]
    assert rollout.is_pending(new, state)
    assert images(new, isolate(new, state, "web:1.3.0")) == ["app:1.2.3", "app:1.4.0"]


ALL = [f"{name}:{tag}" for name in ("app", "web") for tag in ("1.2.3", "1.2.4", "1.2.5", "1.2.6")]
pushes = st.lists(
    st.builds(
        push,
        st.sampled_from(["1.2.3", "1.2.4", "1.2.5", "1.2.6"]),
        st.integers(0, 2),
        seconds=st.integers(0, 9),
        entry=st.sampled_from(["app", "web"]),
    ),
    max_size=8,
)


@given(
    st.sampled_from(["auto", "any"]),
    pushes,
    pushes,
    st.sets(st.sampled_from([*ALL, *map(digest, range(3))])),
)
@settings(max_examples=120, deadline=None)
def test_what_is_left_of_a_refused_change_is_admitted(policy, before, after, refused):
    config = configuration(
        IMAGES=TWO, IMAGE_TAG_POLICIES=f"app={policy};web={policy}", KEEP_TAGS="1"
    )
    admits = Admission(config, *refused)
    first = rollout.isolate(config, state_of(config, *before), admits)
    state = changed(config, rollout.advance(config, first, NOON), *after)

    kept = rollout.isolate(config, state, admits)

    assert admits(first) is None
    assert admits(kept) is None
    assert kept.blocked is None
    if admits(state) is None:
        assert shown(config, kept) == shown(config, state)
    assert not rollout.is_pending(config, rollout.advance(config, kept, NOON))
    assert shown(config, rollout.isolate(config, kept, admits)) == shown(config, kept)
