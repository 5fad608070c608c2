from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from image_puller import limits
from image_puller.core import decide, isolation, selection
from image_puller.core.changes import (
    AwaitVerification,
    CheckDaemonSet,
    EnsureExists,
    Precondition,
    PullAgain,
    RegistryAnswer,
)
from image_puller.core.daemonset import configuration_hash
from image_puller.core.decide import Outcome
from image_puller.core.state import Blocked, Refused, State, Tag, UnverifiedPush
from tests.support.building import at, configuration, deletion, digest, push, state_of

LATEST = {"IMAGES": "app=quay.io/org/app:latest"}
ANY = LATEST | {"IMAGE_TAG_POLICIES": "app=any"}


def names(state, entry="app"):
    return [tag.name for tag in state.entries[entry].tags]


def tracked(state, tag):
    return state.entries["app"].tag(tag)


def cached(config, state):
    return [
        tag.name for tag in selection.desired(config, config.entries[0], state.entries["app"].tags)
    ]


def outcomes(config, *changes):
    return list(decide.apply(config, state_of(config), changes)[1])


def test_a_push_is_tracked():
    config = configuration()
    before = state_of(config)

    after, (outcome,) = decide.apply(config, before, [push("1.2.4", 1, seconds=5)])

    assert outcome == Outcome.TRACKED
    tag = Tag(name="1.2.4", digest=digest(1), time=at(5))
    assert after == before.with_entry("app", replace(before.entries["app"], tags=(tag,)))


def test_a_push_is_for_its_entry_only():
    config = configuration(IMAGES="app=quay.io/org/app:1.2.3;web=nginx:1.2.3")

    state = state_of(config, push("1.2.4", 1, entry="web"))

    assert (names(state, "app"), names(state, "web")) == ([], ["1.2.4"])


def test_the_same_push_again_changes_nothing():
    config = configuration()
    state = state_of(config, push("1.2.4", 1))

    assert decide.apply(config, state, [push("1.2.4", 1)]) == (state, (Outcome.UNCHANGED,))


def test_a_tag_with_another_digest_has_moved():
    config = configuration()

    state = state_of(config, push("1.2.4", 1), push("1.2.4", 2, seconds=5))

    assert tracked(state, "1.2.4") == Tag(name="1.2.4", digest=digest(2), time=at(5), mutated=True)
    assert outcomes(config, push("1.2.4", 1), push("1.2.4", 2, seconds=5)) == [
        Outcome.TRACKED,
        Outcome.MUTATED,
    ]


def test_the_first_push_of_the_configured_tag_may_already_be_a_move():
    config = configuration(**LATEST)

    state, (outcome,) = decide.apply(config, state_of(config), [push("latest", 1)])

    assert outcome == Outcome.MUTATED
    assert tracked(state, "latest").mutated


def test_a_push_without_digest_of_a_tag_already_followed_counts_as_moved():
    """Quay says no digest, so this is the one event that changes something twice.

    Only the very same delivery, known by its time, changes nothing when it is decided again.
    """
    config = configuration()
    state, first = decide.apply(config, state_of(config), [push("1.2.4", None)])
    state, second = decide.apply(config, state, [push("1.2.4", None, seconds=5)])

    assert (*first, *second) == (Outcome.TRACKED, Outcome.MUTATED)
    assert tracked(state, "1.2.4") == Tag(name="1.2.4", digest=None, time=at(5), mutated=True)
    assert decide.apply(config, state, [push("1.2.4", None, seconds=5)]) == (
        state,
        (Outcome.UNCHANGED,),
    )


def test_a_push_without_digest_forgets_the_digest_that_was_known():
    state = state_of(configuration(), push("1.2.4", 1), push("1.2.4", None, seconds=5))

    assert tracked(state, "1.2.4").digest is None


def test_a_push_at_the_same_moment_as_one_without_digest_is_that_one_with_its_digest():
    config = configuration()
    both = [push("1.2.4", None), push("1.2.4", 1)]
    state, outcomes = decide.apply(config, state_of(config), both)

    assert outcomes == (Outcome.TRACKED, Outcome.DIGEST_COMPLETED)
    assert tracked(state, "1.2.4") == Tag(name="1.2.4", digest=digest(1), time=at(0), mutated=False)
    assert state_of(config, *reversed(both)) == state
    assert state_of(config, *both, *both) == state


def test_an_older_push_changes_no_content():
    config = configuration(**LATEST)
    state = state_of(config, push("latest", 2, seconds=5))

    assert decide.apply(config, state, [push("latest", 1)]) == (state, (Outcome.OLDER,))


def test_an_older_push_of_other_content_shows_that_a_version_has_moved():
    config = configuration()
    state, (_, outcome) = decide.apply(
        config, state_of(config), [push("1.2.4", 2, seconds=5), push("1.2.4", 1)]
    )

    assert outcome == Outcome.OLDER
    assert tracked(state, "1.2.4") == Tag(name="1.2.4", digest=digest(2), time=at(5), mutated=True)


def test_an_older_push_of_the_same_content_changes_nothing():
    config = configuration()
    state = state_of(config, push("1.2.4", 1, seconds=5))

    assert decide.apply(config, state, [push("1.2.4", 1)]) == (state, (Outcome.OLDER,))


def test_of_two_pushes_at_the_same_time_the_later_arrival_counts():
    state = state_of(configuration(**LATEST), push("latest", 1), push("latest", 2))

    assert tracked(state, "latest").digest == digest(2)


def test_a_later_push_of_the_same_content_is_remembered_so_that_an_older_one_does_not_win():
    config = configuration(**LATEST)
    state = state_of(config, push("latest", 1), push("latest", 2, seconds=1))
    state, (outcome,) = decide.apply(config, state, [push("latest", 2, seconds=9)])
    assert outcome == Outcome.UNCHANGED

    state, (outcome,) = decide.apply(config, state, [push("latest", 1, seconds=5)])
    assert outcome == Outcome.OLDER
    assert tracked(state, "latest").digest == digest(2)


def test_versions_stand_by_precedence_whenever_they_were_pushed():
    pushes = [push(f"1.2.{n}", n, seconds=-n) for n in (9, 4, 10, 5)]

    assert names(state_of(configuration(), *pushes)) == ["1.2.10", "1.2.9", "1.2.5", "1.2.4"]


def test_other_tags_stand_by_time():
    pushes = [push(tag, 1, seconds=n) for tag, n in (("b", 2), ("a", 1), ("c", 3))]

    assert names(state_of(configuration(**ANY), *pushes)) == ["c", "b", "a"]


def test_on_a_tie_the_later_arrival_stands_first():
    state = state_of(configuration(**ANY), push("a", 1), push("b", 2), push("c", 3))

    assert names(state) == ["c", "b", "a"]


def test_the_same_delivery_again_does_not_change_a_tie():
    config = configuration(**ANY)
    state = state_of(config, push("a", 1), push("b", 2))

    assert decide.apply(config, state, [push("a", 1)]) == (state, (Outcome.UNCHANGED,))


def test_a_later_push_of_the_same_content_is_the_newest_again():
    config = configuration(**ANY)
    state = state_of(config, push("a", 1), push("b", 2, seconds=1))

    state, (outcome,) = decide.apply(config, state, [push("a", 1, seconds=2)])

    assert outcome == Outcome.TRACKED
    assert names(state) == ["a", "b"]
    assert not tracked(state, "a").mutated


@pytest.mark.parametrize("tag", ["latest", "b"])
def test_a_later_push_of_the_same_content_may_leave_the_order_as_it_is(tag):
    config = configuration(**ANY)
    state = state_of(config, push("latest", 0), push("a", 1), push("b", 2, seconds=1))
    again = replace(push(tag, 0 if tag == "latest" else 2), time=at(9))

    assert decide.apply(config, state, [again])[1] == (Outcome.UNCHANGED,)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_tags_are_cached(keep):
    config = configuration(KEEP_TAGS=str(keep))
    state = state_of(config, *(push(f"1.2.{n}", n) for n in range(4, 12)))

    assert cached(config, state) == ["1.2.11", "1.2.10", "1.2.9"][:keep]


def test_the_configured_tag_takes_no_place_among_the_cached():
    config = configuration(**ANY, KEEP_TAGS="2")
    pushes = [push(tag, 1, seconds=n) for n, tag in enumerate(["a", "b", "latest", "c"])]

    assert cached(config, state_of(config, *pushes)) == ["c", "b"]


def test_no_more_tags_are_remembered_than_can_be_of_use():
    config = configuration(KEEP_TAGS="2")
    state = state_of(config, *(push(f"1.2.{n}", n) for n in range(4, 99)))

    assert len(names(state)) == 2 + limits.SPARE_TAGS
    assert decide.apply(config, state, [push("1.2.4", 4)]) == (state, (Outcome.NOT_NEWEST,))


def test_the_configured_tag_is_remembered_however_old_it_is():
    config = configuration(**ANY)
    later = [push(f"build-{n}", n, seconds=n) for n in range(1, 99)]

    state = state_of(config, push("latest", 0), *later)

    assert tracked(state, "latest").digest == digest(0)
    assert names(state)[-1] == "latest"


def test_a_tag_that_is_deleted_falls_back_to_the_newest_that_exists():
    config = configuration(KEEP_TAGS="2")
    state = state_of(config, *(push(f"1.2.{n}", n) for n in (4, 5, 6)))

    state, (outcome,) = decide.apply(config, state, [deletion("1.2.6")])

    assert outcome == Outcome.UNTRACKED
    assert cached(config, state) == ["1.2.5", "1.2.4"]
    assert decide.apply(config, state, [deletion("1.2.6")]) == (state, (Outcome.UNCHANGED,))


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        (deletion("1.2.4"), ["1.2.6", "1.2.5"]),
        (deletion("1.2.4", 4), ["1.2.6", "1.2.5"]),
        (deletion("1.2.4", 9), ["1.2.6", "1.2.5", "1.2.4"]),  # it has moved since
        (deletion("1.2.6", 6), ["1.2.5", "1.2.4"]),  # nobody said its digest
        (deletion(None, 5), ["1.2.6", "1.2.4"]),
        (deletion(None, 6), ["1.2.6", "1.2.5", "1.2.4"]),
        (deletion(None), []),
        (deletion("1.2.7"), ["1.2.6", "1.2.5", "1.2.4"]),
        (deletion("1.2.4", seconds=-1), ["1.2.6", "1.2.5", "1.2.4"]),  # it was pushed again since
        (deletion(None, seconds=-1), ["1.2.6", "1.2.5", "1.2.4"]),
    ],
)
def test_a_deletion_forgets_what_it_names(asked, left):
    config = configuration()
    state = state_of(config, push("1.2.4", 4), push("1.2.5", 5), push("1.2.6", None))

    after, (outcome,) = decide.apply(config, state, [asked])

    assert names(after) == left
    assert outcome == (Outcome.UNCHANGED if after == state else Outcome.UNTRACKED)


@pytest.mark.parametrize("asked", [deletion("latest"), deletion(None), deletion(None, 1)])
def test_the_configured_image_stays_when_it_is_deleted(asked):
    config = configuration(**LATEST)
    state = state_of(config, push("latest", 1))

    assert decide.apply(config, state, [asked]) == (state, (Outcome.UNCHANGED,))


def test_to_look_at_the_daemonset_changes_no_state():
    config = configuration()
    state = state_of(config, push("1.2.4", 1))

    assert decide.apply(config, state, [EnsureExists(), CheckDaemonSet()]) == (
        state,
        (Outcome.CHECKED, Outcome.CHECKED),
    )


def test_a_tag_that_was_refused_is_tracked_again_once_it_is_pushed_again():
    config = configuration()
    (entry,) = config.entries
    state = state_of(config)
    for tag in ("1.2.4", "1.2.5"):
        state = isolation.refuse(state, entry, Refused(name=tag, digest=None, reason="no"))

    state, (outcome,) = decide.apply(config, state, [push("1.2.4", 1)])

    assert outcome == Outcome.TRACKED
    assert [refused.name for refused in state.entries["app"].refused] == ["1.2.5"]


def refused_names(state):
    return [refused.name for refused in state.entries["app"].refused]


def test_of_the_refused_the_newest_are_remembered():
    config = configuration()
    state = state_of(config)
    most = limits.REFUSED_TAGS
    for number in range(2 * most):
        refused = Refused(name=f"1.3.{number}", digest=None, reason="no")
        state = isolation.refuse(state, config.entries[0], refused)

    assert refused_names(state) == [f"1.3.{n}" for n in range(2 * most - 1, most - 1, -1)]


def test_as_many_refused_tags_are_remembered_as_a_look_can_bring():
    config = configuration(KEEP_TAGS=str(limits.KEEP_TAGS_MOST))
    assert config.keep_tags + limits.SPARE_TAGS + 1 <= limits.REFUSED_TAGS


def test_a_refusal_takes_the_place_of_an_earlier_one_of_that_tag():
    config = configuration()
    state = state_of(config)
    for reason in ("no", "never"):
        refused = Refused(name="1.2.4", digest=None, reason=reason)
        state = isolation.refuse(state, config.entries[0], refused)

    assert state.entries["app"].refused == (refused,)


def test_a_refused_configured_image_is_never_pushed_out_by_refused_tags():
    config = configuration()
    state = state_of(config)
    most = limits.REFUSED_TAGS
    for tag in ("1.2.3", *(f"1.3.{number}" for number in range(2 * most))):
        refused = Refused(name=tag, digest=None, reason="no")
        state = isolation.refuse(state, config.entries[0], refused)

    assert refused_names(state) == ["1.2.3", *(f"1.3.{n}" for n in range(2 * most - 1, most, -1))]


TWO = "app=quay.io/org/app:1.2.3;web=quay.io/org/web:1.2.3"


def adopted(old, new, *changes):
    """The state under a new configuration, of what was followed and applied under the old one."""
    state = state_of(old, *changes)
    entries = {name: replace(each, live_tags=each.tags) for name, each in state.entries.items()}
    state = replace(
        state, template="old", blocked=Blocked(template="x", reason="y"), entries=entries
    )
    for entry in old.entries:
        state = isolation.refuse(state, entry, Refused(name="9.9.9", digest=None, reason="no"))
    return decide.adopt(new, state, configuration_hash(new))


def test_a_new_daemonset_follows_nothing_yet():
    config = configuration(IMAGES=TWO)

    state = decide.adopt(config, State(configuration=""), "hash")

    assert state.configuration == "hash"
    assert [(e.image, e.tags, e.live_tags) for e in state.entries.values()] == [
        ("quay.io/org/app:1.2.3", (), None),
        ("quay.io/org/web:1.2.3", (), None),
    ]


def test_a_changed_entry_drops_what_was_followed_for_it_and_for_no_other():
    old = configuration(IMAGES=TWO)
    new = configuration(IMAGES=TWO.replace("app:1.2.3", "app:1.2.4"))

    state = adopted(old, new, push("1.3.0", 1), push("1.3.0", 1, entry="web"))

    assert (names(state, "app"), names(state, "web")) == ([], ["1.3.0"])
    assert state.entries["app"].live_tags is None
    assert state.entries["web"].live_tags == state.entries["web"].tags


def test_an_entry_that_is_gone_is_forgotten():
    state = adopted(configuration(IMAGES=TWO), configuration(), push("1.3.0", 1))

    assert list(state.entries) == ["app"]
    assert names(state) == ["1.3.0"]


def test_entries_follow_a_new_order_of_images():
    new = configuration(IMAGES=";".join(reversed(TWO.split(";"))))

    assert list(adopted(configuration(IMAGES=TWO), new).entries) == ["web", "app"]


def test_another_policy_keeps_the_tags_that_it_follows():
    old = configuration(IMAGE_TAG_POLICIES="app=any")
    new = configuration(IMAGE_TAG_POLICIES="app=semver:^1.2")
    tags = ["1.4.0", "edge", "1.3.0", "2.0.0"]

    state = adopted(old, new, *(push(tag, 1, seconds=n) for n, tag in enumerate(tags)))

    assert names(state) == ["1.4.0", "1.3.0"]


def test_a_lower_keep_tags_forgets_the_oldest():
    pushes = [push(f"1.2.{n}", n) for n in range(4, 20)]

    state = adopted(configuration(KEEP_TAGS="5"), configuration(KEEP_TAGS="1"), *pushes)

    assert names(state) == [f"1.2.{n}" for n in (19, 18, 17, 16, 15)]


def test_under_a_new_configuration_refused_tags_get_another_try():
    state = adopted(configuration(), configuration(KEEP_TAGS="3"))

    assert state.blocked is None
    assert state.entries["app"].refused == ()


def test_the_same_configuration_again_changes_nothing():
    config = configuration(**ANY)
    state = state_of(config, push("a", 1), push("b", 2), push("latest", 3), push("c", 4))

    assert decide.adopt(config, state, state.configuration) == state


# What hypothesis pushes: for each policy tags that it follows, in some order of content and time.
POLICIES = {
    "auto": ["1.2.3", "1.2.4", "01.2.4", "1.2.5", "1.3.0", "1.10.0", "2.0.0", "2.0.1", "10.0.0"],
    "semver:*-0": ["1.2.3", "1.2.4-rc.1", "1.2.4", "v1.2.4", "1.9.0", "1.10.0", "2.0.0", "3.0.0"],
    "any": ["1.2.3", "latest", "edge", "a", "b", "c", "d", "e", "f", "g"],
    "exact": ["1.2.3"],
}
ORDERING = ["auto", "semver:*-0"]


def configured(policy):
    return configuration(IMAGE_TAG_POLICIES=f"app={policy}", KEEP_TAGS="1")


def pushes_of(policy):
    """Two pushes may come at the same time, but not those of different tags: see the ties above.

    Nor one with a digest and one without, which counts as that one until a later push came.
    """
    tags = POLICIES[policy]
    one = st.builds(
        lambda index, number, seconds: push(
            tags[index], number, seconds=seconds + index / 100 + (number is None) / 1000
        ),
        st.integers(0, len(tags) - 1),
        st.none() | st.integers(0, 2),
        st.integers(0, 9),
    )
    return st.lists(one, max_size=20)


def histories(policies):
    return st.sampled_from(policies).flatmap(lambda p: st.tuples(st.just(p), pushes_of(p)))


@given(histories([*POLICIES]))
@settings(max_examples=200, deadline=None)
def test_no_push_makes_an_entry_go_back(history):
    policy, pushes = history
    config = configured(policy)
    (entry,) = config.entries
    state = state_of(config)
    for each in pushes:
        before = state.entries["app"].tags
        state, _ = decide.apply(config, state, [each])
        after = state.entries["app"].tags
        for old in selection.newest(entry.tag, before, 1):
            (new,) = selection.newest(entry.tag, after, 1)
            if entry.policy.orders_tags:
                assert entry.policy.precedence(new.name) >= entry.policy.precedence(old.name)
            else:
                assert new.time >= old.time
        for old in before:
            new = state.entries["app"].tag(old.name)
            assert new is None or new.time >= old.time
            assert new is None or new.digest == old.digest or each.time >= old.time
            assert new is None or new.mutated or not old.mutated


@given(histories([*POLICIES]))
@settings(max_examples=200, deadline=None)
def test_deciding_twice_changes_nothing(history):
    policy, pushes = history
    config = configured(policy)
    state = state_of(config, *pushes)

    assert decide.apply(config, state, pushes)[0] == state


@given(histories([*POLICIES]))
@settings(max_examples=100, deadline=None)
def test_the_last_push_again_changes_nothing(history):
    policy, pushes = history
    config = configured(policy)
    for count in range(1, len(pushes) + 1):
        state = state_of(config, *pushes[:count])

        after, (outcome,) = decide.apply(config, state, [pushes[count - 1]])

        assert after == state
        assert outcome in {Outcome.UNCHANGED, Outcome.OLDER, Outcome.NOT_NEWEST}


@given(histories(ORDERING), st.data())
@settings(max_examples=120, deadline=None)
def test_the_order_in_which_pushes_arrive_does_not_change_where_they_end(history, data):
    policy, pushes = history
    # Of two pushes of a tag at the same time the later arrival counts: those are left out.
    assume(len({(each.tag, each.time) for each in pushes}) == len(pushes))
    config = configured(policy)
    shuffled = data.draw(st.permutations(pushes))

    assert state_of(config, *shuffled) == state_of(config, *pushes)


@given(histories([*POLICIES]), st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_pushes_decided_together_end_as_those_decided_one_after_another(history, count):
    policy, pushes = history
    config = configured(policy)
    first, one = decide.apply(config, state_of(config), pushes[:count])
    second, other = decide.apply(config, first, pushes[count:])

    assert decide.apply(config, state_of(config), pushes) == (second, one + other)


@given(histories([*POLICIES]))
@settings(max_examples=100, deadline=None)
def test_the_number_of_remembered_tags_is_bounded(history):
    policy, pushes = history
    tags = names(state_of(configured(policy), *pushes))

    assert len(tags) <= 1 + 1 + limits.SPARE_TAGS
    assert len(set(tags)) == len(tags)


# What a registry says, and pushes that wait for it


def hold(tag="1.2.4", number=1, *, seconds=0, reason="away"):
    content = None if number is None else digest(number)
    return AwaitVerification(entry="app", tag=tag, digest=content, time=at(seconds), reason=reason)


def word(tag="1.2.4", number=1, *, seconds=9):
    content = None if number is None else digest(number)
    return RegistryAnswer(entry="app", tag=tag, digest=content, time=at(seconds))


def waiting(state):
    return [(push.tag, push.digest) for push in state.entries["app"].unverified]


def test_a_push_is_held_with_the_reason_and_changes_no_template():
    config = configuration()
    state = state_of(config, hold(reason="x" * 999))
    (held,) = state.entries["app"].unverified
    assert held == UnverifiedPush(
        tag="1.2.4", digest=digest(1), time=at(0), reason="x" * limits.UNVERIFIED_CHARACTERS
    )
    assert names(state) == []


HOLDS = [
    ((hold(),), hold(), "unchanged", [("1.2.4", digest(1))]),  # delivered again
    ((hold(),), hold(seconds=5), "unchanged", [("1.2.4", digest(1))]),
    ((hold(),), hold(number=2, seconds=5), "awaiting_verification", [("1.2.4", digest(2))]),
    ((hold(seconds=5),), hold(number=2), "unchanged", [("1.2.4", digest(1))]),
    ((hold(number=None),), hold(number=None), "unchanged", [("1.2.4", None)]),
    ((push("1.2.4", 1, seconds=5),), hold(number=2), "older", []),
    ((push("1.2.4", 1),), hold(seconds=5), "unchanged", []),
    (
        (push("1.2.4", 1),),
        hold(number=2, seconds=5),
        "awaiting_verification",
        [("1.2.4", digest(2))],
    ),
]


@pytest.mark.parametrize(("before", "change", "outcome", "left"), HOLDS)
def test_of_each_tag_the_latest_push_waits(before, change, outcome, left):
    config = configuration()
    state, outcomes = decide.apply(config, state_of(config, *before), [change])
    assert (outcomes, waiting(state)) == ((outcome,), left)


def test_a_bounded_number_of_pushes_waits_and_what_goes_is_told_of():
    config = configuration()
    changes = [hold(f"1.3.{number}") for number in range(limits.UNVERIFIED_PUSHES + 1)]
    state, outcomes = decide.apply(config, state_of(config), changes)
    assert [tag for tag, _ in waiting(state)] == [change.tag for change in changes[1:]]
    assert {*outcomes[:-1]} == {"awaiting_verification"}
    assert outcomes[-1] == "displaced"


@pytest.mark.parametrize("said", [push("1.2.4", 1, seconds=9), word(), word(number=2)])
def test_what_is_known_for_sure_needs_no_waiting(said):
    config = configuration()
    state = state_of(config, hold(), hold("1.2.5"), said)
    assert waiting(state) == [("1.2.5", digest(1))]
    assert names(state) == ["1.2.4"]


def test_a_push_that_came_after_the_answer_goes_on_waiting():
    config = configuration()
    assert waiting(state_of(config, hold(seconds=10), word(seconds=9))) == [("1.2.4", digest(1))]


def test_under_another_configuration_waits_what_its_policy_follows():
    state = state_of(configuration(), hold(), hold("1.2.5"))
    config = configuration(IMAGE_TAG_POLICIES="app=semver:>=1.2.5")
    assert waiting(decide.adopt(config, state, "other")) == [("1.2.5", digest(1))]


def refused_by_the_cluster(config, tag, number):
    entry = config.entries[0]
    content = None if number is None else digest(number)
    refused = Refused(name=tag, digest=content, reason="no")
    return isolation.refuse(state_of(config), entry, refused)


@pytest.mark.parametrize(("number", "is_tried"), [(1, False), (None, False), (2, True)])
def test_what_the_cluster_refused_is_tried_again_only_with_another_content(number, is_tried):
    config = configuration()
    before = refused_by_the_cluster(config, "1.2.4", number)
    after, (outcome,) = decide.apply(config, before, [word()])
    assert outcome == ("tracked" if is_tried else "refused")
    assert names(after) == (["1.2.4"] if is_tried else [])
    assert after.entries["app"].refuses("1.2.4") is not is_tried


@pytest.mark.parametrize(
    ("asked", "is_forgotten"),
    [
        (deletion("1.2.4"), True),
        (deletion("1.2.4", 1), True),
        (deletion("1.2.4", 2), False),
        (deletion("1.2.5"), False),
        (deletion(None, 1), True),
        (deletion(None, 2), False),
        (deletion(None), True),
    ],
)
def test_what_the_cluster_refused_is_forgotten_when_it_is_deleted(asked, is_forgotten):
    config = configuration()
    before = refused_by_the_cluster(config, "1.2.4", 1)
    after, (outcome,) = decide.apply(config, before, [asked])
    assert outcome == ("untracked" if is_forgotten else "unchanged")
    assert refused_names(after) == ([] if is_forgotten else ["1.2.4"])


def test_that_the_configured_image_was_refused_is_remembered_when_it_is_deleted():
    config = configuration()
    before = refused_by_the_cluster(config, "1.2.3", 1)
    assert decide.apply(config, before, [deletion("1.2.3")])[0] == before


def test_a_found_version_that_is_too_old_to_be_of_use_is_left():
    config = configuration(KEEP_TAGS="1")
    newer = [push(f"1.3.{number}", 1) for number in range(1 + limits.SPARE_TAGS)]
    state = state_of(config, *newer)
    assert decide.apply(config, state, [word()]) == (state, (Outcome.NOT_NEWEST,))


def test_nodes_with_another_content_are_rolled_once_more():
    config = configuration(**LATEST)
    moved = state_of(config, push("latest", 1), push("latest", 2, seconds=1))
    again = PullAgain(entry="app", tag="latest", digest=digest(2), time=at(60))

    rolled, (outcome,) = decide.apply(config, moved, [again])

    assert outcome == "pulled_again"
    assert tracked(rolled, "latest") == replace(tracked(moved, "latest"), pulled_again=True)
    assert rolled.pulled_again_at == at(60)
    assert decide.apply(config, rolled, [again]) == (rolled, ("unchanged",))
    next_move = state_of(config, push("latest", 1), push("latest", 3, seconds=2))
    assert decide.apply(config, next_move, [again]) == (next_move, ("unchanged",))
    assert decide.apply(config, state_of(config), [again])[1] == ("unchanged",)


def test_a_tag_that_moves_on_may_be_rolled_once_more_again():
    config = configuration(**LATEST)
    state = state_of(config, push("latest", 1), push("latest", 2, seconds=1))
    again = PullAgain(entry="app", tag="latest", digest=digest(2), time=at(60))
    moved = decide.apply(config, state, [again, push("latest", 3, seconds=61)])[0]
    assert tracked(moved, "latest").pulled_again is False


WORDS = st.one_of(
    st.builds(hold, st.sampled_from(["1.2.4", "1.2.5"]), st.none() | st.integers(1, 3),
              seconds=st.integers(0, 9)),
    st.builds(word, st.sampled_from(["1.2.4", "1.2.5"]), st.none() | st.integers(1, 3),
              seconds=st.integers(0, 9)),
    st.builds(push, st.sampled_from(["1.2.4", "1.2.5"]), st.none() | st.integers(1, 3),
              seconds=st.integers(0, 9)),
)  # fmt: skip


@given(st.lists(WORDS, max_size=6), WORDS)
def test_whatever_is_said_twice_changes_nothing_the_second_time(before, change):
    config = configuration()
    once = decide.apply(config, state_of(config, *before), [change])[0]
    assert decide.apply(config, once, [change])[0] == once


@given(st.lists(WORDS, max_size=8))
def test_what_nobody_confirmed_is_never_followed(changes):
    config = configuration()
    state = state_of(config, *changes)
    confirmed = {c.tag for c in changes if not isinstance(c, AwaitVerification)}
    assert set(names(state)) <= confirmed


# A registry that does not show yet what was pushed, and clocks that differ


def test_what_was_just_pushed_is_not_contradicted_by_a_registry_that_does_not_show_it_yet():
    config = configuration()
    state = state_of(config, push("1.2.4", 1), push("1.2.4", 2, seconds=60))
    for number in (1, None):
        early = word(number=number, seconds=60 + limits.SETTLING_SECONDS - 1)
        assert decide.apply(config, state, [early]) == (state, (Outcome.OLDER,))
    late = word(number=1, seconds=60 + limits.SETTLING_SECONDS)
    assert decide.apply(config, state, [late])[1] == (Outcome.MUTATED,)
    late = word(number=None, seconds=60 + limits.SETTLING_SECONDS)
    assert decide.apply(config, state, [late])[1] == (Outcome.UNTRACKED,)


def test_what_a_registry_was_seen_to_have_it_can_take_back_at_once():
    config = configuration()
    seen = state_of(config, push("1.2.4", 2), word(number=2, seconds=1))
    assert tracked(seen, "1.2.4").confirmed
    assert decide.apply(config, seen, [word(number=1, seconds=2)])[1] == (Outcome.MUTATED,)
    assert decide.apply(config, seen, [word(number=None, seconds=2)])[1] == (Outcome.UNTRACKED,)


def test_a_push_of_another_content_has_to_be_seen_anew():
    config = configuration()
    state = state_of(config, push("1.2.4", 2), word(number=2, seconds=1))
    moved = decide.apply(config, state, [push("1.2.4", 3, seconds=2)])[0]
    assert not tracked(moved, "1.2.4").confirmed


@pytest.mark.parametrize("number", [1, None])
@pytest.mark.parametrize("seconds", [-999, 5, 999])
def test_an_answer_is_overtaken_by_whatever_was_heard_since_the_question(number, seconds):
    """Whatever the clocks of registries and replicas say."""
    config = configuration()
    state = state_of(config, push("1.2.4", 2, seconds=seconds))
    then = Precondition(is_tracked=True, digest=digest(1))
    for known in (then, Precondition(is_tracked=False, digest=None)):
        answer = replace(word(number=number, seconds=9999), precondition=known)
        assert decide.apply(config, state, [answer]) == (state, (Outcome.OLDER,))


def test_an_answer_is_overtaken_by_a_deletion_that_was_heard_of_since():
    config = configuration()
    then = Precondition(is_tracked=True, digest=digest(1))
    answer = replace(word(seconds=9999), precondition=then)
    assert decide.apply(config, state_of(config), [answer])[1] == (Outcome.OLDER,)
