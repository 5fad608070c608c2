from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from image_puller.core import daemonset, decide, isolation, rollout
from image_puller.core.daemonset import configuration_hash
from image_puller.core.state import Blocked
from tests.support.building import NOON, configuration, deletion, digest, push, state_of

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


def isolate(config, state, *refused):
    return isolation.isolate(config, state, Admission(config, *refused))


def reasons(state, entry="app"):
    return {refused.name: refused.reason for refused in state.entries[entry].refused}


def test_a_refused_tag_is_recorded_and_the_others_go_on():
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


def test_a_single_refused_tag_leaves_the_live_template():
    config = configuration()
    state = live(config, push("1.2.4", 1))

    kept = isolate(config, changed(config, state, push("1.2.5", 2)), "app:1.2.5")

    assert kept == replace(state, entries=kept.entries)
    assert images(config, kept) == ["app:1.2.3", "app:1.2.4"]
    assert not rollout.is_pending(config, kept)


def test_a_refused_mutation_keeps_the_old_digest():
    config = configuration()
    state = live(config, push("1.2.4", 1), push("1.2.4", 2, seconds=1))

    kept = isolate(config, changed(config, state, push("1.2.4", 3, seconds=2)), digest(3))

    assert shown(config, kept)[1] == ("app:1.2.4", digest(2))
    assert kept.entries["app"].refused[0].digest == digest(3)
    assert not rollout.is_pending(config, kept)


def test_a_refused_mutation_of_the_configured_tag_keeps_the_configured_image():
    config = configuration(IMAGES="app=quay.io/org/app:latest")
    for before in ([], [push("latest", 1)]):
        state = live(config, *before)

        kept = isolate(config, changed(config, state, push("latest", 2, seconds=1)), digest(2))

        assert shown(config, kept) == [("app:latest", digest(1) if before else None)]
        assert list(reasons(kept)) == ["latest"]
        assert not rollout.is_pending(config, kept)


def test_a_refused_mutation_restores_the_tag_that_it_displaced():
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


def test_a_refused_configured_image_is_not_tried_again_until_it_is_pushed():
    config = configuration(IMAGES=TWO)
    state = rollout.advance(config, isolate(config, state_of(config), "web:1.2.3"), NOON)
    assert not rollout.is_pending(config, state)
    admission = Admission(config)

    kept = isolation.isolate(config, changed(config, state, push("1.2.4", 1)), admission)

    assert not any("web:1.2.3" in asked for asked in admission.asked)
    assert reasons(kept, "web") == {"1.2.3": "web:1.2.3 is not allowed"}
    again = changed(config, kept, push("1.2.3", 1, entry="web", seconds=9))
    assert images(config, again) == ["app:1.2.3", "app:1.2.4", "web:1.2.3"]


def test_tags_go_on_where_their_configured_image_is_refused():
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


def test_no_image_is_left_where_the_cluster_refuses_all():
    config = configuration(IMAGES=TWO)
    state = state_of(config, push("1.2.4", 1))
    admission = Admission(config, "app:1.2.3", "app:1.2.4", "web:1.2.3")

    kept = isolation.isolate(config, state, admission)

    assert images(config, kept) == []
    assert list(reasons(kept)) == ["1.2.3", "1.2.4"]
    assert list(reasons(kept, "web")) == ["1.2.3"]
    assert [] not in admission.asked


def test_a_template_is_blocked_where_no_single_tag_is_the_reason():
    config = configuration()
    state = changed(config, live(config), push("1.2.4", 1))

    kept = isolate(config, state, "app:1.2.3")

    assert kept == replace(state, blocked=kept.blocked)
    assert kept.blocked == Blocked(
        template=daemonset.template_hash(config, state), reason="app:1.2.3 is not allowed"
    )
    assert not rollout.is_pending(config, kept)


def test_a_displaced_tag_is_restored_when_the_new_one_is_refused():
    config = configuration(KEEP_TAGS="1")
    state = live(config, push("1.2.4", 1))
    state = changed(config, state, push("1.2.5", 2))
    assert images(config, state) == ["app:1.2.3", "app:1.2.5"]

    kept = isolate(config, state, "app:1.2.5")

    assert images(config, kept) == ["app:1.2.3", "app:1.2.4"]
    assert not rollout.is_pending(config, kept)


def test_an_untracked_tag_is_not_restored():
    config = configuration()
    state = live(config, push("1.2.4", 1), push("1.2.5", 2))
    state = changed(config, state, deletion("1.2.5", seconds=5), push("1.2.6", 3))

    kept = isolate(config, state, "app:1.2.6")

    assert images(config, kept) == ["app:1.2.3", "app:1.2.4"]


def test_a_reserve_tag_is_refused_like_a_new_one():
    config = configuration(KEEP_TAGS="1")
    state = live(config, push("1.2.4", 1), push("1.2.5", 2), push("1.2.6", 3))
    state = changed(config, state, deletion("1.2.6", seconds=5))
    assert images(config, state) == ["app:1.2.3", "app:1.2.5"]

    kept = isolate(config, state, "app:1.2.5")

    assert images(config, kept) == ["app:1.2.3", "app:1.2.4"]
    assert reasons(kept) == {"1.2.5": "app:1.2.5 is not allowed"}
    assert kept.blocked is None


def test_only_tags_that_change_the_template_are_tried_the_oldest_first():
    config = configuration(KEEP_TAGS="2")
    state = live(config, push("1.2.4", 1), push("1.2.5", 1), push("1.2.6", 1))
    admission = Admission(config)

    isolation.isolate(config, changed(config, state, push("1.2.8", 1), push("1.2.7", 1)), admission)

    assert admission.asked == [
        ["app:1.2.3", "app:1.2.5", "app:1.2.6"],
        ["app:1.2.3", "app:1.2.6", "app:1.2.7"],
        ["app:1.2.3", "app:1.2.7", "app:1.2.8"],
    ]


def test_a_changed_entry_loses_only_its_own_tags():
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
def test_what_is_left_of_a_refused_template_is_admitted(policy, before, after, refused):
    config = configuration(
        IMAGES=TWO, IMAGE_TAG_POLICIES=f"app={policy};web={policy}", KEEP_TAGS="1"
    )
    admits = Admission(config, *refused)
    first = isolation.isolate(config, state_of(config, *before), admits)
    state = changed(config, rollout.advance(config, first, NOON), *after)

    kept = isolation.isolate(config, state, admits)

    assert admits(first) is None
    assert admits(kept) is None
    assert kept.blocked is None
    if admits(state) is None:
        assert shown(config, kept) == shown(config, state)
    assert not rollout.is_pending(config, rollout.advance(config, kept, NOON))
    assert shown(config, isolation.isolate(config, kept, admits)) == shown(config, kept)
